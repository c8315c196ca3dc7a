"""What changes while a network trains."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kd_jax.models import Model, Variables


class TrainState(NamedTuple):
    """All that a training step reads and writes.

    Attributes:
        step: the number of steps taken, int32 scalar. With the run's key it decides batch and views.
        params: the trainable arrays.
        model_state: the running statistics of normalisation layers.
        opt_state: the state of the optax optimiser.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any

    @property
    def variables(self) -> Variables:
        """The network at this moment, as `Model.apply` takes it."""
        return Variables(self.params, self.model_state)


def create(model: Model, optimizer: optax.GradientTransformation, key: jax.Array, x: Any) -> TrainState:
    """Return the state at step 0.

    Args:
        model: the network.
        optimizer: its optimiser.
        key: a typed key, from which the network's initial values are drawn.
        x: an example batch, for shapes.
    """
    variables = model.init(key, x)
    return TrainState(jnp.zeros((), jnp.int32), *variables, optimizer.init(variables.params))
