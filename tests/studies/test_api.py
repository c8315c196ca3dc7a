"""A study from Python: on arrays in memory, its results as objects, tables and figures on axes of one's own."""

import json
import sys
import threading

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import kd_jax
from kd_jax import data
from kd_jax.config import BadInput, Study
from kd_jax.data.arrays import Source
from kd_jax.studies import train as train_stage
from kd_jax.studies.results import Results

STUDY = Study.from_flags(
    teacher="mlp_16",
    student=("mlp_8",),
    epochs=3,
    batch_size=40,
    learning_rate=0.05,
    checkpoints=3,
    seeds=2,
)


def source(seed=0):
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) * 15).astype(np.uint8)
    rows = np.random.default_rng(seed).permutation(len(labels))[:400]
    x, y = images[rows], labels[rows].astype(np.int32)
    return Source("mine", x[:300], y[:300], x[300:], y[300:], 10, "test")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("api")
    return kd_jax.run(STUDY, workdir, source(), platform="cpu")


def test_a_study_on_arrays_has_numbers_that_its_logits_give(done):
    with np.load(done.workdir / "analysis" / "pairs" / "student-seed1-test.npz") as pair:
        accuracy = (pair["student_logits"].argmax(1) == source().test_y).mean()
    assert done.estimate("accuracy", split="test").values[1] == pytest.approx(accuracy)
    assert done.study.data.dataset == "memory:mine"
    assert json.loads((done.workdir / "study.json").read_text())["data"]["data_dir"] == ""


def test_the_same_call_again_trains_nothing_and_returns_the_same(done):
    before = {path: path.stat().st_mtime_ns for path in done.workdir.rglob("*") if path.name != ".lock"}
    again = kd_jax.run(STUDY, done.workdir, source(), platform="cpu")
    assert again.summary == done.summary
    changed = {path.name for path, time in before.items() if path.exists() and path.stat().st_mtime_ns != time}
    assert changed <= {"study.json", done.workdir.name}


def test_the_data_must_be_passed_again_and_be_the_same(done):
    assert len(kd_jax.open_study(done.workdir, data=source()).dataset.train.y) == 300
    with pytest.raises(BadInput, match="given in Python; pass it again"):
        kd_jax.open_study(done.workdir)
    with pytest.raises(BadInput, match="fingerprint"):
        kd_jax.open_study(done.workdir, data=source(seed=1))
    with pytest.raises(BadInput, match="expected the study's memory:mine"):
        kd_jax.open_study(done.workdir, data=source()._replace(name="other"))


@pytest.mark.long
def test_analysis_again_looks_at_what_it_is_asked(done):
    found = kd_jax.analyze(done.workdir, source(), pairs=((0, 5),))
    assert found.estimate("eigen_ratio", directions=(0, 5)).layer == "Dense_0"
    assert found.estimate("accuracy", split="test") == done.estimate("accuracy", split="test")


def test_an_estimate_is_found_by_what_it_is_about(done):
    lowest = done.estimate("exaggeration_slope", split="train", subset="lowest_25")
    assert (lowest.arm, lowest.split, lowest.subset) == ("student", "train", "lowest_25")
    with pytest.raises(BadInput, match="found 2; say also which split"):
        done.estimate("accuracy")
    with pytest.raises(BadInput, match=r"of student it has .*accuracy"):
        done.estimate("acuracy", split="test")


def test_the_table_has_every_estimate(done):
    pandas = pytest.importorskip("pandas")
    table = done.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == len(done.estimates)
    row = table[(table["name"] == "accuracy_gain") & (table["split"] == "test") & (table["subset"] == "all")].iloc[0]
    gain = done.estimate("accuracy_gain", split="test")
    assert (row["estimate"], row["low"], row["values"]) == (gain.interval.estimate, gain.interval.low, gain.values)


def test_without_pandas_one_line_says_so(done, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BadInput, match="pip install pandas"):
        done.to_pandas()


def test_figures_are_drawn_on_the_axes_that_are_given(done):
    figure = Figure()
    panels = figure.subplots(2, 2).ravel()
    assert done.plot_confidence(split="train", seed=1, ax=panels[0]) is panels[0]
    assert done.plot_slopes(panels[1]) is panels[1]
    assert done.plot_learning("test_loss", panels[2]) is panels[2]
    assert done.plot_growth((0, 3), ax=panels[3]) is panels[3]
    with np.load(done.workdir / "analysis" / "pairs" / "student-seed1-train.npz") as pair:
        assert len(panels[0].collections[0].get_offsets()) == len(pair["labels"])
    (teacher, *_) = panels[2].get_lines()
    lines = [
        [json.loads(line)["test_loss"] for line in (done.workdir / f"runs/teacher-seed{seed}/metrics.jsonl").open()]
        for seed in (0, 1)
    ]
    np.testing.assert_allclose(teacher.get_ydata(), np.mean(lines, axis=0))
    with pytest.raises(BadInput, match="seeds 0, 1"):
        done.plot_confidence(seed=7, ax=panels[0])
    with pytest.raises(BadInput, match="of the 64 directions"):
        done.plot_growth((0, 64), ax=panels[3])


def test_printed_and_in_a_notebook_it_shows_table_and_verdicts(done):
    for shown in (str(done), done._repr_html_()):
        assert "test accuracy" in shown
        assert done.verdicts[0].verdict in shown
    assert done.verdicts[0].claim in str(done)
    assert len(repr(done)) < 100


def test_a_folder_without_an_analysis_has_no_results(tmp_path):
    with pytest.raises(BadInput, match="kd-jax analyze"):
        Results.of(tmp_path)


def test_a_study_trains_in_a_thread(tmp_path):
    study, found = STUDY.replaced(seeds=1, epochs=1, dataset="memory:mine"), []

    def work():
        load = data.loading(source())
        found.append(train_stage.train("tested", study, tmp_path, "", jax.devices()[:1], load=load))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [4]
