"""The decoded copy of a data set, or of its labels alone where images stay encoded.

It is one NumPy file beside the data, or in the user's cache folder where the data's folder cannot be written.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.data.arrays import Source
from kd_jax.data.encoded import Encoded
from kd_jax.files import replacing

PREFIX = "kd_jax-"  # how the name of a copy begins, by which it is told from the data


def kept(
    folder: Path,
    files: Mapping[str, os.stat_result],
    decode: Callable[[], Any],
    kinds: tuple[type, ...] = (Source, Encoded),
) -> Any:
    """Return what `decode()` returns, read from the copy that an earlier call left if no file has changed since.

    Args:
        folder: the folder of the data set, in which the copy is to lie.
        files: {name: size and times} of all files that are decoded.
        decode: called when there is no such copy.
        kinds: the types that it may return: named tuples of arrays, numbers and strings.
    """
    places = _places(folder, files)
    for path in places:
        if path.is_file() and (found := _read(path, kinds)) is not None:
            return found
    source = decode()
    _write(source, folder, places)
    return source


def _places(folder, files):
    """The paths at which the copy may lie. Its name depends on the files' sizes and times: a set prepared anew is decoded anew."""
    stamp = hashlib.sha256(str(folder).encode())
    for name, stat in sorted(files.items()):
        stamp.update(f"{name} {stat.st_size} {stat.st_mtime_ns}".encode())
    name = f"{PREFIX}{stamp.hexdigest()[:16]}.npz"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return folder / name, user_cache / "kd_jax" / name


def _read(path, kinds):
    """What a copy holds; None if it is of none of these types, as a copy of an earlier version may be."""
    with np.load(path) as arrays:
        kind = next((kind for kind in kinds if set(kind._fields) == set(arrays.files)), None)
        if kind is None:
            return None
        values = {name: arrays[name] for name in kind._fields}
    return kind(**{name: value if value.ndim else value.item() for name, value in values.items()})


def _write(source, folder, places):
    """Write to the first path that can be written. If there is none, the next run decodes again."""
    for path in places:
        if path.parent == folder and not folder.stat().st_mode & 0o222:
            continue  # the folder is marked read-only, which root would ignore
        with contextlib.suppress(OSError):
            with replacing(path) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, **source._asdict())
            return
