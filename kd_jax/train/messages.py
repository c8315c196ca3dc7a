"""A program: pass on what a process and the libraries in it write, but make one line of what JAX says of a process that is gone.

It imports nothing of this package, and ends when nobody can write to it any more.
"""

import signal
import sys

NOISE = ("[Gloo] Rank", "coordination_service")  # lines that say nothing to a user
FATAL = "Terminating process because the JAX distributed service detected fatal errors"
LOST = "kd_jax lost"  # what a process writes that has noticed it first


def main(lost: str) -> None:
    """Copy standard input to standard error, line by line; `lost` is said once where a process of the run is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    is_lost = False
    for line in sys.stdin.buffer:
        text = line.decode("utf-8", "replace")
        if FATAL in text or text.startswith(LOST):
            if not is_lost:
                sys.stderr.write(f"{lost}\n")
            is_lost = True  # what follows is a trace of C++
        elif not is_lost and not any(noise in text for noise in NOISE):
            sys.stderr.write(text)
        sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1])
