"""From run folders to examples along training: what networks say of the same training examples at every checkpoint."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kd_jax.analysis import exaggeration
from kd_jax.analysis.trajectories import Trajectory
from kd_jax.data import Dataset
from kd_jax.extract.logits import answers, given_logits, make_on_batch, seen_by_teacher
from kd_jax.models import Variables
from kd_jax.plan import EARLY, TEACHER, Arm, Plan, Run
from kd_jax.workdir import checkpoints, records

FEWEST = 3  # checkpoints of a trajectory, step 0 among them


def examples(dataset: Dataset, most: int) -> np.ndarray:
    """Return the rows of the examined training examples that are followed: a fixed random part, rising, int [examples].

    Args:
        dataset: the data.
        most: how many, `Look.trajectory_examples`; all where there are not so many.
    """
    return np.sort(np.random.default_rng(0).permutation(len(dataset.examined["train"].y))[:most])


class Part(NamedTuple):
    """The part of a run that an arm or view stands for: its seed in the study, and the last step."""

    arm: Arm
    seed: int
    last: int


def followed(plan: Plan) -> list[tuple[Run, list[Part]]]:
    """Return [(run, what stands for it)] of the runs that are followed: those compared by their logits, where they left a curve.

    A view, such as a control that is stopped early, is a run up to the step at which it is looked at.
    """
    found: dict[str, tuple[Run, list[Part]]] = {}
    for seed in plan.seeds:
        for arm in plan.shown:
            if arm.null_of or arm.name == EARLY:  # the teacher's runs once more
                continue
            run, step = plan.network(arm, seed)
            last = step if arm.part_of else run.length.total_steps
            steps = [each for each in run.length.checkpoint_steps if each <= last]
            if len(steps) >= FEWEST and steps[0] == 0:
                found.setdefault(run.name, (run, []))[1].append(Part(arm, seed, last))
    return list(found.values())


def trajectories(
    workdir: str | Path, plan: Plan, dataset: Dataset, advance: Callable[[str], None] = lambda label: None
) -> Iterator[Trajectory]:
    """Yield what everything in `followed` says of `Look.trajectory_examples` training examples along its training.

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
    seen_by = {TEACHER: seen_by_teacher(plan, dataset)}

    def said(run: Run, variables: dict[str, Any]) -> np.ndarray:
        on_batch = make_on_batch(run.arm.model, seen_by.get(run.arm.name, dataset), precision)
        network = on_batch, Variables(**variables)
        return answers({run.name: network}, blocks, (len(rows), dataset.classes), np.float64)[run.name]

    labels, noisy = split.y[rows], split.y[rows] != split.true_y[rows]
    teachers: dict[tuple[str, int], tuple[np.ndarray, np.ndarray]] = {}

    def teacher(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(top class, confidence in it) of a teacher where it teaches."""
        if (name, seed) not in teachers:
            if plan.given is not None and plan.given.logits:
                logits = given_logits(workdir, dataset, precision)["train"][rows].astype(np.float64)
            else:
                run, step = plan.network(next(arm for arm in plan.shown if arm.name == name), seed)
                logits = said(run, checkpoints.load_variables(records.run_folder(workdir, run.name), step))
            top = logits.argmax(axis=1)
            teachers[name, seed] = top, exaggeration.confidence(logits, top).astype(np.float32)
        return teachers[name, seed]

    for run, parts in followed(plan):
        steps, right = np.array(run.length.checkpoint_steps), []
        confidences: list[list[np.ndarray]] = [[] for _ in parts]
        folder = records.run_folder(workdir, run.name)
        for _, variables in checkpoints.stream_variables(folder, steps.tolist()):
            logits = said(run, variables)
            right.append(logits.argmax(axis=1) == labels)
            for part, listed in zip(parts, confidences, strict=True):
                top, _ = teacher(part.arm.compared_with, part.seed)
                listed.append(exaggeration.confidence(logits, top).astype(np.float32))
        for part, listed in zip(parts, confidences, strict=True):
            count = int((steps <= part.last).sum())
            of_part = steps[:count], np.array(listed[:count]), np.array(right[:count])
            _, final = teacher(part.arm.compared_with, part.seed)
            yield Trajectory(part.arm.name, part.seed, part.arm.model, split.ids[rows], *of_part, final, noisy)
        advance(run.name)
