"""A study, which is its sections and its seeds, and the flat names of all its fields."""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Annotated, Any, get_type_hints

from kd_jax.config.allowed import Allowed, check, described, fits, need, plain, shown
from kd_jax.config.data import FOLDER, Data, is_folder
from kd_jax.config.distillation import Distillation, parse_switch
from kd_jax.config.look import Look
from kd_jax.config.networks import Networks
from kd_jax.config.training import Training, parse_changes
from kd_jax.errors import BadInput

MOST_SEEDS = 10_000  # a study lists all of its runs; more seeds are several studies
SEEDS = Allowed(lambda count: 1 <= count <= MOST_SEEDS, f"a whole number from 1 to {MOST_SEEDS}")


@dataclass(frozen=True)
class Study:
    """A teacher, the students distilled from it, and the same students without it, over several seeds.

    Attributes:
        data, networks, training, distillation, look: the sections. `training` is that of the students.
    """

    data: Data = field(default_factory=Data)
    networks: Networks = field(default_factory=Networks)
    training: Training = field(default_factory=Training)
    distillation: Distillation = field(default_factory=Distillation)
    look: Look = field(default_factory=Look)
    seeds: Annotated[int, SEEDS] = 1
    """Number of runs of every arm; with two or more, intervals are over seeds."""
    seed: int = 0
    """The first seed; the others follow."""

    def __post_init__(self):
        check(self)
        need(
            self, "seed", 0 <= self.seed <= 2**32 - self.seeds, "a whole number from 0 to below 2^32, the last seed too"
        )
        both = bool(self.distillation.teacher_with and self.look.kernel_examples)
        need(self.distillation, "teacher_with", not both, "none beside --kernel_examples")
        need(self.training, "epochs", self.training.epochs >= 1, "a whole number of at least 1")
        both = bool(self.training.accumulate > 1 and self.look.kernel_examples)
        need(self.training, "accumulate", not both, "1 beside --kernel_examples, whose theory updates at every step")
        both = bool(self.look.kernel_examples and self.distillation.is_teacher_given)
        need(self.look, "kernel_examples", not both, "0 beside a teacher that was not trained here as the students are")
        both = bool(self.look.kernel_examples and self.distillation.early_epoch)
        need(self.distillation, "early_epoch", not both, "0 beside --kernel_examples, whose theory knows one teacher")
        if self.distillation.teacher_logits:
            why = "beside --teacher_logits, which have one answer for each example as it is"
            need(self.training, "augment", self.training.augment == "none", f"none {why}")
            for name in ("mixup", "cutmix"):
                need(self.training, name, not getattr(self.training, name), f"0 {why}")
        _ = self.teacher_training
        switch, epochs = parse_switch(self.distillation.switch), self.training.epochs
        within = switch is None or switch.epoch <= epochs
        need(self.distillation, "switch", within, f"an epoch up to {epochs}, the last")

    @classmethod
    def from_flags(cls, **values: Any) -> "Study":
        """Return the study that has these values under their flat names, and defaults elsewhere.

        >>> Study.from_flags(dataset="digits", epochs=3, seeds=2).training.epochs
        3
        """
        return cls().replaced(**values)

    def replaced(self, **values: Any) -> "Study":
        """Return the study with some fields changed, under their flat names.

        >>> Study().replaced(temperature=2.0).distillation.temperature
        2.0

        Raises:
            TypeError: for a name that is no field.
            BadInput: for a value of another type than the field's, or one that it does not allow.
        """
        by_section: dict[str, dict[str, Any]] = {}
        own = {}
        for name, given in values.items():
            value = given
            if name in FLAGS:
                value = plain(FLAGS[name], given)
                if not fits(FLAGS[name], value):
                    raise BadInput(
                        f"--{name}={shown(given)}: expected {described(FLAGS[name])}, found {given!r}; see --help"
                    )
            if name in SECTION_OF:
                by_section.setdefault(SECTION_OF[name], {})[name] = value
            else:
                own[name] = value
        sections = {name: replace(getattr(self, name), **changes) for name, changes in by_section.items()}
        return replace(self, **sections, **own)

    @cached_property
    def teacher_training(self) -> Training:
        """The teacher's `Training`: the students' with the changes of `teacher_with`.

        Raises:
            BadInput: for a word of `teacher_with` that sets no field of `Training`, or sets it to a bad value.
        """
        words = self.distillation.teacher_with
        try:
            return replace(self.training, **parse_changes(words))
        except BadInput as error:
            raise BadInput(f"--teacher_with={shown(words)}: {error}") from None

    @property
    def distillation_loss(self) -> str:
        """Name of the distillation loss, a key of `losses.DISTILLATION` or several joined by `+`, with `auto` resolved."""
        chosen = self.distillation.distillation
        return chosen if chosen != "auto" else "mse" if self.training.loss == "mse" else "kd"

    def seed_range(self) -> range:
        """The seeds of this study."""
        return range(self.seed, self.seed + self.seeds)

    def identity(self) -> dict[str, Any]:
        """What must agree for two studies to share a work folder: all but the seeds, the control, and what only analysis looks at.

        Data named by its folder is told by its contents, whose fingerprint is on record, wherever it lies now. Of a teacher that
        exists already it is whether there is one; `studies.teachers` sees to it that it is the same, wherever
        it lies now.
        """
        own = {name: value for name, value in to_json(self).items() if SECTION_OF.get(name) != "look"}
        own |= {name: bool(own[name]) for name in ("teacher_from", "teacher_logits")}
        if is_folder(self.data.dataset):
            own["dataset"] = FOLDER
        return {name: value for name, value in own.items() if name not in ("seeds", "seed", "control")}


SECTIONS = {"data": Data, "networks": Networks, "training": Training, "distillation": Distillation, "look": Look}
SECTION_OF = {each.name: section for section, kind in SECTIONS.items() for each in fields(kind)}
FLAGS = {  # {flat name: type}; the section `distillation` has a field of its own name
    **{name: kind for section in SECTIONS.values() for name, kind in get_type_hints(section).items()},
    **{name: kind for name, kind in get_type_hints(Study).items() if name in ("seeds", "seed")},
}


def to_json(study: Study) -> dict[str, Any]:
    """Return the study as plain JSON values under their flat names, as `study.json` has it."""
    flat = {}
    for section in SECTIONS:
        part = getattr(study, section)
        flat |= {each.name: _lists(getattr(part, each.name)) for each in fields(part)}
    return flat | {"seeds": study.seeds, "seed": study.seed}


def _lists(value):
    return [_lists(part) for part in value] if isinstance(value, tuple) else value
