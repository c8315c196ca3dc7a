"""The decoded copy of a data set: one NumPy file beside the data, or in the user's cache folder where that cannot be written."""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from kd_jax.data.arrays import Source

PREFIX = "kd_jax-"  # of a copy's name, by which it is told from the data


def kept(folder, files, decode, kind=Source):
    """Return what `decode()` makes, from the copy that an earlier call left if none of its files has changed.

    Args:
        folder: of the data set, where the copy is to lie.
        files: {name: `os.stat_result`} of all that is decoded, the names telling files of one folder apart.
        decode: called without arguments when there is no such copy.
        kind: of what it makes, a named tuple of arrays, numbers and strings.
    """
    places = _places(folder, files)
    for path in places:
        if path.is_file():
            return _read(path, kind)
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


def _read(path, kind):
    with np.load(path) as arrays:
        return kind(**{name: arrays[name] if arrays[name].ndim else arrays[name].item() for name in kind._fields})


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
