"""Texts cut to a few lengths, so that a batch costs no more than its longest text needs.

Lengths are rounded up to a few buckets. Inside a compiled step `jax.lax.switch` chooses between one branch per bucket, so many
steps can still run as one loop on the device. Padding changes no logits and no gradients, only time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

PAD = 1  # the token id behind the end of a text, RoBERTa's
BUCKETS = (8, 16, 32, 64, 128, 256, 512)  # tokens


def lengths(x: np.ndarray) -> np.ndarray:
    """Return the number of tokens of each text that are no padding, int64 [examples]; x is [examples, length].

    >>> lengths(np.array([[0, 7, 2, 1], [0, 2, 1, 1]])).tolist()
    [3, 2]
    """
    return (np.asarray(x) != PAD).sum(axis=1)


def buckets_of(max_length: int, longest: int) -> tuple[int, ...]:
    """Return the lengths to which batches may be cut: of `BUCKETS` and `max_length` those up to the first that holds `longest`.

    >>> buckets_of(50, 40)
    (8, 16, 32, 50)
    """
    up_to = sorted({length for length in BUCKETS if length < max_length} | {max_length})
    return tuple(up_to[: 1 + next(i for i, length in enumerate(up_to) if length >= longest)])


def on_bucket(run: Callable[[Any], Any], x: Any, buckets: Sequence[int], axis_name: str | None = None) -> Any:
    """Return `run(x[:, :bucket])` for the first bucket that holds the longest text of the batch; inside jit.

    Args:
        run: a function of [batch, bucket]. The shapes of what it returns must not depend on the bucket. Without an axis it must not
            talk to other devices, whose part of the batch may have another bucket.
        x: int [batch, length], padded at the end; the length is that of the last bucket.
        buckets: rising.
        axis_name: the `pmap` axis over which the batch is split, to take one bucket on all devices; None for each its own.
    """
    import jax
    import jax.numpy as jnp

    longest = (x != PAD).sum(axis=1).max()
    if axis_name is not None:
        longest = jax.lax.pmax(longest, axis_name)
    index = jnp.searchsorted(jnp.asarray(buckets), longest)
    return jax.lax.switch(index, [lambda x, length=length: run(x[:, :length]) for length in buckets], x)


def shortened(x: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """Return a batch cut to the first bucket that holds its longest text, on the host."""
    return x[:, : buckets[np.searchsorted(buckets, lengths(x).max())]]


def count(of_examples: np.ndarray, rows: np.ndarray, buckets: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return (tokens, places), int64 [steps]: the tokens of each batch that are no padding, and all that are computed.

    >>> tokens, places = count(np.array([3, 8, 9]), np.array([[0, 1], [1, 2]]), (8, 30))
    >>> tokens.tolist(), places.tolist()
    ([11, 17], [16, 60])

    Args:
        of_examples: the length of every example, int [examples].
        rows: the examples in each batch, int [steps, batch].
        buckets: rising.
    """
    in_batch = of_examples[rows]
    return in_batch.sum(axis=1), rows.shape[1] * np.asarray(buckets)[np.searchsorted(buckets, in_batch.max(axis=1))]


def by_length(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return rows of x, int, with the n-th row replaced by the n-th example in the order of lengths.

    Args:
        x: int [examples, length], padded at the end.
        rows: numbers below the number of examples, of any shape.
    """
    return np.argsort(lengths(x), kind="stable").astype(rows.dtype)[rows]
