"""From run folders to arrays. Alone runs networks over checkpoints; one device suffices, whatever hardware wrote them."""

from functools import partial

import jax
import numpy as np

from kd_jax import config, models, runs
from kd_jax.analysis import eigen
from kd_jax.analysis.summary import Pair
from kd_jax.config import BadInput
from kd_jax.data.augment import standardise
from kd_jax.models import Variables, layers
from kd_jax.train.epoch import padded_batches

BATCH = 500  # fixed, so that a number does not depend on who asks for it
PATCH_BATCH = 100  # a convolution has a vector per pixel
COVARIANCE_EXAMPLES = 10_000  # at most so many training examples, the first ones of a fixed random order


def analysis_precision(study):
    """float64 for a float64 study, else float32: a bfloat16 study's parameters are float32 too."""
    return "float64" if study.precision == "float64" else "float32"


def _model_and_view(study, dataset, model_name):
    """The `Model` as analysis runs it, and `view(x uint8) -> float`, its clean views."""
    precision = analysis_precision(study)
    view = partial(standardise, mean=dataset.mean, std=dataset.std, dtype=models.COMPUTE_DTYPES[precision])
    return models.build(model_name, dataset.classes, precision), view


def make_logits(study, dataset, model_name):
    """Return `logits(variables, x) -> NumPy [examples, classes]` of a network on clean views, in evaluation mode.

    Args:
        study: the `Study`; its precision decides the dtype.
        dataset: a `Dataset`, for the classes and the standardisation.
        model_name: of the network.
    """
    model, view = _model_and_view(study, dataset, model_name)

    @jax.jit
    def on_batch(variables, x):
        # Without this a GPU would multiply in TF32, with three digits.
        with jax.default_matmul_precision("highest"):
            return model.apply(variables, view(x), train=False)[0]

    def logits(variables, x):
        rows, _ = padded_batches(len(x), BATCH)
        parts = [np.asarray(on_batch(variables, x[batch])) for batch in rows]
        return np.concatenate(parts)[: len(x)]

    return logits


def logit_pairs(workdir, study, dataset, step, seeds, advance=lambda label: None):
    """Yield a `Pair` for every student and every one-hot twin, each seed, train and test.

    Args:
        workdir: the work folder.
        study, dataset: what was trained on what.
        step: of the trajectory to look at.
        seeds: which.
        advance: called after each network's pass over the data, with the run's name.

    Raises:
        BadInput: when a run has no such step, or it is damaged.
    """
    apply = {}
    for name in {arm.model for arm in config.arms(study)}:
        apply[name] = make_logits(study, dataset, name)

    def both_splits(arm, seed):
        name = config.run_name(arm, seed)
        variables = Variables(**runs.load_variables(runs.run_folder(workdir, name), step))
        result = {split: apply[arm.model](variables, getattr(dataset, split).x) for split in ("train", "test")}
        advance(name)
        return result

    teacher, *others = [arm for arm in config.arms(study) if not arm.null_of]
    for seed in seeds:
        of_teacher = both_splits(teacher, seed)
        for arm in others:
            of_student = both_splits(arm, seed)
            for split, data in (("train", dataset.train), ("test", dataset.test)):
                yield Pair(arm.name, seed, split, of_teacher[split], of_student[split], data.y, data.true_y, data.ids)


def input_directions(study, dataset, model_name, variables, layer):
    """Return the `eigen.Directions` of a layer's inputs on clean training views.

    Args:
        study, dataset: what was trained on what.
        model_name: of the network.
        variables: of the network, NumPy; only what lies before the layer matters.
        layer: its name, one of `layer_names`.
    """
    model, view = _model_and_view(study, dataset, model_name)

    @jax.jit
    def on_batch(variables, x):
        with jax.default_matmul_precision("highest"):
            return model.layer_inputs(variables, view(x), layer)

    chosen = np.random.default_rng(0).permutation(len(dataset.train.x))[:COVARIANCE_EXAMPLES]
    moments = None
    for start in range(0, len(chosen), PATCH_BATCH):
        moments = eigen.add(moments, on_batch(variables, dataset.train.x[chosen[start : start + PATCH_BATCH]]))
    return eigen.directions(eigen.covariance(moments))


def layer_names(study, dataset, model_name):
    """The layers of a network that have a kernel, in the order of use; the first one's inputs are the data."""
    model = models.build(model_name, dataset.classes, analysis_precision(study))
    return model.layers(np.zeros((1, *dataset.train.x.shape[1:]), np.float32))


def chosen_layers(study, dataset, layers):
    """Return [(one-hot arm, layer)] to follow: the first layer of each network, or those asked for, in the networks that have them.

    Raises:
        BadInput: for a layer that no network has.
    """
    onehots = [arm for arm in config.arms(study) if not arm.teacher and not arm.null_of and arm.name != "teacher"]
    names = {arm.model: layer_names(study, dataset, arm.model) for arm in onehots}
    for layer in layers:
        if not any(layer in known for known in names.values()):
            have = "; ".join(f"{model} has {', '.join(known)}" for model, known in names.items())
            raise BadInput(f"--layers={layer}: expected a layer of a student; {have}")
    return [(arm, layer) for arm in onehots for layer in layers or names[arm.model][:1] if layer in names[arm.model]]


def growths(workdir, study, dataset, seeds, chosen, advance=lambda label: None):
    """Yield an `eigen.Growth` for every run of the networks and layers chosen.

    The directions are those of the inputs at step 0 of the one-hot twin, from whose initialisation the student starts too. The
    trajectory is streamed: one checkpoint is in memory at a time.

    Args:
        workdir: the work folder.
        study, dataset: what was trained on what.
        seeds: which.
        chosen: of `chosen_layers`.
        advance: called after each run, with its name.

    Raises:
        BadInput: for a run with fewer than three checkpoints.
    """
    arms = config.arms(study)
    for onehot, layer in chosen:
        directions, is_first = None, layer == layer_names(study, dataset, onehot.model)[0]
        for seed in seeds:
            folder = runs.run_folder(workdir, config.run_name(onehot, seed))
            if directions is None or not is_first:  # the first layer's inputs are the data, whatever the seed
                variables = Variables(**runs.load_variables(folder, runs.kept_steps(folder)[0]))
                directions = input_directions(study, dataset, onehot.model, variables, layer)
            for arm in [arm for arm in arms if arm.model == onehot.model]:
                name = config.run_name(arm, seed)
                found = _components(runs.run_folder(workdir, name), layer, directions)
                yield eigen.Growth(arm.name, seed, arm.model, layer, directions.values, directions.residuals, *found)
                advance(name)


def _components(folder, layer, directions):
    """(steps [checkpoints], components, components of the movement, both [checkpoints, directions]) of a run."""
    steps = runs.kept_steps(folder)
    if len(steps) < 3:
        raise BadInput(
            f"{folder}: expected at least three checkpoints, found {len(steps)}; train with more --checkpoints"
        )
    start, found, moved = None, [], []
    for _, variables in runs.stream_variables(folder):
        weights = layers.kernel(variables["params"], layer)
        start = weights if start is None else start
        found.append(eigen.components(weights, directions.vectors))
        moved.append(eigen.components(weights - start, directions.vectors))
    return np.array(steps), np.array(found), np.array(moved)
