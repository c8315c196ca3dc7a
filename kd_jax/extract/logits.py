"""From run folders to logits: what teachers and students answer on every split."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import models
from kd_jax.analysis.summary import Pair
from kd_jax.data import Dataset, Split, teacher_logits
from kd_jax.data.images import Images
from kd_jax.data.numbers import Numbers
from kd_jax.models import Model, Variables
from kd_jax.plan import EARLY, TEACHER, Arm, Plan, Run
from kd_jax.workdir import checkpoints, records


def analysis_precision(precision: str) -> str:
    """Return the arithmetic in which a study is analysed: float64 for float64, else float32, as parameters of bfloat16 are too."""
    return "float64" if precision == "float64" else "float32"


def model_of(model_name: str, dataset: Dataset, precision: str) -> Model:
    """Return a network as analysis runs it.

    Args:
        model_name: the name of the network.
        dataset: the data, which decides the numbers of classes and token ids.
        precision: the arithmetic of the study, `Networks.precision`.
    """
    return models.build(model_name, dataset.classes, analysis_precision(precision), **dataset.network_settings)


def view_of(dataset: Dataset, precision: str) -> Callable[[Any], Any]:
    """Return `view(x)`, which makes the input of a network as analysis runs it from stored examples, inside jit."""
    return dataset.clean_view(models.COMPUTE_DTYPES[analysis_precision(precision)])


def make_on_batch(model_name: str, dataset: Dataset, precision: str) -> Callable[[Variables, Any], Any]:
    """Return `on_batch(variables, x) -> logits [batch, classes]` of a network on clean views of a batch, in evaluation mode,
    compiled.

    Arguments as for `make_logits`.
    """
    model, view = model_of(model_name, dataset, precision), view_of(dataset, precision)

    @jax.jit
    def on_batch(variables, x):
        # Without this a GPU would multiply in TF32, with three digits.
        with jax.default_matmul_precision("highest"):
            return model.apply(variables, view(x), train=False).logits

    return on_batch


def make_logits(model_name: str, dataset: Dataset, precision: str) -> Callable[[Variables, Any], np.ndarray]:
    """Return `logits(variables, x) -> NumPy [examples, classes]` of a network on clean views, in evaluation mode.

    `x` is the `x` of a split, or some rows of it. Batches are of a fixed size, so a number does not depend on who asks for it.

    Args:
        model_name: the name of the network.
        dataset: the data.
        precision: the arithmetic of the study, `Networks.precision`.
    """
    on_batch = make_on_batch(model_name, dataset, precision)

    def logits(variables, x):
        answers = np.empty((len(x), dataset.classes), models.PARAMETER_DTYPES[analysis_precision(precision)])
        # All blocks have one size, for one compilation.
        for rows, block in dataset.blocks(x, dataset.evaluation_size, pad=True):
            answers[rows] = np.asarray(on_batch(variables, block))[: len(rows)]
        return answers

    return logits


def looked_at(plan: Plan) -> list[Arm]:
    """Return the arms and views whose logits are looked at, but for teachers: those of `Plan.shown` that are no nulls."""
    return [arm for arm in plan.shown if not arm.null_of and arm.name not in (TEACHER, EARLY)]


def passes(plan: Plan) -> int:
    """Return how often `logit_pairs` calls `advance` for one seed."""
    return len([arm for arm in plan.shown if not arm.null_of])


def logit_pairs(
    workdir: str | Path, plan: Plan, dataset: Dataset, advance: Callable[[str], None] = lambda label: None
) -> Iterator[Pair]:
    """Yield the logits of a teacher and of each network that is compared with it: for every arm or view, seed and split.

    Students are looked at after their last step, the teacher where it taught, and views at their step. Of a streamed training set a
    part is looked at, see `Dataset.examined`. Logits of a teacher from a file are those of the work folder's copy; splits that it
    lacks have none.

    Args:
        workdir: the work folder.
        plan: the study's runs.
        dataset: what they were trained on.
        advance: called after each network's pass over the data, with the run's name; `passes` says how often.

    Raises:
        BadInput: when a run has no such step, or its checkpoint is damaged.
    """
    splits, precision = dataset.examined, plan.study.networks.precision
    compared = looked_at(plan)
    teachers = {arm.name: arm for arm in plan.shown if arm.name in (TEACHER, EARLY)}
    seen = seen_by_teacher(plan, dataset)
    models_of = {arm.model for arm in compared if not (arm.part_of == TEACHER and seen is not dataset)}
    answer = {name: make_logits(name, dataset, precision) for name in models_of}
    of_file = None
    if plan.given is not None and plan.given.logits:
        of_file = given_logits(workdir, dataset, precision)
    else:
        name = plan.study.networks.teacher
        as_teacher = answer.get(name) if seen is dataset else None
        as_teacher = as_teacher or make_logits(name, seen, precision)

    def of_all_splits(arm, seed):
        run, step = plan.network(arm, seed)
        of_arm = as_teacher if run.arm.name == TEACHER else answer[arm.model]
        variables = Variables(**checkpoints.load_variables(records.run_folder(workdir, run.name), step))
        logits = {name: of_arm(variables, split.x) for name, split in splits.items()}
        advance(run.name)
        return logits

    for seed in plan.seeds:
        of_teachers = (
            {TEACHER: of_file} if of_file else {name: of_all_splits(of, seed) for name, of in teachers.items()}
        )
        for arm in compared:
            of_teacher, of_arm = of_teachers[arm.compared_with], of_all_splits(arm, seed)
            for name, split in splits.items():
                about = of_teacher.get(name), of_arm[name], split.y, split.true_y, split.ids, arm.compared_with
                yield Pair(arm.name, seed, name, *about)


def given_logits(workdir: str | Path, dataset: Dataset, precision: str) -> dict[str, np.ndarray]:
    """Return {split: logits [examples, classes]} of a teacher that is a file, of the splits that it has."""
    tables = teacher_logits.read(records.teacher_logits_file(workdir), dataset)
    dtype = models.PARAMETER_DTYPES[analysis_precision(precision)]
    return {name: table.logits(dataset.examined[name].ids, dataset.classes, dtype) for name, table in tables.items()}


def seen_by_teacher(plan: Plan, dataset: Dataset) -> Dataset:
    """Return the data as the teacher of a study sees it: standardised as it was for one that was trained elsewhere."""
    standardised = plan.given.standardised if plan.given else None
    if standardised is None or not isinstance(dataset, Images | Numbers):
        return dataset
    mean, std = (np.asarray(values, np.float64) for values in standardised)
    return replace(dataset, mean=mean, std=std)


def average_logits(
    workdir: str | Path, plan: Plan, dataset: Dataset, advance: Callable[[str], None] = lambda label: None
) -> Iterator[tuple[Arm, int, str, np.ndarray, Split]]:
    """Yield (arm, seed, name of a split, logits, the split) of the moving averages of weights, after the last step of each run.

    Of the arms that are compared by their logits and were trained here with an average; arguments and errors as `logit_pairs`.
    """
    precision = plan.study.networks.precision
    for run in averaged_runs(plan):
        answer = make_logits(run.arm.model, dataset, precision)
        folder = records.run_folder(workdir, run.name)
        variables = Variables(**checkpoints.load_average(folder, run.length.total_steps))
        for name, split in dataset.examined.items():
            yield run.arm, run.seed, name, answer(variables, split.x), split
        advance(run.name)


def averaged_runs(plan: Plan) -> list[Run]:
    """Return the runs that keep an average of their weights: those that are compared by their logits and trained here."""
    return [run for run in plan.runs if run.training.ema and run.source is None and not run.arm.null_of]
