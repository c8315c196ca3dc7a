"""In which order a run sees its examples. Needs NumPy alone, so that processes which only read images start fast."""

import numpy as np

WINDOW = 50  # batches among which texts are sorted by length; the whole epoch would leave few mixtures of texts to draw


def order(seed, stream, epoch, examples, batch_size, lengths=None):
    """Return the example indices of an epoch, int32 [steps, batch_size]: a permutation cut into whole batches.

    The remainder that does not fill a batch sits the epoch out; each epoch it is another one. The result depends on the
    arguments alone, not on JAX, device or history. With the `lengths` of all examples, int [examples], those of similar length come
    into one batch.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, epoch])))
    steps = examples // batch_size
    chosen = rng.permutation(examples)[: steps * batch_size]
    if lengths is not None:
        chosen = grouped(chosen, lengths, batch_size, rng)
    return chosen.astype(np.int32).reshape(steps, batch_size)


def grouped(chosen, of_examples, batch_size, rng):
    """Return an epoch's examples in another order: within each `WINDOW` of batches by length, and the batches then at random.

    Args:
        chosen: int [steps * batch_size], a random order of examples.
        of_examples: length of every example, int [examples].
        batch_size: examples in a batch.
        rng: a NumPy generator.
    """
    size = WINDOW * batch_size
    windows = [chosen[start : start + size] for start in range(0, len(chosen), size)]
    by_length = np.concatenate([window[np.argsort(of_examples[window], kind="stable")] for window in windows])
    return rng.permutation(by_length.reshape(-1, batch_size)).ravel()
