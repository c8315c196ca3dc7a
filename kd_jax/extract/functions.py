"""From run folders to functions: what networks computed on a probe along their training, and the kernels they started from."""

import numpy as np

from kd_jax.analysis import linearisation
from kd_jax.analysis.functions import Functions, Path
from kd_jax.config import BadInput
from kd_jax.extract import logits as extract
from kd_jax.models import Variables, tangent
from kd_jax.plan import arms as arms_of
from kd_jax.plan import run_name
from kd_jax.workdir import checkpoints, records

LIMIT = 6000  # examples * classes; eigenvectors of a matrix of that size take minutes, and twice as many take eight times as long


def probe(dataset, examples):
    """Return the positions in the training set of the probe, int [examples]: the first ones of a fixed random order.

    Args:
        dataset: a `Dataset`.
        examples: how many, `Study.kernel_examples`; as many as the training set has are all of it.

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


def make_kernel(study, dataset, model_name):
    """Return `kernel(variables, x uint8) -> NumPy [examples * classes, examples * classes]` of a network on clean views.

    Args:
        study: the `Study`; its precision decides the dtype.
        dataset: a `Dataset`, for the classes and the standardisation.
        model_name: of the network.
    """
    model, view = extract.model_and_view(study, dataset, model_name)
    return tangent.make_kernel(lambda variables, x: model.apply(variables, view(x), train=False)[0])


def functions(workdir, study, dataset, seeds, examples, advance=lambda label: None):
    """Yield the `Functions` of every network and seed.

    Trajectories are streamed, and one kernel is held besides that of step 0.

    Args:
        workdir: the work folder.
        study, dataset: what was trained on what.
        seeds: which.
        examples: size of the probe.
        advance: called after each run and each kernel, with the run's name; `passes` says how often.

    Raises:
        BadInput: as `probe`; or for a damaged checkpoint.
    """
    chosen = probe(dataset, examples)
    x, targets = dataset.train.x[chosen], np.eye(dataset.classes)[dataset.train.y[chosen]]
    for onehot, with_kernel, followed in _networks(study):
        kernel = make_kernel(study, dataset, onehot.model)
        compute = {arm.model: extract.make_logits(study, dataset, arm.model) for arm in followed}
        for seed in seeds:
            folders = {arm: records.run_folder(workdir, run_name(arm, seed)) for arm in followed}
            first = _variables(folders[onehot], 0)
            at_start = kernel(first, x)
            advance(folders[onehot].name)
            drifts, paths = {}, {}
            for arm in with_kernel:
                drifts[arm.name] = linearisation.drift(at_start, kernel(_variables(folders[arm], -1), x))
                advance(folders[arm].name)
            for arm in followed:
                steps, logits = [], []
                for step, variables in checkpoints.stream_variables(folders[arm]):
                    steps.append(step)
                    logits.append(compute[arm.model](Variables(**variables), x))
                paths[arm.name] = Path(np.array(steps), np.array(logits))
                advance(folders[arm].name)
            yield Functions(onehot.model, seed, at_start, drifts, targets, paths, bool(first.model_state))


def passes(study):
    """How often `functions` calls `advance` for a seed."""
    return sum(1 + len(with_kernel) + len(followed) for _, with_kernel, followed in _networks(study))


def _networks(study):
    """[(one-hot arm, arms whose kernel is computed at the end, arms that are followed)] of each student's network."""
    arms = arms_of(study)
    found = []
    for student in [arm for arm in arms if arm.baseline]:
        (onehot,) = (arm for arm in arms if arm.name == student.baseline)
        followed = [arm for arm in arms if arm.model == onehot.model or arm.name == "teacher"]
        found.append((onehot, (onehot, student), followed))
    return found


def _variables(folder, at):
    """Of a run at its checkpoint number `at`."""
    return Variables(**checkpoints.load_variables(folder, records.kept_steps(folder)[at]))
