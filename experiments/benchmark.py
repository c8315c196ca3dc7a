"""How fast is training, beside the same network on the same bytes in PyTorch? Whatever device is there, measured in turn.

    python experiments/benchmark.py
    python experiments/benchmark.py --settings mlp resnet20 --rounds 10
    python experiments/benchmark.py --platform=gpu --json benchmark.json
    python experiments/benchmark.py --seeds_at_once 5 --settings mlp resnet20

Each setting is a distillation step, or a training step for those without a teacher: views, the teacher's outputs, gradients,
the optimiser. kd_jax runs the program that its studies run. The PyTorch twin (benchmark_torch.py) has the same weights, data
resident on the device, channels-last and bfloat16 where kd_jax has, and on a GPU `torch.compile` with CUDA graphs and a fused
optimiser. Before anything is timed, both say their loss on the same batch in float32, and must agree.

The two run in processes of their own and take turns, A B A B; the ratio of each pair of turns is one measurement, and the
interval is over these. `pip install 'kd_jax[bench]'` brings PyTorch; without it, or with --alone, kd_jax is timed alone.

It ends after --minutes, and keeps and prints what was measured by then: the settings are in the order in which an accelerator's
minutes are best spent, and one that was under way with fewer than two pairs of turns is said not to have come to its end.

With --seeds_at_once N, what takes turns with kd_jax is kd_jax that trains N seeds as one program, each in batches of its own; a
step is then one of all seeds, and the last column says how many times as long it takes as that of one seed.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
AGREE = 2e-4  # how far the two first losses may be apart, relatively, in float32

# What is trained on what. `classes` labels; of images `side` and `channels`, of texts `length` and `vocabulary`.
IMAGES = {
    "kind": "images",
    "side": 32,
    "channels": 3,
    "classes": 10,
    "examples": 50_000,
    "batch": 1024,
    "augment": "crop_flip",
}
MNIST = IMAGES | {"side": 28, "channels": 1, "batch": 128, "examples": 60_000, "augment": "none"}
TINY = IMAGES | {"side": 64, "classes": 200, "batch": 128, "examples": 20_000}
TEXTS = {"kind": "texts", "length": 128, "vocabulary": 50_265, "classes": 2, "examples": 8_192, "batch": 64}
SETTINGS = {
    "resnet56_20": IMAGES | {"student": "resnet20", "teacher": "resnet56"},
    "resnet56_56": IMAGES | {"student": "resnet56", "teacher": "resnet56"},
    "resnet18": TINY | {"student": "resnet18_small", "teacher": "resnet18_small"},
    "roberta_base": TEXTS | {"student": "roberta_base", "teacher": "roberta_base"},
    "mlp": MNIST | {"student": "mlp_1000x1000", "teacher": None},
    "resnet20": IMAGES | {"student": "resnet20", "teacher": None, "batch": 128},
    "roberta_small": TEXTS | {"student": "roberta_small", "teacher": "roberta_base"},
}
ON_CPU = ("mlp", "resnet20")  # by default, where there is no accelerator


def examples(setting: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return (x, y) of a setting: random uint8 images [examples, side, side, channels], or token ids uint16 [examples, length]."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, setting["classes"], setting["examples"]).astype(np.int32)
    if setting["kind"] == "texts":
        x = rng.integers(4, setting["vocabulary"], (setting["examples"], setting["length"])).astype(np.uint16)
        return x, y
    shape = (setting["examples"], setting["side"], setting["side"], setting["channels"])
    return rng.integers(0, 256, shape, np.uint8), y


def answer(**said) -> None:
    """Tell the driver something, as a line of JSON on the standard output."""
    print("@" + json.dumps(said), flush=True)


def serve(run, block) -> None:
    """Take the driver's turns: for each line `go N` on the standard input take at least N steps, and say how long that took.

    Args:
        run: `run(steps) -> steps`, which takes at least so many steps and says how many.
        block: waits until the device has finished.
    """
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "end":
            return
        began = time.perf_counter()
        steps = run(int(rest[0]))
        block()
        answer(steps=steps, seconds=time.perf_counter() - began)


class Worker:
    """A program that trains one setting, in a process of its own, and waits for its turns."""

    def __init__(self, program: str, setting: dict, log: Path):
        self.log = log
        self.process: Any = subprocess.Popen(
            [sys.executable, str(HERE / program), json.dumps(setting)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w", encoding="utf-8"),
            text=True,
            encoding="utf-8",
        )

    def hear(self) -> dict:
        """Return its next answer; what else it prints goes to its log."""
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        tail = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-8:]
        raise RuntimeError("\n".join(["it ended early:", *tail]))

    def turn(self, steps: int) -> float:
        """Return the seconds per step of a turn of at least so many steps."""
        with contextlib.suppress(BrokenPipeError):  # hearing it says why
            self.process.stdin.write(f"go {steps}\n")
            self.process.stdin.flush()
        said = self.hear()
        return said["seconds"] / said["steps"]

    def kill(self) -> None:
        """End it at once; whoever hears it is told that it ended early."""
        self.process.kill()

    def end(self) -> None:
        with contextlib.suppress(OSError):
            self.process.stdin.write("end\n")
            self.process.stdin.flush()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def measure(
    name: str,
    setting: dict,
    beside: tuple[str, str, dict] | None,
    rounds: int,
    seconds: float,
    logs: Path,
    until: float = math.inf,
) -> dict:
    """Return what the report and the JSON say of one setting.

    Args:
        name: of the setting.
        setting: an entry of `SETTINGS`, with `platform`, `precision`, `weights` and `compile` beside.
        beside: what takes turns with kd_jax: its name, its program, and what is different in its setting; None for nothing.
        rounds: how many pairs of turns.
        seconds: about how long a turn takes.
        logs: a folder for what the two programs print.
        until: when to end, by `time.monotonic()`, with the pairs of turns that there are by then.

    Raises:
        RuntimeError: when a program fails, the two do not compute the same, or there are fewer than two pairs of turns by then.
    """
    found: dict = {"setting": setting, "measured": datetime.now(UTC).isoformat(timespec="seconds")}
    sides = {"kd_jax": ("benchmark_jax.py", {})} | ({beside[0]: beside[1:]} if beside else {})
    workers: dict[str, Worker] = {}
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        for worker in list(workers.values()):
            worker.kill()

    timer = threading.Timer(max(0.0, min(until - time.monotonic(), threading.TIMEOUT_MAX)), end)
    timer.daemon = True
    timer.start()
    pairs: list[dict[str, float]] = []
    try:
        for side, (program, other) in sides.items():
            # One after the other, for compilers measure on the device which kernels are fastest.
            workers[side] = Worker(program, setting | other, logs / f"{name}-{side}.log")
            if is_over.is_set():
                workers[side].kill()
            found[side] = workers[side].hear()
            print(f"{name}: {side} ready after {found[side]['compile_seconds']:.0f} s", file=sys.stderr, flush=True)
        losses = [found[side]["first_loss"] for side in sides]
        if not math.isclose(losses[0], losses[-1], rel_tol=AGREE):
            raise RuntimeError(f"the same network, weights and batch must have one loss, found {losses}")
        turns = {side: max(1, round(seconds / worker.turn(4))) for side, worker in workers.items()}
        while len(pairs) < rounds:
            pairs.append({side: worker.turn(turns[side]) for side, worker in workers.items()})
    except RuntimeError:
        if not is_over.is_set():
            raise
        if len(pairs) < 2:
            raise RuntimeError("the time was over, see --minutes") from None
    finally:
        timer.cancel()
        for worker in workers.values():
            worker.end()
    for side in sides:
        times = np.array([pair[side] for pair in pairs])
        found[side] |= {"seconds_a_step": times.tolist()} | rates(times, setting, found[side].get("seeds", 1))
    if beside:
        found["ratio"] = ratio(*(np.array([pair[side] for pair in pairs]) for side in (beside[0], "kd_jax")))
    return found


def rates(times: np.ndarray, setting: dict, seeds: int) -> dict:
    """Return examples per second, with the interval of the median over turns, and the seconds of an epoch.

    Args:
        times: [turns], seconds a step.
        setting: an entry of `SETTINGS`.
        seeds: how many are trained in a step.
    """
    from kd_jax.analysis import intervals

    median, examples_a_step = intervals.of_median(times, "turns"), setting["batch"] * seeds
    per_second = {
        "estimate": examples_a_step / median.estimate,
        "low": examples_a_step / median.high,
        "high": examples_a_step / median.low,
    }
    return {
        "examples_per_second": per_second,
        "epoch_seconds": setting["examples"] // setting["batch"] * median.estimate,
    }


def ratio(theirs: np.ndarray, ours: np.ndarray) -> dict:
    """Return how many times as long a step takes, theirs beside ours: the geometric mean over pairs of turns, with its interval.

    Args:
        theirs: [turns], seconds a step.
        ours: the same of the turns beside them.
    """
    from kd_jax.analysis import intervals

    found = intervals.over_seeds(np.log(theirs / ours))
    estimate, low, high = (float(np.exp(value)) for value in (found.estimate, found.low, found.high))
    return {"estimate": estimate, "turns": len(ours), "low": low, "high": high, "level": found.level}


def row(name: str, found: dict, beside: str = "torch") -> list[str]:
    """Return the cells of one setting."""
    cells = [name]
    for side in ("kd_jax", beside):
        of = found.get(side)
        if of is None or "examples_per_second" not in of:
            cells += ["-"] * 4
            continue
        rate, step = of["examples_per_second"], float(np.median(of["seconds_a_step"]))
        peak = of.get("peak_bytes")
        cells += [
            f"{rate['estimate']:,.0f} [{rate['low']:,.0f}, {rate['high']:,.0f}]",
            f"{1e3 * step:.2f}",
            "-" if peak is None else f"{peak / 2**30:.2f}",
            f"{of['compile_seconds']:.0f}",
        ]
    if "ratio" not in found:
        return [*cells, found.get("failed", "-")]
    return [*cells, "{estimate:.2f} [{low:.2f}, {high:.2f}]".format_map(found["ratio"])]


def header(beside: str, last: str) -> list[str]:
    """Return the names of the columns."""
    columns = "examples/s", "ms/step", "GiB", "compile s"
    return ["setting", *(f"{side}: {of}" for side in ("kd_jax", beside) for of in columns), last]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--settings", nargs="+", choices=list(SETTINGS), help="what is trained [all; on CPU mlp resnet20]"
    )
    parser.add_argument("--platform", default="auto", choices=["auto", "cpu", "gpu", "tpu"], help="where")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="[bfloat16; on CPU float32]")
    parser.add_argument("--batch", type=int, default=0, help="examples in a step [0: that of each setting]")
    parser.add_argument("--rounds", type=int, default=8, help="pairs of turns, at least 2")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a turn, about")
    parser.add_argument("--minutes", type=float, default=10.0, help="when to end, with what was measured by then")
    parser.add_argument("--alone", action="store_true", help="time kd_jax without PyTorch beside it")
    parser.add_argument(
        "--seeds_at_once", type=int, default=0, metavar="N", help="time N seeds as one program beside one; not texts"
    )
    parser.add_argument("--eager", action="store_true", help="PyTorch without torch.compile, as always on CPU")
    parser.add_argument(
        "--table",
        action="store_true",
        help="kd_jax looks its teacher up in a table of all views, as a study does with --teacher_table; filling it is timed apart",
    )
    parser.add_argument(
        "--profile", action="store_true", help="also list what kd_jax's step spends its time on; GPU and TPU"
    )
    parser.add_argument("--json", type=Path, help="file for everything that was measured")
    options = parser.parse_args()
    if options.rounds < 2 or options.seconds <= 0 or options.batch < 0 or not options.minutes > 0:
        parser.error("--rounds, --seconds, --batch, --minutes: expected at least 2, above 0, 0 or more, and above 0")
    until = time.monotonic() + 60 * options.minutes
    seeds, beside = options.seeds_at_once, ("torch", "benchmark_torch.py", {})
    known = [name for name in SETTINGS if not seeds or SETTINGS[name]["kind"] == "images"]
    if seeds:
        wrong = seeds < 2 or options.alone or options.table or not set(options.settings or ()) <= set(known)
        if wrong:
            parser.error("--seeds_at_once: expected at least 2, settings of images, and neither --alone nor --table")
        beside = (f"{seeds} seeds", "benchmark_jax.py", {"lanes": seeds})
    elif options.alone:
        beside = None
    elif find_spec("torch") is None:
        print("PyTorch is not installed here: kd_jax alone (pip install 'kd_jax[bench]')", file=sys.stderr)
        beside = None

    from kd_jax.config import versions
    from kd_jax.report import tables

    device = _device(options.platform)
    on_cpu = device["platform"] == "cpu"
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # two programs share the device
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    everything = {"device": device, "versions": versions(), "cores": os.cpu_count(), "settings": {}}
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        for name in options.settings or (ON_CPU if on_cpu else known):
            setting = SETTINGS[name] | {
                "platform": device["platform"],
                "precision": options.precision or ("float32" if on_cpu else "bfloat16"),
                "weights": str(logs / f"{name}.npz"),
                "compile": not (options.eager or on_cpu),
                "profile": options.profile,
                "table": options.table and SETTINGS[name]["teacher"] is not None,
            }
            setting["batch"] = options.batch or setting["batch"]
            try:
                found = measure(name, setting, beside, options.rounds, options.seconds, logs, until)
            except RuntimeError as error:
                print(f"{name}: {error}", file=sys.stderr, flush=True)
                found = {"setting": setting, "failed": str(error).splitlines()[0]}
            everything["settings"][name] = found
            if options.json:  # after each, so that a run that is cut off leaves something
                options.json.write_text(json.dumps(everything, indent=1), encoding="utf-8")
            for line in found.get("kd_jax", {}).get("profile", ()):
                print(f"  {line}", file=sys.stderr)
            if (filling := found.get("kd_jax", {}).get("table_seconds")) is not None:
                print(f"{name}: the table would take {filling:.1f} s to fill, once for each teacher", file=sys.stderr)
    side = beside[0] if beside else "torch"
    rows = [row(name, found, side) for name, found in everything["settings"].items()]
    columns = header(side, "times as long" if seeds else "times as fast")
    print(
        f"{device['device']}, {os.cpu_count()} cores, jax {everything['versions']['jax']}, {datetime.now(UTC):%Y-%m-%d}"
    )
    print(tables.text(columns, rows, range(1, len(columns))))
    return int(any("failed" in found for found in everything["settings"].values()))


def _device(platform: str) -> dict:
    """{platform, device} that JAX finds, in a process of its own: this one must not hold the device."""
    script = (
        f"import json; from kd_jax.train import devices; d = devices.select({platform!r})[0];"
        " print(json.dumps({'platform': d.platform, 'device': d.device_kind}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8", check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr.strip().splitlines()[-1])
    return json.loads(ran.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
