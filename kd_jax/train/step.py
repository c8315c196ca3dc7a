"""One training step, the same for a teacher and a student: only the objective differs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kd_jax.losses import Learned, correct
from kd_jax.models import Variables
from kd_jax.train.state import TrainState, averaged, parted, trained


def whole(run: Callable[[Any], Any], x: Any) -> Any:
    """Return `run(x)`: the `on_shortest` of data whose examples all have one length."""
    return run(x)


def make_step(
    apply: Callable[..., Any],
    objective: Callable[..., Any],
    optimizer: optax.GradientTransformation,
    axis_name: str | None = None,
    on_shortest: Callable[[Callable, Any], Any] = whole,
    learns: bool = False,
    ema: float = 0.0,
    accumulate: int = 1,
) -> Callable[[TrainState, dict], tuple[TrainState, dict]]:
    """Return `step(state, batch) -> (state, totals)`, a pure function for jit, vmap, scan and pmap.

    The batch is a dict with `x`, the inputs [batch, ...], `y`, integer labels [batch], whatever else the objective reads, and for
    dropout `keys`, a typed key per example. Totals are sums over the batch with their count, so that those of batches, devices and
    epochs add up.

    Args:
        apply: the `apply` of a `Model`.
        objective: `objective(outputs, batch, step) -> loss [batch]`, a function of the network's `models.Outputs`.
        optimizer: an optax optimiser.
        axis_name: the `pmap` axis over which a batch is split, if any. The shards must be of one size: then the mean of their mean
            gradients is the gradient of the whole batch.
        on_shortest: `on_shortest(run, x)` calls `run` with the part of the inputs that gradients need; see `data.Dataset`.
        learns: whether the loss learns. The objective is then `objective(outputs, batch, step, learned) -> (loss [batch], state)`,
            and what it learns is trained beside the network; see `losses.Learned`.
        ema: the decay of the moving average of the weights, for states that have one.
        accumulate: the optimiser updates the weights at every so many-th step; the average moves when they do.
    """

    def step(state, batch):
        drawn = {"keys": batch["keys"]} if "keys" in batch else {}

        def mean_loss(moved, x):
            params, loss_params = parted(moved, state.loss_params)
            outputs = apply(Variables(params, state.model_state), x, train=True, **drawn)
            if learns:
                loss, loss_state = objective(outputs, batch, state.step, Learned(loss_params, state.loss_state))
            else:
                loss, loss_state = objective(outputs, batch, state.step), state.loss_state
            # Features stay inside: what a branch of `on_shortest` returns is computed whether it is needed or not.
            return loss.mean(), (loss, outputs.logits, outputs.state, loss_state)

        moved = trained(state.params, state.loss_params)
        gradient = partial(jax.grad(mean_loss, has_aux=True), moved)
        grads, (loss, logits, model_state, loss_state) = on_shortest(gradient, batch["x"])
        totals = {"loss": loss.sum(), "correct": correct(logits, batch["y"]).sum(), "count": loss.size}
        if axis_name is not None:
            # What is counted rather than averaged stays a whole number.
            means = jax.tree.map(lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jnp.inexact) else None, model_state)
            grads, means = jax.lax.pmean((grads, means), axis_name)
            model_state = jax.tree.map(
                lambda leaf, mean: jax.lax.pmax(leaf, axis_name) if mean is None else mean, model_state, means
            )
            totals = jax.lax.psum(totals, axis_name)
        updates, opt_state = optimizer.update(grads, state.opt_state, moved)
        params, loss_params = parted(optax.apply_updates(moved, updates), state.loss_params)
        average = state.average
        if average is not None:
            decay = ema if accumulate == 1 else jnp.where((state.step + 1) % accumulate == 0, ema, 1.0)
            average = averaged(average, Variables(params, model_state), decay)
        return TrainState(state.step + 1, params, model_state, opt_state, average, loss_params, loss_state), totals

    return step
