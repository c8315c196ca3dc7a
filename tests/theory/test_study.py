"""The study of the theorem, run once, reduced; and that its verdicts would notice if the theorem were false."""

import json

import jax
import numpy as np
import pytest

from kd_jax.cli import theory_main
from kd_jax.theory import simulate as linear


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """The work folder of a reduced run."""
    folder = tmp_path_factory.mktemp("linear_theory")
    assert theory_main(["--small", "--platform=cpu", f"--workdir={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def simulation():
    """Gradient descent on a generated matrix, a teacher and three rounds."""
    with jax.enable_x64(True):
        return linear.simulate(linear.generated((1.0, 0.4, 0.03), 20, seed=5), 0.05, [50, 80, 60, 90])


def summary(workdir):
    return json.loads((workdir / "analysis" / "summary.json").read_text())


def test_the_study_leaves_what_the_interface_promises(workdir):
    found = summary(workdir)
    assert found["estimates"] == []
    record = json.loads((workdir / "study.json").read_text())
    assert record.pop("seal")  # of the file alone
    assert found["study"] == record
    assert found["study"]["study"] == "linear_theory"
    assert {"config", "versions", "platform", "data"} <= set(found["study"])
    drawn = {path.name for path in (workdir / "analysis" / "figures").iterdir()}
    names = ("progress", "effective_time", "rounds", "eigen_ratios", "hilbert")
    assert drawn == {f"{name}.{kind}" for name in names for kind in ("png", "svg", "pdf")}


def test_the_report_is_one_file_that_needs_no_network(workdir):
    page = (workdir / "analysis" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page.replace("http-equiv", "")
    assert "plotly" not in page  # it has no charts
    assert '<meta name="viewport"' in page


def test_closed_form_and_gradient_descent_agree(workdir):
    found = summary(workdir)["theory"]
    assert set(found["differences"]) == {"generated", "digits", "hilbert"}
    assert 0 < found["largest_difference"] < 1e-9


def test_the_theorem_is_supported_by_every_simulation(workdir):
    verdicts = summary(workdir)["verdicts"]
    assert len(verdicts) == 6
    assert {verdict["verdict"] for verdict in verdicts} == {"supported"}
    assert all(row["student"] < row["onehot"] for row in summary(workdir)["theory"]["measured"])


def test_the_reference_values_are_listed(workdir):
    row = summary(workdir)["theory"]["reference"][1]
    assert (row["teacher_time"], row["student_time"]) == (2, 5)
    assert (round(row["student_top"], 6), round(row["matched_time"], 6)) == (0.858839, 1.957852)
    assert [(round(low["student"], 6), round(low["onehot"], 6)) for low in row["lower"]] == [
        (0.580233, 0.624286),
        (0.071324, 0.177811),
        (0.000966, 0.019388),
    ]


def test_the_same_command_computes_the_same_again(workdir, capsys):
    def numbers():
        found = summary(workdir)
        del found["study"]["history"]  # has times
        return found

    before = numbers()
    assert theory_main(["--small", "--platform=cpu", f"--workdir={workdir}"]) == 0
    assert numbers() == before
    assert "0.858839" in capsys.readouterr().out


def test_another_configuration_in_the_same_folder_is_refused(workdir, capsys):
    before = summary(workdir)
    assert theory_main(["--small", "--platform=cpu", f"--workdir={workdir}", "--teacher_time=3"]) == 2
    assert "teacher_time=2.0, expected teacher_time=3.0" in capsys.readouterr().err
    assert summary(workdir) == before


@pytest.mark.parametrize(
    "flags",
    [
        ["--teacher_time=0"],
        ["--student_time=nan"],
        ["--student_time=inf"],
        ["--learning_rate=1"],
        ["--learning_rate=0"],
        ["--teacher_time=1e-9"],
        ["--teacher_time=1e9"],
        ["--rounds=0"],
        ["--spectrum", "0.5", "1"],
        ["--spectrum", "1"],
        ["--spectrum", "1", "0"],
        ["--examples=3"],
        ["--directions", "3", "4"],
        ["--directions", "0", "63"],
        ["--tolerance=1"],
        ["--hilbert_examples=1"],
    ],
    ids=" ".join,
)
def test_a_bad_value_is_named_in_one_line_and_nothing_is_written(tmp_path, capsys, flags):
    folder = tmp_path / "work"
    assert theory_main([*flags, "--platform=cpu", f"--workdir={folder}"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(flags[0].split("=")[0])
    assert "expected" in message
    assert message.count("\n") == 1
    assert not folder.exists()


def test_a_fully_fitted_teacher_is_warned_of_and_shows_no_effect(tmp_path, capsys):
    fitted = [
        "--teacher_time=900",
        "--learning_rate=0.5",
        "--spectrum",
        "1",
        "0.1",
        "--directions",
        "0",
        "7",
        "--rounds=1",
    ]
    assert theory_main(["--small", "--platform=cpu", f"--workdir={tmp_path}", *fitted]) == 0
    assert "warning: --teacher_time=900 fits the teacher fully" in capsys.readouterr().out
    behind = [verdict["verdict"] for verdict in summary(tmp_path)["verdicts"] if "behind" in verdict["claim"]]
    assert behind == ["inconclusive", "inconclusive"]


def test_what_is_measured_at_equal_progress_is_what_theory_expects(simulation):
    np.testing.assert_allclose(simulation.compared(), simulation.expected(), rtol=0, atol=1e-12)


def test_weights_descend_from_zero_to_least_squares(simulation):
    problem = simulation.problem
    assert (simulation.progress[0][0] == 0).all()
    weights = np.linalg.lstsq(problem.x, problem.y)[0]
    np.testing.assert_allclose(problem.vectors @ problem.solution, weights, rtol=0, atol=1e-12)


def test_the_pixels_are_decomposed_into_what_they_are():
    problem = linear.digit_pixels((0, 5))
    gram = problem.x.T @ problem.x
    np.testing.assert_allclose(gram @ problem.vectors, problem.vectors * problem.eigenvalues, rtol=0, atol=1e-12)
    assert problem.eigenvalues[0] == 1
    residual = problem.x @ problem.vectors @ problem.solution - problem.y
    np.testing.assert_allclose(problem.x.T @ residual, 0, rtol=0, atol=1e-10)


def test_the_verdicts_would_notice_a_student_that_is_ahead(simulation):
    found = linear.hilbert(10, 0.1, 3)
    ahead = [simulation.progress[0], *(path ** np.array([1, 0.5, 0.5]) for path in simulation.progress[1:])]
    verdicts = linear.verdicts([simulation._replace(progress=ahead)], found)
    assert verdicts[0].verdict == "contradicted"
    assert verdicts[2].verdict == "contradicted"  # nor is that what the closed forms say


def test_the_verdicts_would_notice_rounds_that_theory_does_not_predict(simulation):
    found = linear.hilbert(10, 0.1, 3)
    assert linear.verdicts([simulation], found._replace(targets=found.targets * 1.01))[-1].verdict == "contradicted"


def test_the_eigen_ratio_of_gradient_descent_is_that_of_the_closed_form(simulation):
    measured, expected = simulation.ratios()
    np.testing.assert_allclose(measured, expected, atol=2e-3)  # curves are read in straight lines between records
    assert measured[0] == 1
    assert measured[-1] < measured[1] < 0.95
