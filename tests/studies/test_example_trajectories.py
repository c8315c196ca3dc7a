"""Examples along training, from checkpoints to files, estimates, table and figure; and best epochs from metrics."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest

from kd_jax.analysis import exaggeration
from kd_jax.config import BadInput, Look, Study
from kd_jax.studies import analyse, prune
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, metrics_file, records

pytestmark = pytest.mark.long

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=300,
    test_examples=100,
    label_noise=0.2,
    teacher="mlp_16",
    student=("mlp_16",),
    epochs=6,
    batch_size=50,
    learning_rate=0.1,
    optimizer="sgd",
    checkpoints=5,
    teacher_step=24,
    trajectory_examples=200,
    seeds=2,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(workdir, contents of `summary.json`) of a study whose teacher teaches two thirds of the way."""
    workdir = tmp_path_factory.mktemp("done")
    train_stage.train("tested", STUDY, workdir, "unused", jax.devices()[:1])
    return workdir, analyse.analyze(workdir)


def run_of(workdir, name):
    with np.load(workdir / "analysis" / "trajectory" / f"{name}.npz") as arrays:
        return dict(arrays)


def answers(workdir, name, step, x):
    """Logits of an MLP of one hidden layer, written out in NumPy, of standardised examples [examples, inputs]."""
    params = checkpoints.load_variables(records.run_folder(workdir, name), step)["params"]
    first, last = params["Dense_0"], params["Dense_1"]
    return np.maximum(x @ first["kernel"] + first["bias"], 0) @ last["kernel"] + last["bias"]


def standardised(ids):
    from kd_jax import data

    dataset = data.load(STUDY.data, "unused")
    x = np.asarray(dataset.clean_view(np.float32)(dataset.train.x)).reshape(len(dataset.train.y), -1)
    rows = np.searchsorted(dataset.train.ids, ids)
    return x[rows], dataset.train.y[rows], dataset.train.true_y[rows]


def test_a_file_holds_what_each_checkpoint_says_of_the_examples_it_names(done):
    workdir, _ = done
    for name in ("teacher-seed1", "onehot-seed1", "student-seed1"):
        found = run_of(workdir, name)
        x, y, true_y = standardised(found["ids"])
        assert len(found["ids"]) == 200
        assert found["steps"].tolist() == records.kept_steps(records.run_folder(workdir, name))
        top = answers(workdir, "teacher-seed1", 24, x)
        classes = top.argmax(axis=1)
        np.testing.assert_allclose(
            found["teacher_confidence"], exaggeration.confidence(top, classes), rtol=1e-3, atol=1e-3
        )
        np.testing.assert_array_equal(found["noisy"], y != true_y)
        for place, step in enumerate(found["steps"]):
            logits = answers(workdir, name, int(step), x)
            expected = exaggeration.confidence(logits, classes)
            np.testing.assert_allclose(found["confidence"][place], expected, rtol=1e-3, atol=1e-3)
            np.testing.assert_array_equal(found["right"][place], logits.argmax(axis=1) == y)
        assert (found["confidence"].dtype, found["right"].dtype) == (np.float32, bool)


def test_all_runs_are_asked_about_the_same_examples_and_nulls_about_none(done):
    files = sorted(path.stem for path in (done[0] / "analysis" / "trajectory").iterdir())
    arms = ("onehot-", "onehot_early-", "student-", "teacher-")
    assert files == [f"{arm}seed{seed}" for arm in arms for seed in (0, 1)]
    ids = [run_of(done[0], name)["ids"] for name in files]
    for each in ids:
        np.testing.assert_array_equal(each, ids[0])


def test_a_control_that_is_stopped_early_is_a_run_up_to_there(done):
    whole, part = run_of(done[0], "onehot-seed1"), run_of(done[0], "onehot_early-seed1")
    until = int((whole["steps"] <= 24).sum())
    assert part["steps"].tolist() == whole["steps"][:until].tolist()
    np.testing.assert_array_equal(part["confidence"], whole["confidence"][:until])
    np.testing.assert_array_equal(part["right"], whole["right"][:until])


def test_estimates_are_made_of_the_files_and_are_in_table_and_page(done):
    workdir, summary = done
    found = {(e["name"], e["arm"], e["subset"]): e for e in summary["estimates"] if e.get("split") == "train"}
    for arm in ("onehot", "student"):
        shares = []
        for seed in (0, 1):
            run = run_of(workdir, f"{arm}-seed{seed}")
            reached = (run["confidence"] >= run["teacher_confidence"]).any(axis=0)
            shares.append(reached[run["noisy"]].mean())
        assert found["share_crossed", arm, "noisy"]["values"] == pytest.approx(shares)
    assert ("share_crossed", "teacher", "all") not in found
    assert ("share_learnt", "teacher", "clean") in found
    assert (workdir / "analysis" / "figures" / "example_trajectories.png").is_file()
    text = (workdir / "analysis" / "report.html").read_text(encoding="utf-8")
    for part in ("share crossed, noisy", "beyond the top class", "test: slope, rank 10", "test accuracy, best epoch"):
        assert part in text
    with open(workdir / "analysis" / "table.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[-1] == "rank"
    assert {row["rank"] for row in rows if row["name"] == "exaggeration_slope_rank"} == {str(r) for r in range(1, 11)}


def test_best_epochs_are_those_of_the_metrics_a_teachers_up_to_where_it_teaches(done):
    workdir, summary = done
    best = {(e["name"], e["arm"]): e for e in summary["estimates"] if "_best" in e["name"]}
    for arm, last in (("teacher", 24), ("onehot", 36), ("student", 36)):
        lines = [metrics_file.read(records.run_folder(workdir, f"{arm}-seed{seed}")) for seed in (0, 1)]
        expected = [max(line["test_accuracy"] for line in of if line["step"] <= last) for of in lines]
        assert best["accuracy_best", arm]["values"] == expected
        assert ("accuracy_best_lead", arm) in best


@pytest.mark.usefixtures("no_figures")
def test_no_examples_or_only_last_steps_leave_it_out_and_the_rest_stays(done, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(done[0], copy)
    without = analyse.analyze(copy, look={"trajectory_examples": 0})
    prune.prune(copy, "last")
    pruned = analyse.analyze(copy)
    for found in (without, pruned):
        names = {e["name"] for e in found["estimates"]}
        assert "step_learnt" not in names
        assert {"exaggeration_slope_rank", "accuracy_best"} <= names
        assert not (copy / "analysis" / "trajectory").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_folder_from_before_there_were_such_examples_is_analysed(done, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(done[0], copy)
    record = json.loads((copy / "study.json").read_text(encoding="utf-8"))
    del record["config"]["trajectory_examples"]
    record.pop("seal", None)
    (copy / "study.json").write_text(json.dumps(record), encoding="utf-8")
    found = analyse.analyze(copy)
    assert found["study"]["config"]["trajectory_examples"] == Look().trajectory_examples
    assert len(run_of(copy, "student-seed0")["ids"]) == 300  # all that there are


@pytest.mark.parametrize("count", [-1, 1])
def test_a_single_example_is_refused(count):
    with pytest.raises(BadInput, match=f"--trajectory_examples={count}"):
        Study.from_flags(trajectory_examples=count)
