"""What a study comes to: its runs, how each is trained, how long, with which checkpoints. Built once from a `Study`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from kd_jax.config import Study, Training, parse_switch
from kd_jax.errors import BadInput

TEACHER = "teacher"  # the name of the teacher's arm, and of a teacher without one in estimates
LOGITS = "teacher_logits"  # what teaches where the teacher is a file


@dataclass(frozen=True)
class Arm:
    """One kind of run in a study; an arm and a seed are a run.

    Attributes:
        name: the `ARM` of the run's folder.
        model: name of the network.
        teacher: name of the arm that it is distilled from; None for a run on one-hot labels.
        baseline: the arm that differs from this one only by having no teacher; None where there is none.
        init, order: which random stream of the seed gives the initialisation, and which gives batches and views. A student and
            its one-hot twin share theirs, so they start equal and see the same; the teacher has its own, so a one-hot twin
            of the teacher's architecture is what another seed of the teacher would be.
        rate: factor of the learning rate.
        null_of: the one-hot arm that this one repeats with a difference that is not a teacher; None for all others.
    """

    name: str
    model: str
    teacher: str | None = None
    baseline: str | None = None
    init: int = 1
    order: int = 1
    rate: float = 1.0
    null_of: str | None = None


NULLS: dict[str, dict[str, Any]] = {
    "order": {"order": 2},
    "init": {"init": 2},
    "slower": {"rate": 0.25},
    "faster": {"rate": 4.0},
}


def arms(study: Study) -> tuple[Arm, ...]:
    """Return the arms of a study in the order in which they can run: the teacher, then each student's one-hot twin and it.

    The first student's arms are `onehot` and `student`; a further student's carry its network's name. Nulls repeat the first. Where
    the teacher is a file of logits it is no run, so there is no such arm.
    """
    networks = study.networks
    listed = [] if study.distillation.teacher_logits else [Arm(TEACHER, networks.teacher, init=0, order=0)]
    for index, model in enumerate(networks.student):
        suffix = f"_{model.replace(':', '.')}" if index else ""  # a name of a folder, also where `:` is none
        onehot, student = f"onehot{suffix}", f"student{suffix}"
        listed += [Arm(onehot, model), Arm(student, model, teacher=TEACHER, baseline=onehot)]
    for null in networks.nulls:
        listed.append(Arm(f"onehot_{null}", networks.student[0], null_of="onehot", **NULLS[null]))
    return tuple(listed)


class Length(NamedTuple):
    """How long a run is, in steps.

    Attributes:
        steps_per_epoch, total_steps: the steps of an epoch, and of the whole training.
        checkpoint_steps: steps of its trajectory, rising.
    """

    steps_per_epoch: int
    total_steps: int
    checkpoint_steps: list[int]


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
    """

    sources: Mapping[int, Source]
    logits: str = ""
    splits: tuple[str, ...] = ()
    standardised: tuple[Any, Any] | None = None
    switched: bool = False

    @property
    def is_one(self) -> bool:
        """Whether one teacher teaches all seeds."""
        return len({source.sha256 for source in self.sources.values()}) <= 1

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
        return cls(sources, standardised=standardised, switched=given["switched"])


@dataclass(frozen=True)
class Run:
    """One training run of a study.

    Attributes:
        arm: its arm, the kind of run.
        seed: its seed.
        training: how it is trained, the arm's factor of the learning rate included.
        length: how long, and at which steps its trajectory is kept.
        taught_by: name of the run that teaches it, or `LOGITS`; None for a run on one-hot labels.
        teacher_step: the step at which that run teaches.
        key: sha256, as hex, over everything that decides the bits of the run: runs of one key are one run, whichever study they
            belong to.
        source: the run of another work folder that it is a copy of, and so not trained here; None for all others.
    """

    arm: Arm
    seed: int
    training: Training
    length: Length
    taught_by: str | None
    teacher_step: int
    key: str
    source: Source | None = None

    @property
    def name(self) -> str:
        """The name of its folder."""
        return run_name(self.arm, self.seed)


@dataclass(frozen=True)
class Plan:
    """The runs of a study, in the order in which they can be trained.

    Attributes:
        study: the configuration.
        arms: its arms, the teacher first.
        runs: every arm for every seed, seed by seed.
        given: the teacher that exists already; None where teachers are trained.
    """

    study: Study
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    given: GivenTeacher | None = None

    def run(self, arm: str, seed: int) -> Run:
        """Return the run of an arm and a seed."""
        return next(run for run in self.runs if run.arm.name == arm and run.seed == seed)

    @property
    def starts_with_teacher(self) -> tuple[int, ...]:
        """The seeds whose given teacher is of a student's network and started where that student does, with its batches.

        There the one-hot twin is no independent model, as the control should be.
        """
        students = [arm for arm in self.arms if arm.baseline]
        of_teacher = {arm.model for arm in self.arms if arm.name == TEACHER}
        starts = {arm.init for arm in students if arm.model in of_teacher}
        sources = self.given.sources if self.given else {}
        return tuple(seed for seed, source in sources.items() if source.seed == seed and source.init in starts)

    def length(self, arm: str) -> Length:
        """Return the length of an arm's runs."""
        return next(run.length for run in self.runs if run.arm.name == arm)

    @property
    def total_steps(self) -> int:
        """Steps of all runs that are trained here, together."""
        return sum(run.length.total_steps for run in self.runs if run.source is None)

    @property
    def teacher_step(self) -> int:
        """The step at which teachers teach; 0 for a file of logits."""
        return next(run.teacher_step for run in self.runs if run.taught_by)

    @property
    def baselines(self) -> dict[str, str]:
        """{student's arm: the arm that differs from it by having no teacher}."""
        return {arm.name: arm.baseline for arm in self.arms if arm.baseline}


class Variant(NamedTuple):
    """One study of a sweep.

    Attributes:
        folder: name of its work folder, below the sweep's.
        values: {field: what was typed for it}; empty for the study that the flags beside `--sweep` describe.
    """

    folder: str
    values: dict[str, str]


def make_plan(
    study: Study,
    train_examples: int,
    also: Iterable[int] = (),
    given: GivenTeacher | None = None,
    sources: Mapping[str, str] | None = None,
) -> Plan:
    """Return the `Plan` of a study.

    Args:
        study: the configuration.
        train_examples: size of the training set, at least a batch of every training, which `data.check` sees to.
        also: steps at which teachers are kept besides; those beyond their end are left out.
        given: the teacher that exists already, where the study has one.
        sources: {network of one's own: sha256 of its source}.

    Raises:
        BadInput: for a teacher that is stopped after its end, or gradients that are accumulated for longer than an epoch.
    """
    if study.distillation.is_teacher_given != (given is not None):
        raise ValueError("a study with teacher_from or teacher_logits, and no other, needs the teacher that is given")
    listed, runs = arms(study), []
    trainings = {arm.name: training_of(study, arm) for arm in listed}
    lengths = {
        arm.name: _length(study, arm, trainings[arm.name], train_examples, also if arm.name == TEACHER else ())
        for arm in listed
        if arm.name != TEACHER or given is None
    }
    step = study.distillation.teacher_step
    if given is None:
        total = lengths[TEACHER].total_steps
        if step > total:
            raise BadInput(
                f"--teacher_step={step}: expected at most {total}, the steps of a training; pass 0 for the last"
            )
        step = step or total
    for seed in study.seed_range():
        source = given.sources.get(seed) if given else None
        for arm in listed:
            taught_by = f"{arm.teacher}-seed{seed}" if arm.teacher else None
            if taught_by and study.distillation.teacher_logits:
                taught_by = LOGITS
            copied = source if arm.name == TEACHER else None
            length = copied.length if copied else lengths[arm.name]
            key, at = run_key(study, arm, seed, given, sources), source.step if source else step
            runs.append(Run(arm, seed, trainings[arm.name], length, taught_by, at, key, copied))
    return Plan(study, listed, tuple(runs), given)


def run_name(arm: Arm, seed: int) -> str:
    """Return the name of the folder of a run."""
    return f"{arm.name}-seed{seed}"


def training_of(study: Study, arm: Arm) -> Training:
    """Return how the runs of an arm are trained."""
    training = study.teacher_training if arm.name == TEACHER else study.training
    return replace(training, learning_rate=arm.rate * training.learning_rate)


def run_key(
    study: Study,
    arm: Arm,
    seed: int,
    given: GivenTeacher | None = None,
    sources: Mapping[str, str] | None = None,
) -> str:
    """Return the sha256, as hex, over everything that decides the bits of a run: what `Run.key` is.

    Args:
        study, arm, seed: the run.
        given, sources: as for `make_plan`.
    """
    if given is not None and arm.name == TEACHER:
        return hashlib.sha256(f"given {given.key(seed)}".encode()).hexdigest()
    networks = study.networks
    read: dict[str, Any] = {
        "data": asdict(study.data),
        "training": asdict(training_of(study, arm)),
        "model": arm.model,
        "init_from": networks.init_from,
        "precision": networks.precision,
        "init": arm.init,
        "order": arm.order,
        "seed": seed,
    }
    if sources and arm.model in sources:
        read["source"] = sources[arm.model]
    if arm.teacher:
        taught = study.distillation
        loss = study.distillation_loss
        read["distillation"] = [
            loss,
            taught.temperature,
            taught.weight,
            taught.switch,
            *taught.settings_of(loss).values(),
            *taught.features,
        ]
        own = given.key(seed) if given is not None else run_key(study, arms(study)[0], seed, None, sources)
        read["teacher"] = [own, 0 if given is not None else taught.teacher_step]
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def _length(study: Study, arm: Arm, training: Training, train_examples: int, also: Iterable[int]) -> Length:
    """How long the runs of an arm are.

    Where a loss is switched there is a checkpoint before and one after, and one where an early-stopped teacher teaches.
    """
    steps_per_epoch = train_examples // training.batch_size
    if training.accumulate > max(steps_per_epoch, 1):
        raise BadInput(
            f"--accumulate={training.accumulate}: expected at most {steps_per_epoch}, the steps of an epoch; lower it or the"
            " --batch_size"
        )
    total = steps_per_epoch * training.epochs
    also = {*also, study.distillation.teacher_step} if arm.name == TEACHER else set(also)
    switch = parse_switch(study.distillation.switch)
    if switch is not None and arm.teacher:
        begins = round(switch.epoch * steps_per_epoch)
        also |= {begins, begins + switch.ramp}
    also = {step for step in also if step <= total}
    return Length(steps_per_epoch, total, checkpoint_steps(total, training.checkpoints, also))


def checkpoint_steps(total_steps: int, count: int, also: Iterable[int] = ()) -> list[int]:
    """Return the steps at which a trajectory is kept: 0, `total_steps`, about `count` - 2 between, and `also`.

    Half are spaced geometrically, where a network changes fast, and half evenly. Near step 0 the geometric ones coincide on
    whole numbers, so fewer than `count` may come out.

    >>> checkpoint_steps(100, 6)
    [0, 1, 5, 22, 33, 67, 100]
    """
    if not total_steps:
        return [0]
    geometric = {round(total_steps ** (i / (count // 2))) for i in range(count // 2 + 1)}
    even_count = count - count // 2
    even = {round(total_steps * i / even_count) for i in range(even_count + 1)}
    return sorted({0, total_steps, *also} | geometric | even)
