"""The distillation losses: what each is, and the settings that it reads.

To add one, write its function in `kd_jax.losses` and enter it in `LOSSES`. Settings of its own are fields of `LossSettings`, with
their range, default and help text. The command line, its help, the checks, `study.json` and the keys of runs follow.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any, NamedTuple

from typing_extensions import Doc

from kd_jax.config.allowed import ABOVE_0, BELOW_1, Allowed, at_least, check, need

NEGATIVES = Allowed(lambda count: count >= 0, "a whole number, 0 for the authors'")


class Entry(NamedTuple):
    """A loss that draws a student to its teacher: an entry of `LOSSES`. `kd_jax.losses.Loss` says more of what it tells.

    Attributes:
        function: its function in `kd_jax.losses`, as module.name; it is imported only where a loss is computed.
        what: what it compares, for the help.
        settings: the fields of `LossSettings` that it alone reads, or a loss that is made of it.
        temperature: whether it reads the temperature.
        features: the features that it compares where `--features` names none, in words; empty for a loss on logits. Nothing but a
            loss on logits or on the labels trains the student's last layer.
        relates: whether the loss of an example depends on the other examples of its batch.
        init: the function in `kd_jax.losses` that returns what it learns at its start; empty for a loss that learns nothing.
        draws: whether it draws, and so reads `ids` and `draws` of the batch.
    """

    function: str
    what: str
    settings: tuple[str, ...] = ()
    temperature: bool = False
    features: str = ""
    relates: bool = False
    init: str = ""
    draws: bool = False


DKD = ("dkd_alpha", "dkd_beta")
LOSSES: dict[str, Entry] = {
    "kd": Entry("logits.kd", "cross-entropy with the teacher's softened probabilities", temperature=True),
    "mse": Entry("logits.mse", "half the squared distance from the teacher's logits"),
    "dkd": Entry(
        "logits.dkd",
        "Decoupled Knowledge Distillation, which weighs the target class and the others apart",
        DKD,
        temperature=True,
    ),
    "kd_standardised": Entry(
        "logits.kd_standardised", "kd on logits that are standardised per example", temperature=True
    ),
    "dkd_standardised": Entry(
        "logits.dkd_standardised", "dkd on logits that are standardised per example", DKD, temperature=True
    ),
    "dist": Entry(
        "logits.dist", "correlations of probabilities", ("dist_beta", "dist_gamma"), temperature=True, relates=True
    ),
    "fitnets": Entry(
        "features.fitnets",
        "hints through a trained projector",
        ("fitnets_weight",),
        features="the middle stage",
        relates=True,
        init="features.init_fitnets",
    ),
    "at": Entry("features.at", "attention transfer", ("at_weight", "at_power"), features="all stages"),
    "rkd": Entry(
        "features.rkd",
        "distances and angles in a batch",
        ("rkd_distance", "rkd_angle"),
        features="the penultimate layer",
        relates=True,
    ),
    "crd": Entry(
        "contrast.crd",
        "contrastive",
        ("crd_weight", "crd_negatives", "crd_width", "crd_momentum", "crd_temperature"),
        features="the penultimate layer",
        relates=True,
        init="contrast.init_crd",
        draws=True,
    ),
}


def loss_names(text: str) -> list[str]:
    """Return the names of the distillation losses that `--distillation` adds.

    >>> loss_names("kd+crd")
    ['kd', 'crd']
    """
    return text.split("+")


def _listed(names: Iterable[str]) -> str:
    """Names as a sentence has them."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _what(on_features: bool) -> str:
    return "; ".join(f"`{name}`, {loss.what}" for name, loss in LOSSES.items() if bool(loss.features) == on_features)


ON_FEATURES = [name for name, loss in LOSSES.items() if loss.features]
BY_DEFAULT = ", ".join(
    f"{features} for {_listed(name for name in ON_FEATURES if LOSSES[name].features == features)}"
    for features in dict.fromkeys(LOSSES[name].features for name in ON_FEATURES)
)


@dataclass(frozen=True)
class LossSettings:
    """Which losses draw a student to its teacher, and all that they read."""

    distillation: Annotated[
        str,
        Doc(
            f"Loss that draws a student to its teacher. On logits: {_what(on_features=False)}."
            f" On features: {_what(on_features=True)}."
            " Several joined by + are added, such as kd+crd [auto: kd, or mse where the loss on the labels is]."
        ),
    ] = "auto"
    features: Annotated[
        tuple[str, ...],
        Doc(
            f"Features that {_listed(ON_FEATURES)} compare: names that both networks have, such as stage2, or STUDENT:TEACHER"
            f" [none: {BY_DEFAULT}]."
        ),
    ] = ()
    temperature: Annotated[
        float,
        ABOVE_0,
        Doc(
            f"Softmax temperature of {_listed(name for name, loss in LOSSES.items() if loss.temperature)}; the other losses have"
            " none [> 0]."
        ),
    ] = 4.0
    dkd_alpha: Annotated[float, at_least(0)] = 1.0
    """Weight of the target class in `dkd`: how probable the teacher finds the label [at least 0]."""
    dkd_beta: Annotated[float, at_least(0)] = 8.0
    """Weight of the other classes in `dkd`: how probable the teacher finds each of them. The authors take 8 on CIFAR-100, and 2
    where a ResNet-56 teaches a ResNet-20 [at least 0]."""
    dist_beta: Annotated[float, at_least(0)] = 2.0
    """Weight in `dist` of the correlation over the classes of an example [at least 0]."""
    dist_gamma: Annotated[float, at_least(0)] = 2.0
    """Weight in `dist` of the correlation over the examples of a batch [at least 0]."""
    fitnets_weight: Annotated[float, at_least(0)] = 100.0
    """Factor of `fitnets`, RepDistiller's. Its factors are beside 1 on the labels, which --weight=0.5 is [at least 0]."""
    at_weight: Annotated[float, at_least(0)] = 1000.0
    """Factor of `at`, RepDistiller's [at least 0]."""
    at_power: Annotated[float, at_least(1)] = 2.0
    """Power of the features in the attention maps of `at` [at least 1]."""
    rkd_distance: Annotated[float, at_least(0)] = 25.0
    """Weight of the distances in `rkd` [at least 0]."""
    rkd_angle: Annotated[float, at_least(0)] = 50.0
    """Weight of the angles in `rkd` [at least 0]."""
    crd_weight: Annotated[float, at_least(0)] = 0.8
    """Factor of `crd`, the authors' [at least 0]."""
    crd_negatives: Annotated[int, NEGATIVES] = 0
    """Negatives of an example in `crd` [0: the authors' 16384, or as many as there are training examples if those are fewer]."""
    crd_width: Annotated[int, at_least(2, "a whole number")] = 128
    """Numbers in an embedding of `crd` [at least 2]."""
    crd_momentum: Annotated[float, BELOW_1] = 0.5
    """Share of its old value that an example's memory keeps in `crd` [0 to below 1]."""
    crd_temperature: Annotated[float, ABOVE_0] = 0.07
    """Temperature of the contrast in `crd` [> 0]."""

    def __post_init__(self):
        check(self)
        chosen = loss_names(self.distillation)
        listed = f"one of {', '.join(('auto', *LOSSES))}, or several but auto joined by +, such as kd+crd"
        known = set(chosen) <= set(LOSSES) and len(set(chosen)) == len(chosen)
        need(self, "distillation", known or chosen == ["auto"], listed)
        read = self.settings_of(self.distillation)
        for each in fields(LossSettings):
            owner = next((name for name, loss in LOSSES.items() if each.name in loss.settings), None)
            meant = owner is None or each.name in read or getattr(self, each.name) == each.default
            need(self, each.name, meant, f"--distillation={owner} beside it, for no other loss reads it")
        fix = f"one of --distillation={'|'.join(ON_FEATURES)} beside it, for no other loss compares features"
        need(self, "features", not self.features or bool(self.losses_on_features), fix)
        whole = all(word.partition(":")[0] and not word.endswith(":") for word in self.features)
        twice = len(set(self.features)) < len(self.features)
        need(self, "features", whole and not twice, "names, or STUDENT:TEACHER, each once")

    @property
    def losses_on_features(self) -> list[str]:
        """The chosen losses that compare features."""
        return [name for name in loss_names(self.distillation) if name in ON_FEATURES]

    def settings_of(self, loss: str) -> dict[str, Any]:
        """Return {name: value} of the settings that one distillation loss alone reads, in the order of its entry.

        A loss on standardised logits reads those of the loss itself; of several joined by `+`, all are returned; of `auto`, none,
        for the losses that it stands for have none.
        """
        entries = [LOSSES[name] for name in loss_names(loss) if name != "auto"]
        return {name: getattr(self, name) for entry in entries for name in entry.settings}
