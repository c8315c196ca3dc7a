"""How does the time of a study grow with examples, seeds, checkpoints and devices? Measured on studies of made-up digits.

    python experiments/growth.py --out growth
    python experiments/growth.py --out growth --only seeds checkpoints

Writes OUT/growth.json and a figure of each as PNG and SVG, and prints a line per size. One size at a time is changed, from 2,000
training examples, one seed, 20 checkpoints and one device; an MLP of two layers of 256 units is trained for 5 epochs, distilled,
and analysed as every study is. Stages are timed apart: training with its checkpoints, analysis, and the report. Every study runs
twice, and the second time is measured: then XLA's programs come from the cache, and their compilation does not count. The analysis
is timed with its page, which is written without figures; the report is that page written once more, with all of its figures.

Slopes are those of the logarithm of time against that of the size: 1 where twice as much takes twice as long, 0 where it does not
matter. Beside them stand the straight line's own numbers: what each further unit takes, and what there is without any. CPU seconds
are those of all threads, and mean what they say on a busy machine too. The devices are parts of one CPU, so more of them cannot be
faster; what they take more is the price of splitting a batch.

It took 370 s (jax 0.10.2, two cores with much other work).
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

BASE = {"examples": 2000, "seeds": 1, "checkpoints": 20, "devices": 1}
SIZES = {
    "examples": (1000, 4000, 16000),
    "seeds": (1, 2, 4),
    "checkpoints": (10, 40, 160),
    "devices": (1, 2, 4),
}
SMALL = {"examples": (1000, 2000), "seeds": (1, 2), "checkpoints": (10, 20), "devices": (1, 2)}
STAGES = ("training", "analysis", "report")
UNITS = {"examples": "training examples", "seeds": "seeds", "checkpoints": "checkpoints of a run", "devices": "devices"}


def made_up(examples: int) -> Any:
    """Return a set of images of ten classes, 8x8 pixels: a pattern per class, with noise."""
    from kd_jax import data

    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 8, 8))

    def part(count):
        y = rng.integers(0, 10, count)
        return np.clip(patterns[y] + rng.normal(0, 120, (count, 8, 8)), 0, 255).astype(np.uint8), y

    return data.from_arrays(*part(examples), *part(500), name="made_up")


def timed(function: Callable[[], Any]) -> tuple[Any, list[float]]:
    """Return (what a function returns, [wall, CPU] seconds that it took)."""
    wall, cpu = time.monotonic(), time.process_time()
    returned = function()
    return returned, [time.monotonic() - wall, time.process_time() - cpu]


def measure(sizes: dict[str, int]) -> dict[str, list[float]]:
    """Return {stage: [wall, CPU] seconds} of a study of these sizes, whose programs have been compiled before."""
    from kd_jax import Study, data
    from kd_jax.studies.analyse import analyze_prepared
    from kd_jax.studies.prepare import prepare
    from kd_jax.studies.report import write_report
    from kd_jax.studies.train import train_prepared
    from kd_jax.train import compiled, devices

    examples = made_up(sizes["examples"])
    study = Study.from_flags(
        dataset=data.in_memory_name(examples),
        teacher="mlp_256x256",
        student=("mlp_256x256",),
        epochs=5,
        batch_size=128,
        learning_rate=0.05,
        optimizer="sgd",
        checkpoints=sizes["checkpoints"],
        seeds=sizes["seeds"],
    )
    chosen = devices.select("cpu")
    compiled.keep()
    seconds: dict[str, list[float]] = {}
    for _ in range(2):  # the first time, everything is compiled
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
            prepared = prepare("growth", study, Path(folder) / "study", "", chosen, load=data.loading(examples))
            _, seconds["training"] = timed(partial(train_prepared, prepared, chosen))
            _, seconds["analysis"] = timed(partial(analyze_prepared, prepared, with_figures=False))
            _, seconds["report"] = timed(partial(write_report, prepared.workdir))
    return seconds


def measure_elsewhere(sizes: dict[str, int]) -> dict[str, list[float]]:
    """Return the same, measured by a process of its own that has so many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={sizes['devices']}".strip()
    words = [sys.executable, __file__, "--one", json.dumps(sizes)]
    done = subprocess.run(
        words, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def growth(sizes: Sequence[int], seconds: Sequence[float]) -> dict[str, float]:
    """Return how seconds grow: the exponent of the size, and the straight line's seconds per unit and without any.

    >>> {name: round(value, 6) for name, value in growth([1, 2, 4], [1.5, 2.5, 4.5]).items()}
    {'exponent': 0.792481, 'per_unit': 1.0, 'fixed': 0.5}
    """
    exponent = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    per_unit, fixed = np.polyfit(sizes, seconds, 1)
    return {"exponent": float(exponent), "per_unit": float(per_unit), "fixed": float(fixed)}


def draw(name: str, found: dict[str, Any], out: Path) -> None:
    """Write the figure of one size: CPU seconds of each stage, and all of them, with the slopes."""
    from matplotlib import ticker
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = figure.subplots()
    for stage in (*STAGES, "all"):
        cpu = [seconds[stage][1] for seconds in found["seconds"]]
        slope = found["growth"][stage]["exponent"]
        axes.plot(found["sizes"], cpu, "o-", ms=4, lw=2 if stage == "all" else 1, label=f"{stage}, slope {slope:.2f}")
    axes.set(xscale="log", yscale="log", xlabel=UNITS[name], ylabel="CPU seconds", xticks=found["sizes"])
    axes.set_xticklabels([f"{size:,}" for size in found["sizes"]])
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(fontsize=8, ncols=2, loc="outside upper center")
    for kind in ("png", "svg"):
        figure.savefig(out / f"growth_{name}.{kind}", dpi=130)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("growth"), help="folder to write")
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES), help="what to change")
    parser.add_argument("--small", action="store_true", help="two sizes of each")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(json.loads(asked.one))))
        return
    import jax

    asked.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for name in asked.only:
        sizes, seconds = (SMALL if asked.small else SIZES)[name], []
        for size in sizes:
            of_study = BASE | {name: size}
            taken = measure_elsewhere(of_study) if name == "devices" else measure(of_study)
            taken["all"] = np.sum([taken[stage] for stage in STAGES], axis=0).tolist()
            seconds.append(taken)
            said = ", ".join(f"{stage} {wall:.2f} s, CPU {cpu:.2f} s" for stage, (wall, cpu) in taken.items())
            print(f"{size:,} {UNITS[name]}: {said}", flush=True)
        slopes = {stage: growth(sizes, [each[stage][1] for each in seconds]) for stage in (*STAGES, "all")}
        for stage, slope in slopes.items():
            print(
                f"  {stage}: slope {slope['exponent']:.2f}; {slope['per_unit']:.3g} CPU s per unit and {slope['fixed']:.2f}"
            )
        found[name] = {"sizes": list(sizes), "seconds": seconds, "growth": slopes}
        draw(name, found[name], asked.out)
    record = {"measured": datetime.now(UTC).isoformat(timespec="seconds"), "cores": os.cpu_count(), "base": BASE}
    record |= {"python": sys.version.split()[0], "jax": jax.__version__, "growth": found}
    (asked.out / "growth.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
