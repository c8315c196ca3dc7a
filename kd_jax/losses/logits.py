"""Losses that draw a student's logits to its teacher's."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from kd_jax.config import LossSettings
from kd_jax.losses import batches
from kd_jax.losses.labels import squared_error_to
from kd_jax.losses.types import Batch, NetworkOutputs


def kd(student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: LossSettings) -> jax.Array:
    """Return `tau^2 CE(softmax(z_T / tau), softmax(z_S / tau))`, in nats, with tau the temperature.

    Hinton et al. 2015, equations 2 to 4; the paper, section 2. The factor tau^2 keeps gradients comparable across temperatures.
    """
    temperature = settings.temperature
    targets = jax.nn.softmax(teacher.logits / temperature)
    return temperature**2 * optax.softmax_cross_entropy(student.logits / temperature, targets)


def mse(student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: LossSettings) -> jax.Array:
    """Return half the squared distance of the student's logits from the teacher's (the paper, section 4); no setting is read."""
    return squared_error_to(student.logits, teacher.logits)


def dkd(student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: LossSettings) -> jax.Array:
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


# ---- logits standardised


class _Logits(NamedTuple):
    """Outputs of which a loss looks at the logits alone."""

    logits: jax.Array
    features: Mapping[str, jax.Array]


def on_standardised(loss: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Return a loss on logits as a loss on standardised logits: each example's minus their mean, over their standard deviation.

    Sun, Ren, Li, Wang and Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024. Both networks' logits have mean 0 and
    standard deviation 1 over the classes before they are divided by the temperature, so the student has to match how the
    teacher's logits are related, and not their size. As in the authors' code the deviation is that of a sample (division by
    classes - 1) plus 1e-7. They call the temperature that remains the base temperature. On CIFAR-100 they take 2 (to 4) for it,
    and mostly the weight 9 on the KL divergence beside 0.1 on the labels.

    Args:
        loss: `kd` or `dkd`, or another loss on logits.
    """

    def of_standardised(
        student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: LossSettings
    ) -> jax.Array:
        ours, theirs = (_Logits(standardised(outputs.logits), {}) for outputs in (student, teacher))
        return loss(ours, theirs, batch, settings)

    return of_standardised


def standardised(logits: jax.Array) -> jax.Array:
    """Return logits [batch, classes] less their mean over the classes, over their standard deviation.

    >>> standardised(jnp.array([[1.0, 2.0, 3.0]])).round(3).tolist()
    [[-1.0, 0.0, 1.0]]
    """
    centred = logits - logits.mean(-1, keepdims=True)
    variance = jnp.square(centred).sum(-1, keepdims=True) / max(logits.shape[-1] - 1, 1)
    # Logits that are all equal, as those of a network whose last layer is zero, have no gradient of their deviation.
    flat = variance == 0
    deviation = jnp.where(flat, 0, jnp.sqrt(jnp.where(flat, 1, variance)))
    return centred / (deviation + 1e-7)


kd_standardised = on_standardised(kd)
dkd_standardised = on_standardised(dkd)


# ---- relations


def dist(
    student: NetworkOutputs,
    teacher: NetworkOutputs,
    batch: Batch,
    settings: LossSettings,
    axis_name: str | None = None,
) -> jax.Array:
    """Return each example's share of the loss of DIST, `tau^2 (beta inter + gamma intra)`; it has no unit.

    Huang, You, Wang, Qian and Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022. With the probabilities of both
    networks at temperature tau, inter is 1 - Pearson's correlation over the classes of an example, and intra is 1 - the
    correlation over the examples of the batch, on average over the classes. So a student may differ from its teacher by a shift
    and a positive factor in each row, and in each column, of the table of probabilities.

    Every example has the same share of intra; the mean of the shares over the batch is the published loss. The whole batch counts,
    however it is split over devices. A batch of one example has no correlation, and its intra is 1.

    As in the authors' code 1e-8 is added to the product of norms; tau^2 is in its later versions (the one for ImageNet has tau 1).
    There beta and gamma are 1 by default. Beside a weight of 1 on the labels 2 and 2 are in use, and with tau 4 on CIFAR-100.
    """
    temperature = settings.temperature
    p, q = (jax.nn.softmax(outputs.logits / temperature) for outputs in (student, teacher))
    inter = 1 - _correlation(p, q, lambda x: x.mean(-1, keepdims=True), p.shape[-1]).squeeze(-1)
    examples = batches.size(len(p), axis_name)
    intra = 1 - _correlation(p, q, lambda x: batches.mean(x, axis_name), examples).mean()
    return temperature**2 * (settings.dist_beta * inter + settings.dist_gamma * intra)


def _correlation(p, q, mean_of, count):
    """Pearson's correlation of p and q along the axis that `mean_of` averages over, `count` long."""
    p, q = p - mean_of(p), q - mean_of(q)
    # The gradient of a norm is not defined at zero, where all are equal.
    norms = [jnp.sqrt(jnp.maximum(count * mean_of(x**2), jnp.finfo(x.dtype).tiny)) for x in (p, q)]
    return count * mean_of(p * q) / (norms[0] * norms[1] + 1e-8)
