"""Losses that draw a student's features to its teacher's: FitNets, attention transfer, RKD; and which features they compare."""

import math
import re
from typing import Any, Literal, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kd_jax.config import LossSettings, shown
from kd_jax.errors import BadInput
from kd_jax.losses import batches
from kd_jax.losses.types import Batch, Learned, NetworkOutputs

PENULTIMATE = "penultimate"  # the input of the last layer, in every network's features
EXACT = jax.lax.Precision.HIGHEST  # differences of nearly equal products must keep their digits
NEAR = 1e-6  # the least distance between two examples in RKD, the authors'
Rule = Literal["stages", "middle", "penultimate"]


# ---- which features are compared


def pairs(
    student: NetworkOutputs, teacher: NetworkOutputs, settings: LossSettings, rule: Rule, loss: str
) -> list[tuple[str, str]]:
    """Return the names of the features that are compared, as (the student's, the teacher's).

    Where `settings.features` names some, those; a word is a name of both networks, or STUDENT:TEACHER. Else the rule decides:

    - `stages`: all features but the penultimate ones, in the order of their names, the n-th with the n-th;
    - `middle`: of those the middle one of each network, the earlier of two;
    - `penultimate`: the inputs of the last layers.

    Args:
        student, teacher: what the networks return.
        settings: what students take from their teacher.
        rule: what is compared where nothing is named.
        loss: the name of the loss, for messages.

    Raises:
        BadInput: for features that a network has not, or stages that are not as many in both.
    """
    if settings.features:
        named = [word.partition(":") for word in settings.features]
        found = [(ours, theirs or ours) for ours, _, theirs in named]
        return [_there(student, teacher, pair, f"--features={shown(settings.features)}") for pair in found]
    if rule == "penultimate":
        return [_there(student, teacher, (PENULTIMATE, PENULTIMATE), f"--distillation={loss}")]
    ours, theirs = _stages(student), _stages(teacher)
    if not (ours and theirs) or (rule == "stages" and len(ours) != len(theirs)):
        raise BadInput(
            f"--distillation={loss}: expected {'as many' if rule == 'stages' else 'some'} stages in both networks; the student has"
            f" {_listed(student)}; the teacher has {_listed(teacher)}; name the pairs to compare, such as"
            f" --features {next(iter(ours), PENULTIMATE)}:{next(iter(theirs), PENULTIMATE)}"
        )
    if rule == "middle":
        return [(ours[(len(ours) - 1) // 2], theirs[(len(theirs) - 1) // 2])]
    return list(zip(ours, theirs, strict=True))


def _there(student, teacher, pair, flag):
    """The pair; `BadInput` for a feature that a network has not."""
    for network, outputs, name in (("student", student, pair[0]), ("teacher", teacher, pair[1])):
        if name not in outputs.features:
            raise BadInput(
                f"{flag}: expected a feature of the {network}, found {name or 'none'}; it has {_listed(outputs)}; pass --features"
                " NAME, or STUDENT:TEACHER where the names differ"
            )
    return pair


def _stages(outputs):
    """Names of all features but the penultimate ones, numbers in them in numerical order."""
    names = [name for name in outputs.features if name != PENULTIMATE]
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def _listed(outputs):
    return ", ".join([*_stages(outputs), *(name for name in outputs.features if name == PENULTIMATE)]) or "none"


def _size(feature):
    """The shape of a feature of an example, for messages."""
    return "x".join(map(str, feature.shape[1:]))


def _refuse(loss, expected, ours, theirs, student, teacher) -> NoReturn:
    found = f"{ours} [{_size(student.features[ours])}] and {theirs} [{_size(teacher.features[theirs])}]"
    raise BadInput(
        f"--distillation={loss}: expected {expected}, found {found}, the student's and the teacher's; pass other --features"
    )


# ---- FitNets


def init_fitnets(
    key: jax.Array, student: NetworkOutputs, teacher: NetworkOutputs, labels: Any, settings: LossSettings
) -> Learned:
    """Return the projectors of `fitnets`: for each pair of features a kernel, and a scale and a bias per teacher's channel.

    Kernels are uniform within 1 / sqrt(fan-in), as PyTorch's are.

    Raises:
        BadInput: for features that the networks have not, or whose sizes no projector connects.
    """
    params = {}
    for number, (ours, theirs) in enumerate(pairs(student, teacher, settings, "middle", "fitnets")):
        source, target = student.features[ours], teacher.features[theirs]
        shape = _kernel_shape(source.shape, target.shape)
        if shape is None:
            expected = "two vectors, or two maps of which the student's is as large, half as large or larger"
            _refuse("fitnets", expected, ours, theirs, student, teacher)
        bound = 1 / math.sqrt(math.prod(shape[:-1]))
        channels, dtype = target.shape[-1], source.dtype
        params[f"pair{number + 1}"] = {
            "kernel": jax.random.uniform(jax.random.fold_in(key, number), shape, dtype, -bound, bound),
            "scale": jnp.ones(channels, dtype),
            "bias": jnp.zeros(channels, dtype),
        }
    return Learned(params, {})


def _kernel_shape(source, target):
    """The shape of the kernel that makes features of the shape `target` of such of the shape `source`; None if there is none."""
    ends = source[-1], target[-1]
    if len(source) == len(target) == 2:
        return ends
    if len(source) != 4 or len(target) != 4:
        return None
    (height, width), (high, wide) = source[1:3], target[1:3]
    if (height, width) == (2 * high, 2 * wide):
        return (3, 3, *ends)
    if (2 * height, 2 * width) == (high, wide):
        return (4, 4, *ends)
    return (1 + height - high, 1 + width - wide, *ends) if height >= high and width >= wide else None


def _projected(x, kernel, target):
    """Features of the shape `target`, before normalisation."""
    if x.ndim == 2:
        return x @ kernel
    layout = ("NHWC", "HWIO", "NHWC")
    stride, padding, dilation = (1, 1), "VALID", (1, 1)
    if x.shape[1:3] == (2 * target[1], 2 * target[2]):
        stride, padding = (2, 2), [(1, 1), (1, 1)]
    elif (2 * x.shape[1], 2 * x.shape[2]) == tuple(target[1:3]):
        # The transpose of a convolution of size 4, stride 2 and padding 1.
        padding, dilation = [(2, 2), (2, 2)], (2, 2)
    return jax.lax.conv_general_dilated(x, kernel, stride, padding, dilation, dimension_numbers=layout)


def fitnets(
    student: NetworkOutputs,
    teacher: NetworkOutputs,
    batch: Batch,
    settings: LossSettings,
    learned: Learned,
    axis_name: str | None = None,
) -> tuple[jax.Array, Any]:
    """Return `weight` times the mean square of the projected student's features less the teacher's [batch], and no state.

    Romero, Ballas, Kahou, Chassang, Gatta and Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015: a hint is a teacher's
    feature, and a regressor that is trained with the student maps the student's guided feature to it. The mean is over the
    feature's values, in the square of their unit; several pairs of features are added.

    The regressor is that of RepDistiller (Tian et al. 2020): a convolution, of size 1 where the maps are equally large, which
    halves or doubles a map where that fits, and batch normalisation over the whole batch, however it is split over devices. For
    vectors it is a dense layer. What differs: there ReLU follows, which fits features that are not negative; here features may be,
    so none does. The paper trains the guided layers alone first, and then the network by distillation. RepDistiller adds the loss
    to that on the labels with the weight 100, the default, and so do we: with `--weight=0.5` the two have that ratio.
    """
    loss = jnp.zeros(len(student.logits), student.logits.dtype)
    for number, (ours, theirs) in enumerate(pairs(student, teacher, settings, "middle", "fitnets")):
        own, target = learned.params[f"pair{number + 1}"], teacher.features[theirs]
        made = _projected(student.features[ours], own["kernel"], target.shape)
        axes = range(made.ndim - 1)
        centred = made - batches.mean(made, axis_name, axes)
        variance = batches.mean(jnp.square(centred), axis_name, axes)
        made = centred * jax.lax.rsqrt(variance + 1e-5) * own["scale"] + own["bias"]
        loss += jnp.square(made - target).reshape(len(made), -1).mean(-1)
    return settings.fitnets_weight * loss, {}


# ---- attention transfer


def at(student: NetworkOutputs, teacher: NetworkOutputs, batch: Batch, settings: LossSettings) -> jax.Array:
    """Return `weight` times the mean square difference of attention maps, summed over the pairs of features [batch]; no unit.

    Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017. The attention map of features
    [height, width, channels] is the mean over channels of |feature|^p, divided by its Euclidean norm over the positions. The mean
    square is over the positions, as in RepDistiller (Tian et al. 2020), whose weight beside that of 1 on the labels is 1000, the
    default, with p = 2. Where maps differ in size, the larger is averaged down to the smaller in
    pools that cover it (PyTorch's adaptive average pooling), as in that code.

    Raises:
        BadInput: for features without height and width, such as those of texts.
    """
    loss = jnp.zeros(len(student.logits), student.logits.dtype)
    for ours, theirs in pairs(student, teacher, settings, "stages", "at"):
        maps = student.features[ours], teacher.features[theirs]
        if any(each.ndim != 4 for each in maps):
            _refuse("at", "features of images, height x width x channels", ours, theirs, student, teacher)
        height, width = (min(each.shape[axis] for each in maps) for axis in (1, 2))
        of_student, of_teacher = (_attention(pooled(each, height, width), settings.at_power) for each in maps)
        loss += jnp.square(of_student - of_teacher).mean(-1)
    return settings.at_weight * loss


def _attention(x, power):
    """The attention map [batch, height * width] of features [batch, height, width, channels], of norm 1."""
    x = (jnp.square(x) if power == 2 else jnp.abs(x) ** power).mean(-1).reshape(len(x), -1)
    return x / jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), 1e-24))


def pooled(x: jax.Array, height: int, width: int) -> jax.Array:
    """Return features [batch, height, width, channels] averaged down to a size, by PyTorch's adaptive average pooling.

    Row i of n is the mean of the rows from floor(i h / n) up to ceil((i + 1) h / n), of h; pools may overlap.

    >>> pooled(jnp.arange(5.0).reshape(1, 5, 1, 1), 2, 1).ravel().tolist()
    [1.0, 3.0]
    """
    for axis, size in ((1, height), (2, width)):
        if x.shape[axis] != size:
            averages = jnp.asarray(_averages(x.shape[axis], size), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(averages, x, (1, axis), precision=EXACT), 0, axis)
    return x


def _averages(length, size):
    """Rows of weights [size, length], each the mean over one pool."""
    weights = np.zeros((size, length))
    for i in range(size):
        pool = slice(i * length // size, -(-(i + 1) * length // size))
        weights[i, pool] = 1 / (pool.stop - pool.start)
    return weights


# ---- relations


def rkd(
    student: NetworkOutputs,
    teacher: NetworkOutputs,
    batch: Batch,
    settings: LossSettings,
    axis_name: str | None = None,
) -> jax.Array:
    """Return each example's share of the loss of RKD, `distance weight * distances + angle weight * angles`; no unit.

    Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019, with the weights 25 and 50 of RepDistiller (Tian et al.
    2020) beside 1 on the labels. Among the features of a batch, distances are taken between two examples, in units of their mean
    over all pairs; angles, as their cosines, at one example between two others. Huber's loss, with its bend at 1, compares the
    student's with the teacher's.

    An example's share is the mean over the examples to which its distances are taken, and over the angles at it; the mean of the
    shares over the batch is the published loss, in which, as in that code, pairs and angles of an example with itself count as
    zero. So do angles with an example at the same place; here they have no gradient, which in that code is huge. The whole batch
    counts, however it is split over devices.

    Features are of any shape, and several pairs are added. The time grows as the cube of the batch size, and divides by the
    devices.
    """
    loss = jnp.zeros(len(student.logits), student.logits.dtype)
    rows = batches.own_rows(len(loss), axis_name)
    for ours, theirs in pairs(student, teacher, settings, "penultimate", "rkd"):
        vectors = student.features[ours], teacher.features[theirs]
        points = [batches.whole(x.reshape(len(x), -1), axis_name) for x in vectors]
        products = [_products(x) for x in points]
        lengths = [_distances(x) for x in products]
        units = [_in_units_of_the_mean(x)[rows] for x in lengths]
        distance = optax.losses.huber_loss(*units).mean(-1)
        # What the gradient needs is computed again, for there are batch^3 cosines.
        angle = jax.checkpoint(_angles)(products, lengths, rows)
        loss += settings.rkd_distance * distance + settings.rkd_angle * angle
    return loss


def _products(x):
    """Scalar products [batch, batch] of vectors, measured from their mean: small ones keep their digits."""
    x = x - x.mean(0)
    return jnp.matmul(x, x.T, precision=EXACT)


def _distances(products):
    """Distances [batch, batch]: 0 on the diagonal, and `NEAR` between examples that rounding cannot tell apart."""
    squares = jnp.diagonal(products)
    sums = squares[:, None] + squares
    squares = sums - 2 * products
    apart = squares > jnp.maximum(NEAR**2, 16 * jnp.finfo(products.dtype).eps * sums)
    return jnp.where(
        apart, jnp.sqrt(jnp.where(apart, squares, 1)), NEAR * (1 - jnp.eye(len(products), dtype=products.dtype))
    )


def _in_units_of_the_mean(distances):
    count = len(distances) * (len(distances) - 1)
    return distances / (distances.sum() / max(count, 1) + (0 if count else 1))


def _angles(products, lengths, rows):
    """The mean Huber loss [rows] of the cosines at some vertices."""

    def cosines(products, lengths):
        at, of = products[rows], jnp.diagonal(products)[rows]
        scalar = products - at[:, :, None] - at[:, None, :] + of[:, None, None]
        other = lengths[rows] > NEAR
        norms = jnp.where(other, lengths[rows], 1)
        return jnp.where(other[:, :, None] & other[:, None, :], scalar / (norms[:, :, None] * norms[:, None, :]), 0)

    of_student, of_teacher = (cosines(*of) for of in zip(products, lengths, strict=True))
    return optax.losses.huber_loss(of_student, of_teacher).mean((1, 2))
