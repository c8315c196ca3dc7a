"""Every distillation loss trains a whole study, with either loss on the labels."""

import jax
import numpy as np
import pytest

from kd_jax import losses
from kd_jax.config import Study
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, records

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


@pytest.mark.parametrize("label_loss", losses.LABEL_LOSSES)
def test_students_differ_by_the_distillation_loss_and_their_twins_do_not(label_loss, tmp_path):
    students, twins = {}, set()
    for name in losses.DISTILLATION:
        study, workdir = STUDY.replaced(distillation=name, loss=label_loss), tmp_path / name
        train_stage.train("tested", study, workdir, "unused", jax.devices()[:1])
        lines = records.read_metrics(records.run_folder(workdir, "student-seed0"))
        assert all(np.isfinite(line["train_loss"]) for line in lines)
        ends = {
            arm: checkpoints.load_variables(records.run_folder(workdir, f"{arm}-seed0"), 6)
            for arm in ("student", "onehot")
        }
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ends))
        students[name] = checkpoints.tree_digest(ends["student"])
        twins.add(checkpoints.tree_digest(ends["onehot"]))
    assert len(set(students.values())) == len(losses.DISTILLATION)
    assert len(twins) == 1
