"""experiments/benchmark.py: what it says of the turns that two programs took, and that it ends in time with what there is."""

import importlib
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SETTING = {"batch": 32, "examples": 100}

# A program that takes its turns without training: each step takes what is listed for the turn, the first turn being a trial.
PROGRAM = """
import json, sys, time
times, loss = {times}, {loss}
print("@" + json.dumps({{"compile_seconds": 1.0, "first_loss": loss}}), flush=True)
for line in sys.stdin:
    word, *rest = line.split()
    if word == "end":
        break
    if not times:
        open({out}, "w").close()
        time.sleep(1000)
    steps = int(rest[0])
    print("@" + json.dumps({{"steps": steps, "seconds": steps * times.pop(0)}}), flush=True)
"""


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module("benchmark")


def measured(benchmark, monkeypatch, folder, ours, theirs, rounds, loss=2.0):
    """What `measure` says of two programs with these seconds a step; the time ends when one of them has no more turns."""
    out = folder / "out"

    class Timer(threading.Thread):
        def __init__(self, seconds, function):
            super().__init__()
            self.end, self.function = threading.Event(), function

        def run(self):
            while not self.end.wait(0.01):
                if out.exists():
                    self.function()
                    return

        def cancel(self):
            self.end.set()

    monkeypatch.setattr(benchmark.threading, "Timer", Timer)
    monkeypatch.setattr(benchmark, "HERE", folder)
    for name, times, of in (("benchmark_jax.py", ours, 2.0), ("theirs.py", theirs, loss)):
        (folder / name).write_text(PROGRAM.format(times=[1.0, *times], loss=of, out=repr(str(out))), encoding="utf-8")
    return benchmark.measure("name", SETTING, ("torch", "theirs.py", {}), rounds, 1.0, folder)


def test_the_ratio_is_the_geometric_mean_of_pairs_of_turns_with_its_t_interval(benchmark, monkeypatch, tmp_path):
    ours, theirs = [0.1, 0.2, 0.4, 0.1], [0.3, 0.2, 0.8, 0.25]
    found = measured(benchmark, monkeypatch, tmp_path, ours, theirs, rounds=4)
    logs = np.log(np.array(theirs) / ours)
    low, high = np.exp(stats.t.interval(0.95, 3, logs.mean(), stats.sem(logs)))
    ratio = found["ratio"]
    assert ratio["estimate"] == pytest.approx(float(stats.gmean(np.array(theirs) / ours)))
    assert (ratio["low"], ratio["high"], ratio["turns"]) == (pytest.approx(low), pytest.approx(high), 4)
    assert found["kd_jax"]["seconds_a_step"] == pytest.approx(ours)
    assert found["torch"]["examples_per_second"]["estimate"] == pytest.approx(32 / np.median(theirs))
    assert found["torch"]["epoch_seconds"] == pytest.approx(3 * np.median(theirs))
    json.dumps(found)
    header = benchmark.header("torch", "times as fast")
    cells = dict(zip(header, benchmark.row("name", found), strict=True))
    assert cells["times as fast"] == f"{ratio['estimate']:.2f} [{low:.2f}, {high:.2f}]"


def test_when_its_time_is_over_it_keeps_the_whole_pairs_of_turns(benchmark, monkeypatch, tmp_path):
    found = measured(benchmark, monkeypatch, tmp_path, [0.1] * 4, [0.2, 0.2, 0.2], rounds=9)
    assert found["ratio"]["turns"] == 3
    assert found["ratio"]["estimate"] == pytest.approx(2)
    assert len(found["kd_jax"]["seconds_a_step"]) == len(found["torch"]["seconds_a_step"]) == 3


def test_less_than_two_pairs_in_time_are_no_measurement(benchmark, monkeypatch, tmp_path):
    with pytest.raises(RuntimeError, match="--minutes"):
        measured(benchmark, monkeypatch, tmp_path, [0.1], [], rounds=9)


def test_programs_that_do_not_compute_the_same_are_not_compared(benchmark, monkeypatch, tmp_path):
    with pytest.raises(RuntimeError, match="must have one loss"):
        measured(benchmark, monkeypatch, tmp_path, [0.1] * 4, [0.1] * 4, rounds=4, loss=2.01)
