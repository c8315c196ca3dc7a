"""Seeds of a study as lanes of one program: the same work folder as where they are trained one after the other."""

import shutil

import jax
import numpy as np
import pytest

from kd_jax.errors import Diverged, Stopped
from kd_jax.plan import make_plan
from kd_jax.studies import lanes, prepare
from kd_jax.studies import train as train_stage
from kd_jax.train import hosts, loop
from kd_jax.train.loop import Sink
from kd_jax.workdir import checkpoints, metrics_file, records
from tests.studies.test_side_by_side import STUDY as OTHER

STUDY = OTHER.replaced(precision="float64", nulls=("order",), teacher="mlp_16", student=("mlp_8",))


def train(study, workdir, at_once, count=1, **named):
    devices = jax.devices()[:count]
    ready = prepare.prepare("tested", study, workdir, "", devices)
    return train_stage.train_prepared(ready, devices, seeds_at_once=at_once, **named)


def contents(workdir):
    """{run: (the networks of its trajectory, metrics without the clock)}."""
    found = {}
    for folder in sorted((workdir / "runs").iterdir()):
        with checkpoints.trajectory(folder) as trajectory:
            kept = {step: trajectory.load(step) for step in trajectory.steps()}
        lines = [
            {k: v for k, v in line.items() if "second" not in k and k != "check"} for line in metrics_file.read(folder)
        ]
        found[folder.name] = kept, lines
    return found


def close(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """Trained one after the other."""
    workdir = tmp_path_factory.mktemp("in_turn")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    train(STUDY, workdir, "off")
    jax.config.update("jax_enable_x64", before)
    return contents(workdir)


@pytest.mark.long
def test_a_study_of_lanes_is_the_study_of_its_runs_in_turn(float64, in_turn, tmp_path, capsys):
    assert train(STUDY, tmp_path, "on") == 12
    assert "The seeds of teacher, onehot, student, onehot_order at once, as one program." in capsys.readouterr().err
    found = contents(tmp_path)
    close(found, in_turn)
    seeds = [found[f"student-seed{seed}"][1][-1]["train_loss"] for seed in range(3)]
    assert len(set(seeds)) == 3
    record = records.read_study(tmp_path)
    assert set(record["teacher_hash"]) == {f"teacher-seed{seed}" for seed in range(3)}
    assert train(STUDY, tmp_path, "on") == 0


@pytest.mark.long
def test_seeds_of_a_device_are_lanes_beside_those_of_others(float64, in_turn, tmp_path, capsys):
    assert train(STUDY, tmp_path, "on", count=2) == 12
    assert "3 seeds, 2 at a time, a device each.\nThe seeds of teacher" in capsys.readouterr().err
    close(contents(tmp_path), in_turn)


@pytest.mark.long
def test_lanes_that_were_stopped_go_on_also_where_they_are_not_at_the_same_step(
    float64, in_turn, tmp_path, monkeypatch
):
    real, told = loop.segments, []

    def segments(*args):
        for pause in real(*args):
            if args[0].step.ndim and pause.step == 10 and not told:
                told.append(pause.step)
                stop.requested = True
            yield pause

    with train_stage.stop_requests() as stop:
        monkeypatch.setattr(loop, "segments", segments)
        monkeypatch.setattr(train_stage.run_stage.ResumeStore, "wants_save", lambda self: True)
        with pytest.raises(Stopped, match="teacher-seed0, teacher-seed1, teacher-seed2 saved at step 10 of 20"):
            train(STUDY, tmp_path, "on")
    stores = [tmp_path / "runs" / f"teacher-seed{seed}" / "resume" for seed in range(3)]
    assert [max(int(step.name) for step in store.iterdir() if step.name.isdigit()) for store in stores] == [10] * 3
    shutil.rmtree(stores[1] / "10")  # as if the program had been killed while the seeds were saved
    went = []
    whole = train_stage.run_stage.train_runs
    monkeypatch.setattr(
        train_stage.run_stage, "train_runs", lambda *args: went.append([run.name for run in args[1]]) or whole(*args)
    )
    train(STUDY, tmp_path, "on")
    assert went[:2] == [["teacher-seed1"], ["teacher-seed0", "teacher-seed2"]]
    close(contents(tmp_path), in_turn)


def without(workdir, seed):
    return {name: of for name, of in contents(workdir).items() if not name.endswith(f"seed{seed}")}


@pytest.mark.long
@pytest.mark.parametrize("on_nan", ["stop", "skip_seed"])
def test_a_lane_that_diverges_ends_its_seed_or_the_study(float64, in_turn, tmp_path, monkeypatch, on_nan, capsys):
    real = loop._line

    def line(engine, run, pause, *rest):
        if run.name == "onehot-seed1" and pause.epoch == 1:
            raise Diverged("onehot-seed1: the loss is nan")
        return real(engine, run, pause, *rest)

    monkeypatch.setattr(loop, "_line", line)
    if on_nan == "stop":
        with pytest.raises(Diverged, match="onehot-seed1"):
            train(STUDY, tmp_path, "on")
        monkeypatch.setattr(loop, "_line", real)
        train(STUDY, tmp_path, "on")
        close(contents(tmp_path), in_turn)
        return
    train(STUDY, tmp_path, "on", on_nan="skip_seed")
    assert "seed 1 is given up: onehot-seed1: the loss is nan" in capsys.readouterr().err
    close(without(tmp_path, 1), {name: of for name, of in in_turn.items() if not name.endswith("seed1")})
    names = set(contents(tmp_path))
    assert "student-seed1" not in names
    assert "teacher-seed1" in names


@pytest.mark.long
def test_who_hears_of_one_run_after_the_other_does(tmp_path, capsys):
    study = STUDY.replaced(seeds=2, epochs=1, precision="float32")
    began = []

    class Begun(Sink):
        def start(self, run, step):
            began.append(run.name)

    train(study, tmp_path, "on", sinks=lambda run: [Begun()])
    assert began[0] == "teacher-seed0"
    assert began[4] == "teacher-seed1"
    assert "No seeds in one program: teacher" in capsys.readouterr().err


def runs(**changed):
    return list(make_plan(STUDY.replaced(**changed), 160).runs)


def names(found):
    return [[run.name for run in of] for of in found]


def test_kinds_of_runs_are_lanes_and_teachers_come_first():
    todo = [run for run in runs(nulls=()) if run.name != "student-seed1"]
    assert names(lanes.batches(todo, lambda run: False)) == [[run.name] for run in todo]
    assert names(lanes.batches(todo, lambda run: True)) == [
        ["teacher-seed0", "teacher-seed1", "teacher-seed2"],
        ["onehot-seed0", "onehot-seed1", "onehot-seed2"],
        ["student-seed0", "student-seed2"],
    ]
    assert names(lanes.batches(todo, lambda run: run.arm.name == "student")) == [
        *([f"{arm}-seed{seed}"] for seed in range(3) for arm in ("teacher", "onehot")),
        ["student-seed0", "student-seed2"],
    ]


def test_no_program_has_more_lanes_than_the_most():
    parts = lanes.batches([run for run in runs(seeds=35) if run.arm.name == "teacher"], lambda run: True)
    assert [len(part) for part in parts] == [11, 12, 12]
    assert [run.seed for part in parts for run in part] == list(range(35))


@pytest.mark.parametrize(
    ("platform", "changed", "why"),
    [
        ("cpu", {}, "a CPU rounds"),
        ("gpu", {}, ""),
        ("tpu", {"teacher": "balanced_8", "student": ("features_9",)}, ""),
        ("gpu", {"teacher": "cnn_4"}, "convolutions"),
        ("tpu", {"student": ("resnet8",)}, "convolutions"),
        ("gpu", {"distillation": "crd", "weight": 0.5}, "the loss learns"),
    ],
)
def test_what_is_not_asked_for_is_done_on_accelerators_by_dense_networks(tmp_path, platform, changed, why):
    study = STUDY.replaced(precision="float32", **changed)
    ready = prepare.prepare("tested", study, tmp_path, "", jax.devices()[:1])
    run = next(run for run in ready.plan.runs if run.taught_by)
    found = lanes.obstacle(ready, run, False, platform)
    assert found.startswith(why)
    assert bool(found) == bool(why)
    if why != "the loss learns":
        assert lanes.obstacle(ready, run, True, platform) == ""


def test_several_processes_train_one_run_after_the_other(tmp_path, monkeypatch):
    ready = prepare.prepare("tested", STUDY.replaced(precision="float32"), tmp_path, "", jax.devices()[:1])
    monkeypatch.setattr(hosts, "count", lambda: 2)
    assert lanes.obstacle(ready, ready.plan.runs[0], True, "gpu") == "several processes train together"


def test_what_is_trained_at_once_is_said_with_the_reasons_for_the_rest():
    todo = runs(nulls=())
    assert lanes.sentence(todo, lambda run: "") == "The seeds of teacher, onehot, student at once, as one program."
    assert lanes.sentence(todo, lambda run: "the loss learns" if run.taught_by else "") == (
        "The seeds of teacher, onehot at once, as one program; one after the other: student (the loss learns)."
    )
    assert lanes.sentence(todo, lambda run: "convolutions") == (
        "No seeds in one program: teacher, onehot, student (convolutions)."
    )
