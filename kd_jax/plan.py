"""What a study comes to: its runs, how each is trained, how long, with which checkpoints. Built once from a `Study`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from kd_jax.config import Study, Training, parse_switch
from kd_jax.errors import BadInput


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

    The first student's arms are `onehot` and `student`; a further student's carry its network's name. Nulls repeat the first.
    """
    networks = study.networks
    listed = [Arm("teacher", networks.teacher, init=0, order=0)]
    for index, model in enumerate(networks.student):
        suffix = f"_{model.replace(':', '.')}" if index else ""  # a name of a folder, also where `:` is none
        onehot, student = f"onehot{suffix}", f"student{suffix}"
        listed += [Arm(onehot, model), Arm(student, model, teacher="teacher", baseline=onehot)]
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


@dataclass(frozen=True)
class Run:
    """One training run of a study.

    Attributes:
        arm: its arm, the kind of run.
        seed: its seed.
        training: how it is trained, the arm's factor of the learning rate included.
        length: how long, and at which steps its trajectory is kept.
        taught_by: name of the run that teaches it; None for a run on one-hot labels.
        teacher_step: the step at which that run teaches.
        key: sha256, as hex, over everything that decides the bits of the run: runs of one key are one run, whichever study they
            belong to.
    """

    arm: Arm
    seed: int
    training: Training
    length: Length
    taught_by: str | None
    teacher_step: int
    key: str

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
    """

    study: Study
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]

    def run(self, arm: str, seed: int) -> Run:
        """Return the run of an arm and a seed."""
        return next(run for run in self.runs if run.arm.name == arm and run.seed == seed)

    def length(self, arm: str) -> Length:
        """Return the length of an arm's runs."""
        return next(run.length for run in self.runs if run.arm.name == arm)

    @property
    def total_steps(self) -> int:
        """Steps of all runs together."""
        return sum(run.length.total_steps for run in self.runs)

    @property
    def teacher_step(self) -> int:
        """The step at which teachers teach."""
        return self.study.distillation.teacher_step or self.length("teacher").total_steps

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
    study: Study, train_examples: int, also: Iterable[int] = (), sources: Mapping[str, str] | None = None
) -> Plan:
    """Return the `Plan` of a study.

    Args:
        study: the configuration.
        train_examples: size of the training set, at least a batch of every training, which `data.check` sees to.
        also: steps at which teachers are kept besides; those beyond their end are left out.
        sources: {network of one's own: sha256 of its source}.

    Raises:
        BadInput: for a teacher that is stopped after its end.
    """
    listed, runs = arms(study), []
    trainings = {arm.name: training_of(study, arm) for arm in listed}
    lengths = {
        arm.name: _length(study, arm, trainings[arm.name], train_examples, also if arm.name == "teacher" else ())
        for arm in listed
    }
    total, step = lengths["teacher"].total_steps, study.distillation.teacher_step
    if step > total:
        raise BadInput(f"--teacher_step={step}: expected at most {total}, the steps of a training; pass 0 for the last")
    for seed in study.seed_range():
        for arm in listed:
            taught_by = f"{arm.teacher}-seed{seed}" if arm.teacher else None
            key = run_key(study, arm, seed, sources)
            runs.append(Run(arm, seed, trainings[arm.name], lengths[arm.name], taught_by, step or total, key))
    return Plan(study, listed, tuple(runs))


def run_name(arm: Arm, seed: int) -> str:
    """Return the name of the folder of a run."""
    return f"{arm.name}-seed{seed}"


def training_of(study: Study, arm: Arm) -> Training:
    """Return how the runs of an arm are trained."""
    training = study.teacher_training if arm.name == "teacher" else study.training
    return replace(training, learning_rate=arm.rate * training.learning_rate)


def run_key(study: Study, arm: Arm, seed: int, sources: Mapping[str, str] | None = None) -> str:
    """Return the sha256, as hex, over everything that decides the bits of a run: what `Run.key` is.

    Args:
        study, arm, seed: the run.
        sources: as for `make_plan`.
    """
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
        ]
        read["teacher"] = [run_key(study, arms(study)[0], seed, sources), taught.teacher_step]
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def _length(study: Study, arm: Arm, training: Training, train_examples: int, also: Iterable[int]) -> Length:
    """How long the runs of an arm are.

    Where a loss is switched there is a checkpoint before and one after, and one where an early-stopped teacher teaches.
    """
    steps_per_epoch = train_examples // training.batch_size
    total = steps_per_epoch * training.epochs
    also = {*also, study.distillation.teacher_step} if arm.name == "teacher" else set(also)
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
