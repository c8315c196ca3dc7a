"""What changes while a network trains."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kd_jax.losses import Learned
from kd_jax.models import Model, Variables

LEARNED = 2**32 - 3  # folded into the key of the network's initial values for those of a loss


class TrainState(NamedTuple):
    """All that a training step reads and writes.

    Attributes:
        step: the number of steps taken, int32 scalar. With the run's key it decides batch and views.
        params: the trainable arrays.
        model_state: the running statistics of normalisation layers.
        opt_state: the state of the optax optimiser.
        average: the exponential moving average of parameters and running statistics; None where none is kept.
        loss_params: arrays that a distillation loss trains beside the network, such as projectors; see `losses.Learned`. None for
            most losses.
        loss_state: what a distillation loss remembers; None for most.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    # None is no leaf, so states that were saved before there were these fit.
    average: Variables | None = None
    loss_params: Any = None
    loss_state: Any = None

    @property
    def variables(self) -> Variables:
        """The network at this moment, as `Model.apply` takes it."""
        return Variables(self.params, self.model_state)

    @property
    def kept(self) -> "Variables | Averaged":
        """What a trajectory keeps of this moment: the network, and its average where there is one."""
        return self.variables if self.average is None else Averaged(*self.variables, self.average)


class Averaged(NamedTuple):
    """A network and the moving average of its weights.

    Attributes:
        params, model_state: as of `models.Variables`.
        average: the average of both.
    """

    params: Any
    model_state: Any
    average: Variables


def averaged(average: Variables, variables: Variables, decay: Any) -> Variables:
    """Return `decay * average + (1 - decay) * variables`, leaf by leaf: one step of an exponential moving average.

    The first average is a copy of the initial variables, so nothing has to be corrected for a start from zero. Running statistics
    of normalisation layers are averaged as weights are. Both as in timm's `ModelEmaV2`.

    >>> averaged(Variables(jnp.array(2.0), {}), Variables(jnp.array(4.0), {}), 0.75).params.item()
    2.5
    """
    return jax.tree.map(lambda old, new: (decay * old + (1 - decay) * new).astype(new.dtype), average, variables)


def create(
    model: Model,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    x: Any,
    learn: Callable[[jax.Array], Learned] | None = None,
    with_average: bool = False,
) -> TrainState:
    """Return the state at step 0.

    Args:
        model: the network.
        optimizer: its optimiser.
        key: a typed key, from which the network's initial values are drawn.
        x: an example batch, for shapes.
        learn: `learn(key)` returns what the distillation loss learns and remembers; None for a loss that does not.
        with_average: whether an average of the weights is kept; it starts as a copy of them.
    """
    variables = model.init(key, x)
    learned = learn(jax.random.fold_in(key, LEARNED)) if learn else Learned(None, None)
    start = optimizer.init(trained(variables.params, learned.params))
    average = variables if with_average else None
    return TrainState(jnp.zeros((), jnp.int32), *variables, start, average, *learned)


def trained(params: Any, loss_params: Any) -> Any:
    """Return all that the optimiser moves: the network's parameters, and those of the loss beside them where it has any."""
    return {"network": params, "loss": loss_params} if loss_params else params


def parted(moved: Any, loss_params: Any) -> tuple[Any, Any]:
    """Return (parameters of the network, those of the loss) of what `trained` put together."""
    return (moved["network"], moved["loss"]) if loss_params else (moved, loss_params)
