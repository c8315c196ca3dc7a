"""Being told to stop. SIGTERM and SIGINT become a request that every stage looks at; they never interrupt what is running.

An exception raised by a signal handler comes out wherever the program happens to be, also in callbacks that swallow it. So a
handler only takes a note, and whoever does long work calls `check` where it is safe to leave. Imports nothing heavy: a command
listens before anything else is loaded.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kd_jax.errors import Stopped

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same command, later
GRACE_SECONDS = 5.0
SENTENCE = "stopped: {}; the same command goes on from there"
TOLD = "told to"


class Request:
    """Whether the program was told to stop.

    Attributes:
        requested: becomes true when it was, and stays so.
        is_saving: true while something is being saved because of it, which is waited for.
    """

    def __init__(self):
        self.requested = False
        self.is_saving = False


_current: Request | None = None


def check() -> None:
    """Leave here, where nothing is half done, if the program was told to stop.

    Raises:
        Stopped: if it was.
    """
    if _current is not None and _current.requested:
        raise Stopped(TOLD)


def ask() -> None:
    """Ask the program to stop, as a signal would."""
    if _current is not None:
        _current.requested = True


def saving() -> None:
    """Say that something is being saved from here on, which is waited for where the program was told to stop."""
    if _current is not None:
        _current.is_saving = True


@contextmanager
def stop_requests(leave: bool = False) -> Iterator[Request]:
    """Turn SIGTERM and SIGINT into a request to stop while the block runs; inside another such block, that one's is given.

    A second SIGINT raises KeyboardInterrupt, or leaves at once. Outside the main thread, where Python lets nobody handle
    signals, no request comes.

    Args:
        leave: whether the process may be left where the request is not heard within `GRACE_SECONDS`, as while a network is
            compiled: all that is written can be left at any time. For commands, which own their process; not for notebooks.
    """
    global _current
    if _current is not None:
        yield _current
        return
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    interrupted = False

    def hear(number, frame):
        nonlocal interrupted
        again = number == signal.SIGINT and interrupted
        request.requested = True
        interrupted = interrupted or number == signal.SIGINT
        if again and leave:
            _leave()
        if again:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
    _current = request
    try:
        with _watched(request) if leave else contextlib.nullcontext():
            yield request
    finally:
        _current = None
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _watched(request: Request) -> Iterator[None]:
    """Let a thread hear signals too, for the main thread hears none before it is back from a call of C++, such as a compiler."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    over = threading.Event()

    def watch():
        while not over.is_set():
            if {signal.SIGTERM, signal.SIGINT} & {*os.read(reader, 64)}:
                request.requested = True
                while not over.wait(GRACE_SECONDS):
                    if not request.is_saving:
                        _leave()

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(before)
        os.write(writer, b"\0")
        watcher.join()
        os.close(reader)
        os.close(writer)


def _leave() -> None:
    """End the process and its workers now. Nothing is half-written: files and checkpoints take their places when they are whole."""
    with contextlib.suppress(Exception):
        for worker in multiprocessing.active_children():
            worker.kill()
    with contextlib.suppress(Exception):
        print(SENTENCE.format(TOLD), file=sys.stderr, flush=True)
    os._exit(EXIT_STATUS)
