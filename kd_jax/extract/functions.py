"""From run folders to functions: what networks compute on a probe along their training, and the kernels they start from."""

from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from kd_jax.analysis import linearisation
from kd_jax.analysis.functions import Functions, Path
from kd_jax.data import Dataset
from kd_jax.errors import BadInput
from kd_jax.extract.logits import make_logits, model_of, view_of
from kd_jax.models import Variables, tangent
from kd_jax.plan import TEACHER, TWIN, Arm, Plan
from kd_jax.workdir import checkpoints, records

LIMIT = 6000  # examples * classes; the eigenvectors of such a matrix take minutes, those of one twice as large eight times longer


def probe(dataset: Dataset, examples: int) -> np.ndarray:
    """Return the rows of the training set that are the probe, int [examples]: the first ones of a fixed random order.

    Args:
        dataset: the data.
        examples: the size of the probe, `Look.kernel_examples`; it may be the whole training set.

    Raises:
        BadInput: when there are not so many, or their kernel would be too large.
    """
    there = len(dataset.train.y)
    if examples > there:
        raise BadInput(f"--kernel_examples={examples}: expected at most the {there} training examples; lower it")
    if examples * dataset.classes > LIMIT:
        raise BadInput(
            f"--kernel_examples={examples}: expected at most {LIMIT // dataset.classes} with {dataset.classes} classes,"
            f" for the kernel's eigenvectors are limited to {LIMIT}; lower it"
        )
    return np.random.default_rng(0).permutation(there)[:examples]


def make_kernel(model_name: str, dataset: Dataset, precision: str) -> Callable[[Variables, Any], np.ndarray]:
    """Return `kernel(variables, x) -> NumPy [examples * classes, examples * classes]`, a network's tangent kernel on clean views.

    `x` are stored examples.

    Args:
        model_name: the name of the network.
        dataset: the data.
        precision: the arithmetic of the study, `Networks.precision`.
    """
    model, view = model_of(model_name, dataset, precision), view_of(dataset, precision)
    return tangent.make_kernel(lambda variables, x: model.apply(variables, view(x), train=False).logits)


def functions(
    workdir: str | FilePath, plan: Plan, dataset: Dataset, advance: Callable[[str], None] = lambda label: None
) -> Iterator[Functions]:
    """Yield the functions of every network and seed of a study, on a probe of `Look.kernel_examples` training examples.

    Trajectories are streamed, and one kernel is held besides that of step 0.

    Args:
        workdir: the work folder.
        plan: the study's runs.
        dataset: what they were trained on.
        advance: called after each run and each kernel, with the run's name; `passes` says how often.

    Raises:
        BadInput: as `probe`; or for a damaged checkpoint.
    """
    study = plan.study
    precision = study.networks.precision
    chosen = probe(dataset, study.look.kernel_examples)
    x, targets = dataset.train.x[chosen], np.eye(dataset.classes)[dataset.train.y[chosen]]
    for onehot, with_kernel, followed in _networks(plan):
        kernel = make_kernel(onehot.model, dataset, precision)
        compute = {arm.model: make_logits(arm.model, dataset, precision) for arm in followed}
        for seed in plan.seeds:
            runs = {arm: plan.run(arm.name, seed) for arm in followed}
            first = _variables(workdir, runs[onehot], 0)
            at_start = kernel(first, x)
            advance(runs[onehot].name)
            drifts, paths = {}, {}
            for arm in with_kernel:
                drifts[arm.name] = linearisation.drift(at_start, kernel(_variables(workdir, runs[arm], -1), x))
                advance(runs[arm].name)
            for arm in followed:
                steps, logits = [], []
                folder, wanted = records.run_folder(workdir, runs[arm].name), runs[arm].length.checkpoint_steps
                for step, variables in checkpoints.stream_variables(folder, wanted):
                    steps.append(step)
                    logits.append(compute[arm.model](Variables(**variables), x))
                paths[arm.name] = Path(np.array(steps), np.array(logits))
                advance(runs[arm].name)
            yield Functions(onehot.model, seed, at_start, drifts, targets, paths, bool(first.model_state))


def passes(plan: Plan) -> int:
    """Return how often `functions` calls `advance` for one seed."""
    return sum(1 + len(with_kernel) + len(followed) for _, with_kernel, followed in _networks(plan))


def _networks(plan: Plan) -> list[tuple[Arm, tuple[Arm, Arm], list[Arm]]]:
    """[(one-hot arm, arms whose kernel is computed at the end, arms that are followed)] for each student's network."""
    listed = []
    for student in [arm for arm in plan.arms if arm.baseline]:
        (onehot,) = (arm for arm in plan.arms if arm.name == student.baseline)
        followed = [arm for arm in plan.arms if arm.name == TEACHER or (arm.model == onehot.model and arm.name != TWIN)]
        listed.append((onehot, (onehot, student), followed))
    return listed


def _variables(workdir, run, index):
    """The network of a run at its checkpoint of this index."""
    step = run.length.checkpoint_steps[index]
    return Variables(**checkpoints.load_variables(records.run_folder(workdir, run.name), step))
