"""What a study comes to: its runs, how each is trained, how long, with which checkpoints. Built once from a `Study`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from kd_jax.config import Study, Training, parse_switch
from kd_jax.errors import BadInput
from kd_jax.plan.arms import EARLY, TEACHER, TWIN, Arm, Design, arms, design, training_of
from kd_jax.plan.given import LOGITS, GivenTeacher, Length, Source

MOST_STEPS = 2**31 - 1


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

    @property
    def teacher_name(self) -> str:
        """What its teacher is called in `study.json`: a run that teaches at two steps has two names."""
        return LOGITS if self.taught_by == LOGITS else f"{self.arm.teacher}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """The runs of a study, in the order in which they can be trained.

    Attributes:
        study: the configuration.
        arms: its arms, the teacher first.
        runs: every arm for every seed, seed by seed; but those of seeds that were given up.
        given: the teacher that exists already; None where teachers are trained.
        views: further kinds of networks that are looked at, parts of those runs; see `Design`.
        no_control: why a student has no control, in words; empty where all have one.
    """

    study: Study
    arms: tuple[Arm, ...]
    runs: tuple[Run, ...]
    given: GivenTeacher | None = None
    views: tuple[Arm, ...] = ()
    no_control: str = ""

    @property
    def shown(self) -> tuple[Arm, ...]:
        """The arms and views in the order in which they are shown; see `Design.shown`."""
        return Design(self.arms, self.views).shown

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs, rising: those of the study, but those that were given up."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    def with_seeds(self, seeds: Iterable[int]) -> "Plan":
        """Return the plan with the runs of these seeds alone."""
        kept = set(seeds)
        return replace(self, runs=tuple(run for run in self.runs if run.seed in kept))

    def run(self, arm: str, seed: int) -> Run:
        """Return the run of an arm and a seed."""
        return next(run for run in self.runs if run.arm.name == arm and run.seed == seed)

    def network(self, arm: Arm, seed: int) -> tuple[Run, int]:
        """Return the run of an arm or view and a seed, and the step at which it is looked at."""
        if arm.of_next_seed:
            seeds = self.seeds
            seed = seeds[(seeds.index(seed) + 1) % len(seeds)]
        run = self.run(arm.part_of or arm.name, seed)
        return run, arm.looked_at(run.length)

    @property
    def starts_with_teacher(self) -> tuple[int, ...]:
        """The seeds whose given teacher is of a student's network and started where that student does, with its batches.

        There the one-hot twin is no independent model, as the control should be.
        """
        students = [arm for arm in self.arms if arm.baseline]
        of_teacher = {arm.model for arm in self.arms if arm.name == TEACHER}
        starts = {arm.init for arm in students if arm.model in of_teacher}
        sources = self.given.sources if self.given else {}
        alike = (seed for seed, source in sources.items() if source.seed == seed and source.init in starts)
        return tuple(seed for seed in alike if seed in self.seeds)

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
        return next(run.teacher_step for run in self.runs if run.arm.teacher == TEACHER)

    @property
    def baselines(self) -> dict[str, str]:
        """{student's arm: the arm that differs from it by having no teacher}."""
        return {arm.name: arm.baseline for arm in self.arms if arm.baseline}

    @property
    def controls(self) -> dict[str, str | None]:
        """{student's arm: the arm or view that is exchangeable with its teacher; None where there is none}."""
        return {arm.name: arm.control for arm in self.arms if arm.baseline}

    @property
    def teachers(self) -> dict[str, str]:
        """{student's arm: the arm or view that teaches it}."""
        return {arm.name: arm.teacher for arm in self.arms if arm.teacher}


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
    trained: Mapping[str, Length] | None = None,
    begun: Mapping[str, Length] | None = None,
) -> Plan:
    """Return the `Plan` of a study.

    Args:
        study: the configuration.
        train_examples: size of the training set, at least a batch of every training, which `data.check` sees to.
        also: steps at which teachers, and the controls that stand for them, are kept besides; those beyond their end are left out.
        given: the teacher that exists already, where the study has one.
        sources: {network of one's own: sha256 of its source}.
        trained: {arm: how long its runs are} of a study on record, which has no other arms, and no other steps.
        begun: the same of a study that goes on: the steps that were asked for stay so, and arms may come in addition.

    Raises:
        BadInput: for a teacher that is stopped after its end, or gradients that are accumulated for longer than an epoch.
    """
    if study.distillation.is_teacher_given != (given is not None):
        raise ValueError("a study with teacher_from or teacher_logits, and no other, needs the teacher that is given")
    made, runs = design(study, given, trained), []
    trainings = {arm.name: training_of(study, arm) for arm in made.arms}
    lengths = dict(trained or {})
    views = [view for view in made.views if not view.of_next_seed]
    for arm in made.arms:
        if arm.name not in lengths and not (arm.name == TEACHER and given is not None):
            like_teacher = arm.is_onehot and arm.model == study.networks.teacher
            steps = {*also} if like_teacher or arm.name in (TEACHER, TWIN) else set()
            steps |= {*begun[arm.name].checkpoint_steps} if begun and arm.name in begun else set()
            lengths[arm.name] = _length(
                study.distillation.switch, arm, trainings[arm.name], train_examples, steps, views
            )
    step = study.distillation.teacher_step
    if given is None:
        total = lengths[TEACHER].total_steps
        if step > total:
            raise BadInput(
                f"--teacher_step={step}: expected at most {total}, the steps of a training; pass 0 for the last"
            )
    teaching = {arm.name: arm for arm in (*made.arms, *made.views)}
    for seed in study.seed_range():
        source = given.sources.get(seed) if given else None
        for arm in made.arms:
            taught_by = f"{TEACHER}-seed{seed}" if arm.teacher else None
            if taught_by and study.distillation.teacher_logits:
                taught_by = LOGITS
            copied = source if arm.name == TEACHER else None
            length = copied.length if copied else lengths[arm.name]
            key = run_key(study, arm, seed, given, sources)
            at = source.step if source else 0
            if given is None:
                at = teaching[arm.teacher or TEACHER].looked_at(lengths[TEACHER])
            runs.append(Run(arm, seed, trainings[arm.name], length, taught_by, at, key, copied))
    return Plan(study, made.arms, tuple(runs), given, made.views, made.no_control)


def run_name(arm: Arm, seed: int) -> str:
    """Return the name of the folder of a run."""
    return f"{arm.name}-seed{seed}"


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
    defaults = {"matmul_precision": "default", "batch_norm": "global"}
    read |= {name: value for name in defaults if (value := getattr(networks, name)) != defaults[name]}
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
        early = {"epoch": taught.early_epoch} if arm.teacher == EARLY else taught.teacher_step
        read["teacher"] = [own, 0 if given is not None else early]
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def _length(
    switched: str, arm: Arm, training: Training, train_examples: int, also: set[int], views: Iterable[Arm]
) -> Length:
    """How long the runs of an arm are; `switched` is `--switch`.

    Where a loss is switched there is a checkpoint before and one after, and one wherever the runs are looked at.
    """
    steps_per_epoch = train_examples // training.batch_size
    if training.accumulate > max(steps_per_epoch, 1):
        raise BadInput(
            f"--accumulate={training.accumulate}: expected at most {steps_per_epoch}, the steps of an epoch; lower it or the"
            " --batch_size"
        )
    total = steps_per_epoch * training.epochs
    if total > MOST_STEPS:
        raise BadInput(
            f"--epochs={training.epochs}: expected at most {MOST_STEPS // steps_per_epoch} of {steps_per_epoch} steps each, for"
            " steps are counted in 32 bits; lower it"
        )
    whole = Length(steps_per_epoch, total, [])
    also = also | {each.looked_at(whole) for each in (arm, *views) if arm.name in (each.name, each.part_of)}
    switch = parse_switch(switched)
    if switch is not None and arm.teacher:
        begins = round(switch.epoch * steps_per_epoch)
        also |= {begins, begins + switch.ramp}
    also = {step for step in also if step <= total}
    return whole._replace(checkpoint_steps=checkpoint_steps(total, training.checkpoints, also))


def checkpoint_steps(total_steps: int, count: int, also: Iterable[int] = ()) -> list[int]:
    """Return the steps at which a trajectory is kept: 0, `total_steps`, about `count` - 2 between, and `also`.

    Half are spaced geometrically, where a network changes fast, and half evenly. Near step 0 the geometric ones coincide on
    whole numbers, so fewer than `count` may come out.

    >>> checkpoint_steps(100, 6)
    [0, 1, 5, 22, 33, 67, 100]
    """
    if not total_steps:
        return [0]
    if count >= 2 * total_steps:  # evenly spaced ones alone are all that there are
        return list(range(total_steps + 1))
    geometric = {round(total_steps ** (i / (count // 2))) for i in range(count // 2 + 1)}
    even_count = count - count // 2
    even = {round(total_steps * i / even_count) for i in range(even_count + 1)}
    return sorted({0, total_steps, *also} | geometric | even)
