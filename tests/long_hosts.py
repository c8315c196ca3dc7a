"""A long check, not part of the suite: four processes train a study, faults hit them at random, and one process says what is right.

    python tests/long_hosts.py 12

A fault is a SIGKILL, a SIGTERM or an exception in one of the processes at a random step. Prints a line for each: what hit whom, how
the others ended and after how long. At the end all checkpoints and metrics must be those of one process with four devices, in
float64, but for rounding. What came out last is in BUILD.md.
"""

import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "studies"))
import test_hosts as hosts

PROCESSES = 4
STUDY = hosts.DIGITS | {"student": ["cnn_4x4"], "epochs": 30, "label_noise": 0.2}


def fault(work, kind, victim, pauses, folder):
    """Start the processes, let the fault come after so many pauses of the victim, and return ([(status, said)], seconds)."""
    seen = folder / "seen.txt"
    seen.unlink(missing_ok=True)
    more = {"says": {victim: str(seen)}}
    if kind == "raise":
        more["raises"] = {victim: pauses}
    started = hosts.start(work, STUDY, PROCESSES, **more)
    while not seen.exists() or len(seen.read_text().splitlines()) < pauses:
        if any(process.poll() is not None for process in started):
            break
        time.sleep(0.01)
    began = time.monotonic()
    if kind != "raise":
        started[victim].send_signal(getattr(signal, kind))
    return hosts.ended(started), time.monotonic() - began


def main(faults):
    """Hit, restart, compare; returns the exit status."""
    rng, worst = random.Random(0), 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hosts.finished(folder / "alone", STUDY, devices=PROCESSES)
        for number in range(faults):
            kind, victim = ("SIGKILL", "SIGTERM", "raise")[number % 3], rng.randrange(PROCESSES)
            found, seconds = fault(folder / "work", kind, victim, rng.randrange(1, 40), folder)
            statuses = [status for status, _ in found]
            worst = max(worst, seconds)
            print(f"{kind} of process {victim}: statuses {statuses}, all ended after {seconds:.1f} s", flush=True)
            if all(status == 0 for status in statuses):
                break
            if kind == "SIGTERM" and set(statuses) != {75}:
                print(*(said for _, said in found), sep="\n")
                return 1
            if kind != "SIGTERM" and not all(statuses):
                return 1
        hosts.finished(folder / "work", STUDY, PROCESSES)
        hosts.assert_alike(folder / "alone", folder / "work")
    print(f"alike; the slowest end took {worst:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
