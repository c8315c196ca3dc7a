"""`--precision=auto` is settled when a study begins, and a work folder goes on as it was begun."""

from types import SimpleNamespace

import jax
import pytest

from kd_jax.config import Study
from kd_jax.plan import make_plan
from kd_jax.recipes.settings import settings
from kd_jax.recipes.studies import STUDIES
from kd_jax.studies import arithmetic, prepare
from kd_jax.studies.train import train
from kd_jax.workdir import records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=100,
    test_examples=50,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=1,
    batch_size=50,
    learning_rate=0.05,
    checkpoints=2,
    precision="auto",
)
DEVICES = {name: [SimpleNamespace(platform=name)] for name in ("cpu", "gpu", "tpu")}


@pytest.fixture(autouse=True)
def as_before():
    yield
    arithmetic.set_precision(Study().networks)


def begun(folder, precision):
    """A work folder with the record of a study that was begun in some arithmetic."""
    study = STUDY.replaced(precision=precision)
    arithmetic.set_precision(study.networks)
    made = prepare.prepare("tested", study, folder, "unused", jax.devices()[:1])
    folder.mkdir()
    records.write_study(folder, made.record)
    return made.record


@pytest.mark.parametrize(("platform", "settled"), [("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")])
def test_a_study_that_begins_has_the_arithmetic_of_its_devices(platform, settled, tmp_path):
    found = arithmetic.with_precision(STUDY, tmp_path, DEVICES[platform])
    assert found == STUDY.replaced(precision=settled)
    typed = STUDY.replaced(precision="float64")
    assert arithmetic.with_precision(typed, tmp_path, DEVICES[platform]) is typed


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("platform", DEVICES)
def test_a_work_folder_goes_on_as_it_was_begun_wherever_it_does(precision, platform, tmp_path):
    begun(tmp_path / "work", precision)
    found = arithmetic.with_precision(STUDY, tmp_path / "work", DEVICES[platform])
    assert found.networks.precision == precision


def test_a_study_on_record_in_float64_goes_on_in_float64(tmp_path):
    begun(tmp_path / "work", "float64")
    arithmetic.set_precision(STUDY.networks)
    assert not jax.config.jax_enable_x64
    prepared = prepare.prepare("tested", STUDY, tmp_path / "work", "unused", jax.devices()[:1])
    assert prepared.study.networks.precision == "float64"
    assert jax.config.jax_enable_x64


def test_what_is_recorded_is_what_it_came_to_and_on_a_cpu_the_run_is_that_of_float32(tmp_path):
    asked, typed = (
        prepare.prepare("tested", study, tmp_path / "absent", "unused", jax.devices()[:1])
        for study in (STUDY, STUDY.replaced(precision="float32"))
    )
    assert asked.record["config"]["precision"] == "float32"
    assert asked.study == typed.study
    assert asked.record["keys"] == typed.record["keys"]


def test_a_teacher_of_another_study_brings_its_arithmetic(tmp_path):
    train("tested", STUDY.replaced(precision="bfloat16"), tmp_path / "theirs", "unused", jax.devices()[:1])
    taught = STUDY.replaced(teacher="", teacher_from=str(tmp_path / "theirs"))
    assert arithmetic.with_precision(taught, tmp_path / "ours", DEVICES["cpu"]).networks.precision == "bfloat16"


def test_recipes_for_accelerators_leave_it_to_the_devices_and_all_others_say_it():
    auto = {
        name
        for name, study in STUDIES.items()
        for preset in (study.presets.values() if study.flag else [study.presets])
        if preset.full.networks.precision == "auto"
    }
    assert auto == {"cifar_kd", "imagenet_kd", "text_kd"}
    assert {each.study.networks.precision for each in settings()} == {"auto"}
    assert Study().networks.precision == "float32"
    # A run's key is made of what a precision came to.
    keys = [make_plan(STUDY.replaced(precision=name), 100).runs[0].key for name in ("float32", "bfloat16")]
    assert len(set(keys)) == 2
