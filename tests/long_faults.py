"""Long checks, not part of the suite: break whole processes and files of studies, many times, and count what comes of it.

    python tests/long_faults.py SIGKILL 50      kills at random moments, start-up and analysis among them
    python tests/long_faults.py SIGTERM 30      being told to stop, at every stage; SIGINT the same
    python tests/long_faults.py size 10         a limit on the size of files, of random size (ulimit -f)
    python tests/long_faults.py damage 200      a random damage to a random file of any kind, then several commands

The seed is fixed. Each prints how often, how many steps of trajectories were lost, how many results are silently others, how many
tracebacks, how many studies finished to the same bits, and the longest time until a process ended. What came out last is in
BUILD.md.
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
    """(digests of all trajectories and metrics without the clock; estimates and verdicts) of a study."""
    from kd_jax.workdir import checkpoints, records

    runs = {}
    for folder in sorted((workdir / "runs").iterdir()):
        with checkpoints.trajectory(folder) as opened:
            digests = {step: checkpoints.tree_digest(opened.load(step)) for step in opened.steps()}
        lines = [
            {key: value for key, value in line.items() if "second" not in key} for line in records.read_metrics(folder)
        ]
        runs[folder.name] = digests, lines
    summary = records.read_summary(workdir)
    return runs, json.dumps([summary["estimates"], summary["verdicts"]])


def kept(workdir):
    """The steps of all trajectories."""
    from kd_jax.workdir import records

    runs = workdir / "runs"
    return {(run.name, step) for run in runs.iterdir() for step in records.kept_steps(run)} if runs.is_dir() else set()


class Tally:
    """What came out of the faults of one kind."""

    def __init__(self, fault):
        self.fault = fault
        self.count = self.lost = self.silent = self.tracebacks = self.finished = 0
        self.slowest = 0.0
        self.endings = collections.Counter()

    def ended(self, status, text, seconds, details=""):
        """Take in how a process ended."""
        self.count += 1
        self.endings[status] += 1
        self.slowest = max(self.slowest, seconds)
        if "Traceback (most recent call last)" in text:
            self.tracebacks += 1
            print(f"--- {self.fault} {details}: {status}\n" + "\n".join(text.strip().splitlines()[-8:]), flush=True)

    def __str__(self):
        endings = ", ".join(f"{name}: {count}" for name, count in sorted(self.endings.items(), key=str))
        return (
            f"{self.fault}: {self.count} times; lost steps {self.lost}; silent {self.silent}; tracebacks {self.tracebacks}; studies"
            f" finished to the same bits {self.finished}; slowest {self.slowest:.1f} s; ended with {endings}"
        )


def processes(fault, count, scratch, rng):
    """Break whole processes; each goes on where the one before it was broken, until a study is finished."""
    tally, number = Tally(fault), 0
    began = time.monotonic()
    process, errors = launch(scratch, scratch / "whole")
    if process.wait() != 0:
        sys.exit(said(errors))
    whole, expected = time.monotonic() - began, bits(scratch / "whole")
    workdir = scratch / "broken0"
    while tally.count < count:
        before = kept(workdir)
        most = int(2 ** rng.uniform(9, 17)) if fault == "size" else None
        process, errors = launch(scratch, workdir, most)
        wait = rng.uniform(0.2, whole) if most is None else 10 * whole
        told = time.monotonic()
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            told = time.monotonic()
            process.send_signal(getattr(signal, fault))
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                tally.endings["not in time"] += 1
        text, status = said(errors), process.returncode
        tally.lost += len(before - kept(workdir))
        if status != 0:
            tally.ended(status, text, time.monotonic() - told if most is None else 0.0, f"after {wait:.1f} s")
            continue
        if bits(workdir) == expected:
            tally.finished += 1
        else:
            tally.silent += 1
        number += 1
        workdir = scratch / f"broken{number}"
    process, errors = launch(scratch, workdir)
    if process.wait() != 0:
        print(f"--- it does not go on:\n{said(errors)}")
    elif bits(workdir) == expected:
        tally.finished += 1
    else:
        tally.silent += 1
    return tally


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


def damage(count, scratch, rng):
    """Damage files of a finished study, of its data and of the decoded copy, one at a time, in a process that has all imported."""
    from kd_jax import cli
    from kd_jax.cli.commands import main as kd_jax
    from kd_jax.studies import analyse

    def report(workdir, folder=None):
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
    tally, how_many = Tally("damage"), collections.Counter()
    for _ in range(count):
        kind = rng.choice(sorted(kinds))
        path = rng.choice(kinds[kind])
        how = damaged(here / path, rng)
        for name in (*rng.sample(["same", "analyze", "report", "doctor"], 2), "same", "analyze"):
            began = time.monotonic()
            status, text = call(name)
            lines = [line for line in text.splitlines() if not line.startswith("[")]
            tally.ended(f"{name} {status}", text, time.monotonic() - began, f"{how} of {path}, {name}")
            tally.count -= 1
            if status not in (0, 1, 2) or (status != 0 and not lines):
                print(f"--- {how} of {path}: {name}: {status}", flush=True)
            if name == "analyze" and status == 0:
                found = bits(here / "study")
                same = found[1] == expected[1] and found[0] == expected[0]
                tally.finished += same
                if not same:
                    tally.silent += 1
                    print(f"--- {how} of {path}: another result, and nothing was said: {lines[-2:]}", flush=True)
        tally.count += 1
        how_many[how] += 1
        shutil.rmtree(here)
        shutil.copytree(whole, here, symlinks=True)
    print(f"kinds of files: {len(kinds)}; {dict(how_many)}")
    return tally


def main(fault, count):
    """Break things so many times and print what came of it; returns the exit status."""
    rng, began = random.Random(0), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        tally = damage(count, scratch, rng) if fault == "damage" else processes(fault, count, scratch, rng)
    print(f"{tally}; {time.monotonic() - began:.0f} s in all")
    return 1 if tally.lost or tally.silent or tally.tracebacks else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
