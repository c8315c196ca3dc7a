"""What the training of a study will write: how many checkpoints, files and bytes. Known before the first step."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from kd_jax import models
from kd_jax.errors import BadInput
from kd_jax.plan import Run
from kd_jax.studies.prepare import Prepared
from kd_jax.train import epoch, optimizer, state
from kd_jax.workdir import checkpoints
from kd_jax.workdir.checkpoints import RESUMED, Size


class Footprint(NamedTuple):
    """What training will write.

    Attributes:
        networks: how many runs are trained.
        checkpoints: how many steps their trajectories gain.
        states: how many whole states there will be at most, from which runs go on.
        files, bytes: of all of them; the bytes before compression, which takes about a tenth off.
    """

    networks: int
    checkpoints: int
    states: int
    files: int
    bytes: int

    def __str__(self) -> str:
        """Return it as a sentence."""
        return (
            f"This will keep {self.checkpoints:,} checkpoints of {self.networks:,} networks, and up to {self.states:,} states to"
            f" resume from: about {self.files:,} files, {self.bytes / 1e6:,.1f} MB."
        )


def of_runs(prepared: Prepared, lacking: Iterable[tuple[Run, int]]) -> Footprint:
    """Return what training will write.

    Args:
        prepared: the study.
        lacking: the runs to train, each with the number of checkpoints that its trajectory lacks.
    """
    sizes: dict[Any, tuple[Size, Size]] = {}
    networks = steps = files = contents = 0
    for run, count in lacking:
        kind = run.arm.model, run.training
        if kind not in sizes:
            sizes[kind] = _sizes(prepared, run)
        network, whole = sizes[kind]
        networks, steps = networks + 1, steps + count
        files += count * network.files + RESUMED * whole.files
        contents += count * network.bytes + RESUMED * whole.bytes
    return Footprint(networks, steps, RESUMED * networks, files, contents)


def _sizes(prepared: Prepared, run: Run) -> tuple[Size, Size]:
    """What a checkpoint and a whole state of a run take."""
    dataset, precision = prepared.dataset, prepared.study.networks.precision
    model = models.build(run.arm.model, dataset.classes, precision, **dataset.network_settings)
    dtype = models.PARAMETER_DTYPES[precision]
    descent = optimizer.make_optimizer(run.training, run.length.total_steps)

    def whole(key):
        made = state.create(model, descent, key, dataset.example(dtype), with_average=run.training.ema > 0)
        return made, epoch.zero_totals(dtype)

    made = jax.eval_shape(whole, jax.random.key(0))
    return checkpoints.size(made[0].kept), checkpoints.size(made)


def check_space(workdir: Path | str, footprint: Footprint) -> None:
    """Check before anything is written that the disk has room for a study.

    Raises:
        BadInput: when it has not.
    """
    there = Path(workdir).absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if footprint.bytes > free:
        raise BadInput(
            f"--workdir={workdir}: expected room for {footprint.bytes / 1e6:,.0f} MB of checkpoints, found {free / 1e6:,.0f} MB"
            " free; pass fewer --checkpoints or --seeds, or a --workdir on another disk"
        )
