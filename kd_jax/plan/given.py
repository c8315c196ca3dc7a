"""What a plan knows of a teacher that exists already, and how long runs are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from kd_jax.config import Study, Training, from_json

LOGITS = "teacher_logits"  # what teaches where the teacher is a file


class Length(NamedTuple):
    """How long a run is, in steps.

    Attributes:
        steps_per_epoch, total_steps: the steps of an epoch, and of the whole training.
        checkpoint_steps: steps of its trajectory, rising.
    """

    steps_per_epoch: int
    total_steps: int
    checkpoint_steps: list[int]


def lengths_of(record: Mapping[str, Any]) -> dict[str, Length]:
    """Return {arm: how long its runs are} of the contents of a `study.json`."""
    return {arm["name"]: Length(*(arm[key] for key in Length._fields)) for arm in record["arms"]}


def seeds_of(study: Study, record: Mapping[str, Any]) -> list[int]:
    """Return the seeds of a study that are analysed: all but those that were given up because a run of theirs diverged.

    Args:
        study: the configuration.
        record: contents of its `study.json`.
    """
    given_up = {int(seed) for seed in record.get("skipped", {})}
    return [seed for seed in study.seed_range() if seed not in given_up]


class Source(NamedTuple):
    """A finished run of another work folder that teaches here.

    Attributes:
        run: its name there.
        step: the step at which it teaches.
        sha256: the digest of its variables at that step, as hex; its identity.
        length: its length.
        init, order, seed: the random streams from which it started and saw its batches; see `Arm`.
    """

    run: str
    step: int
    sha256: str
    length: Length
    init: int
    order: int
    seed: int


@dataclass(frozen=True)
class GivenTeacher:
    """A teacher that exists already, as `study.json` keeps it: runs of another work folder, or a file of logits.

    Attributes:
        sources: {seed of this study: the run that teaches it}; empty for logits.
        logits: the digest of the answers that are used, as hex; empty for runs.
        splits: names of the splits for which there are logits.
        standardised: (mean, std) of the channels of the images on which the runs were trained; None where it is not about such.
        switched: whether the loss of the runs was changed in mid-training.
        training: how the runs were trained; None where that is not known, or was on other data or not on labels alone.
    """

    sources: Mapping[int, Source]
    logits: str = ""
    splits: tuple[str, ...] = ()
    standardised: tuple[Any, Any] | None = None
    switched: bool = False
    training: Training | None = None

    @property
    def is_one(self) -> bool:
        """Whether one teacher teaches all seeds."""
        return len({source.sha256 for source in self.sources.values()}) <= 1

    @property
    def are_distinct(self) -> bool:
        """Whether there are several seeds, each with a teacher of its own."""
        return len({source.sha256 for source in self.sources.values()}) == len(self.sources) > 1

    @property
    def step(self) -> int:
        """The step at which the runs teach; 0 for their last, and for logits."""
        source = next(iter(self.sources.values()), None)
        return 0 if source is None or source.step == source.length.total_steps else source.step

    def key(self, seed: int) -> str:
        """Return the digest of what teaches a seed."""
        return self.logits or self.sources[seed].sha256

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> "GivenTeacher | None":
        """Return the given teacher of the contents of a `study.json`; None where teachers are trained."""
        if record and (logits := record.get("teacher_logits")):
            return cls({}, logits["sha256"], tuple(logits["splits"]))
        if not record or not (given := record.get("teacher_from")):
            return None
        sources = {}
        for name, of_run in given["runs"].items():
            own = {key: value for key, value in of_run.items() if key not in Length._fields}
            length = Length(*(of_run[key] for key in Length._fields))
            sources[int(name.rpartition("seed")[2])] = Source(length=length, **own)
        standardised = (given["mean"], given["std"]) if "mean" in given else None
        training = from_json(given["training"]).training if given.get("training") else None
        return cls(sources, standardised=standardised, switched=given["switched"], training=training)
