"""Losses per example, and the objective of an arm made of them.

Every loss takes logits [batch, classes] and returns [batch] in the logits' dtype (float32 at least).
"""

import jax
import jax.numpy as jnp
import optax


def one_hot(logits, labels):
    """Cross-entropy with integer labels [batch], in nats."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def distillation(logits, teacher_logits, temperature):
    """`tau^2 CE(softmax(z_t / tau), softmax(z_s / tau))`, in nats (Hinton et al. 2015, eq. 2 to 4; the paper, section 2).

    The factor tau^2 keeps gradients comparable across temperatures. No gradient flows to the teacher.

    Args:
        logits: of the student, [batch, classes].
        teacher_logits: of the teacher on the same views, [batch, classes].
        temperature: tau > 0.
    """
    targets = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits) / temperature)
    return temperature**2 * optax.softmax_cross_entropy(logits / temperature, targets)


def squared_error(logits, labels):
    """Half the squared distance of the logits from the one-hot label [batch], summed over classes: `1/2 |z - onehot|^2`."""
    return 0.5 * jnp.square(logits - jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)).sum(-1)


def squared_error_to(logits, targets):
    """Half the squared distance of the logits from soft labels [batch, classes], summed over classes."""
    return 0.5 * jnp.square(logits - targets).sum(-1)


def squared_distillation(logits, teacher_logits):
    """Half the squared distance of the logits from the teacher's (the paper, section 4). No gradient flows to the teacher."""
    return squared_error_to(logits, jax.lax.stop_gradient(teacher_logits))


LABEL_LOSSES = {"cross_entropy": one_hot, "mse": squared_error}
SOFT_LOSSES = {"cross_entropy": optax.softmax_cross_entropy, "mse": squared_error_to}


def smoothed(targets, smoothing):
    """Return soft labels [batch, classes] of which the share `smoothing` is spread evenly (Szegedy et al. 2016, section 7)."""
    return (1 - smoothing) * targets + smoothing / targets.shape[-1]


def label_objective(loss="cross_entropy", smoothing=0.0):
    """Return `objective(outputs, batch, step) -> [batch]` of a network that learns from labels alone.

    They are `targets` [batch, classes] of the batch, where examples are mixed, else its `y`.

    Args:
        loss: a key of `LABEL_LOSSES`.
        smoothing: share of a label that is spread evenly over the classes, from 0 to below 1.
    """

    def objective(outputs, batch, step):
        logits = outputs.logits
        targets = batch.get("targets")
        if targets is None and not smoothing:
            return LABEL_LOSSES[loss](logits, batch["y"])
        if targets is None:
            targets = jax.nn.one_hot(batch["y"], logits.shape[-1], dtype=logits.dtype)
        return SOFT_LOSSES[loss](logits, smoothed(targets, smoothing))

    return objective


def kd_weight(weight, switch=None, steps_per_epoch=1):
    """Return `schedule(step) -> w`, the weight of the distillation loss: constant, or switched on or off in mid-training.

    `step` counts the steps already taken, so a hard switch after epoch e is in force from step `e * steps_per_epoch` on. A ramp of
    n steps begins there: the i-th of them, from 1, has gone i / n of the way.

    Args:
        weight: of the phase with a teacher, from 0 to 1.
        switch: a `config.Switch`; None for the same weight at every step.
        steps_per_epoch: what its epoch is counted in.
    """
    if switch is None:
        return optax.constant_schedule(weight)
    begins = round(switch.epoch * steps_per_epoch)
    before, after = (0.0, weight) if switch.to_kd else (weight, 0.0)

    def schedule(step):
        gone = jnp.clip(jnp.asarray(step - begins + 1, float) / float(switch.ramp), 0, 1)
        return (1 - gone) * before + gone * after  # exact at both ends

    return schedule


def distillation_objective(weight, temperature, loss="cross_entropy", smoothing=0.0):
    """Return `objective(outputs, batch, step) -> [batch]` of a student: `(1 - w) labels + w teacher`.

    The teacher's logits are needed at every step, also where w is 0.

    Args:
        weight: `weight(step) -> w`, from 0 to 1, such as `kd_weight` returns; the batch needs `teacher_logits` beside labels.
        temperature: tau > 0; only cross-entropy has one.
        loss: a key of `LABEL_LOSSES`, for both parts.
        smoothing: of the labels; the teacher's part has none.
    """
    of_labels = label_objective(loss, smoothing)

    def objective(outputs, batch, step):
        if loss == "mse":
            soft = squared_distillation(outputs.logits, batch["teacher"].logits)
        else:
            soft = distillation(outputs.logits, batch["teacher"].logits, temperature)
        w = weight(step)
        return (1 - w) * of_labels(outputs, batch, step) + w * soft

    return objective


def correct(logits, labels):
    """1 where the largest logit is the label's, else 0; int32 [batch]."""
    return (logits.argmax(-1) == labels).astype(jnp.int32)
