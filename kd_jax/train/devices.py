"""Where training runs: the only file that says pmap.

The state never grows a device axis: every function here takes and returns whole trees, and only the rows of a batch are split.
A forgotten `psum` would therefore pass in silence; `tests/train/test_devices.py` holds four devices against one.
"""

import resource
import sys

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kd_jax.config import BadInput

AXIS = "devices"
EVALUATION_BATCH = 500


def select(platform):
    """Return the devices of a platform, and make it the default. Call before any other use of JAX.

    Args:
        platform: `auto` (the best there is), `cpu`, `gpu` or `tpu`.

    Raises:
        BadInput: when this machine, or this installation of JAX, has no such device.
    """
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")  # also keeps JAX from claiming the memory of a GPU it will not use
    try:
        devices = jax.local_devices(backend=None if platform == "auto" else platform)
    except RuntimeError:
        found = ", ".join(sorted({device.platform for device in jax.devices()}))
        fix = f"pip install '.[{platform}]' on a machine that has one, or pass --platform={found}"
        raise BadInput(f"--platform={platform}: expected one of this machine's platforms ({found}); {fix}") from None
    jax.config.update("jax_default_device", devices[0])
    return devices


def peak_memory(devices):
    """Return {"host_bytes", "device_bytes"}: the most that this process has held, and a device of these; None where not known."""
    stats = devices[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"host_bytes": host, "device_bytes": stats.get("peak_bytes_in_use")}


def check_batch(batch_size, devices):
    """Raise `BadInput` unless a batch splits evenly over the devices."""
    count = len(devices)
    if batch_size % count:
        near = max(batch_size // count, 1) * count
        raise BadInput(f"--batch_size={batch_size}: expected a multiple of the {count} devices; pass {near}")


def replicate(tree, devices):
    """Return a copy of a tree on every device, for use as an unsplit argument; safe to donate."""
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec())
    return jax.device_put(tree, sharding, may_alias=False)


def make_advance(train_on, devices, on_device_loop):
    """Return `advance(state, totals, feed, rows, start, stop) -> (state, totals)`: steps `start` to `stop` of an epoch.

    State and totals are donated. `rows` is int32 [steps, batch] on the host, the whole epoch's; one compilation serves every
    `start` and `stop`.

    Args:
        train_on: of `epoch.make_train_on`, built for a step with `axis_name=AXIS`.
        devices: on which to run.
        on_device_loop: run the steps as one loop on the device. Else one dispatch a step; see `loops_on_device`.
    """
    if on_device_loop:

        def segment(state, totals, feed, rows, start, stop):
            return jax.lax.fori_loop(start, stop, lambda i, carry: train_on(*carry, feed, rows[i]), (state, totals))

        run_segment = _parallel(segment, devices, (None, None, None, 0, None, None), donate=(0, 1))

        def advance(state, totals, feed, rows, start, stop):
            return run_segment(state, totals, feed, _split(rows, devices), np.int32(start), np.int32(stop))

    else:
        run_step = _parallel(train_on, devices, (None, None, None, 0), donate=(0, 1))

        def advance(state, totals, feed, rows, start, stop):
            split = _split(rows, devices)
            for i in range(start, stop):
                state, totals = run_step(state, totals, feed, split[:, i])
            return state, totals

    return advance


def loops_on_device(devices, params):
    """Whether an epoch should run as one loop on the device.

    True, but for convolutions on CPU: XLA runs those inside a loop with a plain kernel, measured 47 times slower.
    """
    has_convolution = any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))
    return devices[0].platform != "cpu" or not has_convolution


def make_advance_streamed(train_on, devices):
    """Return `advance(state, totals, feed, rows, start, stop) -> (state, totals)` as `make_advance`, on a `streamed.StreamedFeed`.

    The rows are those that the feed's own plan has; batches come from it.

    Args:
        train_on: `train_on(state, totals, x, y, key, teacher) -> (state, totals)`, built for a step with `axis_name=AXIS`.
        devices: on which to run.
    """
    run_step = _parallel(train_on, devices, (None, None, 0, 0, None, None), donate=(0, 1))

    def advance(state, totals, feed, rows, start, stop):
        at = int(state.step)
        for step in range(at, at + stop - start):
            x, y = feed.batch(step)
            state, totals = run_step(state, totals, x, y, feed.key, feed.teacher)
            # Before the next batch is asked for: then waiting for it is time in which the devices have nothing to do.
            jax.block_until_ready(totals)
            feed.stepped()
        return state, totals

    return advance


def make_evaluate_streamed(evaluate_on, devices):
    """Return `evaluate(variables, feed) -> totals` as `make_evaluate`, on a `streamed.StreamedFeed`.

    Args:
        evaluate_on: `evaluate_on(variables, x, y, weights) -> totals` of a batch.
        devices: on which to run.
    """

    def on_shard(*args):
        return jax.lax.psum(evaluate_on(*args), AXIS)

    run = _parallel(on_shard, devices, (None, 0, 0, 0), donate=())

    def evaluate(variables, feed):
        parts = [run(variables, *batch) for batch in feed.evaluation_batches(evaluation_batch(devices))]
        return _sum(parts)

    return evaluate


def split_batch(batch, devices):
    """Put a tree of arrays [batch, ...] on devices, split: [devices, batch / devices, ...]; returns before they are there."""
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))
    return jax.device_put(jax.tree.map(lambda leaf: leaf.reshape(len(devices), -1, *leaf.shape[1:]), batch), sharding)


def evaluation_batch(devices, about=EVALUATION_BATCH):
    """About so many examples, a multiple of the number of devices."""
    return -(-about // len(devices)) * len(devices)


def make_evaluate(evaluate_on, devices, batches, batch_size=EVALUATION_BATCH):
    """Return `evaluate(variables, feed) -> totals`, NumPy scalars, over all examples of the feed exactly once.

    Args:
        evaluate_on: of `epoch.make_evaluate_on`.
        batches: `batches(feed, batch_size) -> (rows, weights)`, all examples of the feed once, as of `epoch.padded_batches`.
        batch_size: about how many examples at a time.
    """

    def on_shard(variables, feed, rows, weights):
        return jax.lax.psum(evaluate_on(variables, feed, rows, weights), AXIS)

    run = _parallel(on_shard, devices, (None, None, 0, 0), donate=())
    batch_size = evaluation_batch(devices, batch_size)

    def evaluate(variables, feed):
        rows, weights = batches(feed, batch_size)
        rows, weights = _split(rows, devices), _split(weights, devices)
        parts = [run(variables, feed, rows[:, i], weights[:, i]) for i in range(rows.shape[1])]
        return _sum(parts)

    return evaluate


def _sum(parts):
    return jax.tree.map(lambda *scalars: np.sum([np.asarray(scalar) for scalar in scalars]), *parts)


def _parallel(function, devices, in_axes, donate):
    return jax.pmap(function, axis_name=AXIS, in_axes=in_axes, out_axes=None, devices=devices, donate_argnums=donate)


def _split(rows, devices):
    """[steps, batch] to [devices, steps, batch / devices]."""
    return rows.reshape(len(rows), len(devices), -1).swapaxes(0, 1)
