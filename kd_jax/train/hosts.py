"""Several processes that train one run together, on one machine or many. Only this file says distributed, or asks other processes.

Every process runs the same program on its own devices. Process 0 leads: it alone reads and writes the work folder, and prints.
What follows from a disk, a clock or a signal, and changes what is computed or saved, comes from it by `told`, or is asked of all by
`agree`, at a place that all processes reach; what is computed is a function of step and configuration. With one process these
functions do what their names say without asking anybody. JAX is imported when a process joins others, and not before.
"""

import contextlib
import functools
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kd_jax import stopping
from kd_jax.errors import BadInput, Damaged, Diverged, Stopped

T = TypeVar("T")
TIMEOUT = 300  # for all processes to come together [s]
HEARTBEAT = 30  # a process that is not heard of for so long is lost [s]
GRACE = 25.0  # a request to stop is answered where all processes meet; batch systems give 30 [s]
CHUNK = 2**26  # bytes that are told at a time
SMALLEST = 2**10  # sizes are powers of two of at least so many bytes, so that few programs are compiled for them
LOST = (
    "another process of this run ended, so this one does too; its own last line says why; the same command goes on from what was"
    " saved"
)
# What JAX and the libraries below it say, in types of their own, where a process that they wait for is gone.
GONE = re.compile(
    r"gloo|nccl|coordination service|connection (closed|reset|refused)|socket closed|unavailable|deadline", re.I
)
COMMON = (BadInput, Damaged, Diverged, Stopped, OSError)


class _State:
    """Of this process: how many there are (1 before it joins and after it leaves), its number, and who knows of what ended it."""

    count = 1
    index = 0
    known: BaseException | None = None  # the error by which all of them end
    says = False  # this process has something to say of it that process 0 has not
    messages: Any = None  # the process that filters what libraries write
    busy = False  # all processes are inside a run; else the others wait to be told something


def join(coordinator: str = "", processes: int | None = None, index: int | None = None, timeout: int = TIMEOUT) -> None:
    """Join the other processes of this run, before any other use of JAX.

    Without an address JAX asks the TPU pod, SLURM, GKE or Open MPI that started this process.

    Args:
        coordinator: HOST:PORT of process 0; empty to ask.
        processes: how many there are.
        index: the number of this one, from 0.
        timeout: seconds within which all must have come. Where they have not, the program ends with one line and status 2.

    Raises:
        BadInput: for numbers that do not fit, or where there is nobody to ask.
    """
    _check(coordinator, processes, index, timeout)
    import jax

    _filter_messages()
    # Its notifier would take SIGTERM away from `stopping`, whose request `agree` carries to the others.
    jax.config.update("jax_enable_preemption_service", False)
    # JAX ends the process in its own words when time is up, so it is given more.
    alarm = threading.Timer(timeout, _nobody_came, (coordinator, timeout))
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator or None,
            processes,
            index,
            initialization_timeout=timeout + 60,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=2 * HEARTBEAT,
        )
    except (ValueError, RuntimeError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        if "RPC server" in said:
            raise BadInput(
                f"--coordinator={coordinator}: expected a free port of this machine, process 0's, found it in use; name another"
            ) from None
        raise BadInput(
            f"--distributed: expected a TPU pod, SLURM, GKE or Open MPI that says which processes there are, found none ({said});"
            " pass --coordinator=HOST:PORT --num_processes=N --process_id=I"
        ) from None
    finally:
        alarm.cancel()
    _State.count, _State.index = jax.process_count(), jax.process_index()
    if _State.count > 1:
        stopping.GRACE_SECONDS = GRACE


def _check(coordinator: str, processes: int | None, index: int | None, timeout: int) -> None:
    """Refuse numbers that do not fit each other."""
    if timeout < 1:
        raise BadInput(f"--coordinator_timeout={timeout}: expected at least 1 second; leave it out for {TIMEOUT}")
    named = {"coordinator": coordinator or None, "num_processes": processes, "process_id": index}
    lacking = [f"--{name}" for name, value in named.items() if value is None]
    if 0 < len(lacking) < 3:
        there = next(f"--{name}={value}" for name, value in named.items() if value is not None)
        raise BadInput(
            f"{there}: expected {' and '.join(lacking)} beside it; give all three, or none where a cluster says them"
        )
    if lacking:
        return
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise BadInput(f"--coordinator={coordinator}: expected HOST:PORT of process 0, such as 10.0.0.1:1234")
    if processes is None or processes < 1:
        raise BadInput(f"--num_processes={processes}: expected at least 1")
    if index is None or not 0 <= index < processes:
        raise BadInput(f"--process_id={index}: expected 0 to {processes - 1}, the processes being {processes}")


def _nobody_came(coordinator: str, timeout: int) -> None:
    """End the program: JAX does not come back from waiting."""
    where = f"--coordinator={coordinator}" if coordinator else "--distributed"
    _say(
        f"{where}: expected all processes within {timeout} s, they did not come; start the same command for every --process_id, see"
        " that they can reach HOST:PORT, or raise --coordinator_timeout"
    )
    os._exit(2)


def count() -> int:
    """Return how many processes train together."""
    return _State.count


def index() -> int:
    """Return the number of this process; 0 leads."""
    return _State.index if _State.count > 1 else 0


def leads() -> bool:
    """Return whether this process reads and writes the work folder, and prints; one that is alone does."""
    return index() == 0


def leave() -> None:
    """Part from the other processes, at a place that all reach; process 0 goes on alone, with its own devices."""
    if _State.count == 1:
        return
    import jax

    with contextlib.suppress(Exception):  # the others are gone already
        jax.distributed.shutdown()
    if leads():
        _State.count = 1


def agree(flag: bool) -> bool:
    """Return whether the flag is true in any process, in all processes alike; with one process, the flag itself.

    Processes have clocks and hear signals of their own. Whatever follows from those and changes what is computed or saved must be
    asked through this function, at a step that all processes reach.
    """
    if _State.count == 1:
        return bool(flag)
    return bool(_gathered(flag).any())


def told(make: Callable[[], T]) -> T:
    """Return what `make()` returns in process 0, in all processes; only that one calls it. It must be picklable.

    What goes wrong in `make` for a user, goes wrong in all of them.
    """
    if _State.count == 1:
        return make()
    error, message = None, b""
    if leads():
        try:
            message = pickle.dumps((make(), None), protocol=5)
        except COMMON as wrong:
            error = wrong
            message = pickle.dumps((None, wrong))
    value, wrong = pickle.loads(_told_bytes(message))
    if wrong is None:
        return value
    error = error or wrong
    _State.known = error
    raise error


def check_stop() -> None:
    """Leave here, in all processes, if the one that leads was told to stop; requests of others are heard inside runs.

    Raises:
        Stopped: if it was.
    """
    told(stopping.check)


@contextmanager
def leading() -> Iterator[None]:
    """Let what ends the block in process 0, which the others follow by `told`, end it in them; they are told None at its end."""
    try:
        yield
        told(lambda: None)
    except COMMON as error:
        if _State.count > 1 and not _State.busy and not is_known(error):
            told(functools.partial(_raise, error))
        raise


@contextmanager
def together() -> Iterator[None]:
    """Mark what all processes do at the same time; if process 0 fails in it by itself, the others cannot be told."""
    _State.busy = True
    try:
        yield
    except (Diverged, Stopped):
        _State.busy = False  # all of them have
        raise
    _State.busy = False


@contextmanager
def each() -> Iterator[None]:
    """Let what every process does for itself end all of them where it goes wrong for a user in any; who succeeds waits for all."""
    if _State.count == 1:
        yield
        return
    error = None
    try:
        yield
    except COMMON as wrong:
        error = wrong
    failed = _gathered(error is not None).tolist()
    if not any(failed):
        return
    if error is None:
        error = BadInput(f"--distributed: process {failed.index(True)} cannot take part; its own last line says why")
    else:
        _State.says = not failed[0]  # else process 0 says it for all
    _State.known = error
    raise error


def check_same(facts: Mapping[str, str], fix: str) -> None:
    """Refuse processes that differ in what all must have alike.

    Args:
        facts: {what it is, for messages: a sha256 of it, as hex}.
        fix: what to do, for messages.

    Raises:
        BadInput: in all processes.
    """
    if _State.count == 1:
        return
    import numpy as np

    everyone = _gathered(np.frombuffer(bytes.fromhex("".join(facts.values())), np.uint8).reshape(len(facts), -1))
    for at, what in enumerate(facts):
        differing = [number for number, of in enumerate(everyone) if (of[at] != everyone[0][at]).any()]
        if differing:
            first, other = (everyone[number][at].tobytes().hex()[:12] for number in (0, differing[0]))
            error = BadInput(
                f"--distributed: expected {what} alike in all {_State.count} processes, found {other} in process {differing[0]} and"
                f" {first} in process 0; {fix}"
            )
            _State.known = error
            raise error


def is_known(error: BaseException) -> bool:
    """Return whether all processes end by this error, so that it is said once and they can part in good order."""
    return error is _State.known


def end(error: BaseException, status: int, line: str | None) -> None:
    """End this process, if it is one of several, so that the others do not wait for it; with one process, return.

    Args:
        error: what ends it.
        status: its exit status.
        line: what is to be said; None for an error that is none of the user's.
    """
    if _State.count == 1:
        return
    if line and (leads() or _State.says or not is_known(error)):
        _say(line if leads() else f"process {_State.index}: {line}")
    if is_known(error):
        leave()
    elif line:
        pass  # the others will notice
    elif GONE.search(f"{type(error).__name__} {error}"):
        _say_lost()
    else:
        sys.__excepthook__(type(error), error, error.__traceback__)
        _say(f"process {_State.index} of {_State.count} ended with this error, and ends the others")
    with contextlib.suppress(Exception):
        for worker in multiprocessing.active_children():
            worker.kill()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    # Python would wait for the others on its way out, and they for this process.
    os._exit(status)


def _raise(error: BaseException) -> None:
    raise error


def _gathered(own: Any) -> Any:
    """What every process has, NumPy array [processes, ...]."""
    import numpy as np
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(own))


def _told_bytes(message: bytes) -> bytes:
    """The message of process 0."""
    import numpy as np
    from jax.experimental import multihost_utils

    chunks, rest = multihost_utils.broadcast_one_to_all(np.asarray(divmod(len(message), CHUNK), np.int32)).tolist()
    size = chunks * CHUNK + rest
    parts = []
    for start in range(0, size, CHUNK):
        length = min(CHUNK, size - start)
        padded = np.zeros(max(SMALLEST, 1 << (length - 1).bit_length()), np.uint8)
        if leads():
            padded[:length] = np.frombuffer(message, np.uint8, length, start)
        parts.append(np.asarray(multihost_utils.broadcast_one_to_all(padded))[:length].tobytes())
    return b"".join(parts)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _say_lost() -> None:
    """Say that another process is gone; the filter of messages says it once, whether JAX says so as well or not."""
    with contextlib.suppress(OSError):
        os.write(2, b"kd_jax lost\n")


def _filter_messages() -> None:
    """Let what libraries in C++ write to both standard streams pass through a filter, a process that outlives this one.

    Where a process of a run is gone, JAX aborts the others from a thread of its own, with a dozen lines of text; the filter makes
    one line of them, and of the messages of Gloo none. Python's own streams go on as before; where something stands before one of
    them, as `cli.guard` puts it there, it is told of the new one by its method `onto`.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = os.dup(1), os.dup(2)
    reader, writer = os.pipe()
    program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("messages.py")), LOST]
    _State.messages = subprocess.Popen(program, stdin=reader, stdout=err, stderr=err, start_new_session=True)
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    for name, descriptor in (("stdout", out), ("stderr", err)):
        stream = open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1)  # noqa: SIM115
        if hasattr(now := getattr(sys, name), "onto"):
            now.onto(stream)
        else:
            setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
