"""Objectives: what a training step minimises on average over a batch."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_jax.config import LossSettings, Switch
from kd_jax.losses.labels import LABEL_LOSSES, SOFT_LOSSES, smoothed
from kd_jax.losses.table import losses_of
from kd_jax.losses.types import Learned, Objective


def label_objective(loss: str = "cross_entropy", smoothing: float = 0.0) -> Objective:
    """Return the objective of a network that learns from labels alone.

    Where examples are mixed, the labels are `batch["targets"]` [batch, classes]; elsewhere `batch["y"]` [batch].

    Args:
        loss: a key of `LABEL_LOSSES`.
        smoothing: the share of a label that is spread evenly over the classes, from 0 to below 1.
    """

    def objective(outputs, batch, step):
        logits, targets = outputs.logits, batch.get("targets")
        if targets is None and not smoothing:
            return LABEL_LOSSES[loss](logits, batch["y"])
        if targets is None:
            targets = jax.nn.one_hot(batch["y"], logits.shape[-1], dtype=logits.dtype)
        return SOFT_LOSSES[loss](logits, smoothed(targets, smoothing))

    return objective


def distillation_objective(
    weight: Callable[[jax.typing.ArrayLike], Any],
    name: str,
    settings: LossSettings,
    label_loss: str = "cross_entropy",
    smoothing: float = 0.0,
    axis_name: str | None = None,
) -> Objective:
    """Return the objective of a student: `(1 - w) loss on labels + w distillation loss`.

    The batch needs `teacher`, what the teacher returns for the same views, at every step, also where w is 0. No gradient flows
    to it. Smoothing is of the labels; the teacher's part has none.

    Where a loss learns (`initialiser` is not None), the objective takes a fourth argument, the `Learned` of all of them, and
    returns (loss [batch], new state).

    Args:
        weight: a function from the number of steps taken to w, from 0 to 1, such as `kd_weight` returns.
        name: the distillation loss, a key of `DISTILLATION`; or several joined by `+`, which are added.
        settings: what the losses read, such as the temperature.
        label_loss: the loss on the labels, a key of `LABEL_LOSSES`.
        smoothing: the share of a label that is spread evenly over the classes, from 0 to below 1.
        axis_name: the `pmap` axis over which a batch is split, for losses that relate its examples; None for one device.
    """
    of_labels, parts = label_objective(label_loss, smoothing), losses_of(name)

    def objective(outputs, batch, step, learned=None):
        # Before the loss on the labels: in the other order the compiler sums gradients differently, and studies keep their bits.
        soft, state = _added(parts, axis_name, settings, outputs, batch, learned)
        w = weight(step)
        loss = (1 - w) * of_labels(outputs, batch, step) + w * soft
        return loss if learned is None else (loss, state)

    return objective


def _added(parts, axis_name, settings, outputs, batch, learned):
    """The sum of some distillation losses [batch], and {name: new state} of those that learn."""
    teacher, soft, state = jax.lax.stop_gradient(batch["teacher"]), None, {}
    for name, loss in parts.items():
        more = {"axis_name": axis_name} if loss.relates else {}
        if loss.init is None:
            value = loss(outputs, teacher, batch, settings, **more)
        else:
            own = Learned(learned.params[name], learned.state[name])
            value, state[name] = loss(outputs, teacher, batch, settings, own, **more)
        soft = value if soft is None else soft + value
    return soft, state


def kd_weight(
    weight: float, switch: Switch | None = None, steps_per_epoch: float = 1
) -> Callable[[jax.typing.ArrayLike], Any]:
    """Return a function from the number of steps taken to the weight of the distillation loss.

    The weight is constant, or it is switched on or off in mid-training. A hard switch after epoch e is in force from step
    `e * steps_per_epoch` on, counted from 0. A ramp of n steps begins there: after the i-th of them, counted from 1, the weight has
    gone i / n of the way.

    >>> schedule = kd_weight(0.5, Switch(to_kd=True, epoch=1, ramp=2), steps_per_epoch=10)
    >>> [float(schedule(step)) for step in (9, 10, 11, 12)]
    [0.0, 0.25, 0.5, 0.5]

    Args:
        weight: the weight in the phase with a teacher, from 0 to 1.
        switch: when it changes; None for the same weight at every step.
        steps_per_epoch: steps in one of the epochs that `switch` counts in.
    """
    if switch is None:
        return optax.constant_schedule(weight)
    begins = round(switch.epoch * steps_per_epoch)
    before, after = (0.0, weight) if switch.to_kd else (weight, 0.0)

    def schedule(step):
        gone = jnp.clip(jnp.asarray(step - begins + 1, float) / float(switch.ramp), 0, 1)
        return (1 - gone) * before + gone * after  # exact at both ends

    return schedule
