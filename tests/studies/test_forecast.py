"""What a study will take: its arithmetic, checked by hand, with a compiler that says what it is told."""

import json
import re

import jax
import numpy as np
import pytest

from kd_jax import data
from kd_jax.config import Study
from kd_jax.data import shapes
from kd_jax.errors import BadInput
from kd_jax.recipes.settings import Size
from kd_jax.report import plans
from kd_jax.studies import forecast
from kd_jax.train import ahead
from kd_jax.train.ahead import Compiled, Topology

SMALL = Study.from_flags(
    dataset="made",
    teacher="mlp_16",
    student=("mlp_16", "mlp_8"),
    epochs=3,
    batch_size=40,
    optimizer="sgd",
    learning_rate=0.1,
    checkpoints=4,
    seeds=2,
    teacher_table="off",
)
MADE = Size(200, 100, 3, (4, 4, 1))


def here(chip="v5e"):
    """This machine's CPU, said to be another chip."""
    return Topology("made", ahead.CHIPS[chip], jax.devices("cpu")[:1], 1, "")


def told(lowered, topology):
    """A compiler that needs 1.5 M cycles for every step, and 0.15 M for every evaluation: 1 ms and 0.1 ms on a v5e."""
    arguments = jax.tree.leaves(lowered.args_info)
    takes_row_numbers_of_an_epoch = any(len(leaf.shape) > 2 and leaf.dtype == "int32" for leaf in arguments)
    cycles = 1_500_000 if takes_row_numbers_of_an_epoch else 150_000
    return Compiled(True, 1000, 400, flops=1e6, traffic_bytes=10, cycles=cycles)


def asked_here(lowered, topology):
    """The compiler of this machine."""
    return ahead.compile_lowered(lowered)[0]


def test_hours_are_steps_and_evaluations_times_what_the_compiler_says():
    dataset = shapes.stand_in("images", SMALL.data, *MADE)
    found = forecast.forecast(SMALL, dataset, here(), compiled=told, seeds_at_once="off")
    # Per seed: a teacher, a student and its twin, a smaller student and its twin; the first twin is of the teacher's kind.
    assert found["runs"] == 2 * 5
    assert [step["runs"] for step in found["steps"]] == [4, 2, 2, 2]
    assert sorted(found["evaluations"]) == ["mlp_16", "mlp_8"]
    steps = 3 * (200 // 40)
    seconds = 10 * (steps * 1e-3 + 3 * 1 * 1e-4)  # the 100 test examples are one batch of 500
    assert found["hours"] * 3600 == pytest.approx(seconds)
    assert found["total_steps"] == 10 * steps
    assert [step["binds"] for step in found["steps"]] == ["cycles"] * 4


@pytest.mark.parametrize(("seeds", "sizes"), [(2, [2]), (17, [8, 9])])
def test_seeds_that_training_takes_at_once_are_compiled_and_reckoned_as_one_program(seeds, sizes):
    """The compiler says the same of a program of several seeds, so its hours are those of one seed for each program."""
    study = SMALL.replaced(student=("mlp_16",), seeds=seeds)
    found = forecast.forecast(study, shapes.stand_in("images", study.data, *MADE), here(), compiled=told)
    assert [step["seeds_at_once"] for step in found["steps"]] == 2 * sizes  # on labels; from a teacher
    assert [step["runs"] for step in found["steps"]] == [2 * size for size in sizes] + sizes
    assert [each["seeds_at_once"] for each in found["evaluations"].values()] == sizes
    assert found["hours"] * 3600 == pytest.approx(3 * len(sizes) * (15e-3 + 3e-4))
    assert found["steps"][0]["examples_per_second"] == pytest.approx(sizes[0] * 40 / 1e-3)
    assert found["notes"][0] == "The seeds of teacher, onehot, student at once, as one program."
    assert f"step of teacher, onehot, {sizes[0]} seeds at once" in plans.table(found).rows[0]
    assert f", {sizes[0]} seeds at once (" in plans.sentence(found)


def test_of_several_chips_it_is_said_that_training_gives_each_seed_its_own():
    study = SMALL.replaced(student=("mlp_16",))
    two = here()._replace(devices=jax.devices("cpu")[:2])
    found = forecast.forecast(study, shapes.stand_in("images", study.data, *MADE), two, compiled=told)
    assert {step["seeds_at_once"] for step in found["steps"]} == {1}
    assert found["notes"][0].endswith("training exchanges less: 2 seeds, 2 at a time, a device each.")
    asked_off = forecast.forecast(
        study, shapes.stand_in("images", study.data, *MADE), two, compiled=told, seeds_at_once="off"
    )
    assert not any("exchanges" in note for note in asked_off["notes"])
    assert asked_off["hours"] == found["hours"]


def test_answers_that_are_looked_up_are_filled_in_once_per_seed_and_cost_no_pass_of_the_teacher():
    study = SMALL.replaced(student=("mlp_16",), teacher_table="auto")
    dataset = shapes.stand_in("images", study.data, *MADE)
    found = forecast.forecast(study, dataset, here(), compiled=told, seeds_at_once="off")
    assert [step["teacher_table"] for step in found["steps"]] == [False, True]
    seconds = 2 * 3 * (15 * 1e-3 + 3 * 1e-4) + 2 * (200 / 500) * 1e-4  # without augmentation an image has one view
    assert found["hours"] * 3600 == pytest.approx(seconds)
    onehot, student = forecast.forecast(study, dataset, here(), compiled=asked_here, seeds_at_once="off")["steps"]
    assert student["flops"] == pytest.approx(onehot["flops"], rel=0.25)


@pytest.mark.parametrize(
    ("batch_size", "said"),
    [(40, "A batch of 40 a chip is filled up to 128,.*: 69% of that work is padding, which --batch_size=128 or"),
     (192, "A batch of 192 a chip is filled up to 256,.*: 25% of that work is padding, which --batch_size=256 or"),
     (128, None)],
)  # fmt: skip
def test_a_batch_that_fills_no_whole_rows_of_lanes_is_named_with_what_is_lost(batch_size, said):
    study = SMALL.replaced(batch_size=batch_size)
    found = forecast.forecast(study, shapes.stand_in("images", study.data, *MADE), here(), compiled=told)
    notes = [note for note in found["notes"] if "lanes" in note]
    assert bool(notes) == bool(said)
    assert not said or re.match(said, notes[0])


def test_a_precision_that_is_left_open_is_that_of_the_accelerator():
    study = SMALL.replaced(precision="auto")
    dataset = shapes.stand_in("images", study.data, *MADE)
    assert forecast.forecast(study, dataset, here(), compiled=told)["precision"] == "bfloat16"


def test_what_lies_on_a_device_besides_the_step_counts_and_what_is_too_large_does_not_fit():
    test_bytes = 100 * (128 + 4)  # rows of bytes are filled up
    dataset = shapes.stand_in("images", SMALL.data, *MADE)
    found = forecast.forecast(SMALL, dataset, here(), compiled=told)
    assert found["peak_bytes"] == max(1000 + test_bytes, 1000 + 400)
    tiny = here()._replace(chip=ahead.CHIPS["v5e"]._replace(memory=found["peak_bytes"] - 1))
    too_large = forecast.forecast(SMALL, dataset, tiny, compiled=told)
    assert (found["fits"], too_large["fits"], too_large["hours"]) == (True, False, None)


def test_the_step_that_is_compiled_is_the_one_that_trains_and_xla_counts_its_operations():
    """On this machine, without a stand-in for the compiler: forward and backward of the student, forward of its teacher."""
    study = SMALL.replaced(student=("mlp_16",))
    dataset = shapes.stand_in("images", study.data, *MADE)
    found = forecast.forecast(study, dataset, here(), compiled=asked_here, seeds_at_once="off")
    onehot, student = found["steps"]
    forward = 2 * 40 * (16 * 16 + 16 * 3)
    inputs = 2 * 40 * 16 * 3  # no gradient is taken with respect to the images, only to the hidden layer
    assert student["flops"] - onehot["flops"] == pytest.approx(forward, rel=0.5)
    assert onehot["flops"] == pytest.approx(2 * forward + inputs, rel=0.5)
    assert json.loads(json.dumps(found)) == found


def test_a_stand_in_has_the_shapes_of_real_data_and_takes_no_memory():
    real = data.load(Study.from_flags(dataset="digits").data, "")
    size = (len(real.train.y), len(real.test.y), real.classes, real.train.x.shape[1:])
    made = shapes.stand_in("images", Study.from_flags(dataset="digits").data, *size)
    for name in ("train", "test"):
        for ours, theirs in zip(made.resident(getattr(made, name)), real.resident(getattr(real, name)), strict=True):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert made.train.x.base.nbytes == 1
    assert np.asarray(made.example()).shape == np.asarray(real.example()).shape


def test_a_set_of_which_nothing_is_known_is_asked_for_its_size(tmp_path):
    study = SMALL.replaced(dataset="nowhere")
    with pytest.raises(BadInput, match="--examples TRAIN TEST --classes N --shape"):
        forecast.dataset_of(study, None, tmp_path)
    assert forecast.dataset_of(study, MADE, tmp_path).train.x.shape == (200, 4, 4, 1)


def test_a_batch_that_does_not_split_over_the_chips_is_refused():
    dataset = shapes.stand_in("images", SMALL.data, *MADE)
    with pytest.raises(BadInput, match="--batch_size=40: expected a multiple of the 3 devices"):
        forecast.forecast(SMALL, dataset, here()._replace(devices=jax.devices("cpu")[:1] * 3), compiled=told)
