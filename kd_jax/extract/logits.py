"""From run folders to logits: what teachers and students answer on every split."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

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

OnBatch = Callable[[Variables, Any], Any]
Blocks = Iterable[tuple[Any, Any]]  # (rows, stored examples), as `Dataset.blocks` yields them
AHEAD = 4  # blocks that a device is given before the answers to the first are asked for
_programs: WeakKeyDictionary[Dataset, dict[tuple[str, str], OnBatch]] = WeakKeyDictionary()


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


def make_on_batch(model_name: str, dataset: Dataset, precision: str) -> OnBatch:
    """Return `on_batch(variables, x) -> logits [batch, classes]` of a network on clean views of a batch, in evaluation mode,
    compiled.

    Whoever asks for the same gets the same program: all analyses of a study, and of all variants of a sweep. Arguments as for
    `make_logits`.
    """
    if models.is_foreign(model_name):  # whose source may change
        return _on_batch(model_name, dataset, precision)
    known, key = _programs.setdefault(dataset, {}), (model_name, precision)
    if key not in known:
        known[key] = _on_batch(model_name, dataset, precision)
    return known[key]


def _on_batch(model_name, dataset, precision):
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
    on_batch, dtype = make_on_batch(model_name, dataset, precision), _dtype(precision)

    def logits(variables, x):
        # All blocks have one size, for one compilation.
        blocks = dataset.blocks(x, dataset.evaluation_size, pad=True)
        return answers({model_name: (on_batch, variables)}, blocks, (len(x), dataset.classes), dtype)[model_name]

    return logits


def _dtype(precision):
    return models.PARAMETER_DTYPES[analysis_precision(precision)]


def answers(
    networks: Mapping[str, tuple[OnBatch, Variables]], blocks: Blocks, shape: tuple[int, int], dtype: Any
) -> dict[str, np.ndarray]:
    """Return {name: logits, NumPy [examples, classes]} of networks, in one pass over the examples.

    Their variables lie on the device throughout, and it has the next blocks while answers are fetched.

    Args:
        networks: {name: (`make_on_batch` of the network, its variables)}.
        blocks: the examples, as `Dataset.blocks` yields them, or such whose examples lie on the device already.
        shape: the numbers of examples and of classes.
        dtype: of the logits.
    """
    there = jax.device_put({name: variables for name, (_, variables) in networks.items()})
    found = {name: np.empty(shape, dtype) for name in networks}
    waiting: deque[tuple[str, Any, Any]] = deque()

    def fetch(left):
        while len(waiting) > left:
            name, rows, logits = waiting.popleft()
            found[name][rows] = np.asarray(logits)[: len(rows)]

    for rows, block in blocks:
        block = jax.device_put(block)
        for name, (on_batch, _) in networks.items():
            waiting.append((name, rows, on_batch(there[name], block)))
        fetch(AHEAD * len(networks))
    fetch(0)
    return found


def make_blocks(dataset: Dataset, x: Any) -> Callable[[], Blocks]:
    """Return `blocks()`, the blocks of a split for `answers`, as often as networks pass over them.

    Where examples lie on an accelerator in training, they are put there once. On a CPU that would be a second copy of them.

    Args:
        dataset: the data.
        x: the `x` of one of its splits.
    """
    if not dataset.is_resident or jax.default_backend() == "cpu":
        return lambda: dataset.blocks(x, dataset.evaluation_size, pad=True)
    there = [(rows, jax.device_put(block)) for rows, block in dataset.blocks(x, dataset.evaluation_size, pad=True)]
    return lambda: there


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
    part is looked at, see `Dataset.examined`; it is decoded once per seed, for all networks together. Logits of a teacher from a
    file are those of the work folder's copy; splits that it lacks have none.

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
    of_file = {}
    if plan.given is not None and plan.given.logits:
        of_file, teachers = {TEACHER: given_logits(workdir, dataset, precision)}, {}
    blocks = {name: make_blocks(dataset, split.x) for name, split in splits.items()}

    def network(arm, seed):
        run, step = plan.network(arm, seed)
        on_batch = make_on_batch(run.arm.model, seen if run.arm.name == TEACHER else dataset, precision)
        return on_batch, Variables(**checkpoints.load_variables(records.run_folder(workdir, run.name), step))

    def of_all_splits(arms, seed):
        networks, found = {arm.name: network(arm, seed) for arm in arms}, {arm.name: {} for arm in arms}
        for name, split in splits.items():
            shape = len(split.x), dataset.classes
            for arm, logits in answers(networks, blocks[name](), shape, _dtype(precision)).items():
                found[arm][name] = logits
        for arm in arms:
            advance(plan.network(arm, seed)[0].name)
        return found

    passed = [*teachers.values(), *compared]
    for seed in plan.seeds:
        found = dict(of_file)
        for arms in [[arm] for arm in passed] if dataset.is_resident else [passed]:
            found |= of_all_splits(arms, seed)
            for arm in arms:
                if arm.name in teachers:
                    continue
                of_arm, of_teacher = found.pop(arm.name), found[arm.compared_with]
                for name, split in splits.items():
                    about = of_teacher.get(name), of_arm[name], split.y, split.true_y, split.ids, arm.compared_with
                    yield Pair(arm.name, seed, name, *about)


def given_logits(workdir: str | Path, dataset: Dataset, precision: str) -> dict[str, np.ndarray]:
    """Return {split: logits [examples, classes]} of a teacher that is a file, of the splits that it has."""
    tables = teacher_logits.read(records.teacher_logits_file(workdir), dataset)
    return {
        name: table.logits(dataset.examined[name].ids, dataset.classes, _dtype(precision))
        for name, table in tables.items()
    }


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
