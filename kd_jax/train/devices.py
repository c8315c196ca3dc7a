"""Where training runs. Only this file says pmap; `hosts` alone knows of other processes.

The state never grows a device axis: every function here takes and returns whole trees, and only the examples of a batch are split.
A forgotten `psum` would therefore go unnoticed; `tests/train/test_devices.py` compares four devices with one.

Where several processes train together, the devices are those of all of them, process by process. A whole tree lies on the devices
of every process, and of a batch each process puts its own part, which follows from the devices alone, on its own devices.
"""

import ctypes
import os
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd_jax.errors import BadInput
from kd_jax.train import hosts

AXIS = "devices"
SEGMENT_STEPS = 32  # at most so many steps run in one loop on the device, so that the program can report and stop
SEGMENT_WORK = 1e11  # on CPU, at most about so many floating-point operations: a second or two
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
# What a user may have set of the same.
ALLOCATION = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"}


def select(platform: str) -> list[Any]:
    """Return the devices of a platform, and make it the default. Call it before any other use of JAX but `hosts.join`.

    They are those of all processes that train together, process by process.

    Args:
        platform: `auto` (the best there is), `cpu`, `gpu` or `tpu`.

    Raises:
        BadInput: when this machine, or this installation of JAX, has no such device.
    """
    only(platform)
    # On CPU, a program runs in the thread that calls it, which waits for it anyway; see `_keep_memory`.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        devices = jax.devices(None if platform == "auto" else platform)
    except (RuntimeError, AssertionError):
        try:
            present = ", ".join(sorted({device.platform for device in jax.devices()}))
        except (RuntimeError, AssertionError):  # of JAX where none of the platforms that it is told to take is there
            asked = os.environ.get("JAX_PLATFORMS", "")
            raise BadInput(
                f"JAX_PLATFORMS={asked}: expected a platform of this machine, JAX finds none of them here; unset"
                " JAX_PLATFORMS, or pass --platform=cpu"
            ) from None
        fix = f"pip install 'kd_jax[{platform}]' on a machine that has one, or pass --platform={present}"
        raise BadInput(f"--platform={platform}: expected one of this machine's platforms ({present}); {fix}") from None
    if jax.process_count() != hosts.count():
        raise BadInput(
            f"jax.distributed: expected processes that were joined by --distributed, found {jax.process_count()} that were joined"
            " otherwise; leave jax.distributed.initialize out"
        )
    jax.config.update("jax_default_device", own(devices)[0])
    if devices[0].platform == "cpu":
        _keep_memory()
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def _keep_memory() -> None:
    """Make glibc keep the memory that XLA returns, for the next step to take; other C libraries stay as they are.

    XLA asks for all that a step needs at each step anew, hundreds of megabytes. glibc would have a piece of that size mapped by the
    system and unmapped again, and the system fills it with zeros page by page: 72,000 pages and a fifth of the CPU time of a step
    of ResNet-20 at batch 128. From its heap it returns no more than what is free beyond 2 GB at the end. The heaps of threads other
    than the main one are too small for that.
    """
    if not sys.platform.startswith("linux") or not ALLOCATION.isdisjoint(os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def only(platform: str) -> None:
    """Keep JAX to the CPU, if that is the platform: it claims the memory of a GPU also where it will not use it."""
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")


def own(devices: Sequence[Any]) -> list[Any]:
    """Return those of the devices that are this process's."""
    return [device for device in devices if device.process_index == jax.process_index()]


def working_on(devices: Sequence[Any]) -> Any:
    """Return a context manager that makes the first of the devices the default one of this thread."""
    return jax.default_device(own(devices)[0])


def peak_memory(devices: Sequence[Any]) -> dict[str, int | None]:
    """Return the largest memory held so far, {"host_bytes": by this process, "device_bytes": on one device, None if unknown}."""
    stats = own(devices)[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss [bytes]
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"host_bytes": host, "device_bytes": stats.get("peak_bytes_in_use")}


def check_batch(batch_size: int, devices: Sequence[Any]) -> None:
    """Raise `BadInput` unless a batch splits evenly over the devices."""
    count = len(devices)
    if batch_size % count:
        near = max(batch_size // count, 1) * count
        processes = len({device.process_index for device in devices})
        where = f" of {processes} processes" if processes > 1 else ""
        raise BadInput(f"--batch_size={batch_size}: expected a multiple of the {count} devices{where}; pass {near}")


def replicate(tree: Any, devices: Sequence[Any]) -> Any:
    """Return a copy of a tree on every device of this process, for use as an unsplit argument; it is safe to donate."""
    sharding = NamedSharding(Mesh(np.array(own(devices)), (AXIS,)), PartitionSpec())
    return jax.device_put(tree, sharding, may_alias=False)


class Put:
    """Puts batches on the devices, split between them; each process its own part. See `data.dataset.Feed`.

    Args:
        devices: the devices of all processes, process by process.
    """

    def __init__(self, devices: Sequence[Any]):
        mine = [number for number, device in enumerate(devices) if device.process_index == jax.process_index()]
        self._shares, self._mine = len(devices), slice(mine[0], mine[-1] + 1)
        self._devices = [devices[number] for number in mine]

    def __call__(self, batch: Any) -> Any:
        """Put a tree of arrays [batch, ...] on the devices: [devices of this process, batch / devices, ...].

        Returns before the arrays are there.
        """
        return self.part(jax.tree.map(lambda leaf: leaf[self.own(len(leaf))], batch))

    def own(self, size: int) -> slice:
        """Return which part of a batch of this size is this process's."""
        each = size // self._shares
        return slice(self._mine.start * each, self._mine.stop * each)

    def part(self, part: Any) -> Any:
        """Put a tree of this process's part of a batch, arrays [part, ...], on its devices, as a call puts whole batches."""
        sharding = NamedSharding(Mesh(np.array(self._devices), (AXIS,)), PartitionSpec(AXIS))
        of_devices = jax.tree.map(lambda leaf: leaf.reshape(len(self._devices), -1, *leaf.shape[1:]), part)
        return jax.device_put(of_devices, sharding)


def jit_once(function: Callable, devices: Sequence[Any]) -> Callable:
    """Return a function under `jax.jit`, for one that is called once or twice and does no work to speak of: random weights.

    XLA's CPU compiler takes longer for the initialisation of a network than for its training step (ResNet-20: 7.3 CPU seconds with
    jax 0.10.2, 26 with 0.12.0). With LLVM's least optimisation beside none it takes 2.4 and 2.9, and draws the same bits; with none
    multiplications and additions are not contracted, and it does not.
    """
    on_cpu = devices[0].platform == "cpu"
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 1} if on_cpu else None)


def loops_on_device(devices: Sequence[Any], params: Any) -> bool:
    """Return whether steps should run as one loop on the device.

    They should, except for convolutions on CPU: XLA runs those inside a loop with a plain kernel, measured 26 times slower
    with jax 0.10.2 and 27 times with 0.12.0 (ResNet-8, batch 16, CPU seconds on one core).
    """
    has_convolution = any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))
    return devices[0].platform != "cpu" or not has_convolution


def segment_steps(devices: Sequence[Any], on_device_loop: bool, params: Any, vectors: int) -> int:
    """Return the number of steps between two moments at which the program reports, saves and may stop.

    It is a function of the configuration, not of any clock, so that all hosts of a run agree on it.

    Args:
        devices: the devices of the run.
        on_device_loop: whether steps run as one loop on the device; else each is dispatched alone, and a segment is one step.
        params: the network's parameters, or their shapes.
        vectors: how many vectors a step multiplies with each kernel: examples in a batch, times positions in an example.
    """
    if not on_device_loop:
        return 1
    if devices[0].platform != "cpu":
        return SEGMENT_STEPS
    # A multiplication and an addition for each parameter and vector, forward, and twice as many backward.
    work = 6 * vectors * sum(leaf.size for leaf in jax.tree.leaves(params))
    return int(np.clip(SEGMENT_WORK // work, 1, SEGMENT_STEPS))


def make_advance(train_on: Callable, devices: Sequence[Any], on_device_loop: bool) -> Callable:
    """Return `advance(state, totals, constants, feed, start, stop) -> (state, totals)`: the steps from `start` up to `stop`.

    Steps are counted from the start of the run, and all are of one epoch. State and totals are donated. The feed is a
    `data.dataset.Feed`.

    Args:
        train_on: a function that `epoch.make_train_on` returned, for a step with `axis_name=AXIS`.
        devices: the devices to run on.
        on_device_loop: run the steps as one loop on the device, for data that is resident there; see `loops_on_device`. One
            compilation serves every `start` and `stop`. Else each step is dispatched alone.
    """
    if not on_device_loop:
        run_step = _parallel(train_on, devices, (None, None, None, 0), donate=(0, 1))

        def dispatched(state, totals, constants, feed, start, stop):
            for step in range(start, stop):
                state, totals = run_step(state, totals, constants, feed.item(step))
                # Before the next item is asked for: then waiting for it is time in which the devices have nothing to do.
                jax.block_until_ready(totals)
                feed.stepped()
            return state, totals

        return with_program(dispatched, run_step)

    def loop(state, totals, constants, rows, start, stop):
        return jax.lax.fori_loop(start, stop, lambda i, carry: train_on(*carry, constants, rows[i]), (state, totals))

    run_loop = _parallel(loop, devices, (None, None, None, 0, None, None), donate=(0, 1))
    put = Put(devices)

    def looped(state, totals, constants, feed, start, stop):
        epoch, first = divmod(start, feed.steps_per_epoch)
        rows = feed.rows(epoch)  # [steps, batch, ...] to [devices of this process, steps, their part of the batch, ...]
        rows = rows[:, put.own(rows.shape[1])]
        rows = rows.reshape(len(rows), len(own(devices)), -1, *rows.shape[2:]).swapaxes(0, 1)
        return run_loop(state, totals, constants, rows, np.int32(first), np.int32(first + stop - start))

    return with_program(looped, run_loop)


def make_evaluate(evaluate_on: Callable, devices: Sequence[Any]) -> Callable:
    """Return `evaluate(variables, resident, items) -> totals`, NumPy scalars, or an array of them where the variables have lanes.

    The items are pairs (item, weights) of `Dataset.evaluation_items`, put on the devices by a `Put`.

    Args:
        evaluate_on: a function that `epoch.make_evaluate_on` returned.
        devices: the devices to run on.
    """

    def on_shard(variables, resident, item, weights):
        return jax.lax.psum(evaluate_on(variables, resident, item, weights), AXIS)

    run = _parallel(on_shard, devices, (None, None, 0, 0), donate=())

    def evaluate(variables: Any, resident: Any, items: Iterable[Any]) -> dict[str, np.ndarray]:
        parts = [run(variables, resident, item, weights) for item, weights in items]
        return jax.tree.map(lambda *sums: np.sum(np.stack(sums, axis=-1), axis=-1), *jax.device_get(parts))

    return with_program(evaluate, run)


def evaluation_batch(devices: Sequence[Any], about: int) -> int:
    """Return the smallest multiple of the number of devices that is at least `about`."""
    return -(-about // len(devices)) * len(devices)


def with_program(call: Any, program: Any) -> Any:
    """A function that calls a pmapped one, with that as its attribute `program`: what `ahead` compiles is what training calls."""
    call.program = program
    return call


def _parallel(function, devices, in_axes, donate):
    return jax.pmap(function, axis_name=AXIS, in_axes=in_axes, out_axes=None, devices=devices, donate_argnums=donate)
