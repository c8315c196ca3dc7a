"""Contrastive representation distillation, with its embeddings, its memory of the training set, and its negatives."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import LossSettings
from kd_jax.errors import BadInput
from kd_jax.losses import batches
from kd_jax.losses.features import pairs
from kd_jax.losses.types import Batch, Learned, NetworkOutputs

NETWORKS = ("student", "teacher")
MOST_NEGATIVES = 16384  # the authors' number
EPSILON = 1e-7  # the authors' guard against division by zero


def init_crd(
    key: jax.Array, student: NetworkOutputs, teacher: NetworkOutputs, labels: Any, settings: LossSettings
) -> Learned:
    """Return what `crd` learns and remembers.

    params: for each network a dense layer from its features to `crd_width` numbers, uniform within 1 / sqrt(fan-in), as PyTorch's.
    state: for each network a `memory` [examples, width], which starts uniform with an expected norm of about 1, and the constant
    `scale`, 0 until the first step sets it; and `rows` [examples], the training set sorted by label, with `first` [labels + 1],
    where each label begins among them.

    Raises:
        BadInput: for features that the networks have not, or a training set of one label.
    """
    ours, theirs = _pair(student, teacher, settings)
    inputs = {"student": student.features[ours], "teacher": teacher.features[theirs]}
    if labels.min() == labels.max():
        raise BadInput(f"--distillation=crd: expected training examples of two labels or more, found {labels[0]} alone")
    width, dtype = settings.crd_width, student.logits.dtype
    params, memory = {}, {}
    for number, name in enumerate(NETWORKS):
        fan_in = math.prod(inputs[name].shape[1:])
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        bound, spread = 1 / math.sqrt(fan_in), math.sqrt(3 / width)
        params[name] = {
            "kernel": jax.random.uniform(keys[0], (fan_in, width), dtype, -bound, bound),
            "bias": jax.random.uniform(keys[1], (width,), dtype, -bound, bound),
        }
        memory[name] = jax.random.uniform(keys[2], (len(labels), width), dtype, -spread, spread)
    counts = np.bincount(labels)
    state = {
        "memory": memory,
        "scale": {name: jnp.zeros((), dtype) for name in NETWORKS},
        "rows": jnp.asarray(np.argsort(labels, kind="stable"), jnp.int32),
        "first": jnp.asarray(np.append(0, np.cumsum(counts)), jnp.int32),
    }
    return Learned(params, state)


def crd(
    student: NetworkOutputs,
    teacher: NetworkOutputs,
    batch: Batch,
    settings: LossSettings,
    learned: Learned,
    axis_name: str | None = None,
) -> tuple[jax.Array, Any]:
    """Return `weight` times the loss of contrastive representation distillation [batch], in nats, and the new state.

    Tian, Krishnan and Isola, "Contrastive Representation Distillation", ICLR 2020, as in the authors' code, RepDistiller. Dense
    layers embed the features of both networks on the unit sphere; they are trained with the student. A memory holds for every
    training example and network an average of its embeddings. An example's embedding s by one network is compared with the other
    network's memories: m_0 of the same example, and m_1 to m_K of negatives. With q_k = exp(<s, m_k> / temperature) / Z and c = K /
    (number of training examples), the loss is the negative log likelihood of telling them apart,

        -log(q_0 / (q_0 + c)) - sum_k log(c / (q_k + c)),

    summed over both directions; c gets 1e-7 added in denominators. Z is the number of training examples times the mean of all
    exponentials at the first step, one per direction, constant from then on. After a step the memory of each example of the batch
    is `momentum` of itself and the rest of its new embedding, divided by its norm. Neither memory nor Z passes gradients.

    Negatives have another label than the example (the label that networks see; where examples are mixed, that with the larger
    share), and depend on (run, step, example) alone. What differs from the code: they are drawn with replacement, as
    noise-contrastive estimation has it, where the code does so only if there are fewer than K; and K, 16384 there, is at most the
    number of training examples unless `crd_negatives` says otherwise. The memory takes 8 bytes * width * examples in float32, on
    every device and in the states that a run goes on from. The authors' weight beside 1 on the labels is 0.8, the default.
    """
    memory, scale = learned.state["memory"], dict(learned.state["scale"])
    ours, theirs = _pair(student, teacher, settings)
    embedded = {
        "student": _embedded(student.features[ours], learned.params["student"]),
        "teacher": _embedded(teacher.features[theirs], learned.params["teacher"]),
    }
    examples = len(memory["student"])
    count = settings.crd_negatives or min(MOST_NEGATIVES, examples)
    drawn = negatives(batch["draws"], batch["y"], learned.state["rows"], learned.state["first"], count)
    noise, loss = count / examples, 0.0
    for anchor, other in (NETWORKS, NETWORKS[::-1]):
        # All products are cheaper than a gather of the vectors of every negative.
        products = embedded[anchor] @ jax.lax.stop_gradient(memory[other]).T
        products = jnp.take_along_axis(products, jnp.concatenate([batch["ids"][:, None], drawn], axis=1), axis=1)
        scores = jnp.exp(products / settings.crd_temperature)
        first = examples * batches.mean(jax.lax.stop_gradient(scores), axis_name, (0, 1)).reshape(())
        scale[anchor] = jnp.where(scale[anchor] == 0, first, scale[anchor])
        scores = scores / scale[anchor]
        loss += jnp.log1p((noise + EPSILON) / scores[:, 0])
        loss += jnp.log1p((scores[:, 1:] + EPSILON) / noise).sum(-1)
    ids = batches.whole(batch["ids"], axis_name)
    new = {
        name: _remembered(
            memory[name], ids, batches.whole(jax.lax.stop_gradient(embedded[name]), axis_name), settings.crd_momentum
        )
        for name in NETWORKS
    }
    return settings.crd_weight * loss, learned.state | {"memory": new, "scale": scale}


def negatives(draws: jax.Array, y: jax.Array, rows: jax.Array, first: jax.Array, count: int) -> jax.Array:
    """Return rows of the training set, int32 [batch, count], uniform over those of another label; an example may come twice.

    Args:
        draws: a typed key per example [batch].
        y: labels [batch].
        rows: the training set sorted by label, int32 [examples].
        first: where each label begins in `rows`, int32 [labels + 1].
        count: how many to draw for each example.
    """

    def of_example(key, label):
        begin, own = first[label], first[label + 1] - first[label]
        at = jax.random.randint(key, (count,), 0, len(rows) - own)
        return rows[jnp.where(at >= begin, at + own, at)]

    return jax.vmap(of_example)(draws, y)


def _pair(student, teacher, settings):
    """The names of the features that are contrasted."""
    found = pairs(student, teacher, settings, "penultimate", "crd")
    if len(found) > 1:
        raise BadInput(
            f"--features={' '.join(settings.features)}: expected one pair beside --distillation=crd; pass one"
        )
    return found[0]


def _embedded(x, layer):
    """Features on the unit sphere, [batch, width]."""
    return _normalised(x.reshape(len(x), -1) @ layer["kernel"] + layer["bias"])


def _normalised(x):
    return x / jnp.sqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), jnp.finfo(x.dtype).tiny))


def _remembered(memory, ids, new, momentum):
    """The memory with the rows `ids` moved towards new embeddings."""
    return memory.at[ids].set(_normalised(momentum * memory[ids] + (1 - momentum) * new))
