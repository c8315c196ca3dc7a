"""What an analysis takes down on its way: the files beside `summary.json`, and what deserves a warning."""

import numpy as np

from kd_jax.analysis import calibration, functions, linearisation
from kd_jax.extract import functions as extract_function
from kd_jax.train.optimizer import learning_rates

FITTED = 0.01  # a squared-loss teacher that leaves less than this share of its labels' variance is fully fitted


def keep_growths(growths, folder):
    """Write a file for every `eigen.Growth`."""
    for growth in growths:
        name = f"{growth.arm}-seed{growth.seed}-{growth.layer.replace('/', '.')}.npz"
        eigenvalues = growth.values  # under the name that outside scripts know
        np.savez(folder / name, eigenvalues=eigenvalues, **growth._asdict())


def comparable_losses(lines, switch, steps_per_epoch):
    """Return training losses of epochs that have one loss: where it is switched, of the phase after, or, if it has none, before.

    Args:
        lines: of a run's `metrics.jsonl`.
        switch: a `config.Switch`, or None.
        steps_per_epoch: in which its ramp is counted.
    """
    if switch is not None:
        settled = switch.epoch + switch.ramp / steps_per_epoch
        after = [line for line in lines if line["epoch"] - 1 >= settled]
        lines = after or [line for line in lines if line["epoch"] <= switch.epoch] or lines
    return [line["train_loss"] for line in lines]


def follow_functions(workdir, plan, dataset, advance):
    """Return (list of `Followed`, list of `Predicted`) of all runs; both empty where the study asks for no kernel.

    Args:
        workdir: the work folder.
        plan: the study's runs.
        dataset: what they were trained on.
        advance: as for `extract_function.functions`.
    """
    followed, predicted, study = [], [], plan.study
    if study.look.kernel_examples:
        rates = learning_rates(study.training, plan.length("student").total_steps)
        for found in extract_function.functions(workdir, plan, dataset, advance):
            spectrum = linearisation.spectrum(found.kernel, dataset.classes)
            followed += functions.follow(found, spectrum, plan.arms)
            predicted += functions.predict(found, spectrum, study, plan.arms, rates)
    return followed, predicted


def keep_functions(followed, predicted, folder):
    """Write a file for every run that was followed, with its prediction where there is one."""
    predictions = {(run.arm, run.seed): run._asdict() for run in predicted}
    for run in followed:
        folder.mkdir(exist_ok=True)
        name = f"{run.arm}-seed{run.seed}.npz"
        np.savez(folder / name, **{**predictions.get((run.arm, run.seed), {}), **run._asdict()})


def fully_fitted(shares):
    """Yield a warning where squared-loss teachers leave nothing of their labels to learn.

    Args:
        shares: what each teacher leaves of the labels' variance.
    """
    if max(shares) < FITTED:
        yield (
            f"the teachers fit their labels fully (they leave {max(shares):.1e} of the variance, less than {FITTED:g}): under"
            " squared loss the effect of distillation vanishes then in theory; stop them earlier with --teacher_step or --epochs"
        )


def kept(pairs, folder, fitted):
    """Pass pairs through and write each as a file; what teachers leave of the training labels' variance is added to `fitted`."""
    for pair in pairs:
        if pair.split == "train":
            fitted.append(calibration.share_left(pair.teacher, pair.y))
        np.savez(
            folder / f"{pair.arm}-seed{pair.seed}-{pair.split}.npz",
            teacher_logits=pair.teacher,
            student_logits=pair.student,
            labels=pair.y,
            true_labels=pair.true_y,
            ids=pair.ids,
        )
        yield pair
