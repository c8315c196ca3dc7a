"""The optimiser of a run and its learning rates, as a `Training` asks for them."""

from collections.abc import Sequence

import jax
import numpy as np
import optax

from kd_jax.config import Training


def learning_rate_schedule(training: Training, total_steps: int) -> optax.Schedule:
    """Return `schedule(step) -> learning rate`: linear warm-up from 0, then as `Training.decay` says.

    That is a factor at each decay point, or linearly to 0, or `peak (1 + cos(pi t)) / 2` (Loshchilov and Hutter 2017, SGDR,
    equation 5, without restarts), t being the share of the steps after warm-up. Steps are batches, also where gradients are
    accumulated.

    >>> schedule = learning_rate_schedule(Training(learning_rate=0.5, decay_at=(0.5,)), total_steps=100)
    >>> round(float(schedule(49)), 6), round(float(schedule(51)), 6)
    (0.5, 0.05)
    """
    warmup_steps = round(training.warmup * total_steps)
    # Two decays can round to one step in a short run; both count.
    decays = {}
    for share in training.decay_at:
        at = round(share * total_steps) - warmup_steps
        decays[max(at, 0)] = decays.get(max(at, 0), 1.0) * training.decay_by
    if training.decay == "linear":
        after = optax.linear_schedule(training.learning_rate, 0.0, total_steps - warmup_steps)
    elif training.decay == "cosine":
        after = optax.cosine_decay_schedule(training.learning_rate, max(total_steps - warmup_steps, 1))
    else:
        after = optax.piecewise_constant_schedule(training.learning_rate, decays)
    if not warmup_steps:
        return after
    rise = optax.linear_schedule(0.0, training.learning_rate, warmup_steps)
    return optax.join_schedules([rise, after], [warmup_steps])


def learning_rates(training: Training, total_steps: int) -> np.ndarray:
    """Return the learning rate of every step of a run, float64 [total steps]; 0 for steps that only accumulate gradients."""
    schedule, steps = learning_rate_schedule(training, total_steps), np.arange(total_steps)
    rates = np.broadcast_to(np.asarray(schedule(steps), np.float64), total_steps)
    return np.where((steps + 1) % training.accumulate == 0, rates, 0.0)


def descent_times(training: Training, total_steps: int, steps: Sequence[int]) -> list[float] | None:
    """Return the time for which gradient flow would have run at some steps of gradient descent, in units of 1 / eigenvalue.

    It is the sum of the learning rates so far. With momentum m each counts 1 / (1 - m) times, its effect in the long run.

    Args:
        training: how the network is trained.
        total_steps: the length of the training.
        steps: the steps that are asked about, rising.

    Returns:
        A time for each step; None for Adam and AdamW, whose steps are no gradient descent, and where gradients are clipped.
    """
    if training.optimizer in ("adam", "adamw") or training.gradient_clip:
        return None
    times = np.append(0, np.cumsum(learning_rates(training, total_steps) / (1 - training.momentum)))
    return times[list(steps)].tolist()


def make_optimizer(training: Training, total_steps: int) -> optax.GradientTransformation:
    """Return the optimiser: SGD or Adam with momentum; weight decay enters the gradient before either.

    AdamW subtracts it from the weights beside Adam's step instead (Loshchilov and Hutter 2019). Clipping comes first. It sees the
    gradient of the whole batch, for `step` averages over devices before it asks the optimiser.

    With `Training.accumulate` N the mean gradient of N batches takes the place of one: every N-th step updates, with clipping,
    decay and momentum applied to the mean, at the learning rate of that step; the others leave the weights alone. What is left at
    the end of a run whose steps are no multiple of N is not used.

    Args:
        training: how the network is trained.
        total_steps: the length of the training, of which warm-up and decay are shares.
    """
    of_step, every = learning_rate_schedule(training, total_steps), training.accumulate
    # An optimiser that accumulates counts updates; the n-th, from 0, is made at this step.
    schedule = of_step if every == 1 else lambda update: of_step(update * every + every - 1)
    mask = _is_kernel if training.decay_on == "kernels" else None
    parts = []
    if training.gradient_clip:
        parts.append(optax.clip_by_global_norm(training.gradient_clip))
    if training.optimizer == "adamw":
        parts.append(optax.adamw(schedule, b1=training.momentum, weight_decay=training.weight_decay, mask=mask))
    elif training.weight_decay:
        parts.append(optax.add_decayed_weights(training.weight_decay, mask))
    if training.optimizer == "adam":
        parts.append(optax.adam(schedule, b1=training.momentum))
    elif training.optimizer != "adamw":
        nesterov = training.optimizer == "nesterov"
        parts.append(optax.sgd(schedule, momentum=training.momentum or None, nesterov=nesterov))
    descent = optax.chain(*parts) if len(parts) > 1 else parts[0]
    if every == 1:
        return descent
    # In the precision of the study: optax would sum in float32.
    dtype = jax.dtypes.canonicalize_dtype(float)
    return optax.MultiSteps(descent, every, accumulator_dtype=dtype).gradient_transformation()


def _is_kernel(params):
    """True for kernels and embeddings, by name; biases and the parameters of normalisations do not decay."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key in ("kernel", "embedding"), params)
