"""What can go wrong for a user, as one line on standard error and an exit status. Light: it is there before JAX is."""

import contextlib
import errno
import io
import os
import re
import resource
import sys

from kd_jax import stopping
from kd_jax.errors import BadInput, Diverged, Stopped
from kd_jax.train import hosts
from kd_jax.workdir import remote

OK, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, stopping.EXIT_STATUS
OPEN_FILES = 128
FULL = {errno.ENOSPC, errno.EDQUOT}
FIXES = {
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs, for the system has no more open files",
    errno.EROFS: "pass a --workdir that can be written",
    errno.EACCES: "pass a --workdir that can be written",
    errno.EPERM: "pass a --workdir that can be written",
    errno.ENOENT: "leave the work folder where it is while it is written",
}


def guarded(run):
    """Call `run()`, turn what can go wrong for a user into one line on standard error, and return the exit status."""
    sys.excepthook, sys.unraisablehook = _without_closed_loops, _unraisable
    try:
        with stopping.stop_requests(leave=True), _nobody_need_read():
            _raise_limit()
            stopping.check()  # told while the program was loaded
            run()
            sys.stdout.flush()
        return OK
    except BaseException as error:
        status, line = _judged(error)
        hosts.end(error, status, line)
        if line is None:
            raise
        _say(line)
        return status


def _judged(error):
    """(exit status, line) of what ended a program; the line is None for what is none of the user's."""
    if isinstance(error, BadInput):
        return BAD_INPUT, str(error)
    if isinstance(error, Stopped | KeyboardInterrupt):
        return STOPPED, stopping.SENTENCE.format(str(error) or stopping.TOLD)
    if isinstance(error, Diverged):
        return FAILED, str(error)
    if isinstance(error, OSError) and error.errno is not None:  # else it is not the system's
        return FAILED, _of_system(error)
    return FAILED, None


def _raise_limit():
    """Allow as many open files as the system lets a program have, and refuse too few: libraries then fail in ways of their own."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= most < OPEN_FILES:
        raise BadInput(f"ulimit -n: expected at least {OPEN_FILES} open files, found {most}; raise it")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _of_system(error: OSError) -> str:
    """What the file system or the operating system refuses, in one line with the fix."""
    name = error.filename2 or error.filename  # of a file that was to take the place of another, that one
    where = f"{name}: " if name else ""
    fix = "make room" if error.errno in FULL else FIXES.get(error.errno or 0, "correct that")
    reason = " ".join((error.strerror or str(error)).split())
    return f"{where}{reason}; what was saved before is whole; {fix} and give the same command again"


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(remote.shown(line), file=sys.stderr, flush=True)


def _without_closed_loops(kind, error, traceback):
    """Print an exception that nobody caught; but not what TensorStore calls back after a save that failed, of which was told."""
    if not _is_of_a_closed_loop(error):
        sys.__excepthook__(kind, error, traceback)


def _unraisable(found):
    """The same of what TensorStore calls back in a thread of its own."""
    if not _is_of_a_closed_loop(found.exc_value):
        sys.__unraisablehook__(found)


def _is_of_a_closed_loop(error):
    return type(error) is RuntimeError and str(error) == "Event loop is closed"


def open_streams():
    """Give a program that was started without standard streams some that lead nowhere.

    Otherwise the next files that it opens get their numbers, and libraries that write messages to them write into those files.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115, for the life of the program
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


class _Unread(io.TextIOBase):
    """A standard stream that goes on when nobody reads it any more: work is not given up because `head` has seen enough."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def onto(self, stream):
        """Go on with another stream."""
        self._stream = stream

    def write(self, text):
        self._try(lambda: self._stream.write(remote.shown(text)))
        return len(text)

    def flush(self):
        self._try(self._stream.flush)

    def isatty(self):
        return self._stream.isatty()

    def fileno(self):
        return self._stream.fileno()

    @property
    def encoding(self):
        return self._stream.encoding

    def _try(self, call):
        try:
            call()
        except BrokenPipeError:
            # What is in the buffer goes nowhere too, and Python does not complain about it on leaving.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextlib.contextmanager
def _nobody_need_read():
    with contextlib.redirect_stdout(_Unread(sys.stdout)), contextlib.redirect_stderr(_Unread(sys.stderr)):
        yield


@contextlib.contextmanager
def hushed(quiet):
    """Drop what is said on standard error while a command works, if `quiet`; an error is an exception, and comes out."""
    if not quiet:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def one_line_errors():
    """Turn a parser's boxed message about a bad flag into `BadInput` of one line."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    except SystemExit as leaving:
        if leaving.code != BAD_INPUT:
            sys.stderr.write(printed.getvalue())
            raise
        raise BadInput(flattened(printed.getvalue())) from None
    sys.stderr.write(printed.getvalue())


def flattened(box):
    """What a box says under its title, and the flags that it suggests; where the terminal has no such signs, it has no frame."""
    sections = [[]]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines():
        content = line.strip("│ ")
        if re.fullmatch(r"[─-]{3,}", content):
            sections.append([])
        elif content and content[0] not in "╭╰":
            sections[-1].append(content)
    said, *rest = sections if "╭" in box else sections[1:]  # without a frame the title is a section
    suggestions = [line for section in rest if section[0].startswith("Perhaps") for line in section]
    flags = dict.fromkeys(flag for line in suggestions for flag in re.findall(r"^--[\w-]+", line))
    hint = f"did you mean {' or '.join(flags)}? " if flags else ""
    return f"{' '.join(said).rstrip('.')}; {hint}see --help"
