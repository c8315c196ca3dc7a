"""What changes while a network trains, and the optimiser that changes it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_jax.models import Variables


class TrainState(NamedTuple):
    """All that a training step reads and writes.

    Attributes:
        step: number of steps taken, int32 scalar. With the run's key it decides batch and views.
        params: trainable arrays.
        model_state: running statistics of normalisation layers.
        opt_state: of the optax optimiser.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any

    @property
    def variables(self):
        """The network at this moment, as `Model.apply` takes it."""
        return Variables(self.params, self.model_state)


def create(model, optimizer, key, x):
    """Return the `TrainState` at step 0; `x` is an example batch."""
    variables = model.init(key, x)
    return TrainState(jnp.zeros((), jnp.int32), *variables, optimizer.init(variables.params))


def learning_rate_schedule(study, total_steps):
    """Return `schedule(step) -> learning rate`: linear warm-up from 0, then a factor at each decay point, or linearly to 0."""
    warmup_steps = round(study.warmup * total_steps)
    # Two decays can round to one step in a short run; both count.
    decays = {}
    for share in study.decay_at:
        at = round(share * total_steps) - warmup_steps
        decays[max(at, 0)] = decays.get(max(at, 0), 1.0) * study.decay_by
    if study.decay == "linear":
        after = optax.linear_schedule(study.learning_rate, 0.0, total_steps - warmup_steps)
    else:
        after = optax.piecewise_constant_schedule(study.learning_rate, decays)
    if not warmup_steps:
        return after
    rise = optax.linear_schedule(0.0, study.learning_rate, warmup_steps)
    return optax.join_schedules([rise, after], [warmup_steps])


def learning_rates(study, total_steps):
    """The learning rate of every step of a run, float64 [total steps]."""
    schedule = learning_rate_schedule(study, total_steps)
    return np.broadcast_to(np.asarray(schedule(np.arange(total_steps)), np.float64), total_steps)


def descent_times(study, total_steps, steps):
    """Return how long gradient flow would have run, at some steps of gradient descent, in units of 1 / eigenvalue.

    The sum of the learning rates; with momentum m each counts 1 / (1 - m) times, which is what it comes to in the long run.

    Args:
        study: a `Study`.
        total_steps: of a training.
        steps: which, rising.

    Returns:
        List of floats; None for Adam and AdamW, whose steps are no gradient descent, and where gradients are clipped.
    """
    if study.optimizer in ("adam", "adamw") or study.gradient_clip:
        return None
    times = np.append(0, np.cumsum(learning_rates(study, total_steps) / (1 - study.momentum)))
    return times[list(steps)].tolist()


def make_optimizer(study, total_steps):
    """Return the optax optimiser of a study: SGD or Adam with momentum; weight decay enters the gradient before either.

    AdamW takes it off the weights beside Adam's step instead (Loshchilov and Hutter 2019). Clipping comes first, and sees the
    gradient of the whole batch, for `step` averages over devices before it asks the optimiser.
    """
    schedule = learning_rate_schedule(study, total_steps)
    mask = _is_kernel if study.decay_on == "kernels" else None
    parts = []
    if study.gradient_clip:
        parts.append(optax.clip_by_global_norm(study.gradient_clip))
    if study.optimizer == "adamw":
        parts.append(optax.adamw(schedule, b1=study.momentum, weight_decay=study.weight_decay, mask=mask))
    elif study.weight_decay:
        parts.append(optax.add_decayed_weights(study.weight_decay, mask))
    if study.optimizer == "adam":
        parts.append(optax.adam(schedule, b1=study.momentum))
    elif study.optimizer != "adamw":
        parts.append(optax.sgd(schedule, momentum=study.momentum or None, nesterov=study.optimizer == "nesterov"))
    return optax.chain(*parts) if len(parts) > 1 else parts[0]


def _is_kernel(params):
    """True for kernels and embeddings, by name; biases and what a normalisation has are not decayed."""
    return jax.tree.map_with_path(lambda path, _: path[-1].key in ("kernel", "embedding"), params)
