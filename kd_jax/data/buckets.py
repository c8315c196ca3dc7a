"""Texts cut to a few lengths, so that a batch costs no more than its longest text needs.

Lengths are rounded up to a few buckets. Inside a compiled step `jax.lax.switch` chooses between one branch per bucket, so many
steps can still run as one loop on the device. Padding changes no logits and no gradients, only time.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

PAD = 1  # the token id behind the end of a text, RoBERTa's
BUCKETS = (8, 16, 32, 64, 128, 256, 512)  # tokens
# What a step on an accelerator takes whatever the lengths, in tokens whose products take as long: reading weights and moving them
# with AdamW is 28 bytes of memory traffic a parameter, a token 8 operations a parameter with a teacher of the same size. By the
# published peaks that is 840 tokens on a TPU v5e and 1,030 on an H100, in bfloat16.
FIXED_TOKENS = 1000
# A further bucket is a further branch of the program. With roberta_base it takes about 190 seconds of compiling on one core, a
# tenth of one of the paper's runs on a v5e (24,540 steps of 66 ms by libtpu's estimate).
WORTH = 0.1  # the share of all steps that it has to save


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


def worthwhile(of_examples: np.ndarray, rows: np.ndarray, buckets: Sequence[int], shares: int = 1) -> tuple[int, ...]:
    """Return the few of some buckets that save most, for accelerators, where each one costs minutes of compiling.

    Of all choices of so many buckets the one is taken in which an epoch takes least; one bucket more is taken as long as that saves
    at least `WORTH` of it. The last bucket is always among them.

    >>> lengths = np.repeat([7, 30, 60], [100, 700, 200])
    >>> worthwhile(lengths, np.arange(1000).reshape(10, 100), (8, 16, 32, 64))
    (32, 64)

    Args:
        of_examples: the length of every example, int [examples].
        rows: the examples in each batch of an epoch, int [steps, batch].
        buckets: rising.
        shares: the devices over which a batch is split.
    """
    if not len(rows):
        return tuple(buckets[-1:])
    longest, share = of_examples[rows].max(axis=1), rows.shape[1] / shares

    def tokens(chosen: tuple[int, ...]) -> float:
        return float(np.mean(share * np.asarray(chosen)[np.searchsorted(chosen, longest)] + FIXED_TOKENS))

    best = tuple(buckets[-1:])
    for count in range(1, len(buckets)):
        more = min(((*some, buckets[-1]) for some in combinations(buckets[:-1], count)), key=tokens)
        if tokens(more) > (1 - WORTH) * tokens(best):
            break
        best = more
    return best


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
