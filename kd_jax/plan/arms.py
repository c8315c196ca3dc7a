"""The arms of a study: its kinds of runs, what each stands for, and which of them shows what no exaggeration looks like.

A student is said to exaggerate its teacher where it does so more than a network would that knows nothing of the teacher. That
network, its control, must be exchangeable with the teacher: the same network, trained as the teacher was, from another seed. Where
teacher and students are trained alike the one-hot twin is that, and where the teacher is stopped early, the twin at the same
step. Elsewhere a second teacher is trained, `teacher_twin`, one for all students; or the teacher of the next seed stands in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from kd_jax.config import Study, Training
from kd_jax.plan.given import GivenTeacher, Length, lengths_of

TEACHER = "teacher"  # the name of the teacher's arm, and of a teacher without one in estimates
EARLY = "teacher_early"  # the same runs, where they teach early
TWIN = "teacher_twin"  # a second teacher, which teaches nobody
NEXT = "teacher_next"  # the teacher of the next seed


@dataclass(frozen=True)
class Arm:
    """One kind of run in a study; an arm and a seed are a run. Or a kind of network that is looked at: part of another arm's runs.

    Attributes:
        name: the `ARM` of the run's folder.
        model: name of the network.
        teacher: name of the arm that it is distilled from; None for a run on one-hot labels.
        baseline: the arm that differs from this one only by having no teacher; None where there is none.
        init, order: which random stream of the seed gives the initialisation, and which gives batches and views. A student and
            its one-hot twin share theirs, so they start equal and see the same; the teacher has its own, so a one-hot twin
            of the teacher's architecture that is trained as it was is what another seed of the teacher would be.
        rate: factor of the learning rate.
        null_of: the one-hot arm that this one repeats with a difference that is not a teacher; None for all others.
        control: of a student, the arm that is exchangeable with its teacher; None where there is none.
        against: of all but students, the teacher with which it is compared.
        otherwise: whether it is trained otherwise than the students' one-hot twins, by more than another random stream.
        part_of: the arm whose runs these are; None for an arm with runs of its own.
        step: the step at which its networks are looked at; 0 for the last.
        epoch: the same, in epochs, where that is how it was asked for; 0 where it was not.
        of_next_seed: whether the runs are those of the next seed, after the last the first.
    """

    name: str
    model: str
    teacher: str | None = None
    baseline: str | None = None
    init: int = 1
    order: int = 1
    rate: float = 1.0
    null_of: str | None = None
    control: str | None = None
    against: str = TEACHER
    otherwise: bool = False
    part_of: str | None = None
    step: int = 0
    epoch: int = 0
    of_next_seed: bool = False

    @property
    def compared_with(self) -> str:
        """The teacher that it is compared with: its own, where it has one."""
        return self.teacher or self.against

    @property
    def is_onehot(self) -> bool:
        """Whether its runs are a student's network on labels alone, trained as the student is."""
        special = self.name in (TEACHER, TWIN) or self.teacher or self.null_of or self.part_of
        return not special

    def looked_at(self, length: Length) -> int:
        """Return the step at which its networks are looked at, given how long its runs are."""
        return self.step or self.epoch * length.steps_per_epoch or length.total_steps


NULLS: dict[str, dict[str, Any]] = {
    "order": {"order": 2},
    "init": {"init": 2},
    "slower": {"rate": 0.25},
    "faster": {"rate": 4.0},
}


class Design(NamedTuple):
    """What is compared with what in a study.

    Attributes:
        arms: the kinds of runs, in the order in which they can be trained.
        views: further kinds of networks that are looked at: parts of those runs.
        no_control: why a student has no control, in words; empty where all have one.
    """

    arms: tuple[Arm, ...]
    views: tuple[Arm, ...] = ()
    no_control: str = ""

    @property
    def shown(self) -> tuple[Arm, ...]:
        """The arms and views in the order in which they are shown: a view stands beside what it is a part of."""
        listed: list[Arm] = []
        for arm in sorted(self.arms, key=lambda arm: arm.name not in (TEACHER, TWIN)):
            listed += [arm, *(view for view in self.views if view.part_of == arm.name)]
        return tuple(listed)


def arms(study: Study, given: GivenTeacher | None = None) -> tuple[Arm, ...]:
    """Return the arms of a study in the order in which they can run; see `design`."""
    return design(study, given).arms


def of_record(study: Study, record: Mapping[str, Any]) -> Design:
    """Return the design of a study that was trained, from the contents of its `study.json`."""
    return design(study, GivenTeacher.of(record), lengths_of(record))


def design(study: Study, given: GivenTeacher | None = None, trained: Mapping[str, Length] | None = None) -> Design:
    """Return the arms of a study and what is compared with what.

    The first student's arms are `onehot` and `student`; a further student's carry its network's name. With `early_epoch` each
    network has one student more, of the same teacher as it was early. Nulls repeat the first one-hot arm. Where the teacher is a
    file of logits it is no run, so there is no such arm.

    Args:
        study: the configuration.
        given: the teacher that exists already, where the study has one.
        trained: {arm: how long its runs are} of a study on record: no other arm is there, and no other step. An earlier version
            trained no arm for the control alone.
    """
    networks, distillation, is_given = study.networks, study.distillation, study.distillation.is_teacher_given
    alike = trained_alike(study, given)
    step = given.step if given else distillation.teacher_step
    points = {TEACHER: {"step": step, "epoch": 0}}
    if not is_given and 0 < distillation.early_epoch < study.teacher_training.epochs:
        points[EARLY] = {"step": 0, "epoch": distillation.early_epoch}
    suffixes = {model: f"_{model.replace(':', '.')}" if index else "" for index, model in enumerate(networks.student)}
    onehots = {model: Arm(f"onehot{suffix}", model) for model, suffix in suffixes.items()}
    teacher = Arm(TEACHER, networks.teacher, init=0, order=0, otherwise=not alike, step=step)
    twin = onehots.get(networks.teacher) if alike and not _shares_streams(given, onehots) else None
    if twin is None and _trains_twin(study, trained):
        twin = replace(teacher, name=TWIN, init=3, order=3)
    views = [replace(teacher, name=EARLY, part_of=TEACHER, **points[EARLY])] if EARLY in points else []
    controls = {}
    for name, point in points.items():
        chosen = [_beside_twin(twin, name, point, trained), _of_next_seed(study, given, teacher, name, point)]
        control = next((arm for arm in chosen if arm is not None), None)
        controls[name] = None if control is None else control.name
        views += [control] if control is not None and control.part_of else []
    listed = [] if distillation.teacher_logits else [teacher]
    for model, suffix in suffixes.items():
        onehot = onehots[model]
        listed.append(onehot)
        for name in points:
            student = f"student{'_early' if name == EARLY else ''}{suffix}"
            listed.append(Arm(student, model, teacher=name, baseline=onehot.name, control=controls[name]))
    for null in networks.nulls:
        listed.append(Arm(f"onehot_{null}", networks.student[0], null_of="onehot", **NULLS[null]))
    if twin is not None and twin.name == TWIN:
        listed.append(twin)
    lacking = None in controls.values()
    return Design(tuple(listed), tuple(views), _why_none(study, given) if lacking else "")


def trained_alike(study: Study, given: GivenTeacher | None = None) -> bool:
    """Return whether a study's teacher is trained as its students' one-hot twins are, but for network and random streams."""
    of_teacher = study.teacher_training
    if study.distillation.is_teacher_given:
        if given is None or given.training is None:
            return False
        of_teacher = given.training
    # How many checkpoints are kept, and an average beside the weights, changes no training.
    kept = {name: getattr(study.training, name) for name in ("checkpoints", "ema")}
    return replace(of_teacher, **kept) == study.training


def training_of(study: Study, arm: Arm) -> Training:
    """Return how the runs of an arm are trained."""
    training = study.teacher_training if arm.name in (TEACHER, TWIN) else study.training
    return replace(training, learning_rate=arm.rate * training.learning_rate)


def _shares_streams(given: GivenTeacher | None, onehots: Mapping[str, Arm]) -> bool:
    """Whether a given teacher started where a one-hot twin of its seed does, which is then no independent network."""
    starts = {arm.init for arm in onehots.values()}
    return bool(given) and any(of.seed == seed and of.init in starts for seed, of in given.sources.items())


def _trains_twin(study: Study, trained: Mapping[str, Length] | None) -> bool:
    """Whether a second teacher is trained; one of a teacher that is taken as it is would be the same network."""
    wanted = study.distillation.control == "auto" and not study.distillation.is_teacher_given
    return wanted and study.teacher_training.epochs > 0 and (trained is None or TWIN in trained)


def _beside_twin(
    twin: Arm | None, name: str, point: Mapping[str, int], trained: Mapping[str, Length] | None
) -> Arm | None:
    """The twin of a teacher, looked at where that teaches; None where there is none, or its runs were not kept there."""
    if twin is None or (twin.step, twin.epoch) == tuple(point.values()):
        return twin
    view = replace(twin, name=f"{twin.name}_early", part_of=twin.name, against=name, **point)
    length = trained.get(twin.name) if trained is not None else None
    return view if length is None or view.looked_at(length) in length.checkpoint_steps else None


def _of_next_seed(
    study: Study, given: GivenTeacher | None, teacher: Arm, name: str, point: Mapping[str, int]
) -> Arm | None:
    """The teacher of the next seed, looked at where it teaches; None where that is no other network."""
    several = given.are_distinct if given else study.seeds > 1 and study.teacher_training.epochs > 0
    if not several or study.distillation.teacher_logits:
        return None
    called = NEXT if name == TEACHER else f"{NEXT}_early"
    return replace(teacher, name=called, part_of=TEACHER, against=name, of_next_seed=True, **point)


def _why_none(study: Study, given: GivenTeacher | None) -> str:
    if study.distillation.teacher_logits:
        return "the teacher is a file of logits, and no second one from another seed is at hand"
    if study.distillation.teacher_from:
        return "one teacher from elsewhere teaches all seeds; name a work folder with a teacher for each of them"
    if not study.teacher_training.epochs:
        return "the teacher is taken as it is, and no second one from another seed is at hand"
    if study.distillation.control != "auto":
        return "there is one seed, and --control=free trains no second teacher"
    return "no second teacher was trained or kept; run the study's command again, which does that"
