"""From run folders to arrays. Alone runs networks over checkpoints; one device suffices, whatever hardware wrote them."""

import jax
import numpy as np

from kd_jax import config, models
from kd_jax.analysis import eigen
from kd_jax.analysis.summary import Pair
from kd_jax.config import BadInput
from kd_jax.data.loader import blocks
from kd_jax.data.streamed import examined
from kd_jax.models import Variables, layers
from kd_jax.plan import arms as arms_of
from kd_jax.plan import run_name
from kd_jax.train import buckets
from kd_jax.train.epoch import make_clean_view, padded_batches
from kd_jax.workdir import checkpoints, records

BATCH = 500  # fixed, so that a number does not depend on who asks for it
PATCH_BATCH = 100  # a convolution has a vector per pixel
COVARIANCE_EXAMPLES = 10_000  # at most so many training examples, the first ones of a fixed random order


def analysis_precision(study):
    """float64 for a float64 study, else float32: a bfloat16 study's parameters are float32 too."""
    return "float64" if study.precision == "float64" else "float32"


def model_and_view(study, dataset, model_name):
    """The `Model` as analysis runs it, and `view(x)`, its clean views of images as they are stored, or of texts."""
    view = make_clean_view(dataset, models.COMPUTE_DTYPES[analysis_precision(study)])
    return _model(study, dataset, model_name), view


def make_logits(study, dataset, model_name):
    """Return `logits(variables, x) -> NumPy [examples, classes]` of a network on clean views, in evaluation mode.

    `x` is uint8 [examples, height, width, channels] or a streamed set's `Images`.

    Args:
        study: the `Study`; its precision decides the dtype.
        dataset: a `Dataset`, for the classes and the standardisation.
        model_name: of the network.
    """
    model, view = model_and_view(study, dataset, model_name)

    @jax.jit
    def on_batch(variables, x):
        # Without this a GPU would multiply in TF32, with three digits.
        with jax.default_matmul_precision("highest"):
            return model.apply(variables, view(x), train=False).logits

    def logits(variables, x):
        if dataset.tokens:
            rows, _ = padded_batches(len(x), buckets.EVALUATION_BATCH)
            rows = buckets.sorted_rows(x, rows)
            found = np.empty((len(x), dataset.classes), models.PARAMETER_DTYPES[study.precision])
            for batch in rows:
                found[batch] = on_batch(variables, buckets.shortened(x[batch], dataset.tokens.buckets))
            return found
        parts = []
        for block in blocks(x, BATCH):
            # All of one size, for one compilation.
            padded = np.pad(block, [(0, BATCH - len(block))] + [(0, 0)] * (block.ndim - 1))
            parts.append(np.asarray(on_batch(variables, padded))[: len(block)])
        return np.concatenate(parts)

    return logits


def logit_pairs(workdir, study, dataset, last, seeds, advance=lambda label: None):
    """Yield a `Pair` for every student and every one-hot twin, each seed, each split; see `examined` for a streamed train.

    Args:
        workdir: the work folder.
        study, dataset: what was trained on what.
        last: {arm: the step at which its runs end}, to be looked at; an early-stopped teacher is looked at where it taught.
        seeds: which.
        advance: called after each network's pass over the data, with the run's name.

    Raises:
        BadInput: when a run has no such step, or it is damaged.
    """
    splits = dataset.splits | {"train": examined(dataset.train)}
    apply = {}
    for name in {arm.model for arm in arms_of(study)}:
        apply[name] = make_logits(study, dataset, name)

    def both_splits(arm, seed, step=None):
        name, step = run_name(arm, seed), step or last[arm.name]
        variables = Variables(**checkpoints.load_variables(records.run_folder(workdir, name), step))
        result = {split: apply[arm.model](variables, data.x) for split, data in splits.items()}
        advance(name)
        return result

    teacher, *others = [arm for arm in arms_of(study) if not arm.null_of]
    for seed in seeds:
        of_teacher = both_splits(teacher, seed, study.teacher_step)
        for arm in others:
            of_student = both_splits(arm, seed)
            for split, data in splits.items():
                yield Pair(arm.name, seed, split, of_teacher[split], of_student[split], data.y, data.true_y, data.ids)


def input_directions(study, dataset, model_name, variables, layer):
    """Return the `eigen.Directions` of a layer's inputs on clean training views.

    Args:
        study, dataset: what was trained on what.
        model_name: of the network.
        variables: of the network, NumPy; only what lies before the layer matters.
        layer: its name, one of `layer_names`.
    """
    model, view = model_and_view(study, dataset, model_name)

    @jax.jit
    def on_batch(variables, x):
        with jax.default_matmul_precision("highest"):
            return model.layer_inputs(variables, view(x), layer)

    chosen = np.random.default_rng(0).permutation(len(dataset.train.x))[:COVARIANCE_EXAMPLES]
    if dataset.tokens:
        chosen = chosen[buckets.sorted_rows(dataset.train.x[chosen], np.arange(len(chosen)))]
    moments = None
    for x in blocks(dataset.train.x, PATCH_BATCH, chosen):
        if dataset.tokens:
            x = buckets.shortened(x, dataset.tokens.buckets)
        vectors = np.asarray(on_batch(variables, x))
        moments = eigen.add(moments, vectors[model.counted(x, len(vectors))])
    return eigen.directions(eigen.covariance(moments), moments.count - 1)


def layer_names(study, dataset, model_name):
    """The layers of a network that have a kernel, in the order of use."""
    return _model(study, dataset, model_name).layers(_example(dataset))


def _model(study, dataset, model_name):
    return models.build(model_name, dataset.classes, analysis_precision(study), **dataset.build)


def _example(dataset):
    return np.zeros((1, *dataset.train.x.shape[1:]), np.float32)


def chosen_layers(study, dataset):
    """Return [(one-hot arm, layer)] to follow: the first layer of each network, or `study.layers`, in the networks that have them.

    Raises:
        BadInput: for a layer that no network has, or a pair of directions that one of them has not.
    """
    layers = study.layers
    onehots = [arm for arm in arms_of(study) if not arm.teacher and not arm.null_of and arm.name != "teacher"]
    names = {arm.model: layer_names(study, dataset, arm.model) for arm in onehots}
    for layer in layers:
        if not any(layer in known for known in names.values()):
            have = "; ".join(f"{model} has {', '.join(known)}" for model, known in names.items())
            raise BadInput(f"--layers={layer}: expected a layer of a student; {have}")
    chosen = [(arm, layer) for arm in onehots for layer in layers or names[arm.model][:1] if layer in names[arm.model]]
    for arm, layer in chosen:
        fan_in = _model(study, dataset, arm.model).fan_in(_example(dataset), layer)
        _check_pairs(study.pairs, eigen.direction_count(fan_in), f"{layer} of {arm.model}")
    return chosen


def _check_pairs(pairs, count, where):
    for pair in pairs:
        if max(pair) >= count:
            raise BadInput(
                f"--pairs={config.shown(pair)}: expected directions from 0 to {count - 1} for {where}; pass others"
            )


def growths(workdir, study, dataset, seeds, chosen, advance=lambda label: None):
    """Yield an `eigen.Growth` for every run of the networks and layers chosen.

    A run's directions are those of the layer's inputs at its own step 0: for a student the same as for its one-hot twin, from
    whose initialisation it starts. Runs from another initialisation have others beyond the first layer, for its units are other
    ones; there the k-th direction of the one is held against the k-th of the other.

    The trajectory is streamed: one checkpoint is in memory at a time.

    Args:
        workdir: the work folder.
        study, dataset: what was trained on what.
        seeds: which.
        chosen: of `chosen_layers`.
        advance: called after each run, with its name.

    Raises:
        BadInput: for a run with fewer than three checkpoints.
    """
    arms = arms_of(study)
    for onehot, layer in chosen:
        model = _model(study, dataset, onehot.model)
        known, is_first = {}, layer == model.layers(_example(dataset))[0] and not model.embeds
        for seed in seeds:
            if not is_first:  # the first layer's inputs are the data, or fixed features of it, whatever the run
                known.clear()
            for arm in [arm for arm in arms if arm.model == onehot.model]:
                name = run_name(arm, seed)
                folder, start = records.run_folder(workdir, name), 0 if is_first else arm.init
                if start not in known:
                    variables = Variables(**checkpoints.load_variables(folder, records.kept_steps(folder)[0]))
                    known[start] = input_directions(study, dataset, onehot.model, variables, layer)
                    _check_pairs(study.pairs, eigen.alive(known[start].values), f"{layer}, along which its inputs vary")
                directions = known[start]
                found = weight_components(folder, layer, directions)
                yield eigen.Growth(arm.name, seed, arm.model, layer, directions.values, directions.residuals, *found)
                advance(name)


def weight_components(folder, layer, directions):
    """Return a layer's weights along the directions of its inputs, at every checkpoint of a run, which are read one at a time.

    Args:
        folder: of the run.
        layer: its name.
        directions: `eigen.Directions` of its inputs.

    Returns:
        steps int [checkpoints]; components and components of the movement since the first step, both float64
        [checkpoints, directions].

    Raises:
        BadInput: for fewer than three checkpoints.
    """
    steps = records.kept_steps(folder)
    if len(steps) < 3:
        raise BadInput(
            f"{folder}: expected at least three checkpoints, found {len(steps)}; train with more --checkpoints"
        )
    start, found, moved = None, [], []
    for _, variables in checkpoints.stream_variables(folder):
        weights = eigen.along(layers.kernel(variables["params"], layer, len(directions.vectors)), directions.vectors)
        start = weights if start is None else start
        found.append(np.linalg.norm(weights, axis=1))
        moved.append(np.linalg.norm(weights - start, axis=1))
    return np.array(steps), np.array(found), np.array(moved)
