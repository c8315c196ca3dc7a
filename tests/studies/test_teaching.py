"""Teachers that are trained otherwise, or stopped early, and students whose loss is switched, in whole studies."""

import re

import numpy as np
import pytest

from kd_jax import config
from kd_jax.analysis import learning
from kd_jax.extract import logits as extract
from kd_jax.models import Variables
from kd_jax.studies import analyse, prepare
from kd_jax.workdir import checkpoints, metrics_file, packing, records
from tests.studies.test_train import STUDY, bits, train


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_teacher_trained_otherwise_is_the_teacher_of_the_study_that_trains_so(tmp_path):
    """Its optimiser, batches and epochs are its own, and its student's are the study's; analysis finds both ends."""
    own = ("epochs=2", "batch_size=20", "weight_decay=0.01", "learning_rate=0.05")
    study = STUDY.replaced(teacher="mlp_8", student=("mlp_8",), seeds=1, epochs=3, teacher_with=own)
    train(study, tmp_path / "study")
    like = study.replaced(teacher_with=(), epochs=2, batch_size=20, weight_decay=0.01, learning_rate=0.05)
    train(like, tmp_path / "like")
    ends = {
        name: packing.tree_digest(checkpoints.load_variables(records.run_folder(tmp_path / name, "teacher-seed0"), 20))
        for name in ("study", "like")
    }
    assert ends["study"] == ends["like"]
    assert records.kept_steps(records.run_folder(tmp_path / "study", "teacher-seed0"))[-1] == 20
    assert records.kept_steps(records.run_folder(tmp_path / "study", "student-seed0"))[-1] == 15
    found = analyse.analyze(tmp_path / "study")
    teacher = next(
        e for e in found["estimates"] if (e["name"], e["arm"], e["split"]) == ("accuracy", "teacher", "test")
    )
    last = metrics_file.read(tmp_path / "study" / "runs" / "teacher-seed0")[-1]
    assert (teacher["values"], last["step"]) == ([last["test_accuracy"]], 20)


def test_a_switch_has_a_checkpoint_before_and_after_and_the_weight_is_on_record(tmp_path):
    study = STUDY.replaced(teacher="mlp_8", student=("mlp_8",), seeds=1, epochs=4, checkpoints=2, weight=0.8)
    train(study.replaced(switch="onehot:kd@1.4,ramp=5"), tmp_path)
    folder = records.run_folder(tmp_path, "student-seed0")
    assert {7, 12} <= set(records.kept_steps(folder))
    weights = [line["kd_weight"] for line in metrics_file.read(folder)]
    # Of the last step of each epoch, 4, 9, 14 and 19 counted from 0; step 9 is the third of the ramp that begins at 7.
    np.testing.assert_allclose(weights, [0, 0.8 * 3 / 5, 0.8, 0.8], rtol=1e-6)
    assert "kd_weight" not in metrics_file.read(records.run_folder(tmp_path, "onehot-seed0"))[0]


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_an_early_stopped_teacher_teaches_as_it_was_at_that_step(tmp_path):
    """Its hash is that of the step, its logits are those of the step, and a student of the last step becomes another."""
    study = STUDY.replaced(teacher="mlp_8", student=("mlp_8",), seeds=1, epochs=2, teacher_step=7)
    study = study.replaced(loss="mse", learning_rate=0.01)
    train(study, tmp_path / "early")
    train(study.replaced(teacher_step=0), tmp_path / "late")
    folder = tmp_path / "early" / "runs"
    assert 7 in records.kept_steps(folder / "teacher-seed0")
    teacher = checkpoints.load_variables(folder / "teacher-seed0", 7)
    record = records.read_study(tmp_path / "early")
    assert record["teacher_hash"]["teacher-seed0"] == packing.tree_digest({"params": teacher["params"]})
    found = analyse.analyze(tmp_path / "early")
    with np.load(tmp_path / "early" / "analysis" / "pairs" / "student-seed0-test.npz") as arrays:
        opened = prepare.open_study(tmp_path / "early")
        logits = extract.make_logits("mlp_8", opened.dataset, "float32")(Variables(**teacher), opened.dataset.test.x)
        np.testing.assert_array_equal(arrays["teacher_logits"], logits)
    early, late = (bits(tmp_path / name) for name in ("early", "late"))
    assert early["teacher-seed0"][10] == late["teacher-seed0"][10]
    assert early["onehot-seed0"][10] == late["onehot-seed0"][10]
    assert early["student-seed0"][10] != late["student-seed0"][10]
    assert not any("fit their labels fully" in warning for warning in found["warnings"])  # it has much left to learn


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_switched_student_is_not_taken_for_one_that_did_not_learn(tmp_path):
    """Its loss jumps by design: the distillation loss has a factor temperature^2."""
    study = STUDY.replaced(student=("mlp_16",), seeds=1, epochs=6, learning_rate=0.05, switch="onehot:kd@3")
    train(study, tmp_path)
    lines = metrics_file.read(tmp_path / "runs" / "student-seed0")
    onehot = metrics_file.read(tmp_path / "runs" / "onehot-seed0")
    assert lines[2]["train_loss"] == pytest.approx(onehot[2]["train_loss"], rel=1e-5)
    assert lines[-1]["train_loss"] > lines[0]["train_loss"]
    # Six epochs of this recipe leave all runs near chance, which is another matter.
    assert "loss_rose" not in {run["reason"] for run in analyse.analyze(tmp_path)["unlearned"]}
    assert learning.comparable_losses(lines, config.parse_switch(study.distillation.switch), 5) == [
        line["train_loss"] for line in lines[4:]
    ]
    assert learning.comparable_losses(lines, config.parse_switch("onehot:kd@6"), 5) == [
        line["train_loss"] for line in lines
    ]


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_squared_loss_teacher_that_fits_everything_is_warned_of(tmp_path):
    """By theory the effect vanishes with it. More weights than examples, so that it can."""
    study = STUDY.replaced(
        dataset="digits", train_examples=40, batch_size=20, augment="none", teacher="mlp_64", student=("mlp_64",)
    )
    study = study.replaced(loss="mse", learning_rate=0.01, epochs=150, seeds=1, label_noise=0.0)
    train(study, tmp_path)
    (warning,) = analyse.analyze(tmp_path)["warnings"]
    assert re.search(
        r"the teachers fit their labels fully .*the effect of distillation vanishes.*--teacher_step", warning
    )
