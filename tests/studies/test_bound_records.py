"""Checkpoints, runs and records belong together: what was copied, renamed or edited is not analysed as if it were true."""

import json
import shutil

import jax
import numpy as np
import pytest

from kd_jax import files
from kd_jax.config import Study
from kd_jax.errors import BadInput
from kd_jax.studies import analyse
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=120,
    test_examples=60,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=2,
    batch_size=40,
    checkpoints=4,
)
pytestmark = pytest.mark.usefixtures("no_figures")


def train(study, workdir):
    return train_stage.train("bound", study, workdir, "unused", jax.devices()[:1])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("done")
    train(STUDY, workdir)
    return workdir


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done, tmp_path / "copy")
    return tmp_path / "copy"


def test_every_checkpoint_carries_the_key_of_its_run_and_its_step(done):
    keys = records.read_study(done)["keys"]
    assert set(keys) == {"teacher-seed0", "onehot-seed0", "student-seed0"}
    assert len(set(keys.values())) == 3
    for name, key in keys.items():
        for store in ("trajectory", "resume"):
            for step in (done / "runs" / name / store).iterdir():
                stored = json.loads((step / "_CHECKPOINT_METADATA").read_text())["custom_metadata"]
                assert (stored["key"], stored["step"]) == (key, int(step.name))


@pytest.mark.parametrize(("there", "source"), [("teacher", "onehot"), ("student", "onehot"), ("onehot", "teacher")])
def test_a_run_that_was_copied_over_another_is_refused(copy, there, source):
    shutil.rmtree(copy / "runs" / f"{there}-seed0")
    shutil.copytree(copy / "runs" / f"{source}-seed0", copy / "runs" / f"{there}-seed0")
    with pytest.raises(BadInput, match=rf"{there}-seed0/trajectory/\d+: holds another run"):
        analyse.analyze(copy)


def test_a_teacher_that_was_copied_over_is_trained_anew_for_a_student_that_is_not_finished(copy, done):
    shutil.rmtree(copy / "runs" / "teacher-seed0")
    shutil.copytree(copy / "runs" / "onehot-seed0", copy / "runs" / "teacher-seed0")
    shutil.rmtree(copy / "runs" / "student-seed0")
    train(STUDY, copy)
    for name in ("teacher-seed0", "student-seed0"):
        with (
            checkpoints.trajectory(copy / "runs" / name) as ours,
            checkpoints.trajectory(done / "runs" / name) as theirs,
        ):
            assert packing.tree_digest(ours.load(6)) == packing.tree_digest(theirs.load(6))


def test_steps_that_were_exchanged_are_refused(copy):
    store = copy / "runs" / "student-seed0" / "trajectory"
    first, second = records.kept_steps(store.parent)[1:3]
    (store / str(first)).rename(store / "aside")
    (store / str(second)).rename(store / str(first))
    (store / "aside").rename(store / str(second))
    with pytest.raises(BadInput, match=rf"student-seed0/trajectory/{first}: holds step {second}"):
        analyse.analyze(copy)


@pytest.mark.parametrize(
    "change", [{"temperature": 2.0}, {"weight": 0.5}, {"learning_rate": 0.2}, {"distillation": "mse"}, {"seeds": 2}]
)
def test_a_record_that_was_edited_is_refused(copy, change):
    path = copy / "study.json"
    record = json.loads(path.read_text())
    record["config"] |= change
    path.write_text(json.dumps(record))
    with pytest.raises(BadInput, match=r"study\.json: expected what training wrote, it was changed since"):
        analyse.analyze(copy)
    with pytest.raises(BadInput, match="it was changed since"):
        train(STUDY, copy)


def test_a_teacher_that_is_not_the_one_on_record_is_not_analysed(copy):
    record = records.read_study(copy)
    record["teacher_hash"]["teacher-seed0"] = "0" * 64
    records.write_study(copy, record)
    with pytest.raises(BadInput, match="teacher-seed0: expected the teacher on record"):
        analyse.analyze(copy)


def test_a_folder_of_an_earlier_version_has_neither_and_is_analysed(copy):
    record = {key: value for key, value in records.read_study(copy).items() if key not in ("seal", "keys")}
    records.write_json(copy / "study.json", record)
    for path in copy.glob("runs/*/*/*/_CHECKPOINT_METADATA"):
        stored = json.loads(path.read_text())
        for key in ("key", "step"):
            stored["custom_metadata"].pop(key)
        path.write_text(json.dumps(stored))
    assert analyse.analyze(copy)["estimates"]


def test_a_folder_is_replaced_whole_whenever_a_crash_comes(tmp_path, monkeypatch):
    final, new = tmp_path / "analysis", tmp_path / ".analysis"

    def fill(folder, text):
        folder.mkdir()
        (folder / "a").write_text(text)

    fill(final, "old")
    fill(new, "new")
    renamed = []

    def crash(self, target):
        renamed.append((self, target))
        if len(renamed) == 2:
            raise KeyboardInterrupt
        return real(self, target)

    real = type(final).rename
    monkeypatch.setattr(type(final), "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        files.replace_folder(new, final)
    monkeypatch.undo()
    assert not final.exists()
    files.settle(final)
    assert (final / "a").read_text() == "old"
    files.replace_folder(new, final)
    assert [path.name for path in tmp_path.iterdir()] == ["analysis"]
    assert (final / "a").read_text() == "new"
    assert np.array_equal(list(final.iterdir()), [final / "a"])
