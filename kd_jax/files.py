"""Files that are replaced in one step: a reader, or a crash, sees the old contents or the new ones, never a part."""

import contextlib
import errno
import fcntl
import glob
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kd_jax.errors import BadInput

ABANDONED = 24 * 3600  # a temporary file of this age was left by a program that was killed [seconds]


@contextmanager
def named(path: Path | str) -> Iterator[None]:
    """Name a file or folder in an error of the system that names none: Python names what it opens, but not what it writes to."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give the path of a temporary file beside `path`, which takes its place when the block ends without an exception.

    The folder is made if it is absent. After an exception the temporary file is removed and `path` is as it was; what programs that
    were killed have left is removed by a later one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with named(path):
            yield temporary
        os.replace(temporary, path)
        _remove_left(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _remove_left(path: Path) -> None:
    """Remove temporary files beside a path that nobody has written to for long: of programs that were killed."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with contextlib.suppress(OSError):
            if left.suffix[1:].isdigit() and time.time() - left.lstat().st_mtime > ABANDONED:
                left.unlink()


@contextmanager
def holding(path: Path | str, create: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder or a file while the block runs: other programs that ask to hold it wait until then.

    The hold ends with the process, however that ends. On file systems that cannot lock, nothing is held.

    Args:
        path: the folder or the file. If it is replaced while this program waits, what has replaced it is held.
        create: whether to make an empty file where there is none.
        waiting: called once if another program holds it.
    """
    while True:
        descriptor = _opened(path, create)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    if waiting:
                        waiting()
                        waiting = None
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                current = os.path.samestat(os.fstat(descriptor), os.stat(path))
            except FileNotFoundError:
                current = False
            if current:
                yield
                return
        finally:
            os.close(descriptor)


def _opened(path: Path | str, create: bool) -> int:
    """A descriptor to hold a file or folder by: one to write, if that can be, for NFS locks no other."""
    flags = os.O_CREAT if create else 0
    try:
        return os.open(path, os.O_RDWR | flags, 0o666)
    except (IsADirectoryError, PermissionError):
        return os.open(path, os.O_RDONLY | flags, 0o666)


@contextmanager
def disk_errors(path: Path | str, fix: str) -> Iterator[None]:
    """Raise `BadInput`, in one line, for an error of the file system, such as that of a full disk.

    Args:
        path: the file or folder that is written.
        fix: what the user can do, as the last clause of the line.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"{path}: expected a place that can be written, with enough free space ({error.strerror}); {fix}"
        ) from None


def write_text(path: Path | str, text: str) -> None:
    """Replace a text file, in UTF-8, in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_folder(new: Path, final: Path) -> None:
    """Put a folder in the place of another. Whenever a crash comes, `final` is the old one or the new one, or `settle` makes it so.

    Args:
        new: a whole folder beside `final`, on the same file system.
        final: the folder that it replaces; it need not exist.
    """
    settle(final)
    old = _old(final)
    remove(old)
    if os.path.lexists(final):
        final.rename(old)
    new.rename(final)
    remove(old)


def remove(path: Path) -> None:
    """Remove a folder, a file or a link, if it is there; of a link what it points to stays."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def fresh_folder(path: Path) -> Path:
    """Return an empty folder in place of whatever was there, which may be a link: nothing is written through it."""
    remove(path)
    path.mkdir(parents=True)
    return path


def settle(final: Path) -> None:
    """Bring back a folder that `replace_folder` had moved out of the way when the program was killed, or remove it if replaced."""
    old = _old(final)
    if old.is_dir() and not old.is_symlink():
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(final)


def _old(final: Path) -> Path:
    return final.with_name(f".{final.name}-replaced")
