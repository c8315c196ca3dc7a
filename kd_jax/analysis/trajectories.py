"""When each training example is learnt, forgotten, and taken past the teacher's confidence, from the checkpoints of a run.

The confidence is log p/(1-p) in the class that is the teacher's top one where it taught, and what it is held against is the
teacher's own confidence there (`exaggeration.confidence`). An untrained network is less sure than the teacher of nearly every
example; whether and when training takes it past the teacher is what is asked. A step is the first checkpoint at which something is
seen to have happened, so it is known as closely as checkpoints lie.
"""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import NamedTuple

import numpy as np

from kd_jax.analysis import intervals
from kd_jax.analysis.exaggeration import masks
from kd_jax.analysis.results import Estimate, Interval
from kd_jax.plan import TEACHER

MARGIN = float(np.log(2))  # nats: odds that are twice the teacher's, or half of them


class Trajectory(NamedTuple):
    """What a run says of some training examples along its training.

    Attributes:
        arm, seed, model: the run and its network.
        ids: positions of the examples in the published training set, int [examples].
        steps: steps of the checkpoints, rising, int [steps].
        confidence: in the teacher's top class, in nats, float32 [steps, examples].
        right: whether the prediction is the label that was trained on, bool [steps, examples].
        teacher_confidence: the teacher's confidence in that class where it taught, in nats, float32 [examples].
        noisy: whether the label that was trained on is not the published one, bool [examples].
    """

    arm: str
    seed: int
    model: str
    ids: np.ndarray
    steps: np.ndarray
    confidence: np.ndarray
    right: np.ndarray
    teacher_confidence: np.ndarray
    noisy: np.ndarray


def first(holds: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the first step at which something holds of each example, float64 [examples]; infinite where it never does.

    >>> first(np.array([[False, False], [True, False], [False, False]]), np.array([0, 5, 9])).tolist()
    [5.0, inf]

    Args:
        holds: bool [steps, examples].
        steps: rising, int [steps].
    """
    return np.where(holds.any(axis=0), steps[holds.argmax(axis=0)], np.inf)


def for_good(holds: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the first step from which on something holds of each example to the end; infinite where it does not in the end.

    >>> for_good(np.array([[True, True], [False, True], [True, False]]), np.array([0, 5, 9])).tolist()
    [9.0, inf]

    Args:
        holds, steps: as for `first`.
    """
    return first(np.logical_and.accumulate(holds[::-1])[::-1], steps)


def forgetting_events(right: np.ndarray) -> np.ndarray:
    """Return how often each example goes from right at one checkpoint to wrong at the next, int [examples].

    Source: Toneva et al., 2019, An empirical study of example forgetting during deep neural network learning, section 3; they
    look at every presentation of an example, so between checkpoints more may have happened.

    >>> forgetting_events(np.array([[True], [False], [True], [False]])).tolist()
    [2]

    Args:
        right: bool [steps, examples].
    """
    return (right[:-1] & ~right[1:]).sum(axis=0)


def of_examples(trajectory: Trajectory) -> dict[str, np.ndarray]:
    """Return {name: a number of each example, float64 [examples]}.

    - `step_first_right`, `step_learnt`: the first step at which it is right, and that from which on it stays so.
    - `forgetting_events`: see `forgetting_events`.
    - `step_crossed`: the first step at which the run is at least as sure as the teacher.
    - `step_surer`: the first one at which its odds are twice the teacher's or more: exaggerated upward by `MARGIN`.
    - `step_less_sure`: that from which on its odds stay at half the teacher's or less: exaggerated downward.

    Steps are infinite where it does not happen. The last three are not there for a teacher, which is held against itself.
    """
    steps, right = trajectory.steps, trajectory.right
    found = {
        "step_first_right": first(right, steps),
        "step_learnt": for_good(right, steps),
        "forgetting_events": forgetting_events(right).astype(np.float64),
    }
    if trajectory.arm != TEACHER:
        beyond = trajectory.confidence - trajectory.teacher_confidence
        found |= {
            "step_crossed": first(beyond >= 0, steps),
            "step_surer": first(beyond >= MARGIN, steps),
            "step_less_sure": for_good(beyond <= -MARGIN, steps),
        }
    return found


def estimates(trajectories: Iterable[Trajectory], single: Collection[str] = ()) -> list[Estimate]:
    """Return the estimates of trajectories, of all examples, of clean and noisy ones, and of the teacher's quarters.

    Of every step: its median over the examples, where more than half have one in every seed, and of one seed so many that both
    ends of its interval are steps; and the share that has one, `share_...`, at the end of training. Of forgetting: the mean number
    of events, `forgetting_events`, and the share of those ever right that are forgotten at least once, `share_forgotten`. Over
    seeds, medians have the interval of a median, all others Student's t.

    Args:
        trajectories: of every run.
        single: the arms of which one network stands for all seeds; theirs are then of one run, with intervals over examples.
    """
    found: dict[tuple[str, str, str], list[tuple[float, Callable[[], Interval]]]] = {}
    seen = set()
    for run in trajectories:
        if run.arm in single and run.arm in seen:
            continue
        seen.add(run.arm)
        numbers = of_examples(run)
        ever = np.isfinite(numbers["step_first_right"])
        for subset, mask in _subsets(run):

            def add(name, value, interval, run=run, subset=subset):
                found.setdefault((name, run.arm, subset), []).append((float(value), interval))

            for name, values in numbers.items():
                values = values[mask]
                if name == "forgetting_events":
                    add(name, values.mean(), lambda values=values: intervals.of_mean(values))
                    forgotten = values[ever[mask]] > 0
                    if len(forgotten):
                        add("share_forgotten", forgotten.mean(), lambda hits=forgotten: intervals.of_proportion(hits))
                    continue
                happened = np.isfinite(values)
                share = name.replace("step_", "share_")
                add(share, happened.mean(), lambda hits=happened: intervals.of_proportion(hits))
                with np.errstate(invalid="ignore"):  # a middle between infinities
                    middle = np.median(values)
                add(name, middle, lambda values=values: intervals.of_median(values, "examples"))
    listed = []
    for (name, arm, subset), by_seed in found.items():
        values = tuple(value for value, _ in by_seed)
        if not np.isfinite(values).all():
            continue
        over = partial(intervals.of_median, resampled="seeds") if name.startswith("step_") else intervals.over_seeds
        interval = over(values) if len(values) > 1 else by_seed[0][1]()
        if np.isfinite((interval.low, interval.high)).all():
            listed.append(Estimate(name, arm, interval, values, split="train", subset=subset))
    return listed


def _subsets(run: Trajectory):
    """Yield (subset, mask) of those that have two examples or more."""
    parts = {"all": np.ones(len(run.noisy), bool)}
    if run.noisy.any():
        parts |= {"clean": ~run.noisy, "noisy": run.noisy}
    quarters = masks(run.teacher_confidence)
    parts |= {name: quarters[name] for name in ("lowest_25", "highest_25")}
    for name, mask in parts.items():
        if mask.sum() > 1:
            yield name, mask


class Shares(NamedTuple):
    """How far a subset of the examples has come at each checkpoint of a run, float64 [steps] each.

    Attributes:
        right: the share whose prediction is the label that was trained on.
        crossed: the share of which the run has been at least as sure as the teacher, at this checkpoint or before.
    """

    right: np.ndarray
    crossed: np.ndarray


def shares(run: Trajectory, mask: np.ndarray) -> Shares:
    """Return the `Shares` of the examples of a mask, bool [examples]."""
    crossed = np.logical_or.accumulate(run.confidence[:, mask] >= run.teacher_confidence[mask])
    return Shares(run.right[:, mask].mean(axis=1), crossed.mean(axis=1))
