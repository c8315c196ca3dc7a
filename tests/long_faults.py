"""Long checks, not part of the suite: break whole processes and files of studies, many times, and count what comes of it.

    python tests/long_faults.py SIGKILL 50      kills at random moments, start-up and analysis among them
    python tests/long_faults.py SIGTERM 30      being told to stop, at every stage; SIGINT the same
    python tests/long_faults.py size 10         a limit on the size of files, of random size (ulimit -f)
    python tests/long_faults.py damage 200      a random damage to a random file of any kind, then several commands

Every case has a fixed seed of its own, and is a line of JSON in FAULT.jsonl of the current folder, or in a file that is named last:
cut off, the same command goes on with the cases that it lacks. At the end it prints how often, how many steps of trajectories
were lost, how many results are silently others, how many tracebacks, how many studies finished to the same bits, and how long
it took until a process ended or said what is wrong. What came out last is in BUILD.md.
"""

import collections
import contextlib
import io
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLAGS = shlex.split(
    "--platform=cpu --teacher=mlp_16 --student mlp_16 --nulls --seeds=1 --train_examples=200 --test_examples=100 --epochs=6"
    " --batch_size=50 --checkpoints=8 --augment=none --label_noise=0.1 --early_epoch=0 --trajectory_examples=50"
)
PATIENCE = 15.0  # a program that was told to stop has ended by then [seconds]


def environment(scratch):
    """The environment of the processes: caches of their own, so that what is compiled and decoded is damaged with the rest."""
    own = {
        "PYTHONPATH": str(ROOT),
        "KD_JAX_CACHE": str(scratch / "cache"),
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(scratch / "compiled")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    return os.environ | own


def launch(scratch, workdir, most=None):
    """Start the study in a process of its own; `most` is the largest size of a file [bytes]."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    command = [sys.executable, str(ROOT / "experiments" / "digits_kd.py"), *FLAGS, f"--workdir={workdir}"]
    errors = open(f"{workdir}.err", "w+", encoding="utf-8")  # noqa: SIM115, read when the process has ended
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        cwd=scratch,
        env=environment(scratch),
        preexec_fn=limit if most else None,
    )
    return process, errors


def said(errors):
    errors.seek(0)
    text = errors.read()
    errors.close()
    return text


def bits(workdir):
    """(digests of all trajectories and metrics without the clock; estimates and verdicts; warnings) of a study."""
    from kd_jax.workdir import checkpoints, metrics_file, packing, records

    runs = {}
    for folder in sorted((workdir / "runs").iterdir()):
        with checkpoints.trajectory(folder) as opened:
            digests = {step: packing.tree_digest(opened.load(step)) for step in opened.steps()}
        lines = [
            {key: value for key, value in line.items() if "second" not in key} for line in metrics_file.read(folder)
        ]
        runs[folder.name] = digests, lines
    summary = records.read_summary(workdir)
    return runs, json.dumps([summary["estimates"], summary["verdicts"]]), summary["warnings"]


def kept(workdir):
    """The steps of all trajectories."""
    from kd_jax.workdir import records

    runs = workdir / "runs"
    return {(run.name, step) for run in runs.iterdir() for step in records.kept_steps(run)} if runs.is_dir() else set()


class Tally:
    """What came out of the faults of one kind, a line of JSON for each; those of an earlier start are read again.

    Args:
        fault: the kind.
        path: the file of the lines.
    """

    def __init__(self, fault, path):
        self.fault, self.path = fault, Path(path)
        known = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        self.cases = [json.loads(line) for line in known]

    def __len__(self):
        return len(self.cases)

    def add(self, **case):
        """Take in a case: `how` it went, `status` and `seconds`, lists, and counts `lost`, `silent`, `tracebacks`, `finished`."""
        self.cases.append({})
        self.note(**case)
        print(f"{len(self)} {case}", file=sys.stderr, flush=True)

    def note(self, **more):
        """Add to the last case."""
        self.cases[-1] |= more
        self.path.write_text("".join(json.dumps(case) + "\n" for case in self.cases), encoding="utf-8")

    def __str__(self):
        total = collections.Counter()
        for case in self.cases:
            total.update({name: case.get(name, 0) for name in ("lost", "silent", "tracebacks", "finished")})
        endings = collections.Counter(str(status) for case in self.cases for status in case["status"])
        seconds = sorted(second for case in self.cases for second in case["seconds"])
        return (
            f"{self.fault}: {len(self)} times; lost steps {total['lost']}; silent {total['silent']};"
            f" tracebacks {total['tracebacks']}; studies finished to the same bits {total['finished']};"
            f" seconds until the end or the line, median and most: {seconds[len(seconds) // 2]:.1f}, {seconds[-1]:.1f};"
            f" ended with {', '.join(f'{name}: {count}' for name, count in sorted(endings.items()))}"
        )

    @property
    def is_well(self):
        """Whether nothing was lost, changed in silence, or told in many lines."""
        return not any(case.get(name) for case in self.cases for name in ("lost", "silent", "tracebacks"))


def traced(text, what):
    """1 where a process has printed a traceback, which is shown, else 0."""
    if "Traceback (most recent call last)" not in text:
        return 0
    print(f"--- {what}\n" + "\n".join(text.strip().splitlines()[-8:]), flush=True)
    return 1


# ---- processes


def processes(tally, count, scratch):
    """Break whole processes; each goes on where the one before it was broken, until a study is finished."""
    fault = tally.fault
    for name in ("compiled", "whole"):  # the first compiles what the others read
        began = time.monotonic()
        process, errors = launch(scratch, scratch / name)
        if process.wait() != 0:
            sys.exit(said(errors))
    whole, expected = time.monotonic() - began, bits(scratch / "whole")
    number, workdir = 0, scratch / "broken0"
    while len(tally) < count:
        rng = random.Random(f"{fault} {len(tally)} {number}")
        before = kept(workdir)
        most = int(2 ** rng.uniform(9, 17)) if fault == "size" else None
        process, errors = launch(scratch, workdir, most)
        wait = rng.uniform(0.2, whole) if most is None else 10 * whole
        told = time.monotonic()
        in_time = True
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            told = time.monotonic()
            process.send_signal(getattr(signal, fault))
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                in_time = False
                process.kill()
                process.wait()
        seconds, text, status = time.monotonic() - told, said(errors), process.returncode
        how = f"after {wait:.1f} s" if most is None else f"files of at most {most} bytes"
        case = {
            "how": how,
            "status": [status if in_time else f"{status}, not in time"],
            "seconds": [round(seconds, 2)],
            "lost": len(before - kept(workdir)),
            "tracebacks": traced(text, how),
            "said": text.strip().splitlines()[-1:],
        }
        if status != 0:
            tally.add(**case)
            continue
        # It came to its end before the fault. That is none, but says whether what was broken before came to the same.
        if bits(workdir) != expected:
            tally.add(**case, silent=1)
        elif tally.cases:
            tally.note(finished=1)
        number += 1
        workdir = scratch / f"broken{number}"
    process, errors = launch(scratch, workdir)
    status, text = process.wait(), said(errors)
    if status != 0:
        print(f"--- it does not go on:\n{text}")
    same = status == 0 and bits(workdir) == expected
    tally.note(**({"finished": 1} if same else {"silent": 1}))


# ---- damage


def damaged(path, rng):
    """Damage a file, and say how."""
    how = rng.choice(["flip", "cut", "empty", "gone", "noise", "pointer"])
    contents = path.read_bytes()
    at = rng.randrange(max(len(contents), 1))
    if how == "gone":
        path.unlink()
    elif how == "flip" and contents:
        path.write_bytes(contents[:at] + bytes([contents[at] ^ 1 << rng.randrange(8)]) + contents[at + 1 :])
    elif how == "cut":
        path.write_bytes(contents[:at])
    elif how == "noise":
        path.write_bytes(contents[:at] + rng.randbytes(40) + contents[at + 40 :])
    elif how == "pointer":  # of Git LFS, in place of a file that was not fetched
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n")
    else:
        path.write_bytes(b"")
    return how


def kind_of(path):
    """What a file is, for a fair choice among kinds: there are many more files of checkpoints than others."""
    parts = path.parts
    store = next((part for part in parts if part in ("trajectory", "resume", "pairs", "eigen", "figures", "sets")), "")
    return store, path.name if len(parts) < 3 or store in ("trajectory", "resume") else path.suffix or path.name


def write_set(folder):
    """A small prepared set of images, with files of TFDS."""
    import numpy as np

    from kd_jax.data import prepared

    rng = np.random.default_rng(0)
    info = prepared.Info(
        "small",
        "1.0.0",
        {"image": prepared.Image((6, 6, 1)), "label": prepared.Label(classes=2)},
        ("image", "label"),
    )

    def examples(count):
        for number in range(count):
            label = number % 2
            yield {"image": rng.integers(60 * label, 196 + 60 * label, (6, 6, 1)).astype(np.uint8), "label": label}

    prepared.write(folder, info, {"train": examples(200), "test": examples(100)})


def damage(tally, count, scratch):
    """Damage files of a finished study, of its data and of the decoded copy, one at a time, in a process that has all imported."""
    from kd_jax import cli
    from kd_jax.cli.commands import main as kd_jax
    from kd_jax.studies import analyse

    def report(workdir, folder=None, with_figures=True):
        ((folder or Path(workdir) / "analysis") / "report.html").write_text("", encoding="utf-8")

    analyse.write_report = report  # the page is made of the summary alone, and takes most of the time
    os.environ["KD_JAX_CACHE"] = str(scratch / "here" / "cache")
    words = [*FLAGS, f"--data_dir={scratch}/here/sets", "--dataset=small", f"--workdir={scratch}/here/study"]
    commands = {
        "same": lambda: cli.run_study("cifar_kd", words),
        "analyze": lambda: kd_jax(["analyze", f"{scratch}/here/study"]),
        "report": lambda: kd_jax(["compare", f"{scratch}/here/study", f"{scratch}/here/study2"]),
        "doctor": lambda: kd_jax(["doctor", f"--data_dir={scratch}/here/sets"]),
    }

    def call(name):
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            try:
                status = commands[name]()
            except BaseException:
                status = "raised"
                errors.write(traceback.format_exc())
        return status, errors.getvalue()

    here, whole = scratch / "here", scratch / "whole"
    write_set(here / "sets")
    status, text = call("same")
    if status != 0:
        sys.exit(text)
    shutil.copytree(here / "study", here / "study2")
    shutil.copytree(here, whole, symlinks=True)
    expected = bits(here / "study")
    kinds = collections.defaultdict(list)
    for path in sorted(whole.rglob("*")):
        inside = path.relative_to(whole)
        if path.is_file() and path.name != ".lock" and inside.parts[0] != "study2":
            kinds[kind_of(inside)].append(inside)
    while len(tally) < count:
        rng = random.Random(f"damage {len(tally)}")
        path = rng.choice(kinds[rng.choice(sorted(kinds))])
        how = f"{damaged(here / path, rng)} of {path}"
        case: dict = {"how": how, "status": [], "seconds": [], "silent": 0, "tracebacks": 0, "finished": 0, "said": []}
        for name in (*rng.sample(["same", "analyze", "report", "doctor"], 1), "same", "analyze"):
            began = time.monotonic()
            status, text = call(name)
            seconds = time.monotonic() - began
            lines = [line for line in text.splitlines() if not line.startswith("[")]
            case["tracebacks"] += traced(text, f"{how}: {name}: {status}")
            case["status"].append(f"{name} {status}")
            if status != 0:
                case["seconds"].append(round(seconds, 2))
                case["said"] += lines[-1:]
            if status not in (0, 1, 2) or (status != 0 and not lines):
                print(f"--- {how}: {name}: {status}", flush=True)
            if name == "analyze" and status == 0:
                found = bits(here / "study")
                same = found == expected
                case["finished"] = int(same)
                if not same and found[2] == expected[2]:
                    case["silent"] += 1
                    print(f"--- {how}: another result, and nothing was said: {lines[-2:]}", flush=True)
        tally.add(**case)
        shutil.rmtree(here)
        shutil.copytree(whole, here, symlinks=True)
    print(f"kinds of files: {len(kinds)}")


def main(fault, count, path=""):
    """Break things until there are so many cases, and print what came of it; returns the exit status."""
    tally, began = Tally(fault, path or f"{fault}.jsonl"), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        (damage if fault == "damage" else processes)(tally, count, Path(folder))
    print(f"{tally}; {time.monotonic() - began:.0f} s in all")
    return 0 if tally.is_well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4]))
