"""From run folders to arrays. Alone runs networks over checkpoints; one device suffices, whatever hardware wrote them."""

from functools import partial

import jax
import numpy as np

from kd_jax import config, models, runs
from kd_jax.analysis.summary import Pair
from kd_jax.data.augment import standardise
from kd_jax.models import Variables
from kd_jax.train.epoch import padded_batches

BATCH = 500  # fixed, so that a number does not depend on who asks for it


def analysis_precision(study):
    """float64 for a float64 study, else float32: a bfloat16 study's parameters are float32 too."""
    return "float64" if study.precision == "float64" else "float32"


def make_logits(study, dataset, model_name):
    """Return `logits(variables, x) -> NumPy [examples, classes]` of a network on clean views, in evaluation mode.

    Args:
        study: the `Study`; its precision decides the dtype.
        dataset: a `Dataset`, for the classes and the standardisation.
        model_name: of the network.
    """
    precision = analysis_precision(study)
    model = models.build(model_name, dataset.classes, precision)
    view = partial(standardise, mean=dataset.mean, std=dataset.std, dtype=models.COMPUTE_DTYPES[precision])

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
    """Yield a `Pair` for every run with a control or a teacher: each arm but the teacher, each seed, train and test.

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

    teacher, *others = config.arms(study)
    for seed in seeds:
        of_teacher = both_splits(teacher, seed)
        for arm in others:
            of_student = both_splits(arm, seed)
            for split, data in (("train", dataset.train), ("test", dataset.test)):
                yield Pair(arm.name, seed, split, of_teacher[split], of_student[split], data.y, data.true_y, data.ids)
