"""What a loss sees, and what an entry of the table of distillation losses says about itself."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax


class NetworkOutputs(Protocol):
    """What a loss can see of a network. `kd_jax.models.Outputs` is of this form.

    Attributes:
        logits: [batch, classes].
        features: {name: [batch, ...]}, what the network computed on the way.
    """

    @property
    def logits(self) -> jax.Array: ...

    @property
    def features(self) -> Mapping[str, jax.Array]: ...


# x, y, perhaps targets; with a teacher also `teacher`, what the teacher returns for x; for losses that draw also `ids`, the rows of
# the examples in the training set, and `draws`, a typed key per example
Batch = Mapping[str, Any]
Objective = Callable[..., Any]


class Learned(NamedTuple):
    """What a loss itself learns and remembers. It belongs to the training, not to the network.

    Attributes:
        params: arrays that are trained with the student's, by the same optimiser; nested dicts.
        state: arrays that the loss replaces at every step; nested dicts.
    """

    params: Any
    state: Any


class Loss(NamedTuple):
    """A loss that draws a student to its teacher: an entry of `DISTILLATION`.

    Attributes:
        function: `function(student, teacher, batch, settings) -> loss [batch]`, of what the two networks return for a batch, and of
            the study's `config.LossSettings`. A function that relates examples also takes `axis_name`. One that learns takes a
            `Learned` as its fifth argument, and returns (loss [batch], new state).
        features: whether it compares features rather than logits. Nothing else then trains the last layer.
        relates: whether the loss of an example depends on the other examples of its batch. The function is given the name of the
            `pmap` axis over which the batch is split, and answers for the whole batch.
        init: `init(key, student, teacher, labels, settings) -> Learned` of a loss that learns: of a typed key, the shapes of what
            the networks return, and the labels of the training set, NumPy int32 [examples].
        draws: whether it reads `ids` and `draws` of the batch.
    """

    function: Callable[..., Any]
    features: bool = False
    relates: bool = False
    init: Callable[..., Learned] | None = None
    draws: bool = False

    def __call__(self, *args: Any, **more: Any) -> Any:
        """Return `function(...)`."""
        return self.function(*args, **more)
