"""Seeds of a study on devices of their own, at the same time: they need nothing of each other, so nothing is exchanged.

Each group of devices has a thread, which trains its seeds one after the other, or as `lanes`. What comes out of a seed is what
comes out of it alone on as many devices.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from kd_jax.errors import Stopped
from kd_jax.plan import Run
from kd_jax.stopping import Request
from kd_jax.train import devices as parallel

TICK = 0.2  # how often the main thread, the only one that hears signals, looks up [s]


def groups(seeds: int, devices: Sequence[Any], batch_sizes: Sequence[int]) -> list[list[Any]]:
    """Return the devices of each group: as many groups as there are seeds, or devices where those are fewer, all of one size.

    A group shares each batch, so its size divides the batch sizes; devices that are left over stay idle. All devices in one group
    where there is one seed, or where they are of several processes.

    Rounding hangs on how many devices share a batch. So that a study goes on to the same bits, the size of a group is that for all
    of its seeds, also where few are left to be trained.

    >>> from types import SimpleNamespace as Device
    >>> eight = [Device(process_index=0, id=number) for number in range(8)]
    >>> [[device.id for device in group] for group in groups(3, eight, [64])]
    [[0, 1], [2, 3], [4, 5]]
    >>> len(groups(20, eight, [64])), len(groups(1, eight, [64]))
    (8, 1)
    """
    count = min(seeds, len(devices))
    if count < 2 or len({device.process_index for device in devices}) > 1:
        return [list(devices)]
    size = next(size for size in range(len(devices) // count, 0, -1) if not any(batch % size for batch in batch_sizes))
    return [list(devices[start : start + size]) for start in range(0, count * size, size)]


def sentence(seeds: int, of_groups: Sequence[Sequence[Any]]) -> str:
    """Return how seeds and devices are matched, as a sentence."""
    each = len(of_groups[0])
    devices = "a device each" if each == 1 else f"{each} devices each"
    if seeds == 1:
        return f"One seed is left, on {'one device' if each == 1 else f'{each} devices'}, as many as all seeds together leave it."
    if len(of_groups) < 2:
        share = f"each batch shared by {each} devices" if each > 1 else "on one device"
        return f"{seeds} seeds, one after the other, {share}."
    return f"{seeds} seeds, {len(of_groups)} at a time, {devices}."


class Either(Request):
    """A request to stop that is also made by `give_up`: what goes wrong with one seed lets the others save and stop."""

    def __init__(self, outer: Request):
        self._outer, self._given_up = outer, False

    def give_up(self) -> None:
        """Let the runs that look at this request save and stop."""
        self._given_up = True

    @property
    def requested(self) -> bool:
        """Whether the program was told to stop, or something went wrong."""
        return self._given_up or self._outer.requested

    @property
    def is_saving(self) -> bool:
        """Whether something is being saved because of it."""
        return self._outer.is_saving

    @is_saving.setter
    def is_saving(self, value: bool) -> None:
        self._outer.is_saving = value


class Locked:
    """A progress that several threads may tell how far they are."""

    def __init__(self, progress: Any):
        self._progress, self._lock = progress, threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._progress, name)

        def call(*args, **named):
            with self._lock:
                return method(*args, **named)

        return call


def train(
    runs: Sequence[Run],
    of_groups: Sequence[Sequence[Any]],
    trainer: Callable[[Sequence[Any], Request], Callable[[Sequence[Run]], None]],
    stop: Request,
) -> None:
    """Train runs, groups at the same time.

    Args:
        runs: what is to be trained.
        of_groups: the devices of each group.
        trainer: `trainer(devices, stop)` returns `train(runs)`, which a single thread calls with all runs of the group's seeds.
        stop: tells all runs to save and stop.

    Raises:
        Exception: what went wrong first, once the other groups have saved and stopped; `Stopped` where they were only told to.
    """
    seeds = list(dict.fromkeys(run.seed for run in runs))
    either, first = Either(stop), []

    def work(number: int) -> None:
        devices = of_groups[number]
        try:
            with parallel.working_on(devices):
                of_group = seeds[number :: len(of_groups)]
                trainer(devices, either)([run for seed in of_group for run in runs if run.seed == seed])
        except BaseException as error:
            first.append(error)
            either.give_up()

    with ThreadPoolExecutor(len(of_groups), thread_name_prefix="seeds") as threads:
        waiting = {threads.submit(work, number) for number in range(len(of_groups))}
        while waiting:
            _, waiting = wait(waiting, TICK)
    # What made the others stop comes before what they say of it.
    for error in sorted(first, key=lambda error: isinstance(error, Stopped)):
        raise error
