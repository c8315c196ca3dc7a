"""A work folder in an object store, such as gs://bucket/folder or s3://bucket/folder: a copy on this machine that is kept like it.

Everything else in this package works in folders of this machine. `opened` gives one, brought there from the address, and from
then on a thread brings there what is new: every few seconds, and before the folder is left. The objects have the names that the
files have in a work folder, so a bucket that is mounted, or copied, is a work folder too; a link is an object `NAME.link`.

An object store replaces single objects at once, and has no folders to rename. So what is one thing and several files, a
checkpoint or the analysis, has its mark written last and removed first: `commit_success.txt`, as orbax has it there,
and `summary.json`. Without it the rest is not looked at. Files are written before the checkpoints that were saved after
them. Whenever a program ends, what is at the address is a work folder from which the same command goes on. An analysis that takes
another's place is first written whole to `.analysis-new/`, where it counts until it has taken that place: a reader sees the old
one or the new one, whole, whenever the program ends.

Checkpoints are brought here when they are loaded; until then they are empty folders.

`mirror` does it. Locks are leases, see `leases`.
"""

import contextlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd_jax.workdir.mirror import Mirror

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)

_mirrors: list[Mirror] = []


def is_address(typed: str | None) -> bool:
    """Return whether this is the address of an object store, and no folder."""
    return bool(typed) and bool(ADDRESS.match(str(typed)))


def of(path: Path | str) -> Mirror | None:
    """Return the mirror in whose copy a file or folder lies; None for all others."""
    absolute = Path(path).absolute()
    return next((mirror for mirror in _mirrors if absolute.is_relative_to(mirror.local)), None)


def shown(text: str) -> str:
    """Return a text with addresses in place of the folders of this machine that stand for them."""
    for mirror in _mirrors:
        text = text.replace(str(mirror.local), mirror.address)
    return text


def fetch(path: Path | str) -> None:
    """Bring a checkpoint here that is at its address alone; others are here."""
    mirror = of(path)
    if mirror is not None:
        mirror.fetch(Path(path).absolute())


def leased(path: Path | str, shared: bool = False) -> contextlib.AbstractContextManager[Any]:
    """Hold a work folder or a run for as long as the block takes, where it is a copy; what is new is brought to its address then.

    Args:
        path: the folder.
        shared: only see that nobody holds it alone.

    Raises:
        BadInput: when another program holds it, a folder above it, or, unless it is shared, a run below it.
    """
    mirror = of(path)
    return contextlib.nullcontext() if mirror is None else mirror.leased(Path(path).absolute(), shared)


def updating(path: Path | str) -> contextlib.AbstractContextManager[Any]:
    """Bring the records of a work folder here, and after the block to their address; other programs that do so wait."""
    mirror = of(path)
    return contextlib.nullcontext() if mirror is None else mirror.updating(Path(path).absolute())


@contextmanager
def opened(address: str, light: bool = False) -> Iterator[Path]:
    """Give a copy of what is at an address, which is kept like it while the block runs. It stays until the program ends.

    Args:
        address: such as gs://bucket/folder, of any kind that fsspec knows.
        light: leave analyses where they are.

    Raises:
        BadInput: when it cannot be read, or afterwards written; in one line.
    """
    mirror = Mirror(address)
    mirror.pull(light)
    _mirrors.append(mirror)
    mirror.start()
    try:
        yield mirror.local
    finally:
        mirror.close()


def here(typed: Path | str) -> contextlib.AbstractContextManager[Path]:
    """Give the folder that is named, or, where that is an address, what `opened` gives."""
    return opened(str(typed)) if is_address(str(typed)) else contextlib.nullcontext(Path(typed))
