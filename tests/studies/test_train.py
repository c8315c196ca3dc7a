"""Whole studies in small: what is killed goes on to the same bits, what is analysed again gives the same numbers."""

import json
import os
import shutil
import signal
from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np
import pytest

from kd_jax import config
from kd_jax.config import BadInput, Study
from kd_jax.plan import checkpoint_steps
from kd_jax.studies import analyse, prepare
from kd_jax.studies import train as train_stage
from kd_jax.train import loop
from kd_jax.workdir import checkpoints, metrics_file, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=200,
    test_examples=100,
    label_noise=0.2,
    augment="crop",
    teacher="mlp_16",
    student=("mlp_16", "mlp_8"),
    epochs=4,
    batch_size=40,
    learning_rate=0.1,
    checkpoints=8,
    seeds=2,
)
ARMS = ["teacher", "onehot", "student", "onehot_mlp_8", "student_mlp_8"]


def train(study, workdir, devices=1):
    return train_stage.train("tested", study, workdir, "unused", jax.devices()[:devices])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished study, trained and analysed once for this file."""
    workdir = tmp_path_factory.mktemp("done")
    assert train(STUDY, workdir) == 10
    found = analyse.analyze(workdir)
    return workdir, found


def flip_a_bit(step_folder):
    """In its largest file, which holds array data."""
    path = max((path for path in step_folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files(folder):
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def bits(workdir):
    """{run: {step: digest}} of every trajectory, and what the metrics say but for the clock."""
    result = {}
    for folder in sorted((Path(workdir) / "runs").iterdir()):
        with checkpoints.trajectory(folder) as trajectory:
            result[folder.name] = {step: packing.tree_digest(trajectory.load(step)) for step in trajectory.steps()}
        clock = ("seconds", "examples_per_second")
        lines = metrics_file.read(folder)
        result[folder.name, "metrics"] = [{k: v for k, v in line.items() if k not in clock} for line in lines]
    return result


def test_the_work_folder_is_laid_out_as_promised(done):
    workdir, found = done
    names = [f"{arm}-seed{seed}" for seed in (0, 1) for arm in ARMS]
    assert {path.name for path in (workdir / "runs").iterdir()} == set(names)
    for name in names:
        folder = workdir / "runs" / name
        assert records.kept_steps(folder) == checkpoint_steps(20, 8)
        assert [line["epoch"] for line in metrics_file.read(folder)] == [1, 2, 3, 4]
        assert (folder / "resume" / "20").is_dir()
    analysis = files(workdir / "analysis")
    assert {f"pairs/{a}-seed{s}-{p}.npz" for a in ARMS[1:] for s in (0, 1) for p in ("train", "test")} <= analysis
    assert {"summary.json", "report.html", "figures/confidence.png", "figures/confidence.pdf"} <= analysis
    assert json.loads((workdir / "analysis" / "summary.json").read_text()) == found
    assert set(found) >= {"estimates", "verdicts", "study"}


def test_the_record_says_what_was_done(done):
    record = records.read_study(done[0])
    assert config.from_json(record["config"]) == STUDY
    assert record["data"]["wrong_labels"] == 40
    assert {"jax", "flax", "optax", "orbax-checkpoint", "python"} <= set(record["versions"])
    for seed in (0, 1):
        variables = checkpoints.load_variables(records.run_folder(done[0], f"teacher-seed{seed}"), 20)
        assert packing.tree_digest({"params": variables["params"]}) == record["teacher_hash"][f"teacher-seed{seed}"]


def test_a_student_starts_where_its_twin_starts_and_the_teacher_elsewhere(done):
    start = {arm: checkpoints.load_variables(records.run_folder(done[0], f"{arm}-seed0"), 0) for arm in ARMS}
    digests = {arm: packing.tree_digest(variables) for arm, variables in start.items()}
    assert digests["onehot"] == digests["student"] != digests["teacher"]
    end = {arm: checkpoints.load_variables(records.run_folder(done[0], f"{arm}-seed0"), 20) for arm in ARMS}
    assert packing.tree_digest(end["onehot"]) != packing.tree_digest(end["student"])


def test_accuracies_of_the_analysis_are_those_of_training(done):
    workdir, found = done
    for arm in ARMS:
        estimate = next(e for e in found["estimates"] if (e["name"], e["arm"], e["split"]) == ("accuracy", arm, "test"))
        logged = [metrics_file.read(workdir / "runs" / f"{arm}-seed{seed}")[-1]["test_accuracy"] for seed in (0, 1)]
        assert estimate["values"] == logged


@pytest.mark.long
def test_deleting_the_analysis_and_running_it_again_restores_every_file(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    before = files(workdir / "analysis")
    shutil.rmtree(workdir / "analysis")
    found = analyse.analyze(workdir)
    assert files(workdir / "analysis") == before
    assert found == done[1]
    for name in (workdir / "analysis" / "pairs").iterdir():
        assert name.read_bytes() == (done[0] / "analysis" / "pairs" / name.name).read_bytes()


def test_a_layer_that_no_student_has_leaves_the_analysis_as_it_was(done):
    before = {name: (done[0] / "analysis" / name).stat().st_mtime_ns for name in files(done[0] / "analysis")}
    with pytest.raises(
        BadInput, match=r"--layers=Dense_7: expected a layer of a student; mlp_16 has Dense_0, Dense_1; mlp_8"
    ):
        analyse.analyze(done[0], look={"layers": ("Dense_7",)})
    assert {name: (done[0] / "analysis" / name).stat().st_mtime_ns for name in before} == before
    assert files(done[0] / "analysis") == set(before)


def test_two_analyses_of_one_folder_do_not_mix(done):
    with records.locked(done[0]), pytest.raises(BadInput, match="another program is writing it"):
        analyse.analyze(done[0])


def test_an_analysis_that_breaks_off_leaves_the_old_one(done, tmp_path, monkeypatch):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    monkeypatch.setattr(analyse, "write_report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        analyse.analyze(workdir)
    assert json.loads((workdir / "analysis" / "summary.json").read_text()) == done[1]


def test_eigendirections_are_those_of_the_layers_inputs_and_components_those_of_its_weights(done):
    """Against plain NumPy, for the first layer, whose inputs are the standardised images."""
    workdir, found = done
    dataset = prepare.open_study(workdir).dataset
    x = ((dataset.train.x - dataset.mean) / dataset.std).reshape(len(dataset.train.x), -1)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    with np.load(workdir / "analysis" / "eigen" / "student_mlp_8-seed1-Dense_0.npz") as arrays:
        np.testing.assert_allclose(arrays["eigenvalues"], values[::-1], atol=1e-4)
        assert arrays["steps"].tolist() == checkpoint_steps(20, 8)
        assert arrays["components"].shape == (len(arrays["steps"]), 64)
        kernel = checkpoints.load_variables(records.run_folder(workdir, "student_mlp_8-seed1"), 20)["params"][
            "Dense_0"
        ]["kernel"]
        top = np.linalg.norm(vectors[:, ::-1][:, :10].T @ kernel, axis=1)
        np.testing.assert_allclose(arrays["components"][-1, :10], top, rtol=1e-3)
        assert (arrays["moved"][0] == 0).all()
        assert arrays["residuals"].max() < 1e-8
    # Of the movement: in a training this short the weights themselves need not grow along the top direction.
    ratios = [e for e in found["estimates"] if e["name"] == "eigen_ratio_moved"]
    varying = int(np.sum(values > 1e-9 * values[-1]))
    assert 50 < varying < 64  # some pixels are never inked
    assert {tuple(e["directions"]) for e in ratios} == {(0, varying // share) for share in (8, 4, 2)}
    assert {e["arm"] for e in ratios} == {"teacher", "student", "student_mlp_8"}


@pytest.mark.usefixtures("no_figures")
def test_another_layer_can_be_followed(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    found = analyse.analyze(workdir, look={"layers": ("Dense_1",)})
    assert {e["layer"] for e in found["estimates"] if "layer" in e} == {"Dense_1"}
    assert (workdir / "analysis" / "eigen" / "student-seed0-Dense_1.npz").is_file()


@pytest.mark.usefixtures("no_figures")
def test_beyond_the_first_layer_a_run_has_the_directions_of_its_own_start(done, tmp_path):
    """Units of another initialisation are other units. Against plain NumPy, for the teacher and for a student."""
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    analyse.analyze(workdir, look={"layers": ("Dense_1",)})
    dataset = prepare.open_study(workdir).dataset
    x = ((dataset.train.x - dataset.mean) / dataset.std).reshape(len(dataset.train.x), -1)
    values = {}
    for arm in ("teacher", "onehot", "student"):
        start = checkpoints.load_variables(records.run_folder(workdir, f"{arm}-seed1"), 0)["params"]["Dense_0"]
        hidden = np.maximum(x @ start["kernel"] + start["bias"], 0)
        with np.load(workdir / "analysis" / "eigen" / f"{arm}-seed1-Dense_1.npz") as arrays:
            values[arm] = arrays["eigenvalues"]
        np.testing.assert_allclose(values[arm], np.linalg.eigvalsh(np.cov(hidden.T, bias=True))[::-1], atol=1e-4)
    np.testing.assert_array_equal(values["student"], values["onehot"])
    assert np.abs(values["teacher"] - values["onehot"]).max() > 0.01


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_pairs_and_layers_asked_for_of_a_done_study_are_looked_at_without_training(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    assert analyse.is_analysed(workdir, STUDY)
    asked = STUDY.replaced(pairs=((0, 3), (2, 5)))
    assert train(asked, workdir) == 0
    assert not analyse.is_analysed(workdir, asked)
    found = analyse.analyze(workdir)
    assert {(0, 3), (2, 5)} < {tuple(e["directions"]) for e in found["estimates"] if e["name"] == "eigen_ratio_moved"}
    assert analyse.is_analysed(workdir, asked)


def test_a_pair_beyond_the_directions_that_the_inputs_vary_along_is_refused(done):
    with pytest.raises(
        BadInput, match=r"--pairs=0 63: expected directions from 0 to 5\d for Dense_0, along which its inputs vary"
    ):
        analyse.analyze(done[0], look={"pairs": ((0, 63),)})
    assert analyse.is_analysed(done[0], STUDY)


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_step_that_is_missing_is_named_and_trained_again_to_the_same_bits(done, tmp_path):
    """In the middle of a finished run: a run is finished when it has all steps that were asked for."""
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    before = bits(workdir)
    for name, steps in (("student-seed0", (2, 9)), ("teacher-seed1", (5,))):
        for step in steps:
            shutil.rmtree(workdir / "runs" / name / "trajectory" / str(step))
    with pytest.raises(
        BadInput, match=r"teacher|student-seed0 is not \(its trajectory lacks step 2, 9\); run the study"
    ):
        analyse.analyze(workdir)
    assert train(STUDY, workdir) == 2
    assert bits(workdir) == before
    assert analyse.analyze(workdir)["estimates"] == done[1]["estimates"]
    assert train(STUDY, workdir) == 0


def test_a_damaged_step_is_named_and_once_it_is_moved_away_trained_again(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    before = bits(workdir)
    damaged = workdir / "runs" / "onehot-seed1" / "trajectory" / "5"
    flip_a_bit(damaged)
    with pytest.raises(
        BadInput, match=r"onehot-seed1/trajectory/5: .*; move that step's folder away and run the study"
    ):
        analyse.analyze(workdir)
    damaged.rename(tmp_path / "away")
    assert train(STUDY, workdir) == 1
    assert bits(workdir) == before


def test_trajectories_that_are_no_curve_are_refused_before_training(tmp_path):
    with pytest.raises(
        BadInput, match="--checkpoints=2: expected at least three steps in a trajectory, teacher has 0 1"
    ):
        train(STUDY.replaced(checkpoints=2, epochs=1, batch_size=200), tmp_path / "work")  # of one step
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_checkpoint_that_nobody_asked_for_changes_no_number(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    store = workdir / "runs" / "student-seed0" / "trajectory"
    shutil.copytree(store / "20", store / "6")  # far ahead of its neighbours: no curve would pass through it unchanged
    assert analyse.analyze(workdir)["estimates"] == done[1]["estimates"]


def test_training_a_done_study_again_does_nothing(done):
    before = bits(done[0])
    assert train(STUDY, done[0]) == 0
    assert bits(done[0]) == before


@pytest.mark.long
def test_every_program_that_trained_a_part_is_on_record_in_order(tmp_path):
    """One that finds nothing to train is not."""
    study = STUDY.replaced(student=("mlp_8",), epochs=1, seeds=1)
    before = datetime.now(UTC).replace(microsecond=0)
    train_stage.train("tested", study, tmp_path, "unused", jax.devices()[:1], command="kd-jax run tested")
    first = records.read_study(tmp_path)
    (entry,) = first["history"]
    assert (entry["platform"], entry["versions"]) == (first["platform"], first["versions"])
    assert entry["command"] == "kd-jax run tested"
    times = [datetime.fromisoformat(entry[key]) for key in ("started", "ended")]
    assert before <= times[0] <= times[1] <= datetime.now(UTC)
    train(study, tmp_path, devices=4)
    assert records.read_study(tmp_path)["history"] == first["history"]
    train(study.replaced(seeds=2), tmp_path, devices=4)
    record = records.read_study(tmp_path)
    assert [entry["platform"]["devices"] for entry in record["history"]] == [1, 4]
    assert (record["platform"], record["versions"]) == (first["platform"], first["versions"])


def test_a_study_of_a_program_without_a_history_goes_on_with_one(tmp_path):
    study = STUDY.replaced(student=("mlp_8",), epochs=1, seeds=1)
    train(study, tmp_path)
    record = records.read_study(tmp_path)
    begun = {"platform": record["platform"], "versions": record["versions"] | {"jax": "0.0.1"}}
    old = {key: value for key, value in (record | begun).items() if key not in ("schema", "history")}
    records.write_study(tmp_path, old)
    train(study.replaced(seeds=2), tmp_path)
    again = records.read_study(tmp_path)
    assert [{key: entry[key] for key in begun} for entry in again["history"]] == [
        begun,
        {"platform": record["platform"], "versions": record["versions"]},
    ]
    assert (again["schema"], again["versions"]["jax"]) == (2, "0.0.1")


@pytest.mark.slow
def test_more_seeds_are_added_and_fewer_refused(tmp_path):
    study = STUDY.replaced(student=("mlp_8",), epochs=1, seeds=1)
    assert train(study, tmp_path) == 4
    before = bits(tmp_path)
    assert train(study.replaced(seeds=2), tmp_path) == 4
    assert before.items() <= bits(tmp_path).items()
    with pytest.raises(BadInput, match="holds seeds 0 to 1"):
        train(study, tmp_path)


def test_another_study_in_the_same_folder_is_refused_by_name_and_nothing_is_touched(done):
    before = files(done[0])
    with pytest.raises(BadInput, match=r"holds a study with temperature=4\.0, expected temperature=2\.0"):
        train(STUDY.replaced(temperature=2.0), done[0])
    assert files(done[0]) == before


@pytest.mark.slow
def test_told_to_stop_it_saves_and_goes_on_later(done, tmp_path, monkeypatch):
    real_segments = loop.segments

    def interrupted(*args):
        for number, pause in enumerate(real_segments(*args)):
            if number == 2:  # in the middle of the first epoch
                os.kill(os.getpid(), signal.SIGTERM)
            yield pause

    monkeypatch.setattr(loop, "segments", interrupted)
    with pytest.raises(train_stage.Stopped, match="teacher-seed0 saved at step 4 of 20"):
        train(STUDY, tmp_path)
    assert os.listdir(tmp_path / "runs" / "teacher-seed0" / "resume")
    monkeypatch.setattr(loop, "segments", real_segments)
    train(STUDY, tmp_path)
    assert bits(tmp_path) == bits(done[0])
    # Rates are of the steps since the restart: one of the first epoch's five, of 40 examples each, then all.
    lines = metrics_file.read(tmp_path / "runs" / "teacher-seed0")
    counted = [line["examples_per_second"] * line["seconds"] for line in lines]
    np.testing.assert_allclose(counted, [40, 200, 200, 200])


def test_a_teacher_that_changed_is_noticed(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    shutil.rmtree(workdir / "runs" / "student-seed1")
    record = records.read_study(workdir)
    record["teacher_hash"]["teacher-seed1"] = "0" * 64
    records.write_study(workdir, record)
    with pytest.raises(BadInput, match="teacher-seed1: expected the teacher on record"):
        train(STUDY, workdir)


@pytest.mark.usefixtures("no_figures")
def test_an_unfinished_study_is_not_analysed(done, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    shutil.rmtree(workdir / "runs" / "student-seed1" / "trajectory" / "20")
    with pytest.raises(BadInput, match="student-seed1 is not"):
        analyse.analyze(workdir)
    train(STUDY, workdir)  # which the resume store makes short
    assert analyse.analyze(workdir)["estimates"] == done[1]["estimates"]


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(
        train_stage.Diverged, match=r"teacher-seed0: (the loss is|its weights are no finite).*--learning_rate"
    ):
        train(STUDY.replaced(learning_rate=1e30), tmp_path)


def test_a_bfloat16_study_keeps_float32_parameters_and_learns(tmp_path):
    study = STUDY.replaced(
        student=("mlp_16",), epochs=8, seeds=1, label_noise=0.0, temperature=1.0, precision="bfloat16"
    )
    train(study, tmp_path)
    variables = checkpoints.load_variables(tmp_path / "runs" / "student-seed0", 40)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}
    lines = metrics_file.read(tmp_path / "runs" / "student-seed0")
    assert lines[-1]["train_loss"] < 0.9 * lines[0]["train_loss"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_run_of_four_devices_is_analysed_on_one(tmp_path):
    study = STUDY.replaced(student=("mlp_8",), epochs=1, seeds=1)
    train(study, tmp_path, devices=4)
    found = analyse.analyze(tmp_path)
    line = metrics_file.read(tmp_path / "runs" / "student-seed0")[-1]
    accuracy = next(
        e for e in found["estimates"] if (e["name"], e["arm"], e["split"]) == ("accuracy", "student", "test")
    )
    assert accuracy["estimate"] == pytest.approx(line["test_accuracy"], abs=0.011)  # a tie may fall the other way
    assert np.isfinite(accuracy["low"])
