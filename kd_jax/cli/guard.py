"""What can go wrong for a user, as one line on standard error and an exit status. Light: it is there before JAX is."""

import contextlib
import io
import os
import re
import signal
import sys

from kd_jax.errors import BadInput, Diverged, Stopped

OK, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75


class Terminated(BaseException):
    """SIGTERM came while nothing was to be saved, as in an analysis."""


@contextlib.contextmanager
def _termination_raised():
    """Turn SIGTERM into `Terminated`; training, which has something to save, takes it over while it runs."""

    def terminate(number, frame):
        raise Terminated

    try:
        previous = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread, where no signal comes
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def guarded(run):
    """Call `run()`, turn what can go wrong for a user into one line on standard error, and return the exit status."""
    try:
        with _termination_raised():
            run()
            sys.stdout.flush()
        return OK
    except BrokenPipeError:
        # Whoever reads has seen enough, as `head` has; Python would say so once more on leaving.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except Terminated:
        print("stopped: told to; the same command goes on from there", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Stopped as error:
        print(f"stopped: {error}; the same command goes on from there", file=sys.stderr)
        return STOPPED
    except Diverged as error:
        print(error, file=sys.stderr)
        return FAILED


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
