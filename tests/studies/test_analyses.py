"""Questions as a list: a further one is one entry; and what is concluded from runs that did not learn."""

import csv
import io
import json
import re
import shutil

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from kd_jax.analysis import closed_forms as theory
from kd_jax.analysis import intervals, verdicts
from kd_jax.analysis.results import Estimate, Verdict, index
from kd_jax.cli import commands, terminal
from kd_jax.config import BadInput, Study
from kd_jax.report.figures import Figure
from kd_jax.report.tables import Table, shown
from kd_jax.studies import analyse, analyses, report
from kd_jax.studies import train as train_stage
from kd_jax.studies.analyses import confidence, directions

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=300,
    test_examples=100,
    teacher="mlp_32",
    student=("mlp_32",),
    epochs=4,
    batch_size=50,
    learning_rate=0.1,
    optimizer="sgd",
    checkpoints=4,
    seeds=2,
)


def done_with(workdir, study):
    """Contents of the summary of a study that was trained and analysed."""
    train_stage.train("tested", study, workdir, "unused", jax.devices()[:1])
    return analyse.analyze(workdir)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(workdir, contents of `summary.json`) of a study."""
    workdir = tmp_path_factory.mktemp("done")
    return workdir, done_with(workdir, STUDY)


# ---- a further question


def entropies(folder, arm, seeds):
    """Mean entropy of a run's probabilities on the test data, of each seed, in nats."""
    for pair in confidence.read_pairs(folder, [arm], seeds, "test"):
        log_p = log_softmax(pair.student.astype(np.float64), axis=1)
        yield float(-(np.exp(log_p) * log_p).sum(axis=1).mean())


def measure(trained, folder, advance):
    values = tuple(entropies(folder, "student", trained.seeds))
    advance("student")
    return [Estimate("entropy", "student", intervals.over_seeds(values), values, split="test", subset="all")]


def conclude(trained, estimates, unlearned):
    found = index(estimates, "name")["entropy",].interval
    said = Verdict("student is not sure", "supported" if found.low > 0 else "contradicted", f"entropy {found.low:.2f}")
    return [verdicts.withheld(said, ("student",), unlearned)]


ENTROPY = analyses.Analysis(
    name="entropy",
    passes=lambda trained: 1,
    measure=measure,
    conclude=conclude,
    warn=lambda trained, folder: ["entropy is in nats"],
    tables=lambda analysed: [
        Table(
            ["arm", "entropy"], [["student", shown(index(analysed.estimates, "name")["entropy",].interval)]], "In nats."
        )
    ],
    figures=lambda analysed: {"entropy-student": Figure()},
    captions={"entropy": "How unsure the student is."},
)


def test_a_further_question_is_one_entry_and_is_answered_everywhere(done, tmp_path, monkeypatch, capsys, words_of):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    monkeypatch.setattr(analyses, "ANALYSES", (*analyses.ANALYSES, ENTROPY))
    found = analyse.analyze(workdir)
    assert found["estimates"][:-1] == done[1]["estimates"]
    last = found["estimates"][-1]
    assert last["name"] == "entropy"
    assert last["values"] == list(entropies(workdir / "analysis", "student", [0, 1]))
    assert json.loads((workdir / "analysis" / "summary.json").read_text(encoding="utf-8")) == found
    assert [verdict["claim"] for verdict in found["verdicts"]][-1] == "student is not sure"
    assert found["warnings"] == [*done[1]["warnings"], "entropy is in nats"]
    cell = shown(Estimate.from_json(last).interval)
    text = (workdir / "analysis" / "report.html").read_text(encoding="utf-8")
    for part in (cell, "In nats.", "How unsure the student is.", "is not sure"):
        assert part in words_of(text)
    assert 'href="figures/entropy-student.pdf"' in text
    assert (workdir / "analysis" / "figures" / "entropy-student.pdf").is_file()
    capsys.readouterr()
    terminal.study(workdir, found)
    printed = capsys.readouterr().out
    assert re.search(rf"arm +entropy\n-+\nstudent +{re.escape(cell)}\nIn nats\.\n", printed)
    assert "supported: student is not sure" in printed
    rows = list(csv.DictReader(io.StringIO((workdir / "analysis" / "table.csv").read_text(encoding="utf-8"))))
    assert rows[-1]["name"] == "entropy"


def test_what_a_question_cannot_be_asked_of_is_refused_before_training(tmp_path, monkeypatch):
    def refuse(plan, dataset):
        raise BadInput(f"--student={plan.study.networks.student[0]}: no entropy on {dataset.name}")

    monkeypatch.setattr(analyses, "ANALYSES", (analyses.Analysis("entropy", check=refuse),))
    with pytest.raises(BadInput, match="--student=mlp_32: no entropy on digits"):
        done_with(tmp_path / "new", STUDY)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"study": {"config": 1}}'])
def test_a_damaged_analysis_counts_as_none_so_the_same_command_makes_it_again(done, tmp_path, damage):
    (tmp_path / "analysis").mkdir()
    for name in ("summary.json", "report.html"):
        shutil.copy(done[0] / "analysis" / name, tmp_path / "analysis")
    assert analyse.is_analysed(tmp_path, STUDY)
    (tmp_path / "analysis" / "summary.json").write_text(damage)
    assert not analyse.is_analysed(tmp_path, STUDY)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"study": {"config": 1}}', '{"study": {"variants": []}}'])
def test_a_report_of_a_damaged_analysis_is_one_line_that_names_the_file(tmp_path, damage, capsys):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "summary.json").write_text(damage)
    assert commands.main(["report", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "analysis" / "summary.json") in line
    assert "kd-jax analyze" in line


def test_the_report_is_drawn_again_from_the_files_alone(done, tmp_path):
    """Neither checkpoints nor data are there."""
    shutil.copytree(done[0] / "analysis", tmp_path / "analysis")
    before = {name: (tmp_path / "analysis" / name).read_text(encoding="utf-8") for name in ("table.csv", "table.md")}
    for path in ("table.csv", "table.md", "report.html"):
        (tmp_path / "analysis" / path).unlink()
    shutil.rmtree(tmp_path / "analysis" / "figures")
    assert commands.main(["report", str(tmp_path)]) == 0
    for name, text in before.items():
        assert (tmp_path / "analysis" / name).read_text(encoding="utf-8") == text
    names = {path.name for path in (done[0] / "analysis" / "figures").iterdir()}
    assert {path.name for path in (tmp_path / "analysis" / "figures").iterdir()} == names
    assert {"confidence.png", "slopes.pdf", "learning_curves.png", "eigen_ratios-mlp_32-Dense_0.pdf"} <= names


def test_a_report_needs_an_analysis(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(BadInput, match="kd-jax analyze"):
        report.write_report(tmp_path)


def test_the_closed_form_is_drawn_for_what_it_speaks_of_alone():
    """Squared loss, gradient descent, no hidden layers, no labels beside the teacher; with the times of teacher and student."""
    study = Study.from_flags(
        teacher="features_50", student=("features_50",), loss="mse", optimizer="sgd", teacher_step=300
    )

    def drawn(times=(0.0, 0.3, 2.0), taught=0.3, model="features_50", **changes):
        record = {"descent_times": times, "teacher_time": taught}
        return directions.linear_theory(study.replaced(**changes), record, model)

    values = np.array([50.0, 1.6, 0.1])
    np.testing.assert_allclose(drawn()(values, 50.0), theory.matched_ratio(values, 50.0, 0.3, 2.0, 2.0))
    np.testing.assert_allclose(drawn(taught=2.0)(values, 50.0), theory.matched_ratio(values, 50.0, 2.0, 2.0, 2.0))
    assert drawn(loss="cross_entropy") is None
    assert drawn(weight=0.5) is None
    assert drawn(times=None, taught=None, optimizer="adam") is None
    assert drawn(taught=None) is None  # a teacher that was trained in another way
    assert drawn(model="mlp_5", teacher="mlp_5", student=("mlp_5",)) is None
    assert drawn(teacher="mlp_5") is None


# ---- runs that did not learn


def test_a_study_that_learned_has_none(done):
    assert done[1]["unlearned"] == []
    assert done[1]["warnings"] == []


@pytest.mark.usefixtures("no_figures")
def test_a_run_without_metrics_is_named_and_nothing_is_concluded_from_its_arm(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    (workdir / "runs" / "onehot-seed1" / "metrics.jsonl").unlink()
    (workdir / "runs" / "teacher-seed0" / "metrics.jsonl").write_text("", encoding="utf-8")
    found = analyse.analyze(workdir)
    # How good the two were at their best epoch is not known any more, nor that of their other seed alone told instead.
    lost = [each for each in done[1]["estimates"] if "_best" in each["name"] and each["arm"] != "student"]
    assert lost
    assert found["estimates"] == [each for each in done[1]["estimates"] if each not in lost]
    assert found["unlearned"] == [
        {"arm": "teacher", "seed": 0, "reason": "no_metrics"},
        {"arm": "onehot", "seed": 1, "reason": "no_metrics"},
    ]
    assert found["warnings"][1].startswith("onehot-seed1 has no line in its metrics.jsonl")
    assert {verdict["verdict"] for verdict in found["verdicts"]} == {"inconclusive"}
    assert all("teacher did not learn (it has no metrics)" in verdict["because"] for verdict in found["verdicts"])


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        # The gradient of this loss is so small that the student stays at zero, yet names most digits: slopes of 0.02 to 0.07.
        ({"teacher": "linear", "student": ("linear",), "epochs": 2, "temperature": 0.05}, {"flat"}),
        # Here it is so large that the student's ReLUs die, at a loss below that of the first epoch: slopes of -0.03 to -0.09.
        ({"epochs": 10, "temperature": 10.0, "learning_rate": 0.1}, {"at_chance", "constant_outputs"}),
    ],
)
def test_a_student_that_learned_nothing_contradicts_nothing(tmp_path, changes, reasons):
    study = Study.from_flags(
        **{"dataset": "digits", "teacher": "mlp_256x256", "student": ("mlp_256x256",), "batch_size": 128, "seeds": 2},
        **{"optimizer": "sgd", "checkpoints": 4, "learning_rate": 0.05},
    )
    found = done_with(tmp_path, study.replaced(**changes))
    assert [(run["arm"], run["seed"]) for run in found["unlearned"]] == [("student", 0), ("student", 1)]
    assert {run["reason"] for run in found["unlearned"]} <= reasons
    slopes = index(map(Estimate.from_json, found["estimates"]), "name", "arm", "split", "subset")
    assert (
        slopes["exaggeration_slope", "student", "test", "lowest_25"].interval.high < 1
    )  # a contradiction, by the numbers
    assert {verdict["verdict"] for verdict in found["verdicts"]} == {"inconclusive"}
    assert all("student did not learn" in verdict["because"] for verdict in found["verdicts"])


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_study_of_two_epochs_that_has_begun_to_learn_is_not_flagged(tmp_path):
    study = STUDY.replaced(train_examples=0, label_noise=0.2, teacher="mlp_256x256", student=("mlp_256x256",), epochs=2)
    assert done_with(tmp_path, study.replaced(batch_size=128, learning_rate=0.05, seeds=1))["unlearned"] == []
