"""Distillation losses train whole studies, with either loss on the labels; what a loss learns is resumed and is not the network."""

import jax
import numpy as np
import pytest

from kd_jax import losses
from kd_jax.config import BadInput, Study
from kd_jax.studies import run
from kd_jax.studies import train as train_stage
from kd_jax.train import devices, loop
from kd_jax.workdir import checkpoints, metrics_file, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=120,
    test_examples=60,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=2,
    batch_size=40,
    learning_rate=0.02,
    weight=0.5,
    checkpoints=2,
)


TRAINED = {"cross_entropy": ["kd", "mse", "dkd_standardised", "dist"], "mse": ["kd", "mse", "dkd"]}


@pytest.mark.long
@pytest.mark.parametrize("label_loss", losses.LABEL_LOSSES)
def test_students_differ_by_the_distillation_loss_and_their_twins_do_not(label_loss, tmp_path):
    students, twins = {}, set()
    for name in TRAINED[label_loss]:
        study, workdir = STUDY.replaced(distillation=name, loss=label_loss), tmp_path / name
        train_stage.train("tested", study, workdir, "unused", jax.devices()[:1])
        lines = metrics_file.read(records.run_folder(workdir, "student-seed0"))
        assert all(np.isfinite(line["train_loss"]) for line in lines)
        ends = {
            arm: checkpoints.load_variables(records.run_folder(workdir, f"{arm}-seed0"), 6)
            for arm in ("student", "onehot")
        }
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ends))
        students[name] = packing.tree_digest(ends["student"])
        twins.add(packing.tree_digest(ends["onehot"]))
    assert len(set(students.values())) == len(students)
    assert len(twins) == 1


def ends(workdir):
    """{run: {store: {step: digest}}} of all checkpoints of a study."""
    found = {}
    for store in sorted(workdir.glob("runs/*/*")):
        if store.name in ("trajectory", "resume"):
            with checkpoints.Checkpoints(store) as opened:
                digests = {step: packing.tree_digest(opened.load(step)) for step in opened.steps()}
            # The states in between are wherever the run was paused.
            found[store.parent.name, store.name] = digests if store.name == "trajectory" else digests[max(digests)]
    return found


@pytest.mark.long
def test_a_run_goes_on_to_the_same_bits_with_its_projector_and_its_memory(tmp_path, monkeypatch):
    study = STUDY.replaced(distillation="fitnets+crd", epochs=3, checkpoints=4, crd_negatives=20)
    train_stage.train("tested", study, tmp_path / "unbroken", "unused", jax.devices()[:1])
    monkeypatch.setattr(run, "RESUME_SECONDS", 0.0)
    monkeypatch.setattr(devices, "SEGMENT_STEPS", 1)
    real_segments, cuts = loop.segments, 0

    def cut_off(*args):
        for number, pause in enumerate(real_segments(*args)):
            yield pause
            if number == 3:
                raise ConnectionError("cut off")

    monkeypatch.setattr(loop, "segments", cut_off)
    while True:
        try:
            train_stage.train("tested", study, tmp_path / "cut", "unused", jax.devices()[:1])
            break
        except ConnectionError:
            cuts += 1
    assert cuts >= 6
    assert ends(tmp_path / "cut") == ends(tmp_path / "unbroken")
    folder = records.run_folder(tmp_path / "cut", "student-seed0")
    with checkpoints.resume(folder) as opened:
        state = opened.load(9)
    kept = {path for path in state if "loss_" in path}
    assert any("loss_params/fitnets/pair1/kernel" in path for path in kept)
    assert any("loss_state/crd/memory/student" in path for path in kept)
    arms = ("student-seed0", "onehot-seed0")  # the trajectory is the network alone, as that of the twin
    student, twin = (checkpoints.load_variables(records.run_folder(tmp_path / "cut", arm), 9) for arm in arms)
    assert jax.tree.structure(student) == jax.tree.structure(twin)


def test_features_that_networks_lack_are_refused_before_anything_is_written(tmp_path):
    by_maps, by_name = STUDY.replaced(distillation="at"), STUDY.replaced(distillation="rkd", features=("stage4",))
    with pytest.raises(BadInput, match="--distillation=at: expected features of images"):
        train_stage.train("tested", by_maps, tmp_path / "at", "unused", jax.devices()[:1])
    with pytest.raises(BadInput, match=r"--features=stage4: .*it has hidden1, penultimate"):
        train_stage.train("tested", by_name, tmp_path / "at", "unused", jax.devices()[:1])
    assert not (tmp_path / "at").exists()
