"""Seeds that are trained at the same time, on devices of their own, come to what each comes to alone."""

import shutil

import jax
import pytest

from kd_jax.config import Study
from kd_jax.errors import Diverged, Stopped
from kd_jax.studies import prepare, side_by_side
from kd_jax.studies import train as train_stage
from kd_jax.train import loop
from kd_jax.workdir import checkpoints, metrics_file, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    teacher="mlp_16",
    student=("mlp_16",),
    train_examples=160,
    test_examples=50,
    epochs=2,
    batch_size=16,
    learning_rate=0.05,
    checkpoints=3,
    early_epoch=0,
    seeds=3,
    control="free",
)


def train(study, workdir, count, **named):
    devices = jax.devices()[:count]
    ready = prepare.prepare("tested", study, workdir, "", devices)
    return train_stage.train_prepared(ready, devices, **named)


def bits(workdir):
    """{run: (digests of its trajectory, metrics without the clock)}."""
    found = {}
    for folder in sorted((workdir / "runs").iterdir()):
        with checkpoints.trajectory(folder) as trajectory:
            digests = {step: packing.tree_digest(trajectory.load(step)) for step in trajectory.steps()}
        lines = [{k: v for k, v in line.items() if "second" not in k} for line in metrics_file.read(folder)]
        found[folder.name] = digests, lines
    return found


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """Trained one after the other, on one device."""
    workdir = tmp_path_factory.mktemp("in_turn")
    train(STUDY, workdir, 1)
    return workdir


@pytest.mark.long
def test_seeds_on_a_device_each_come_to_the_bits_of_each_alone(in_turn, tmp_path, capsys):
    assert train(STUDY, tmp_path, 4) == 9
    assert "3 seeds, 3 at a time, a device each." in capsys.readouterr().err
    assert bits(tmp_path) == bits(in_turn)
    assert records.read_study(tmp_path)["teacher_hash"] == records.read_study(in_turn)["teacher_hash"]
    assert train(STUDY, tmp_path, 4) == 0


@pytest.mark.long
def test_what_is_told_to_stop_in_all_seeds_goes_on_to_the_same_bits(in_turn, tmp_path, monkeypatch):
    real, told = loop.segments, []

    def segments(*args):
        for pause in real(*args):
            if pause.step == 10 and not told:
                told.append(pause.step)
                stop.requested = True
            yield pause

    with train_stage.stop_requests() as stop:
        monkeypatch.setattr(loop, "segments", segments)
        with pytest.raises(Stopped, match=r"-seed\d saved at step|told to"):
            train(STUDY, tmp_path, 4)
    assert any(records.missing_steps(folder, [20]) for folder in (tmp_path / "runs").iterdir())
    train(STUDY, tmp_path, 4)
    assert bits(tmp_path) == bits(in_turn)


@pytest.mark.long
def test_a_seed_that_is_left_alone_keeps_to_its_share_of_the_devices_and_so_to_its_bits(in_turn, tmp_path, capsys):
    train(STUDY, tmp_path, 4)
    expected = bits(tmp_path)
    shutil.rmtree(tmp_path / "runs" / "student-seed1")
    assert train(STUDY, tmp_path, 4) == 1
    assert "One seed is left, on one device" in capsys.readouterr().err
    assert bits(tmp_path) == expected == bits(in_turn)


@pytest.mark.long
def test_a_seed_that_diverges_ends_the_study_and_the_others_can_go_on(in_turn, tmp_path, monkeypatch):
    real = loop._line

    def line(engine, run, *args):
        if run.name == "onehot-seed1":
            raise Diverged("onehot-seed1: the loss is nan")
        return real(engine, run, *args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_line", line)
        with pytest.raises(Diverged, match="onehot-seed1"):
            train(STUDY, tmp_path, 4)
    train(STUDY, tmp_path, 4)
    assert bits(tmp_path) == bits(in_turn)


@pytest.mark.long
def test_seeds_are_taken_in_turn_where_that_is_asked_for_or_others_listen(tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "train", None)
    study = STUDY.replaced(seeds=2, epochs=1)
    assert train(study, tmp_path / "off", 2, seeds_at_once="off") == 6
    assert train(study, tmp_path / "told", 2, sinks=lambda run: [loop.Sink()]) == 6


@pytest.mark.parametrize(
    ("seeds", "devices", "batch", "sizes"),
    [(2, 4, 16, [2, 2]), (2, 4, 15, [1, 1]), (5, 4, 16, [1] * 4), (1, 4, 16, [4])],
)
def test_devices_are_shared_out_so_that_a_batch_splits_evenly(seeds, devices, batch, sizes):
    found = side_by_side.groups(seeds, jax.devices()[:devices], [batch])
    assert [len(group) for group in found] == sizes
    assert len({device.id for group in found for device in group}) == sum(sizes)
