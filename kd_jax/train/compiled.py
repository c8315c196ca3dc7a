"""What XLA compiled, kept for the next program in the user's cache folder: a network then starts without its compiler.

JAX's persistent compilation cache does the work. This module chooses its folder, `compiled/` beside the decoded copies of data
sets (see `data.cache`), and bounds it: `$KD_JAX_COMPILED_GB`, 1 by default, and 0 keeps nothing. Whoever has given JAX a folder
(`JAX_COMPILATION_CACHE_DIR`, an empty one too) has decided for himself, and nothing is done here.

A program for a CPU is made for that CPU: loaded on another one, of a cluster with one home folder, it may end in an illegal
instruction, and its loops are cut for the cores that there were. So each kind of machine and each version of JAX has a folder of
its own. JAX's own bound needs a package that it does not bring along (filelock), and locks; here the programs that were used
longest ago make room when the next one starts. JAX writes an entry in place, so a program that is killed leaves a part of one:
those that were written since the last start are checked, and removed if they are damaged.

Nothing here makes a program fail: without a folder that can be written everything is compiled, as it would be anyway.
"""

import contextlib
import hashlib
import os
import platform
import re
import time
import warnings
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax

from kd_jax.data import cache

FOLDER = "jax_compilation_cache_dir"  # the option of JAX
BOUND = 1.0  # GB that all programs together may take
# Of compiling, for a program to be kept; JAX's default of 1 would leave out those of small networks.
LEAST_SECONDS = 0.1
CHECKED = ".checked"  # its time says which entries have been checked
SETTLED = 60.0  # an entry may still be written to for so long [seconds]
ZLIB = 0x78  # how an entry begins that JAX compressed with zlib, which has a checksum
CHUNK = 1 << 20
# What of /proc/cpuinfo decides for which processor XLA compiles; "Features" and "CPU ..." are ARM's.
OF_PROCESSOR = re.compile(r"^(vendor_id|cpu family|model|flags|Features|CPU \w+)\s*:.*$", re.MULTILINE)


class State(NamedTuple):
    """What is kept.

    Attributes:
        folder: the folder of all programs; None where nothing is kept.
        programs: the number of programs, of all versions and machines.
        size: what they take [bytes].
        bound: what they may take [bytes].
    """

    folder: Path | None
    programs: int
    size: int
    bound: float


def keep() -> Path | None:
    """Make JAX keep what it compiles from now on, and return the folder; None where nothing is kept, or the user chose a folder.

    It may be called more than once.

    Raises:
        BadInput: when `$KD_JAX_COMPILED_GB` is no number.
    """
    own, most = _own(), _bound()
    chosen, is_enabled = (getattr(jax.config, option) for option in (FOLDER, "jax_enable_compilation_cache"))
    if own is None or chosen not in (None, str(own)) or not is_enabled:
        return None
    if chosen is not None:
        return own
    try:
        if not _is_ours(own.parent):
            return None
        own.mkdir(exist_ok=True)
        _remove_damaged(own)
        _make_room(own.parent, most)
    except OSError:
        return None
    jax.config.update(FOLDER, str(own))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    # A full disk, or a part of an entry, means compiling; there is nothing that a user should do about it.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    return own


def state() -> State:
    """Return what is kept."""
    own = _own()
    found = _entries(own.parent) if own else []
    programs = sum(path.name.endswith("-cache") for path, _ in found)
    return State(own.parent if own else None, programs, sum(stat.st_size for _, stat in found), _bound())


def _bound() -> float:
    return cache.gigabytes("KD_JAX_COMPILED_GB", BOUND)


def _own() -> Path | None:
    """The folder of this machine and this version of JAX; None where nothing is to be kept."""
    where = cache.place()
    if where is None or not _bound():
        return None
    return where / "compiled" / f"jax{jax.__version__}-jaxlib{version('jaxlib')}-{_machine()}"


def _machine(about_processors: Path = Path("/proc/cpuinfo")) -> str:
    """A digest of what a program for the CPU is compiled for: its kind, and the cores that this program may use."""
    try:
        # Of the first processor alone.
        about = about_processors.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
        of_processor = [match.group() for match in OF_PROCESSOR.finditer(about)]
    except OSError:
        of_processor = []
    # Where nothing says what the processor is, the machine's name stands for it.
    of_processor = of_processor or [platform.node(), platform.processor()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return hashlib.sha256(repr([platform.machine(), cores, of_processor]).encode()).hexdigest()[:12]


def _is_ours(folder: Path) -> bool:
    """Make the folder if there is none, and return whether no other user writes there: a program that is kept is run."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stat = folder.stat()
    return stat.st_uid == os.getuid() and not stat.st_mode & 0o022


def _entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """[(path, size and times)] of all files but the marks."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # another program may have removed it
            if path.name != CHECKED and path.is_file():
                found.append((path, path.stat()))
    return found


def _remove_damaged(folder: Path) -> None:
    """Remove what was written since the last check and is not whole, but for what may still be written."""
    mark, now = folder / CHECKED, time.time()
    checked = mark.stat().st_mtime if mark.exists() else 0.0
    for path, stat in _entries(folder):
        if checked <= stat.st_mtime < now - SETTLED and not _is_whole(path):
            path.unlink(missing_ok=True)
    mark.touch()
    os.utime(mark, (now - SETTLED, now - SETTLED))


def _is_whole(path: Path) -> bool:
    with open(path, "rb") as stream:
        start = stream.read(1)
        if start != bytes([ZLIB]):
            return bool(start)  # of another compressor, or another kind of file
        unpacking = zlib.decompressobj()
        try:
            unpacking.decompress(start)
            for chunk in iter(lambda: stream.read(CHUNK), b""):
                unpacking.decompress(chunk)
        except zlib.error:
            return False
    return unpacking.eof


def _make_room(folder: Path, most: float) -> None:
    """Remove the entries that were used longest ago until the others take no more than `most` bytes."""
    entries = sorted(_entries(folder), key=lambda entry: max(entry[1].st_atime, entry[1].st_mtime))
    total = sum(stat.st_size for _, stat in entries)
    for path, stat in entries:
        if total <= most:
            return
        path.unlink(missing_ok=True)
        total -= stat.st_size
