"""A study in function space, from training to the report. For a linear model, all of it must agree with theory to rounding."""

import jax
import numpy as np
import pytest

from kd_jax.analysis import functions
from kd_jax.config import BadInput, Study
from kd_jax.report import function_figures
from kd_jax.studies import analyse, arithmetic
from kd_jax.studies import train as train_stage
from kd_jax.workdir import records

pytestmark = pytest.mark.long

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=24,
    test_examples=20,
    teacher="linear",
    student=("linear",),
    loss="mse",
    optimizer="sgd",
    momentum=0.0,
    teacher_step=8,
    epochs=30,
    batch_size=24,  # all of the training set
    learning_rate=0.03,
    checkpoints=8,
    kernel_examples=24,
    precision="float64",
    seeds=2,
)
ARMS = {"teacher", "onehot", "student"}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(workdir, contents of `summary.json`) of a trained and analysed study."""
    workdir = tmp_path_factory.mktemp("done")
    before = jax.config.jax_enable_x64
    arithmetic.set_precision(STUDY.networks)
    try:
        train_stage.train("tested", STUDY, workdir, "unused", jax.devices()[:1])
        return workdir, analyse.analyze(workdir)
    finally:
        jax.config.update("jax_enable_x64", before)


def test_trained_linear_models_obey_a_of_t_and_the_composed_filter_to_rounding(done):
    workdir, _ = done
    files = {path.stem: path for path in (workdir / "analysis" / "function").iterdir()}
    assert set(files) == {f"{arm}-seed{seed}" for arm in ARMS for seed in (0, 1)}
    for name, path in files.items():
        with np.load(path) as run:
            assert run["eigenvalues"][0] * STUDY.training.learning_rate < 2  # descent is stable
            steps, progress, values = run["steps"], run["progress"], run["eigenvalues"]
            np.testing.assert_allclose(run["linearised"], progress, atol=1e-9)
            np.testing.assert_allclose(run["filtered"], progress, atol=1e-9)
            # Beside the prediction, the formula: progress lies between those of the group's slowest and fastest directions.
            left = 1 - STUDY.training.learning_rate * values
            expected = 1 - left ** steps[:, None]
            if name.startswith("student"):
                expected *= 1 - left**STUDY.distillation.teacher_step
            for group, (start, stop) in enumerate(run["groups"]):
                within = expected[:, start:stop]
                assert (progress[:, group] <= within.max(axis=1) + 1e-9).all()
                assert (progress[:, group] >= within.min(axis=1) - 1e-9).all()


def test_its_summary_says_that_the_theory_holds_and_that_the_kernel_stays(done):
    _, found = done
    table = {(e["name"], e["arm"], *e.get("directions", [])): e for e in found["estimates"]}
    for arm in ("onehot", "student"):
        assert abs(table["kernel_drift", arm]["estimate"]) < 1e-12
        assert table["linearisation_error", arm]["high"] < 1e-9
        assert table["filter_error", arm]["high"] < 1e-9
    pairs = [tuple(pair) for name, arm, *pair in table if name == "function_ratio" and arm == "student"]
    assert pairs == [(group, group + 1) for group in range(len(pairs))]
    assert len(pairs) >= 3
    for pair in pairs:
        measured, by_filter = (table[name, "student", *pair] for name in ("function_ratio", "function_ratio_filter"))
        # A group that is learnt to rounding reaches its last level at a moment that rounding decides.
        assert measured["values"] == pytest.approx(by_filter["values"], abs=0.01)
        assert measured["estimate"] < 1
    verdicts = {verdict["claim"]: verdict["verdict"] for verdict in found["verdicts"]}
    assert [verdicts[claim] for claim in verdicts if "(function, error" in claim] == ["supported"] * 2


def test_its_report_has_figure_table_and_rows(done, words_of):
    workdir, found = done
    folder = workdir / "analysis"
    page = (folder / "report.html").read_text()
    assert 'href="figures/function_progress-linear.pdf"' in page
    assert "ratio to onehot, groups 0 and 1" in words_of(page)
    assert (folder / "figures" / "function_progress-linear.pdf").is_file()
    assert (folder / "table.csv").read_text().count("\n") == len(found["estimates"]) + 1


def test_without_predictions_what_was_measured_is_drawn(done):
    followed = []
    for path in (done[0] / "analysis" / "function").iterdir():
        with np.load(path) as run:
            followed.append(functions.Followed(**{key: run[key][()] for key in functions.Followed._fields}))
    figure = function_figures.progress(followed, [], "onehot", "student")
    assert [axes.get_title() for axes in figure.axes][1:3] == ["onehot", "student"]


def test_a_probe_that_is_too_large_is_refused_before_training(tmp_path):
    study = STUDY.replaced(precision="float32")
    with pytest.raises(BadInput, match="--kernel_examples=25: expected at most the 24 training examples"):
        train_stage.train("tested", study.replaced(kernel_examples=25), tmp_path / "new", "unused", jax.devices()[:1])
    assert not (tmp_path / "new").exists()
    large = study.replaced(train_examples=700, kernel_examples=601)
    with pytest.raises(BadInput, match="--kernel_examples=601: expected at most 600 with 10 classes"):
        train_stage.train("tested", large, tmp_path / "new", "unused", jax.devices()[:1])
    assert records.kept_steps(tmp_path / "new") == []
