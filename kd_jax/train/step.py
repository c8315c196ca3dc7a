"""One training step, the same for a teacher and a student: only the objective differs."""

from functools import partial

import jax
import optax

from kd_jax.losses import correct
from kd_jax.models import Variables
from kd_jax.train.state import TrainState


def whole(run, x):
    """Return `run(x)`: nothing of an image is left out, as of a batch of texts by `buckets.shorten`."""
    return run(x)


def make_step(apply, objective, optimizer, axis_name=None, shorten=whole):
    """Return `step(state, batch) -> (state, totals)`, pure, for jit, vmap, scan and pmap.

    Args:
        apply: of a `Model`.
        objective: `objective(outputs, batch, step) -> loss [batch]` of the network's `models.Outputs`.
        optimizer: an optax optimiser.
        axis_name: the `pmap` axis over which a batch is split, if any. The shards must be of one size: then the mean
            of their mean gradients is the gradient of the whole batch.
        shorten: `shorten(run, x)` calls `run` with what gradients need of the views `x`.

    The batch is a dict with `x` (views, [batch, ...]), `y` (int labels), what else the objective reads, and for dropout `keys`,
    typed, one per example. Totals are sums
    over the batch with their count, so that batches, devices and epochs add up.
    """

    def step(state, batch):
        drawn = {"keys": batch["keys"]} if "keys" in batch else {}

        def mean_loss(params, x):
            outputs = apply(Variables(params, state.model_state), x, train=True, **drawn)
            loss = objective(outputs, batch, state.step)
            # Features stay inside: what a branch of `shorten` returns is computed whether it is needed or not.
            return loss.mean(), (loss, outputs.logits, outputs.state)

        gradient = partial(jax.grad(mean_loss, has_aux=True), state.params)
        grads, (loss, logits, model_state) = shorten(gradient, batch["x"])
        totals = {"loss": loss.sum(), "correct": correct(logits, batch["y"]).sum(), "count": loss.size}
        if axis_name is not None:
            grads, model_state = jax.lax.pmean((grads, model_state), axis_name)
            totals = jax.lax.psum(totals, axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, model_state, opt_state), totals

    return step
