"""From run folders to examples along training: what networks say of the same training examples at every checkpoint."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax.analysis import exaggeration
from kd_jax.analysis.trajectories import Trajectory
from kd_jax.data import Dataset
from kd_jax.extract.logits import given_logits, make_on_batch, seen_by_teacher
from kd_jax.models import Variables
from kd_jax.plan import TEACHER, Plan, Run
from kd_jax.workdir import checkpoints, records

FEWEST = 3  # checkpoints of a trajectory, step 0 among them


def examples(dataset: Dataset, most: int) -> np.ndarray:
    """Return the rows of the examined training examples that are followed: a fixed random part, rising, int [examples].

    Args:
        dataset: the data.
        most: how many, `Look.trajectory_examples`; all where there are not so many.
    """
    return np.sort(np.random.default_rng(0).permutation(len(dataset.examined["train"].y))[:most])


def followed(plan: Plan) -> list[Run]:
    """Return the runs that are followed, seed by seed: those that are compared by their logits, where they left a curve."""
    runs = [run for run in plan.runs if not run.arm.null_of]
    return [run for run in runs if _is_curve(run.length.checkpoint_steps)]


def _is_curve(steps: list[int]) -> bool:
    return len(steps) >= FEWEST and steps[0] == 0


def trajectories(
    workdir: str | Path, plan: Plan, dataset: Dataset, advance: Callable[[str], None] = lambda label: None
) -> Iterator[Trajectory]:
    """Yield what every run of `followed` says of `Look.trajectory_examples` training examples along its training.

    Examples are read once and stay in memory; checkpoints are streamed.

    Args:
        workdir: the work folder.
        plan: the study's runs.
        dataset: what they were trained on.
        advance: called after each run, with its name.

    Raises:
        BadInput: for a checkpoint that is missing or damaged.
    """
    precision, split = plan.study.networks.precision, dataset.examined["train"]
    rows = examples(dataset, plan.study.look.trajectory_examples)
    blocks = [
        (np.searchsorted(rows, of_block), jax.device_put(x))
        for of_block, x in dataset.blocks(split.x, dataset.evaluation_size, rows, pad=True)
    ]
    known: dict[tuple[str, int], Any] = {}

    def answers(model_name: str, seen: Dataset, variables: dict[str, Any]) -> np.ndarray:
        if (key := (model_name, id(seen))) not in known:
            known[key] = make_on_batch(model_name, seen, precision)
        logits = np.empty((len(rows), dataset.classes))
        for places, x in blocks:
            logits[places] = np.asarray(known[key](Variables(**variables), x))[: len(places)]
        return logits

    of_teacher = seen_by_teacher(plan, dataset)
    labels, noisy = split.y[rows], split.y[rows] != split.true_y[rows]
    taught: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}
    for run in followed(plan):
        if (which := (run.arm.compared_with, run.seed)) not in taught:
            final = _teachers(workdir, plan, dataset, which, rows, answers, of_teacher)
            top = final.argmax(axis=1)
            taught[which] = top, exaggeration.confidence(final, top).astype(np.float32)
        top, of_final = taught[which]
        seen = of_teacher if run.arm.name == TEACHER else dataset
        steps, confidence, right = [], [], []
        folder = records.run_folder(workdir, run.name)
        for step, variables in checkpoints.stream_variables(folder, run.length.checkpoint_steps):
            logits = answers(run.arm.model, seen, variables)
            steps.append(step)
            confidence.append(exaggeration.confidence(logits, top).astype(np.float32))
            right.append(logits.argmax(axis=1) == labels)
        of_run = np.array(steps), np.array(confidence), np.array(right)
        yield Trajectory(run.arm.name, run.seed, run.arm.model, split.ids[rows], *of_run, of_final, noisy)
        advance(run.name)


def _teachers(workdir, plan, dataset, which, rows, answers, seen) -> np.ndarray:
    """The logits of a teacher, given as (arm, seed), where it taught, on the rows that are followed."""
    if plan.given is not None and plan.given.logits:
        return given_logits(workdir, dataset, plan.study.networks.precision)["train"][rows].astype(np.float64)
    name, seed = which
    run, step = plan.network(next(arm for arm in plan.shown if arm.name == name), seed)
    return answers(run.arm.model, seen, checkpoints.load_variables(records.run_folder(workdir, run.name), step))
