"""The order in which a run sees its examples. Needs NumPy alone, so that processes which only decode images start fast."""

import numpy as np

WINDOW = (
    50  # batches within which texts are sorted by length; sorting a whole epoch would hardly leave batches to chance
)


def order(
    seed: int, stream: int, epoch: int, examples: int, batch_size: int, lengths: np.ndarray | None = None
) -> np.ndarray:
    """Return the examples of each batch of an epoch, int32 [steps, batch_size]: a permutation cut into whole batches.

    The remainder that does not fill a batch is left out of that epoch; in each epoch it is another one. The result depends on the
    arguments alone, not on JAX, the devices or what ran before.

    >>> order(seed=0, stream=1, epoch=0, examples=7, batch_size=3).shape
    (2, 3)

    Args:
        seed: the seed of the run.
        stream: tells apart the runs of a seed that are to see different orders, `plan.Arm.order`.
        epoch: from 0.
        examples: the size of the training set.
        batch_size: examples in a batch.
        lengths: the length of every example, int [examples]. With it, examples of similar length come into one batch.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, epoch])))
    steps = examples // batch_size
    chosen = rng.permutation(examples)[: steps * batch_size]
    if lengths is not None:
        chosen = grouped(chosen, lengths, batch_size, rng)
    return chosen.astype(np.int32).reshape(steps, batch_size)


def grouped(chosen: np.ndarray, lengths: np.ndarray, batch_size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the examples of an epoch in another order: by length within each `WINDOW` of batches, then the batches at random.

    Args:
        chosen: examples in a random order, int [steps * batch_size].
        lengths: the length of every example, int [examples].
        batch_size: examples in a batch.
        rng: draws the order of the batches.
    """
    size = WINDOW * batch_size
    windows = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    sorted_by_length = np.concatenate([window[np.argsort(lengths[window], kind="stable")] for window in windows])
    return rng.permutation(sorted_by_length.reshape(-1, batch_size)).ravel()
