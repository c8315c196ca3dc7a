"""The configuration of a study: flat names, sections, what was written before, what is refused."""

import json
import pathlib
from dataclasses import fields
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

import kd_jax
from kd_jax import config
from kd_jax.config import SECTIONS, BadInput, Study, from_json, to_json, versions
from kd_jax.plan import arms, make_plan, run_key, training_of


def test_every_field_has_one_name_in_all_sections():
    names = [each.name for kind in SECTIONS.values() for each in fields(kind)]
    assert len(names) == len(set(names)) == len(config.FLAGS) - 2


def test_a_study_survives_json():
    study = Study.from_flags(
        dataset="digits",
        student=("mlp_8", "mlp_16"),
        decay_at=(0.5, 0.75),
        pairs=((0, 3), (2, 5)),
        teacher_with=("epochs=2",),
    )
    assert from_json(json.loads(json.dumps(to_json(study)))) == study


def test_keys_of_a_newer_version_are_refused_by_name():
    """Leaving them out would be another study, and an older program would go on with that."""
    values = to_json(Study()) | {"zeta": 1, "curriculum": "easy"}
    with pytest.raises(BadInput, match="found also curriculum, zeta; a newer version wrote it"):
        from_json(values)


def test_what_a_version_without_sections_wrote_opens():
    """It had no distillation loss of its own; `auto` is what it meant."""
    before = {name: value for name, value in to_json(Study.from_flags(loss="mse")).items() if name != "distillation"}
    study = from_json(before)
    assert (study.distillation.distillation, study.distillation_loss) == ("auto", "mse")
    assert Study().distillation_loss == "kd"
    assert Study.from_flags(loss="mse", distillation="kd").distillation_loss == "kd"


def test_the_teachers_training_is_the_students_with_its_changes():
    study = Study.from_flags(
        epochs=40, teacher_with=("epochs=20", "optimizer=adam", "decay_at=0.5:0.75", "weight_decay=0.01")
    )
    teacher = study.teacher_training
    assert (teacher.epochs, teacher.optimizer, teacher.decay_at, teacher.weight_decay) == (
        20,
        "adam",
        (0.5, 0.75),
        0.01,
    )
    assert teacher.batch_size == study.training.batch_size
    assert training_of(study, arms(study)[0]) == teacher
    assert training_of(study, arms(study)[1]) == study.training


@pytest.mark.parametrize("word", ["epochs=many", "optimizer=best", "dataset=mnist", "epochs", "epochs=-1"])
def test_a_change_that_no_training_can_have_is_refused(word):
    with pytest.raises(BadInput, match=f"--teacher_with={word}: "):
        Study.from_flags(teacher_with=(word,))


def test_a_key_is_of_what_a_run_reads_and_of_nothing_else():
    study = Study.from_flags(dataset="digits", teacher="mlp_8", student=("mlp_8",), epochs=2, batch_size=10)
    teacher, onehot, student = arms(study)

    def same(arm, **changes):
        return run_key(study, arm, 0) == run_key(study.replaced(**changes), arm, 0)

    for changes, unchanged in (
        ({"temperature": 2.0}, (True, True, False)),
        ({"teacher_step": 7}, (True, True, False)),
        ({"teacher_with": ("epochs=1",)}, (False, True, False)),
        ({"label_noise": 0.2}, (False, False, False)),
        ({"layers": ("Dense_0",), "seeds": 5}, (True, True, True)),
        ({"teacher": "mlp_16"}, (True, True, False)),  # the arm names its network itself
    ):
        assert tuple(same(arm, **changes) for arm in (teacher, onehot, student)) == unchanged, changes
    assert run_key(study, onehot, 0) != run_key(study, onehot, 1)
    plan = make_plan(study, 100)
    assert [run.key for run in plan.runs] == [run_key(study, arm, 0) for arm in (teacher, onehot, student)]


def test_the_version_of_a_checkout_that_is_not_installed_is_known(monkeypatch):
    def of_installed(package):
        if package == "kd_jax":
            raise PackageNotFoundError(package)
        return "1"

    monkeypatch.setattr("kd_jax.config.packages.version", of_installed)
    assert versions()["kd_jax"] == kd_jax.__version__


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"student": "mlp_8"}, "--student=mlp_8: expected a list, each a word, found 'mlp_8'"),
        ({"optimizer": "adamm"}, "--optimizer=adamm: expected one of nesterov sgd adam adamw"),
        ({"precision": "fp16"}, "--precision=fp16: expected one of auto"),
        ({"epochs": "3"}, "--epochs=3: expected a whole number, found '3'"),
        ({"epochs": 2.0}, "--epochs=2.0: expected a whole number"),
        ({"temperature": None}, "--temperature=None: expected a number"),
        ({"seeds": True}, "--seeds=True: expected a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused_in_python_too(values, said):
    for make in (Study.from_flags, Study().replaced):
        with pytest.raises(BadInput) as caught:
            make(**values)
        assert str(caught.value).startswith(said)


def test_lists_paths_and_numbers_of_numpy_are_taken_as_what_they_stand_for():
    here = pathlib.Path("a") / "b"
    found = {"student": ["mlp_8"], "pairs": [[0, 8]], "epochs": np.int64(3), "temperature": np.float32(2)}
    study = Study.from_flags(**found, teacher_from=here)
    same = Study.from_flags(student=("mlp_8",), pairs=((0, 8),), epochs=3, temperature=2.0, teacher_from=str(here))
    assert study == same
    assert json.dumps(to_json(study)) == json.dumps(to_json(same))
