"""What can go wrong in a way that the user can mend. Imports nothing, so that every room can use it."""


class BadInput(Exception):
    """Something that the user asked for cannot be done.

    The message is one line: the value, what was expected, and the fix. The command line prints it and exits with status 2.
    """


class Stopped(Exception):
    """The program was told to stop and has saved its state; the same command continues from there (exit status 75)."""


class Diverged(Exception):
    """The training loss is no longer a finite number."""


class Damaged(Exception):
    """A checkpoint cannot be read, or its bytes are not those that were written."""
