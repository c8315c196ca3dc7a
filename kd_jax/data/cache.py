"""The decoded copy of a data set, or its labels alone where images stay encoded: one NumPy file beside the data, or in the user's
cache folder where that cannot be written.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from kd_jax.data.arrays import Source
from kd_jax.data.streamed import Encoded

PREFIX = "kd_jax-"  # of a copy's name, by which it is told from the data


def kept(folder, files, decode, kinds=(Source, Encoded)):
    """Return what `decode()` makes, from the copy that an earlier call left if none of its files has changed.

    Args:
        folder: of the data set, where the copy is to lie.
        files: {name: `os.stat_result`} of all that is decoded, the names telling files of one folder apart.
        decode: called without arguments when there is no such copy.
        kinds: of which it may make one, named tuples of arrays, numbers and strings.
    """
    places = _places(folder, files)
    for path in places:
        if path.is_file() and (found := _read(path, kinds)) is not None:
            return found
    source = decode()
    _write(source, folder, places)
    return source


def _places(folder, files):
    """Where the copy may lie. Its name follows the files' sizes and times: a set prepared anew is decoded anew."""
    stamp = hashlib.sha256(str(folder).encode())
    for name, stat in sorted(files.items()):
        stamp.update(f"{name} {stat.st_size} {stat.st_mtime_ns}".encode())
    name = f"{PREFIX}{stamp.hexdigest()[:16]}.npz"
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return folder / name, user_cache / "kd_jax" / name


def _read(path, kinds):
    """What a copy holds; None for one of none of these kinds, as an earlier version may have left."""
    with np.load(path) as arrays:
        kind = next((kind for kind in kinds if set(kind._fields) == set(arrays.files)), None)
        if kind is None:
            return None
        values = {name: arrays[name] for name in kind._fields}
    return kind(**{name: value if value.ndim else value.item() for name, value in values.items()})


def _write(source, folder, places):
    """Write to the first place that can be written; without one, the next run decodes again."""
    for path in places:
        if path.parent == folder and not folder.stat().st_mode & 0o222:
            continue  # marked read-only: leave it alone, even where root could write
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(temporary, "wb") as stream:
                    np.savez(stream, **source._asdict())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            return
