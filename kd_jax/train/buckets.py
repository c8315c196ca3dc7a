"""Texts of similar length in one batch, and steps on no more of a batch than its longest text needs.

Lengths are rounded up to a few buckets, each with a branch for gradients in one compiled step, so an epoch stays one loop on the
device. Padding changes no logits and no gradients, only time.
"""

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.data.tokens import PAD, lengths

EVALUATION_BATCH = 100  # texts; attention takes memory as the square of their length


def shorten(run, x, buckets):
    """Return `run(x cut to a bucket)`, the first that holds the longest text of the batch.

    Args:
        run: of [batch, bucket]; what it returns must not depend on the bucket in shape. It must not talk to other devices, whose
            part of the batch may have another bucket.
        x: int [batch, length], padded at the end, length the last bucket.
        buckets: lengths, rising.
    """
    longest = (x != PAD).sum(axis=1).max()
    which = jnp.searchsorted(jnp.asarray(buckets), longest)
    return jax.lax.switch(which, [lambda x, length=length: run(x[:, :length]) for length in buckets], x)


def shortened(x, buckets):
    """A batch cut to its bucket, on the host."""
    return x[:, : buckets[np.searchsorted(buckets, lengths(x).max())]]


def count(of_examples, rows, buckets):
    """Return (tokens, places), int64 [steps]: what is no padding in each batch of an epoch, and what is computed.

    Args:
        of_examples: length of every example, int [examples].
        rows: int [steps, batch].
        buckets: lengths, rising.
    """
    in_batch = of_examples[rows]
    return in_batch.sum(axis=1), rows.shape[1] * np.asarray(buckets)[np.searchsorted(buckets, in_batch.max(axis=1))]


def sorted_rows(x, rows):
    """Return rows [batches, batch] of example numbers with the examples taken in the order of their lengths.

    Args:
        x: int [examples, length], padded at the end.
        rows: of `epoch.padded_batches`.
    """
    return np.argsort(lengths(x), kind="stable").astype(rows.dtype)[rows]
