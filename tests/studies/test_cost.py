"""What networks cost to run: counts against closed forms, times against a clock that is set by hand."""

import itertools
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from scipy import stats

from kd_jax import cli
from kd_jax.analysis import intervals
from kd_jax.analysis.results import Interval
from kd_jax.config import Study
from kd_jax.errors import BadInput
from kd_jax.report import costs
from kd_jax.studies import analyse, cost, prepare
from kd_jax.studies import train as train_stage
from kd_jax.train import ahead

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=80,
    teacher="mlp_64x32",
    student=("mlp_16",),
    epochs=2,
    batch_size=40,
    checkpoints=4,
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(work folder, contents of summary.json) of a study without a report."""
    workdir = tmp_path_factory.mktemp("done") / "study"
    train_stage.train("tested", STUDY, workdir, "unused", jax.devices()[:1])
    patch = pytest.MonkeyPatch()
    patch.setattr(analyse, "write_report", lambda workdir, folder, *_: (folder / "report.html").write_text(""))
    summary = analyse.analyze(workdir)
    patch.undo()
    return workdir, summary


def ticking(*seconds):
    """A clock on which the calls that are timed take so many seconds each, in turn."""
    now, steps = 0.0, itertools.cycle(part for each in seconds for part in (each, 0.0))

    def clock():
        nonlocal now
        before, now = now, now + next(steps)
        return before

    return clock


def test_parameters_operations_and_bytes_are_those_of_the_closed_forms(done):
    opened = prepare.open_study(done[0])
    found = cost.measure(opened, jax.devices()[0], done[1], ticking(0.125))["networks"]
    for name, widths in {"mlp_64x32": (64, 64, 32, 10), "mlp_16": (64, 16, 10)}.items():
        products = sum(a * b for a, b in itertools.pairwise(widths))
        scalars = products + sum(widths[1:])
        assert found[name]["parameters"] == scalars
        assert found[name]["bytes"] == 4 * scalars
        # A multiplication and an addition for each weight; then biases, ReLUs, and the standardisation of the input.
        assert 2 * products < found[name]["flops"] < 2 * products + 4 * sum(widths)


def test_times_are_medians_of_the_clock_and_accuracies_those_of_the_analysis(done):
    opened = prepare.open_study(done[0])
    found = cost.measure(opened, jax.devices()[0], done[1], ticking(0.1, 0.4, 0.3))
    of_student = found["networks"]["mlp_16"]
    assert of_student["latency"]["estimate"] == pytest.approx(0.3)
    assert (of_student["latency"]["low"], of_student["latency"]["high"]) == pytest.approx((0.1, 0.4))
    assert (of_student["latency"]["count"], of_student["latency"]["level"]) == (3, 0.75)
    assert of_student["throughput"]["estimate"] == pytest.approx(256 / 0.3)
    assert of_student["throughput"]["high"] == pytest.approx(2560)
    for arm in found["arms"]:
        accuracy = next(
            e for e in done[1]["estimates"] if (e["name"], e["arm"], e["split"]) == ("accuracy", arm["arm"], "test")
        )
        assert arm["accuracy"]["estimate"] == accuracy["estimate"]
    assert [arm["arm"] for arm in found["arms"]] == ["teacher", "student"]
    assert (found["device"]["platform"], found["precision"], found["example"]) == ("cpu", "float32", [8, 8, 1])


def test_the_first_call_is_not_counted_and_repetitions_have_limits(monkeypatch):
    monkeypatch.setattr(cost, "SECONDS", 0.25)
    calls = []
    assert cost.repeat([lambda: calls.append(1)], ticking(cost.SECONDS)) == [[cost.SECONDS] * cost.FEWEST]
    assert len(calls) == cost.FEWEST + 1
    assert len(cost.repeat([lambda: None], ticking(0.0))[0]) == cost.MOST
    assert len(cost.repeat([lambda: None], ticking(cost.SECONDS / 8))[0]) == 8


def test_networks_take_turns():
    calls = []
    times = cost.repeat([lambda: calls.append("a"), lambda: calls.append("b")], ticking(1.0, 2.0))
    assert calls == ["a", "b"] * (cost.FEWEST + 1)
    assert times == [[1.0] * cost.FEWEST, [2.0] * cost.FEWEST]


def test_operations_that_xla_does_not_count_are_absent():
    assert ahead.flops(SimpleNamespace(cost_analysis=lambda: None)) is None
    assert ahead.flops(SimpleNamespace(cost_analysis=lambda: [{"flops": 512.0}])) == 512.0


def test_operations_are_counted_before_the_compiler_replaces_them(done, monkeypatch):
    # On a GPU the compiled program holds calls of cuDNN in their place, and XLA counts 2 of ResNet-56's 250 million.
    monkeypatch.setattr(jax.stages.Compiled, "cost_analysis", lambda self: {"flops": 1.0})
    found = cost.measure(prepare.open_study(done[0]), jax.devices()[0], done[1], ticking(0.1))
    assert found["networks"]["mlp_16"]["flops"] > 2 * (64 * 16 + 16 * 10)


def test_the_interval_of_a_median_covers_it_as_often_as_it_claims():
    rng, median = np.random.default_rng(0), np.log(2)
    for count in (4, 10, 51):
        found = [intervals.of_median(rng.exponential(size=count), "repetitions") for _ in range(2000)]
        covered = np.mean([of.low <= median <= of.high for of in found])
        assert covered > found[0].level - 3 * np.sqrt(0.05 * 0.95 / 2000)
        if count == 51:  # order statistics 19 and 33
            assert found[0].level == 0.95
            assert covered == pytest.approx(1 - 2 * stats.binom.cdf(18, 51, 0.5), abs=0.012)
        assert {(of.count, of.resampled) for of in found} == {(count, "repetitions")}
    assert intervals.of_median(np.arange(4), "repetitions").level == 1 - 2 / 2**4


@pytest.mark.long
def test_a_measurement_is_on_the_page_and_stays_when_the_study_is_analysed_again(
    done, tmp_path, capsys, monkeypatch, words_of
):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    monkeypatch.setattr(cost, "SECONDS", 0)
    assert cli.main(["cost", str(workdir), "--platform=cpu"]) == 0
    said = capsys.readouterr().out
    for part in ("time of batch 1 [ms]", "examples/s in batches of 256", "student (mlp_16)", "one cpu device"):
        assert part in said
    before = (workdir / "analysis" / "cost.json").read_bytes()
    assert (workdir / "analysis" / "figures" / "cost.png").is_file()
    analyse.analyze(workdir)
    assert (workdir / "analysis" / "cost.json").read_bytes() == before
    page = (workdir / "analysis" / "report.html").read_text(encoding="utf-8")
    assert "What it costs to run" in words_of(page)
    assert "operations per example [MFLOP]" in page
    assert json.loads(before)["networks"]["mlp_16"]["parameters"] == 64 * 16 + 16 + 160 + 10


def test_a_study_that_was_not_analysed_is_one_line(done, tmp_path, capsys):
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    shutil.rmtree(workdir / "analysis")
    assert cli.main(["cost", str(workdir), "--platform=cpu"]) == 2
    assert f"expected analysis/summary.json; run: kd-jax analyze {workdir}" in capsys.readouterr().err
    with pytest.raises(BadInput, match="expected a work folder with a study"):
        cost.cost(tmp_path / "nothing", jax.devices()[0])


def interval(estimate, low, high):
    return vars(Interval(estimate, low, high, 0.95, "repetitions", 9))


def test_students_are_compared_with_their_teacher_in_words():
    def network(parameters, flops, latency, throughput):
        return {"parameters": parameters, "bytes": 4 * parameters, "flops": flops} | {
            "latency": interval(*latency),
            "throughput": interval(*throughput),
        }

    networks = {
        "large": network(1000, 2000.0, (4e-3, 3e-3, 5e-3), (100, 90, 110)),
        "small": network(250, None, (1e-3, 0.5e-3, 1.5e-3), (105, 95, 115)),
    }
    arms = [
        {"arm": name, "model": model, "accuracy": None} for name, model in (("teacher", "large"), ("student", "small"))
    ]
    made = {"networks": networks, "arms": arms, "batches": {"latency": 1, "throughput": 256}}
    expected = "The student has 25 % of its teacher's parameters; at batch 1 it is 4.00 times as fast, at batch 256 about as fast."
    assert costs.sentences(made) == expected
    made["arms"][1]["model"] = "large"
    assert costs.sentences(made) == "The student has its teacher's network, and costs as much."
