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
    """RoBERTa with a classification head, the same as in Hugging Face's transformers but for the dropout of attention weights.

    Tokens, positions and the one token type are embedded, added and normalised. A layer adds self-attention to its input and
    normalises the sum; then it adds a feed-forward network with GELU (the exact form, not that with tanh) and normalises again.
    The head is two dense layers with tanh between them, on the features of the first token. In training, features are dropped
    after the embedding, before each sum, and before both layers of the head. Attention weights are not dropped, for the fused
    kernels behind `jax.nn.dot_product_attention` cannot do it.

    A text is padded at its end with `PADDING`, which changes neither the logits nor what is dropped in training. Kernels and
    embeddings start normal with standard deviation 0.02, and biases at zero.

    Attributes:
        depth: the number of layers.
        width: the number of features of a token: below 64, or a multiple of 64, for there is a head of attention for every 64. The
            feed-forward network has four times as many units.
        classes: the number of outputs.
        vocabulary: the number of token ids.
        positions: the length of the longest text, in tokens.
        dropout: the share of features that is dropped in training.
        axis_name: not used, for nothing is averaged over devices; every network has this attribute.
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
        """Return logits [batch, classes] of token ids `x`, integers [batch, length].

        In training with dropout, `keys`, a typed PRNG key per text [batch], decide what is dropped.
        """
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
        y = gelu(self._dense(4 * self.width, f"{name}_intermediate")(x))
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
        """Return a function that drops features; each of its calls draws anew. In evaluation it changes nothing."""
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


def gelu(x: jax.Array) -> jax.Array:
    """Return `x` times the normal distribution function of `x` (Hendrycks and Gimpel 2016), the exact form, not that with tanh.

    JAX has it by erfc, which by its compiler's estimate takes a TPU longer than the product before it, in bfloat16; by erf in
    float32, rounded once, it is hidden behind that product. Of the numbers of bfloat16 next to 400,001 points from -9 to 9,
    erf in float32 gives the nearest value in 95 %, and JAX's form in 74 %.
    """
    if x.dtype != jnp.bfloat16:
        return _gelu_by_erfc(x)
    return jax.lax.platform_dependent(x, tpu=gelu_by_erf, default=_gelu_by_erfc)


def _gelu_by_erfc(x):
    return nn.gelu(x, approximate=False)


def gelu_by_erf(x: jax.Array) -> jax.Array:
    """Return the exact GELU in the form for TPUs, computed in float32."""
    wide = x.astype(jnp.float32)
    return (0.5 * wide * (1 + jax.lax.erf(wide * np.float32(np.sqrt(0.5))))).astype(x.dtype)


def _positions(real):
    """Return the positions of tokens as transformers counts them: 2, 3, 4, ... in each text, and 1 for padding."""
    return jnp.where(real, PADDING + jnp.cumsum(real, axis=1, dtype=jnp.int32), PADDING)


def dropped(x: jax.Array, keys: jax.Array, site: int, rate: float) -> jax.Array:
    """Return `x` with some features set to zero at random, and the others divided by the share that is kept.

    Args:
        x: features, float [batch, ...].
        keys: a typed PRNG key per example, [batch]. What is dropped of an example depends on its key alone, and so not on the
            batch that it is in; nor on the padding behind a text, since JAX numbers random bits along the first axis.
        site: the number of the place in the network where features are dropped; places of different numbers draw independently.
        rate: the share that is dropped.
    """

    def keep(key):
        # Compared in float32 also where JAX is in 64 bits, so that all precisions drop the same.
        return jax.random.bernoulli(jax.random.fold_in(key, site), np.float32(1 - rate), x.shape[1:])

    # Left alone, a TPU's compiler draws the same bits again wherever they are needed, forward and twice backward.
    kept = jax.lax.platform_dependent(jax.vmap(keep)(keys), tpu=jax.lax.optimization_barrier, default=lambda kept: kept)
    return jnp.where(kept, x / (1 - rate), jnp.zeros((), x.dtype))


def attention(query: jax.Array, key: jax.Array, value: jax.Array, lengths: jax.Array) -> jax.Array:
    """Return `softmax(query key^T / sqrt(features)) value` over the first tokens of each text (Vaswani et al. 2017, equation 1).

    Args:
        query, key, value: float [batch, length, heads, features].
        lengths: the number of tokens of each text that count, int32 [batch], at least 1.
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
    """Return `cudnn` where it has a fused kernel, else `xla`; left to itself, JAX takes that of XLA everywhere."""
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return "xla"
    fits = dtype == jnp.bfloat16 and features % 8 == 0 and float(device.compute_capability) >= 8.0
    return "cudnn" if fits else "xla"
