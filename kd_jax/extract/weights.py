"""From run folders to weights: how a layer's weights grow along the eigendirections of its inputs."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax.analysis import eigen
from kd_jax.config import shown
from kd_jax.data import Dataset
from kd_jax.errors import BadInput
from kd_jax.extract.logits import model_of, view_of
from kd_jax.models import Variables, layers
from kd_jax.plan import TEACHER, TWIN, Arm, Plan
from kd_jax.workdir import checkpoints, records

PATCH_BATCH = 100  # examples at a time; a convolution has a vector per pixel
COVARIANCE_EXAMPLES = 10_000  # at most so many training examples are used, the first ones of a fixed random order


def input_directions(
    dataset: Dataset, model_name: str, precision: str, variables: Variables, layer: str
) -> eigen.Directions:
    """Return the eigendirections of a layer's inputs on clean training views.

    Args:
        dataset: the data.
        model_name: the name of the network.
        precision: the arithmetic of the study, `Networks.precision`.
        variables: those of the network, NumPy arrays; only what lies before the layer matters.
        layer: the name of the layer, one of `layer_names`.
    """
    model, view = model_of(model_name, dataset, precision), view_of(dataset, precision)

    @jax.jit
    def on_batch(variables, x):
        with jax.default_matmul_precision("highest"):
            return model.layer_inputs(variables, view(x), layer)

    chosen = np.random.default_rng(0).permutation(len(dataset.train.x))[:COVARIANCE_EXAMPLES]
    moments: Any = None
    for _, x in dataset.blocks(dataset.train.x, PATCH_BATCH, chosen):
        vectors = np.asarray(on_batch(variables, x))
        moments = eigen.add(moments, vectors[model.counted(x, len(vectors))])
    return eigen.directions(eigen.covariance(moments), moments.count - 1)


def layer_names(dataset: Dataset, model_name: str) -> list[str]:
    """Return the layers of a network that have a kernel, in the order in which they are used."""
    return model_of(model_name, dataset, "float32").layers(dataset.example())


def chosen_layers(plan: Plan, dataset: Dataset) -> list[tuple[Arm, str]]:
    """Return [(one-hot arm, layer)] to follow: the first layer of each network, or those that the study names, where they exist.

    Raises:
        BadInput: for a layer that no network has, a pair of directions that one of them does not have, or trajectories of fewer
            than three steps, which are no curve.
    """
    look = plan.study.look
    for arm in plan.arms:
        steps = plan.length(arm.name).checkpoint_steps
        if len(steps) < 3 and plan.length(arm.name).total_steps and not _is_given(plan, arm):
            kept = plan.study.training.checkpoints
            total = plan.length(arm.name).total_steps
            fix = "pass more --checkpoints" if total > 1 else "pass more --epochs, or a smaller --batch_size"
            raise BadInput(
                f"--checkpoints={kept}: expected at least three steps in a trajectory, {arm.name} has {shown(tuple(steps))}; {fix}"
            )
    onehots = [arm for arm in plan.arms if arm.is_onehot]
    names = {arm.model: layer_names(dataset, arm.model) for arm in onehots}
    for layer in look.layers:
        if not any(layer in known for known in names.values()):
            have = "; ".join(f"{model} has {', '.join(known)}" for model, known in names.items())
            raise BadInput(f"--layers={layer}: expected a layer of a student; {have}")
    chosen = [
        (arm, layer) for arm in onehots for layer in look.layers or names[arm.model][:1] if layer in names[arm.model]
    ]
    for arm, layer in chosen:
        fan_in = model_of(arm.model, dataset, "float32").fan_in(dataset.example(), layer)
        _check_pairs(look.pairs, eigen.direction_count(fan_in), f"{layer} of {arm.model}")
    return chosen


def check_varying(plan: Plan, dataset: Dataset, chosen: Sequence[tuple[Arm, str]]) -> None:
    """Refuse pairs of directions along which the inputs of a first layer do not vary, which the data alone decides.

    Args:
        plan: the study's runs.
        dataset: what they are trained on.
        chosen: networks and layers, as `chosen_layers` returns them.

    Raises:
        BadInput: for such a pair.
    """
    precision = plan.study.networks.precision
    for arm, layer in chosen if plan.study.look.pairs else ():
        if _is_first(dataset, arm.model, layer):
            variables = model_of(arm.model, dataset, precision).init(jax.random.key(0), dataset.example())
            found = input_directions(dataset, arm.model, precision, variables, layer)
            _check_pairs(plan.study.look.pairs, eigen.alive(found.values), f"{layer}, along which its inputs vary")


def _is_first(dataset: Dataset, model_name: str, layer: str) -> bool:
    """Whether a layer is a network's first, whose inputs are the data, or fixed features of it, whatever the run."""
    embeds = model_of(model_name, dataset, "float32").embeds
    return layer == layer_names(dataset, model_name)[0] and not embeds


def _is_given(plan: Plan, arm: Arm) -> bool:
    return arm.name == TEACHER and plan.given is not None


def _is_curve(steps: Sequence[int]) -> bool:
    return len(steps) > 2 and steps[0] == 0


def _check_pairs(pairs, count, where):
    for pair in pairs:
        if max(pair) >= count:
            raise BadInput(f"--pairs={shown(pair)}: expected directions from 0 to {count - 1} for {where}; pass others")


def followed(plan: Plan, onehot: Arm) -> list[Arm]:
    """Return the arms that are followed beside a one-hot arm: those of its network, but for a teacher without training.

    And but for a second teacher, which is no null, and for a teacher from elsewhere whose trajectory is no curve.
    """
    own = [arm for arm in plan.arms if arm.model == onehot.model and arm.name != TWIN]
    arms = [arm for arm in own if plan.length(arm.name).total_steps]
    return [arm for arm in arms if not _is_given(plan, arm) or _is_curve(plan.length(arm.name).checkpoint_steps)]


def growths(
    workdir: str | Path,
    plan: Plan,
    dataset: Dataset,
    chosen: Sequence[tuple[Arm, str]],
    advance: Callable[[str], None] = lambda label: None,
) -> Iterator[eigen.Growth]:
    """Yield how a layer's weights grow, for every run of the networks and layers chosen.

    A run's directions are those of the layer's inputs at its own step 0: for a student the same as for its one-hot twin, from
    whose initialisation it starts. Runs from another initialisation have others beyond the first layer, for its units are other
    ones; there the k-th direction of the one is compared with the k-th of the other.

    The trajectory is streamed: two checkpoints are in memory at a time.

    Args:
        workdir: the work folder.
        plan: the study's runs.
        dataset: what they were trained on.
        chosen: networks and layers, as `chosen_layers` returns them.
        advance: called after each run, with its name.

    Raises:
        BadInput: for a checkpoint that is missing or damaged.
    """
    study = plan.study
    for onehot, layer in chosen:
        known, is_first = {}, _is_first(dataset, onehot.model, layer)
        for seed in plan.seeds:
            if not is_first:
                known.clear()
            for arm in followed(plan, onehot):
                run = plan.run(arm.name, seed)
                folder, start = records.run_folder(workdir, run.name), 0 if is_first else arm.init
                if start not in known:
                    variables = Variables(**checkpoints.load_variables(folder, 0))
                    known[start] = input_directions(dataset, onehot.model, study.networks.precision, variables, layer)
                    varying = eigen.alive(known[start].values)
                    _check_pairs(study.look.pairs, varying, f"{layer}, along which its inputs vary")
                directions = known[start]
                components = weight_components(folder, layer, directions, run.length.checkpoint_steps)
                yield eigen.Growth(
                    arm.name, seed, arm.model, layer, directions.values, directions.residuals, *components
                )
                advance(run.name)


def weight_components(
    folder: Path, layer: str, directions: eigen.Directions, steps: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a layer's weights along the directions of its inputs, at some checkpoints of a run, which are streamed.

    Args:
        folder: the folder of the run.
        layer: the name of the layer.
        directions: the eigendirections of its inputs.
        steps: the steps of the checkpoints, rising, int [checkpoints].

    Returns:
        Steps, int [checkpoints]; the norms of the weights' components along each direction, and of the components of their movement
        since the first checkpoint, both float64 [checkpoints, directions].

    Raises:
        BadInput: for a checkpoint that is missing or damaged.
    """
    grow, grown = eigen.make_grow(directions.vectors), []
    for _, variables in checkpoints.stream_variables(folder, steps):
        grown.append(grow(layers.kernel(variables["params"], layer, len(directions.vectors))))
    components, moved = zip(*grown, strict=True)
    return np.array(steps), np.array(components), np.array(moved)
