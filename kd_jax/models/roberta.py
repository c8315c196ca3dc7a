"""RoBERTa (Liu et al. 2019): a transformer encoder of texts with a classification head."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.config import BadInput
from kd_jax.models.initializers import normal_fiftieth
from kd_jax.models.parts import PENULTIMATE, feature

PADDING = 1  # RoBERTa's id of <pad>; positions are counted from the next number
HEAD_WIDTH = 64
NORM_EPSILON = 1e-5


class RoBERTa(nn.Module):
    """RoBERTa with a classification head, as transformers has it but for the dropout of attention weights.

    Tokens, positions and the one type are embedded, added and normalised. A layer adds self-attention of its input to its input
    and normalises; adds a feed-forward network with GELU (exact, not the tanh form) to that and normalises again. The head is two
    dense layers, tanh between them, on the first token's features. While training, features are dropped after the embedding,
    before each sum and before both layers of the head. Weights of attention are not, since the fused kernels of
    `jax.nn.dot_product_attention` cannot.

    A text is padded at its end with `PADDING`, which changes nothing: neither the logits nor what is dropped in training. Kernels
    and embeddings start normal with deviation 0.02, biases at zero.

    Attributes:
        depth: number of layers.
        width: features of a token; a multiple of 64, a head each, or below 64. The feed-forward network has four times as many.
        classes: number of outputs.
        vocabulary: number of token ids.
        positions: the longest text in tokens.
        dropout: share of features that is dropped while training.
        axis_name: as for every model; nothing here is averaged over devices.
    """

    depth: int
    width: int
    classes: int
    vocabulary: int | None = None  # None while only the name is checked
    positions: int = 512
    dropout: float = 0.1
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False, keys=None):
        """Logits [batch, classes] of tokens `x`, integers [batch, length]; `keys` [batch] decide what is dropped."""
        if x.shape[1] > self.positions:
            raise BadInput(
                f"texts of {x.shape[1]} tokens: expected at most the {self.positions} that this network has positions for;"
                " cut them to that"
            )
        x = x.astype(jnp.int32)
        real = x != PADDING
        lengths = real.sum(axis=1, dtype=jnp.int32)
        drop = self._drop(train, keys)

        y = self._embed(self.vocabulary, "tokens")(x)
        y += self._embed(PADDING + 1 + self.positions, "positions")(_positions(real))
        y += self._embed(1, "types")(jnp.zeros_like(x))
        y = drop(self._norm("embedding_norm")(y))
        for layer in range(1, self.depth + 1):
            y = self._layer(y, lengths, drop, f"layer{layer}")
            feature(self, f"layer{layer}", y[:, 0])
        y = drop(y[:, 0])
        y = feature(self, PENULTIMATE, drop(jnp.tanh(self._dense(self.width, "head_dense")(y))))
        return self._dense(self.classes, "head_out")(y).astype(self.param_dtype)

    def _layer(self, x, lengths, drop, name):
        heads = max(self.width // HEAD_WIDTH, 1)
        query, key, value = (
            self._dense(self.width, f"{name}_{part}")(x).reshape(*x.shape[:2], heads, -1)
            for part in ("query", "key", "value")
        )
        y = attention(query, key, value, lengths).reshape(x.shape)
        y = drop(self._dense(self.width, f"{name}_attention_out")(y))
        x = self._norm(f"{name}_attention_norm")(x + y)
        y = nn.gelu(self._dense(4 * self.width, f"{name}_intermediate")(x), approximate=False)
        y = drop(self._dense(self.width, f"{name}_output")(y))
        return self._norm(f"{name}_output_norm")(x + y)

    def _embed(self, count, name):
        # In the parameters' dtype: what is added up here is rounded once, after the normalisation.
        return nn.Embed(
            count,
            self.width,
            embedding_init=normal_fiftieth,
            dtype=self.param_dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def _dense(self, units, name):
        return nn.Dense(units, kernel_init=normal_fiftieth, dtype=self.dtype, param_dtype=self.param_dtype, name=name)

    def _norm(self, name):
        # Flax takes statistics in float32 or better. Its fast variance, E[x^2] - E[x]^2, cancels digits.
        return nn.LayerNorm(
            epsilon=NORM_EPSILON,
            use_fast_variance=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            name=name,
        )

    def _drop(self, train, keys):
        """Return `drop(x)`, the identity in evaluation; every call draws anew."""
        if not train or not self.dropout:
            return lambda x: x
        if keys is None:
            raise ValueError("dropout needs a key per example: apply(variables, x, train=True, keys=keys)")
        site = 0

        def drop(x):
            nonlocal site
            site += 1
            return dropped(x, keys, site, self.dropout)

        return drop


def _positions(real):
    """1 + number of a token in its text, from 1, hence from 2 on; 1 for padding. As transformers count."""
    return jnp.where(real, PADDING + jnp.cumsum(real, axis=1, dtype=jnp.int32), PADDING)


def dropped(x, keys, site, rate):
    """Return `x` with features set to zero at random and the others divided by the share that is kept.

    Args:
        x: float [batch, ...].
        keys: a typed PRNG key per example, [batch]. What is dropped of an example depends on its key alone, so not on the
            batch that it is in; and since JAX numbers random bits along the first axis, not on the padding behind a text.
        site: int, another one wherever a network drops.
        rate: share that is dropped.
    """

    def keep(key):
        # Compared in float32 also where JAX is in 64 bits, so that all precisions drop the same.
        return jax.random.bernoulli(jax.random.fold_in(key, site), np.float32(1 - rate), x.shape[1:])

    return jnp.where(jax.vmap(keep)(keys), x / (1 - rate), jnp.zeros((), x.dtype))


def attention(query, key, value, lengths):
    """Return softmax(query key^T / sqrt(features)) value over the first `lengths` tokens of each text.

    Args:
        query, key, value: [batch, length, heads, features].
        lengths: int32 [batch], at least 1.
    """
    if query.dtype == jnp.float64:
        # Written out, because jax.nn's takes its softmax in float32 whatever the dtype.
        scores = jnp.einsum("bqhf,bkhf->bhqk", query, key) / np.sqrt(query.shape[-1])
        real = jnp.arange(key.shape[1]) < lengths[:, None]
        weights = jax.nn.softmax(jnp.where(real[:, None, None], scores, -jnp.inf))
        return jnp.einsum("bhqk,bkhf->bqhf", weights, value)
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        key_value_seq_lengths=lengths,  # rather than a mask, which cuDNN would add as a bias of [batch, 1, length, length]
        implementation=_implementation(query.dtype, query.shape[-1], jax.devices()[0]),
    )


def _implementation(dtype, features, device):
    """`cudnn` where its fused kernel exists; JAX, left to itself, takes XLA's everywhere."""
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return "xla"
    fits = dtype == jnp.bfloat16 and features % 8 == 0 and float(device.compute_capability) >= 8.0
    return "cudnn" if fits else "xla"
