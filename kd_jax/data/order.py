"""In which order a run sees its examples. Needs NumPy alone, so that processes which only read images start fast."""

import numpy as np


def order(seed, stream, epoch, examples, batch_size):
    """Return the example indices of an epoch, int32 [steps, batch_size]: a permutation cut into whole batches.

    The remainder that does not fill a batch sits the epoch out; each epoch it is another one. The result depends on the
    arguments alone, not on JAX, device or history.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, stream, epoch])))
    steps = examples // batch_size
    return rng.permutation(examples)[: steps * batch_size].astype(np.int32).reshape(steps, batch_size)
