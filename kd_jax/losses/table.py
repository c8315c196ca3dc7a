"""The distillation losses by name."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import jax

from kd_jax.config import LOSSES, LossSettings, loss_names
from kd_jax.config.losses import Entry
from kd_jax.losses.types import Learned, Loss, NetworkOutputs


def _function(name: str) -> Callable[..., Any]:
    """The function that an entry of `LOSSES` names, such as `logits.kd`."""
    module, _, function = name.rpartition(".")
    return getattr(import_module(f"kd_jax.losses.{module}"), function)


def _loss(entry: Entry) -> Loss:
    init = _function(entry.init) if entry.init else None
    return Loss(_function(entry.function), bool(entry.features), entry.relates, init, entry.draws)


DISTILLATION: dict[str, Loss] = {name: _loss(entry) for name, entry in LOSSES.items()}


def losses_of(name: str) -> dict[str, Loss]:
    """Return {name: loss} of what `--distillation` names, such as `kd+crd`, whose losses are added."""
    return {part: DISTILLATION[part] for part in loss_names(name)}


def draws(name: str) -> bool:
    """Return whether any of the losses draws, and so reads `ids` and `draws` of a batch."""
    return any(loss.draws for loss in losses_of(name).values())


def relates(name: str) -> bool:
    """Return whether any of the losses relates the examples of a batch, and so talks to other devices."""
    return any(loss.relates for loss in losses_of(name).values())


def compares_features(name: str) -> bool:
    """Return whether any of the losses compares features."""
    return any(loss.features for loss in losses_of(name).values())


def initialiser(name: str, settings: LossSettings) -> Callable[[jax.Array, Any, Any, Any], Learned] | None:
    """Return `init(key, student, teacher, labels) -> Learned`, {name: ...} of the losses that learn; None where none does.

    Its arguments are those of `Loss.init`.
    """
    learning = {part: loss.init for part, loss in losses_of(name).items() if loss.init is not None}
    if not learning:
        return None

    def init(key: jax.Array, student: NetworkOutputs, teacher: NetworkOutputs, labels: Any) -> Learned:
        keys = jax.random.split(key, len(learning))
        made = {
            part: of_part(keys[i], student, teacher, labels, settings)
            for i, (part, of_part) in enumerate(learning.items())
        }
        return Learned({p: of.params for p, of in made.items()}, {p: of.state for p, of in made.items()})

    return init


def check(name: str, settings: LossSettings, student: NetworkOutputs, teacher: NetworkOutputs, labels: Any) -> None:
    """Refuse losses that the outputs of two networks do not allow, such as one that compares features that they have not.

    Nothing is computed.

    Args:
        name: what `--distillation` names.
        settings: what the losses read.
        student, teacher: what the networks return for a batch, or its shapes.
        labels: the labels of the training set, NumPy int32 [examples].

    Raises:
        BadInput: in one line, naming the option.
    """
    count = len(student.logits)
    made = initialiser(name, settings)

    def losses(key, student, teacher, y):
        learned = made(key, student, teacher, labels) if made else Learned({}, {})
        batch = {"y": y, "ids": y, "draws": jax.random.split(key, count)}
        for part, loss in losses_of(name).items():
            own = [Learned(learned.params[part], learned.state[part])] if loss.init else []
            loss(student, teacher, batch, settings, *own)

    y = jax.ShapeDtypeStruct((count,), "int32")
    jax.eval_shape(losses, jax.random.key(0), student, teacher, y)
