"""Files that are replaced in one step: a reader, or a crash, sees the old contents or the new ones, never a part."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give the path of a temporary file beside `path`, which takes its place when the block ends without an exception.

    The folder is made if it is absent. After an exception the temporary file is removed and `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def holding(path: Path | str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold a folder, or a file that exists, while the block runs: other programs that ask to hold it wait until then.

    The hold ends with the process, however that ends. On file systems that cannot lock, nothing is held.

    Args:
        path: the folder or file.
        waiting: called once if another program holds it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                if waiting:
                    waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_text(path: Path | str, text: str) -> None:
    """Replace a text file, in UTF-8, in one step."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
