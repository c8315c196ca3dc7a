"""How long work reports how far it is: `Progress` shows a bar on a terminal and plain lines elsewhere, `Quiet` nothing."""

import shutil
import sys
import time

from tqdm import tqdm

LINE_SECONDS = 20.0


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

    def note(self, text: str, waits: bool = False) -> None:
        """Say what is going on while no unit of work is finished; `waits` as for `Progress`."""


class Progress:
    """Counts units of work; a context manager.

    Args:
        total: units in all.
        done: units that an earlier program did.
        stream: where to write; standard error by default, so that results alone are on standard output.
        since: since when the first units are waited for, by `time.monotonic`; what that took is said once. None to say nothing.
    """

    def __init__(self, total, done=0, stream=None, since=None):
        self._stream = stream or sys.stderr
        self._since = since
        self._bar = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                initial=done,
                file=self._stream,
                bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
                ncols=shutil.get_terminal_size((100, 24)).columns,  # never 0, as tqdm takes it from some batch systems
            )
        self._total, self._first, self._done = total, done, done
        self._began = self._last = time.monotonic()
        self._waits = None  # since when something is waited for that says nothing about the time left

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._bar is not None:
            self._bar.close()

    def skip(self, units):
        """Count units of work that an earlier program did: they say nothing about the time left."""
        self._done += units
        self._first += units
        if self._bar is not None:
            self._bar.initial += units
            self._bar.update(units)

    def note(self, text, waits=False):
        """Say what is going on while no unit of work is finished, such as `compiling teacher`; it is shown at once.

        Args:
            text: what.
            waits: whether it is something that the units to come do not need, so that it says nothing about the time left.
        """
        if self._bar is not None:
            self._bar.set_description_str(text, refresh=True)
            return
        self._last = time.monotonic()
        if waits and self._waits is None:
            self._waits = self._last
        print(f"{self._share()} {text}", file=self._stream, flush=True)

    def _share(self):
        return f"[{100 * self._done / max(self._total, 1):3.0f} %]"

    def advance(self, units, label, detail="", always=False):
        """Add units of work.

        Args:
            units: how many.
            label: what is being worked on, such as `student-seed3`.
            detail: how it goes, such as `epoch 4/30 loss 0.61 accuracy 0.83`.
            always: without a terminal, write a line even if the last one is recent.
        """
        self._done += units
        now = time.monotonic()
        if units and self._since is not None:
            seconds, self._since = now - self._since, None
            tqdm.write(f"{label}: first steps {seconds:.1f} s after the start", file=self._stream)
        if self._bar is not None:
            self._bar.set_description_str(f"{label} {detail}", refresh=False)
            self._bar.update(units)
            return
        if units and self._waits is not None:  # these came with the wait, and are left out with it
            self._began += now - self._waits
            self._first += units
            self._waits = None
        if always or now - self._last > LINE_SECONDS:
            self._last = now
            worked, elapsed = self._done - self._first, now - self._began
            left = f", {_clock(elapsed * (self._total - self._done) / worked)} left" if worked > 0 else ""
            print(f"{self._share()} {label} {detail}".rstrip() + left, file=self._stream, flush=True)


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
