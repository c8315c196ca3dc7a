"""What the settings would take, from a few compiled steps: the arithmetic, by hand."""

import pytest

from kd_jax.plan import make_plan
from kd_jax.recipes.settings import FORWARD_FLOPS, settings
from kd_jax.report import plans
from kd_jax.studies import estimates
from kd_jax.train import ahead, hlo
from kd_jax.train.ahead import Compiled

ALL = settings()


def record(network, setting, train_ms, forward_ms, topology="v5e-8"):
    return {
        "network": network,
        "group": estimates.group_of(setting),
        "topology": topology,
        "train_ms": train_ms,
        "forward_ms": forward_ms,
    }


BLOCKS = [record("resnet8", ALL[0], 2.0, 0.5), record("resnet20", ALL[0], 4.0, 1.0)]


def test_a_deeper_network_costs_a_block_more_for_every_block():
    found = estimates.parts("resnet56", ALL[0], "v5e-8", BLOCKS)
    # ResNet-8, -20 and -56 have 1, 3 and 9 blocks in a stage.
    assert found[:2] == (2.0 + 8 * 1.0, 0.5 + 8 * 0.25)


def test_what_was_not_compiled_is_scaled_by_operations_and_chips():
    found = estimates.parts("mobilenetv2_small", ALL[3], "v5e-8", BLOCKS)
    factor = FORWARD_FLOPS["mobilenetv2_small", "cifar10"] / FORWARD_FLOPS["resnet56", "cifar10"]
    assert found.train_ms == pytest.approx(10.0 * factor)
    assert "FLOPs of resnet56" in found.how
    # 16 chips of 275 TFLOP/s are 2.79 times 8 of 197.
    elsewhere = estimates.parts("resnet56", ALL[0], "v4-32", BLOCKS)
    assert elsewhere.train_ms == pytest.approx(10.0 * (8 * 197) / (16 * 275))


def test_hours_are_of_all_runs_and_equal_runs_of_several_settings_count_once():
    made = estimates.table(BLOCKS, ["v5e-8"], seeds=2)
    second = made["settings"][1]  # resnet56 teaches resnet20
    plan = make_plan(ALL[1].study.replaced(seeds=2), 50_000)
    steps = 450 * (50_000 // 1024)
    per_step = {"resnet56": 10.0, "resnet20": 4.0}
    passed = {"resnet56": 2.5, "resnet20": 1.0}
    total = 0.0
    for run in plan.runs:
        name = run.arm.model
        of_teacher = passed["resnet56"] if run.taught_by else 0.0
        total += steps * (per_step[name] + of_teacher) + 450 * passed[name] * 10_000 / 1024
    assert second["runs"] == len(plan.runs) == 2 * 4
    assert second["hours"]["v5e-8"] == pytest.approx(total / 3.6e6)
    # Settings 1 and 2 share the teachers of CIFAR-10, so all of them once are fewer hours.
    assert made["total_once"]["v5e-8"] < made["total"]["v5e-8"]
    table = plans.settings(made | {"compiled": BLOCKS})
    assert len(table.rows) == 30 + 3


def test_the_teachers_part_of_a_program_is_what_its_names_say():
    lines = [
        ('"jit(f)/while/body/CifarResNet/stage1_block1_conv1/conv"', 100),
        ('"jit(f)/while/body/jvp(CifarResNet)/stage1_block1_conv1/conv"', 1000),
        ('"jit(f)/while/body/transpose(jvp(CifarResNet))/stem/conv"', 2000),
        ('"jit(f)/while/body/sub"', 7),
    ]
    body = "\n".join(
        f"  %i{n} = f32[2]{{0}} fusion(%x), kind=kLoop, calls=%c, metadata={{op_name={name}}},"
        f' backend_config={{"estimated_cycles":"{cycles}"}}'
        for n, (name, cycles) in enumerate(lines)
    )
    text = f"ENTRY %main (x: f32[2]) -> f32[2] {{\n{body}\n}}\n"
    assert hlo.parse(text).cycles() == 3107
    found = Compiled(True, cycles=3107)
    made = estimates.record_of("resnet8", ALL[0], "v5e-8", 8, ahead.CHIPS["v5e"], found, text)
    assert (made["train_ms"], made["forward_ms"]) == pytest.approx((3007 / 1.5e6, 100 / 1.5e6))


def test_a_bound_of_images_on_a_gpu_is_multiplied_by_what_was_measured_and_that_of_texts_is_marked_as_one():
    texts = next(each for each in ALL if each.study.data.dataset == "glue/mnli")
    made = estimates.table(
        [
            *(record(each["network"], ALL[0], each["train_ms"], each["forward_ms"], "h100") for each in BLOCKS),
            record("roberta_base", texts, 10.0, 3.0, "h100"),
        ],
        ["h100"],
        seeds=1,
    )
    here = estimates.table(BLOCKS, ["v5e-8"], seeds=1)
    images, of_texts = made["settings"][0], made["settings"][texts.number - 1]
    # On one chip its answers to 162 views are looked up, rather than asked for in 450 epochs.
    spared = (450 - 162) * (50_000 // 1024) * 2.5 / 3.6e6
    assert images["hours"]["h100"] == pytest.approx(2.9 * (here["settings"][0]["hours"]["v5e-8"] - spared))
    steps = 392_702 // 64  # of an epoch; a text has one view, so its teacher is asked in one of the four
    assert of_texts["hours"]["h100"] == pytest.approx((steps * (4 * 30.0 + 3.0) + 3 * 4 * 3.0 * 9_815 / 64) / 3.6e6)
    rows = plans.settings(made).rows
    assert rows[texts.number - 1][2].startswith(">")
    assert not rows[0][2].startswith(">")
