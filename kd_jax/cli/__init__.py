"""The command line: parsing, messages, progress. Only `experiments/` and the console script import it.

What is called here listens for signals before anything heavy is loaded, so that a job that is told to stop in its first
seconds hears it.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from kd_jax import stopping
from kd_jax.cli.guard import open_streams

BEGAN = time.monotonic()  # when the program did, but for Python itself

__all__ = ["analyze_main", "leave", "main", "run_study", "script", "theory_main"]
LEAVING_SECONDS = 3.0
_OF_STUDY = ("Preset", "Session", "parse", "study_main")  # of `cli.study`, loaded when they are used


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console script `kd-jax`, and return the exit status."""
    return _listening("commands", "main", argv)


def analyze_main(argv: Sequence[str] | None = None) -> int:
    """Run `experiments/analyze.py`: `kd-jax analyze` under its own name; returns the exit status."""
    return _listening("commands", "analyze_main", argv)


def run_study(
    name: str, argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> int:
    """Run the command line of a study; see `cli.study.run_study`."""
    return _listening("study", "run_study", name, argv, description, prog)


def theory_main(argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None) -> int:
    """Run the command line of the study of the theorem; see `cli.theory.theory_main`."""
    return _listening("theory", "theory_main", argv, description, prog)


def leave(status: int) -> NoReturn:
    """End this program with a status. Its work is done: being told to stop while Python cleans up changes nothing any more.

    A program that was told to stop has saved, and does not wait for long for threads that Python waits for, such as compilers.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if status == stopping.EXIT_STATUS:
        ending = threading.Timer(LEAVING_SECONDS, os._exit, [status])
        ending.daemon = True
        ending.start()
    sys.exit(status)


def script() -> NoReturn:
    """Run the console script `kd-jax` as a program of its own."""
    leave(main())


def _listening(module: str, name: str, *args: Any) -> int:
    open_streams()
    with stopping.stop_requests(leave=True):
        return getattr(import_module(f"kd_jax.cli.{module}"), name)(*args)


def __getattr__(name: str) -> Any:
    if name in _OF_STUDY:
        return getattr(import_module("kd_jax.cli.study"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
