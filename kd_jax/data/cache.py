"""Decoded copies of data sets, or of their labels alone where images stay encoded: NumPy files in the user's cache folder.

The folder is `$KD_JAX_CACHE`, else `$XDG_CACHE_HOME/kd_jax`, else `~/.cache/kd_jax`. Together the copies take no more than a bound
(`$KD_JAX_CACHE_GB`, 10 by default): those that were used longest ago make room for a new one. Where there is no such folder, or it
cannot be written, a set is decoded each time. Earlier versions kept their copies beside the data; those are still read.
"""

import contextlib
import hashlib
import os
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.data.arrays import Source
from kd_jax.data.encoded import Encoded
from kd_jax.errors import BadInput
from kd_jax.files import replacing

PREFIX = "kd_jax-"  # how the name of a copy begins, by which it is told from the data
BOUND = 10.0  # GB that all copies together may take
QUIET = 1e6  # bytes; smaller copies are not announced
ABANDONED = 24 * 3600  # a temporary file of this age was left by a program that was killed [seconds]


class State(NamedTuple):
    """What the cache holds.

    Attributes:
        folder: the folder of the copies; None where this machine has none, for lack of a home folder.
        copies: the number of copies.
        size: what they take [bytes].
        bound: what they may take [bytes].
    """

    folder: Path | None
    copies: int
    size: int
    bound: float


def place() -> Path | None:
    """Return the folder of the copies, which need not exist; None where there is no home folder to put it in."""
    if os.environ.get("KD_JAX_CACHE"):
        path = Path(os.environ["KD_JAX_CACHE"])
    else:
        path = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "kd_jax"
    try:
        return path.expanduser().absolute()
    except RuntimeError:  # neither HOME nor an entry for this user
        return None


def bound() -> float:
    """Return what all copies together may take [bytes].

    Raises:
        BadInput: when `$KD_JAX_CACHE_GB` is no number.
    """
    return gigabytes("KD_JAX_CACHE_GB", BOUND)


def gigabytes(name: str, default: float) -> float:
    """Return a size that an environment variable gives in GB [bytes].

    Args:
        name: the variable.
        default: the size where it is not set [GB].

    Raises:
        BadInput: when it is no number.
    """
    given = os.environ.get(name) or str(default)
    try:
        size = float(given)
    except ValueError:
        size = -1.0
    if not size >= 0:
        raise BadInput(f"{name}={given}: expected a number of gigabytes of at least 0; set it to {default:g} or such")
    return size * 1e9


def state() -> State:
    """Return what the cache holds."""
    where = place()
    copies = _copies(where) if where else []
    return State(where, len(copies), sum(stat.st_size for _, stat in copies), bound())


def kept(
    folder: Path,
    files: Mapping[str, os.stat_result],
    decode: Callable[[], Any],
    kinds: tuple[type, ...] = (Source, Encoded),
    choice: str = "",
) -> Any:
    """Return what `decode()` returns, read from the copy that an earlier call left if no file has changed since.

    A new copy is announced on standard error, with its size and place, unless it is smaller than `QUIET`.

    Args:
        folder: the folder of the data set.
        files: {name: size and times} of all files that are decoded.
        decode: called when there is no such copy.
        kinds: the types that it may return: named tuples of arrays, numbers and strings.
        choice: what was chosen of the set, where there is a choice: each has a copy of its own.
    """
    name = _name(folder, files, choice)
    where = place()
    for path in (where / name if where else None, folder / name):
        if path is not None and path.is_file() and (found := _read(path, kinds)) is not None:
            if path.parent == where:
                with contextlib.suppress(OSError):
                    os.utime(path)  # used now
            return found
    source = decode()
    if where is not None:
        _write(source, where / name)
    return source


def _name(folder, files, choice=""):
    """The name of a copy. It depends on the files' sizes and times: a set prepared anew is decoded anew."""
    stamp = hashlib.sha256(f"{folder}{choice}".encode())
    for name, stat in sorted(files.items()):
        stamp.update(f"{name} {stat.st_size} {stat.st_mtime_ns}".encode())
    return f"{PREFIX}{stamp.hexdigest()[:16]}.npz"


def _read(path, kinds):
    """What a copy holds; None if it is of none of these types, as a copy of an earlier version may be, or damaged."""
    try:
        with np.load(path) as arrays:
            there = set(arrays.files)
            kind = next((kind for kind in kinds if _needed(kind) <= there <= set(kind._fields)), None)
            if kind is None:
                return None
            values = {name: arrays[name] for name in there}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return kind(**{name: value if value.ndim else value.item() for name, value in values.items()})


def _needed(kind):
    """The fields that a copy must have; those with defaults are younger than some copies."""
    return set(kind._fields) - set(kind._field_defaults)


def _write(source, path):
    """Write a copy, after room was made for it. If that is not possible the next run decodes again."""
    values = {name: np.asarray(value) for name, value in source._asdict().items()}
    size, most = sum(value.nbytes for value in values.values()), bound()
    if size > most:
        if most:
            _say(f"the decoded copy of {shown(size)} is larger than the cache may be ({shown(most)}, KD_JAX_CACHE_GB)")
        return
    try:
        _make_room(path.parent, most - size)
        with replacing(path) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **values)  # pyright: ignore  # none of them is of objects; NumPy 2.0 takes no word on that
    except OSError as error:
        _say(
            f"no decoded copy of {shown(size)} could be kept in {path.parent} ({error.strerror}); KD_JAX_CACHE names another"
        )
        return
    if size >= QUIET:
        _say(f"a decoded copy of {shown(size)} is kept in {path.parent} (KD_JAX_CACHE; at most {shown(most)} in all)")


def _make_room(where, most):
    """Remove the copies that were used longest ago until the others take no more than `most` bytes."""
    copies = sorted(_copies(where), key=lambda copy: copy[1].st_mtime)
    total = sum(stat.st_size for _, stat in copies)
    for path, stat in copies:
        abandoned = path.suffix != ".npz" and time.time() - stat.st_mtime > ABANDONED
        if abandoned or (total > most and path.suffix == ".npz"):
            path.unlink(missing_ok=True)
            total -= stat.st_size


def _copies(where):
    """[(path, size and times)] of all copies, and of those that are being written."""
    found = []
    for path in [*where.glob(f"{PREFIX}*.npz*"), *where.glob(f".{PREFIX}*.npz.*")]:
        with contextlib.suppress(OSError):  # another program may have removed it
            found.append((path, path.stat()))
    return found


def shown(size: float) -> str:
    """Return a number of bytes in words.

    >>> shown(183_500_000)
    '184 MB'
    """
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"


def _say(line):
    print(f"kd_jax: {line}", file=sys.stderr)
