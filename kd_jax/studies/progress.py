"""How long work reports how far it is. A command line passes a bar or printed lines; without one, nothing is shown."""


class Quiet:
    """Counts units of work and shows nothing; a context manager.

    Args:
        total: units in all.
        done: units that an earlier program did.
    """

    def __init__(self, total: int, done: int = 0):
        self.total, self.done = total, done

    def __enter__(self) -> "Quiet":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def skip(self, units: int) -> None:
        """Count units of work that an earlier program did."""
        self.done += units

    def advance(self, units: int, label: str, detail: str = "", always: bool = False) -> None:
        """Add units of work; the other arguments say what was worked on."""
        self.done += units

    def note(self, text: str) -> None:
        """Say what is going on while no unit of work is finished, such as `compiling teacher`."""
