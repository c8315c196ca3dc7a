"""A long check, not part of the suite: kill a study at random moments, many times, and compare it with an unbroken one.

    python tests/long_kills.py 60

Every restart must find a state it can go on from; at the end every checkpoint and every metric must agree to the bit. Saves
happen at every step, far more often than in a study, so that kills fall into them. What came out last is in BUILD.md.
"""

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STUDY = """
import sys
import jax
from kd_jax.studies import run
from kd_jax.studies import train as train_stage
from kd_jax.config import Study
from kd_jax.train import devices
STUDY = Study.from_flags(dataset="digits", label_noise=0.2, teacher="mlp_64", student=("mlp_64",), epochs=40, batch_size=64,
              learning_rate=0.02, optimizer="sgd", checkpoints=60)
run.RESUME_SECONDS, devices.SEGMENT_STEPS = float(sys.argv[2]), 1
print("started", flush=True)
train_stage.train("killed", STUDY, sys.argv[1], "unused", jax.devices()[:1])
print("done", flush=True)
"""


def launch(workdir, seconds):
    """Start the study in a process of its own, saving about every so many seconds."""
    command = [sys.executable, "-c", STUDY, str(workdir), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def bits(workdir):
    """{run: (digests of its trajectory, metrics without the clock)}."""
    from kd_jax.workdir import checkpoints, metrics_file, packing

    found = {}
    for folder in sorted((workdir / "runs").iterdir()):
        with checkpoints.trajectory(folder) as trajectory:
            digests = {step: packing.digest(*packing.pack(trajectory.load(step))) for step in trajectory.steps()}
        lines = [{k: v for k, v in line.items() if "second" not in k} for line in metrics_file.read(folder)]
        found[folder.name] = digests, lines
    return found


def main(kills):
    """Kill, restart, compare; returns the exit status."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        killed, unbroken = Path(folder) / "killed", Path(folder) / "unbroken"
        reference = launch(unbroken, 1.0)
        if reference.wait() != 0:
            sys.exit(reference.stderr.read())
        done, finished = 0, 0
        while done < kills:
            process = launch(killed, 0.0)
            process.stdout.readline()
            try:
                process.wait(rng.uniform(0.5, 6.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                done += 1
                print(f"{done} kills", end="\r", flush=True)
                continue
            if process.returncode != 0:
                sys.exit(process.stderr.read())
            finished += 1
            assert bits(killed) == bits(unbroken), "a study that was killed differs from the unbroken one"
            killed = Path(folder) / f"killed{finished}"
        last = launch(killed, 0.0)
        if last.wait() != 0:
            sys.exit(last.stderr.read())
        assert bits(killed) == bits(unbroken), "a study that was killed differs from the unbroken one"
        aside = len(list(Path(folder).glob("killed*/runs/*/damaged/*")))
        print(
            f"{done} kills, {finished + 1} studies finished to the same bits, {aside} damaged checkpoints moved aside"
        )
    return 0


if __name__ == "__main__":
    started = time.monotonic()
    status = main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(status)
