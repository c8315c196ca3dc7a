"""What can go wrong in a way that the user can mend. Imports nothing, so that every room can use it."""


class BadInput(Exception):
    r"""Something that the user asked for cannot be done.

    The message is one line: the value, what was expected, and the fix. The command line prints it and exits with status 2. What
    it quotes from a file may have line ends and the codes that drive a terminal; they are shown as Python spells them.

    >>> print(BadInput("runs/a\x1b[2J\nb: expected a folder"))
    runs/a\x1b[2J\nb: expected a folder
    """

    def __str__(self) -> str:
        said = super().__str__()
        return "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in said)


class Stopped(Exception):
    """The program was told to stop and has saved its state; the same command continues from there (exit status 75)."""


class Diverged(Exception):
    """The loss, a weight, or an answer of a network that was trained is not a finite number.

    Attributes:
        seed: the seed of the run; None where that is not known.
    """

    def __init__(self, said: str, seed: int | None = None):
        super().__init__(said)
        self.seed = seed


class Damaged(Exception):
    """A checkpoint cannot be read, or its bytes are not those that were written."""
