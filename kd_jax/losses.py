"""Losses per example, and the objectives that are made of them.

A loss takes logits [batch, classes] and returns a number per example [batch], in the dtype of the logits. Losses on labels are in
`LABEL_LOSSES` and `SOFT_LOSSES`. The losses that draw a student to its teacher are in `DISTILLATION`, by the name that
`--distillation` takes; they see all that the two networks return, so they may compare features too. To add one, write a function,
enter it in `DISTILLATION`, and add its name to `config.DistillationLoss`.

An objective is what a training step minimises on average over a batch: a function `objective(outputs, batch, step) -> [batch]` of
what the network returns, of the batch, and of the number of steps already taken.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax

from kd_jax.config import Distillation, Switch


class NetworkOutputs(Protocol):
    """What a loss can see of a network. `kd_jax.models.Outputs` is of this form.

    Attributes:
        logits: [batch, classes].
        features: {name: [batch, ...]}, what the network computed on the way.
    """

    @property
    def logits(self) -> jax.Array: ...

    @property
    def features(self) -> Mapping[str, jax.Array]: ...


Batch = Mapping[str, Any]  # x, y, perhaps targets; with a teacher also `teacher`, what the teacher returns for x
Objective = Callable[[NetworkOutputs, Batch, jax.typing.ArrayLike], Any]
DistillationFunction = Callable[[NetworkOutputs, NetworkOutputs, Batch, Distillation], jax.Array]


# ---- losses on labels


def one_hot(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return the cross-entropy with integer labels [batch], in nats.

    >>> one_hot(jnp.zeros((1, 4)), jnp.array([2])).item() == jnp.log(4).item()
    True
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def squared_error(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return half the squared distance of the logits from the one-hot label, summed over classes: `1/2 |z - onehot|^2`."""
    return squared_error_to(logits, jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype))


def squared_error_to(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return half the squared distance of the logits from soft labels [batch, classes], summed over classes."""
    return 0.5 * jnp.square(logits - targets).sum(-1)


LABEL_LOSSES = {"cross_entropy": one_hot, "mse": squared_error}
SOFT_LOSSES = {"cross_entropy": optax.softmax_cross_entropy, "mse": squared_error_to}


def smoothed(targets: jax.Array, smoothing: float) -> jax.Array:
    """Return soft labels [batch, classes] of which the share `smoothing` is spread evenly (Szegedy et al. 2016, section 7).

    >>> smoothed(jnp.array([[1.0, 0.0]]), 0.5).tolist()
    [[0.75, 0.25]]
    """
    return (1 - smoothing) * targets + smoothing / targets.shape[-1]


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


# ---- losses that draw a student to its teacher


def kd(student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: Distillation) -> jax.Array:
    """Return `tau^2 CE(softmax(z_T / tau), softmax(z_S / tau))`, in nats, with tau the temperature.

    Hinton et al. 2015, equations 2 to 4; the paper, section 2. The factor tau^2 keeps gradients comparable across temperatures.
    """
    temperature = settings.temperature
    targets = jax.nn.softmax(teacher.logits / temperature)
    return temperature**2 * optax.softmax_cross_entropy(student.logits / temperature, targets)


def mse(student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: Distillation) -> jax.Array:
    """Return half the squared distance of the student's logits from the teacher's (the paper, section 4); no setting is read."""
    return squared_error_to(student.logits, teacher.logits)


def dkd(student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: Distillation) -> jax.Array:
    """Return the loss of Decoupled Knowledge Distillation, `tau^2 (alpha TCKD + beta NCKD)`, in nats.

    Zhao, Cui, Song, Qiu and Liang, CVPR 2022, equations 5 to 7, and tau^2 as in their code. With p the softmax at temperature tau
    and y the target class, TCKD is KL((p_y, 1 - p_y) of the teacher || that of the student), and NCKD is the KL divergence between
    the two distributions over the classes other than y, each renormalised to 1. The KL divergence of all classes, which `kd` is up
    to the teacher's entropy, is TCKD + (1 - p_y of the teacher) NCKD: where a teacher is sure, `kd` hardly sees NCKD; `dkd` does.

    The target class is `batch["y"]`; where examples are mixed, that is the label with the larger share. The authors let the weight
    of this loss rise from 0 over the first 20 epochs, and add it to the loss on the labels at weight 1; here `--switch` with a
    ramp does the first, and `--weight=0.5` has that ratio at half the total.
    """
    is_target = jax.nn.one_hot(batch["y"], student.logits.shape[-1], dtype=bool)

    def parts(logits):
        """The log odds of the target class [batch], and log-probabilities among the others [batch, classes], 0 at the target."""
        logits = logits / settings.temperature
        others = jax.nn.logsumexp(jnp.where(is_target, -jnp.inf, logits), axis=-1, keepdims=True)
        # The sum over the others, rather than 1 - p_y, keeps its digits where p_y is 1 to rounding.
        apart = logits - others
        return jnp.where(is_target, apart, 0).sum(-1), jnp.where(is_target, 0, apart)

    (odds_s, among_s), (odds_t, among_t) = parts(student.logits), parts(teacher.logits)
    target = sum(
        jax.nn.sigmoid(sign * odds_t) * (jax.nn.log_sigmoid(sign * odds_t) - jax.nn.log_sigmoid(sign * odds_s))
        for sign in (1, -1)
    )
    others = (jnp.where(is_target, 0, jnp.exp(among_t)) * (among_t - among_s)).sum(-1)
    return settings.temperature**2 * (settings.dkd_alpha * target + settings.dkd_beta * others)


DISTILLATION: dict[str, DistillationFunction] = {"kd": kd, "mse": mse, "dkd": dkd}


def distillation_objective(
    weight: Callable[[jax.typing.ArrayLike], Any],
    name: str,
    settings: Distillation,
    label_loss: str = "cross_entropy",
    smoothing: float = 0.0,
) -> Objective:
    """Return the objective of a student: `(1 - w) loss on labels + w distillation loss`.

    The batch needs `teacher`, what the teacher returns for the same views, at every step, also where w is 0. No gradient flows
    to it. Smoothing is of the labels; the teacher's part has none.

    Args:
        weight: a function from the number of steps taken to w, from 0 to 1, such as `kd_weight` returns.
        name: the distillation loss, a key of `DISTILLATION`.
        settings: what that loss reads, such as the temperature.
        label_loss: the loss on the labels, a key of `LABEL_LOSSES`.
        smoothing: the share of a label that is spread evenly over the classes, from 0 to below 1.
    """
    of_labels, of_teacher = label_objective(label_loss, smoothing), DISTILLATION[name]

    def objective(outputs, batch, step):
        # Before the loss on the labels: in the other order the compiler sums gradients differently, and studies keep their bits.
        soft = of_teacher(outputs, jax.lax.stop_gradient(batch["teacher"]), batch, settings)
        w = weight(step)
        return (1 - w) * of_labels(outputs, batch, step) + w * soft

    return objective


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


# ---- what is counted beside the loss


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return 1 where the largest logit is the label's, else 0, as int32 [batch].

    >>> correct(jnp.array([[0.0, 2.0], [1.0, 0.5]]), jnp.array([1, 1])).tolist()
    [1, 0]
    """
    return (logits.argmax(-1) == labels).astype(jnp.int32)
