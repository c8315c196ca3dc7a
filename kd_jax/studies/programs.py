"""The programs of a study, compiled for accelerators that are not here: training steps and evaluations, and what each takes."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data import Dataset, cache
from kd_jax.files import write_text
from kd_jax.plan import Run
from kd_jax.train import ahead, engine, table
from kd_jax.train.ahead import Compiled, Topology
from kd_jax.train.teachers import Table

Compiling = Callable[[Any, Topology], Compiled]
READING = 1  # changes when `Compiled` means something else; earlier results are then computed anew


class Program(NamedTuple):
    """What trains a kind of run of a study.

    Attributes:
        study: the study.
        dataset: its data, or a stand-in.
        run: one of the runs.
        in_table: whether the answers of its teacher are looked up.
        lanes: how many runs are trained at the same time; 0 for one, without an axis of lanes.
    """

    study: Study
    dataset: Dataset
    run: Run
    in_table: bool = False
    lanes: int = 0

    @property
    def at_once(self) -> int:
        """How many runs the program trains."""
        return max(self.lanes, 1)


def built(program: Program, topology: Topology) -> engine.Engine:
    """Return the functions of a kind of run, as training builds them."""
    study, run = program.study, program.run
    taught = engine.Teacher.of(study, in_table=program.in_table) if run.taught_by else None
    networks = study.networks
    model, norm = run.arm.model, networks.batch_norm
    return engine.build(
        networks.precision,
        run.training,
        program.dataset,
        model,
        topology.devices,
        taught,
        batch_norm=norm,
        lanes=program.lanes,
    )


def step(program: Program, of: engine.Engine, topology: Topology, compiled: Compiling) -> dict[str, Any]:
    """Return what a training step takes, as JSON values; times are in milliseconds.

    Args:
        program: what trains it.
        of: what `built` returned.
        topology: the accelerators.
        compiled: asks the compiler, as `remembered`.
    """
    study, run, dataset = program.study, program.run, program.dataset
    precision, teacher = study.networks.precision, None
    if program.in_table:
        rows = len(dataset.train.y) * dataset.view_count(run.training.augment)
        row = table.width(dataset.classes, topology.devices[0].platform)
        teacher = Table(jax.ShapeDtypeStruct((rows, row), models.PARAMETER_DTYPES[precision]))
    elif run.taught_by:
        network = models.build(study.networks.teacher, dataset.classes, precision, **dataset.network_settings)
        example = dataset.example(models.PARAMETER_DTYPES[precision])
        teacher = jax.eval_shape(network.init, jax.random.key(0), example)
    batch_size = run.training.batch_size
    found = compiled(ahead.lower_step(of, teacher, batch_size, topology.devices), topology)
    if found.flops is None:
        found = found._replace(flops=_flops_here(program, teacher, topology))
    steps = min(of.segment_steps, run.length.steps_per_epoch) if of.on_device_loop else 1
    return {
        "network": run.arm.model,
        "teacher": study.networks.teacher if run.taught_by else None,
        "teacher_table": program.in_table,
        "seeds_at_once": program.at_once,
        "batch_size": batch_size,
        **_timed(found, topology, precision, steps, batch_size * program.at_once),
    }


def _flops_here(program: Program, teacher: Any, topology: Topology) -> float | None:
    """The operations of one device's share of a step, as XLA counts them in the program for a CPU."""
    run = program.run
    batch_size, here = run.training.batch_size // len(topology.devices), _here()
    share = program._replace(run=replace(run, training=replace(run.training, batch_size=batch_size)))
    return ahead.flops(ahead.lower_step(built(share, here), teacher, batch_size, here.devices))


def _here() -> Topology:
    """One CPU device, for what is counted rather than compiled for."""
    return Topology("", ahead.CHIPS["h100"], jax.devices("cpu")[:1], 1, "")


def evaluation(program: Program, of: engine.Engine, topology: Topology, compiled: Compiling) -> dict[str, Any]:
    """Return what the evaluation of a batch takes, as JSON values; arguments as for `step`."""
    lowered, size = ahead.lower_evaluation(of, topology.devices)
    found = compiled(lowered, topology)
    if found.flops is None:
        here = _here()
        small = program._replace(dataset=replace(program.dataset, evaluation_size=size // len(topology.devices)))
        lowered, _ = ahead.lower_evaluation(built(small, here), here.devices)
        found = found._replace(flops=ahead.flops(lowered))
    timed = _timed(found, topology, program.study.networks.precision, 1, size * program.at_once)
    return {"network": program.run.arm.model, "batch_size": size, "seeds_at_once": program.at_once, **timed}


def _timed(found: Compiled, topology: Topology, precision: str, steps: int, examples: int) -> dict[str, Any]:
    """What a program takes, as JSON values; times are in milliseconds."""
    limits = found.limits(topology.chip, precision, steps)
    binds = max(limits, key=lambda name: limits[name])
    estimate = limits[binds]
    return {
        "fits": found.fits,
        "milliseconds": {name: 1e3 * seconds for name, seconds in limits.items()},
        "estimated_ms": 1e3 * estimate,
        "binds": binds,
        "examples_per_second": examples / estimate if estimate else None,
        "peak_bytes": found.peak_bytes,
        "argument_bytes": found.argument_bytes,
        "flops": found.flops,
        "traffic_bytes": found.traffic_bytes,
        "cycles": found.cycles,
        "call_cycles": found.call_cycles,
        "kernels": found.kernels,
        "all_reduces": found.all_reduces,
        "all_reduce_bytes": found.all_reduce_bytes,
        "compile_seconds": found.seconds,
        "compile_cpu_seconds": found.cpu_seconds,
        "problem": found.problem,
    }


def remembered(lowered: Any, topology: Topology) -> Compiled:
    """Return what the compiler says of a lowered program, from the user's cache folder where it was asked before."""
    place = cache.place()
    stamp = f"{READING} {topology.name} {topology.compiler} {jax.__version__}"
    key = hashlib.sha256(f"{stamp} {lowered.as_text()}".encode()).hexdigest()
    path = place / "ahead" / f"{key[:32]}.json" if place else None
    if path is not None and path.is_file():
        with contextlib.suppress(OSError, ValueError, TypeError):  # damaged, or of another version
            return Compiled(**json.loads(path.read_text(encoding="utf-8")))
    found, _ = ahead.compile_lowered(lowered)
    if path is not None:
        with contextlib.suppress(OSError):  # the next call compiles again
            write_text(path, json.dumps(found._asdict()))
    return found
