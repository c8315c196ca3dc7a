"""What counts as not having learnt, on both sides of every rule."""

import numpy as np
import pytest

from kd_jax.analysis import learning, verdicts
from kd_jax.analysis.results import Estimate, Interval

CLASSES, EXAMPLES = 10, 600
FALLING = [2.0, 1.0]
BASELINES = {"student": "onehot"}
LABELS = np.random.default_rng(0).integers(CLASSES, size=EXAMPLES)


def named(share, scale=5.0, labels=LABELS, seed=1):
    """Logits float32 that name that share of the labels, with confidences that vary by about `scale`."""
    rng = np.random.default_rng(seed)
    wrong = np.arange(len(labels)) >= round(share * len(labels))
    top = np.where(wrong, (labels + 1 + rng.integers(CLASSES - 1, size=len(labels))) % CLASSES, labels)
    logits = rng.uniform(0, 0.1, size=(len(labels), CLASSES)) * scale
    logits[np.arange(len(labels)), top] += scale * rng.uniform(0.5, 2, size=len(labels))
    return logits.astype(np.float32)


def judged(teacher, onehot, student, labels=LABELS, true_labels=None, losses=FALLING):
    """{arm: reason} of a study of one seed."""
    true_labels = labels if true_labels is None else true_labels
    fits = {("teacher", 0): learning.outputs(teacher, labels, true_labels)}
    for arm, logits in (("onehot", onehot), ("student", student)):
        fits[arm, 0] = learning.outputs(logits, labels, true_labels, teacher)
    found = learning.unlearned(dict.fromkeys(fits, losses), fits, BASELINES)
    return {run.arm: run.reason for run in found}


def test_a_study_that_learned_is_not_named():
    assert judged(named(1.0), named(0.98, seed=2), named(0.95, seed=3)) == {}
    assert judged(named(0.5), named(0.6, seed=2), named(0.4, seed=3)) == {}


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ([], "no_metrics"),
        ([1.0], None),
        ([1.0, 2.0, 1.0], None),
        ([1.0, 1.1], "loss_rose"),
        ([1.0, np.nan], "loss_rose"),
    ],
)
def test_a_run_is_judged_by_its_first_and_last_loss_and_may_have_none(losses, reason):
    found = learning.unlearned({("onehot_order", 4): losses}, {}, BASELINES)
    assert [(run.arm, run.seed, run.reason) for run in found] == ([("onehot_order", 4, reason)] if reason else [])


def test_constant_outputs_are_nothing_learnt_even_where_their_accuracy_is_high():
    labels = np.where(np.arange(EXAMPLES) < 0.9 * EXAMPLES, 0, LABELS)
    constant = np.tile(np.float32([3, 1, 0.2, *[0] * 7]), (EXAMPLES, 1))
    rounding = constant * (1 + np.random.default_rng(0).integers(-8, 9, constant.shape) * np.finfo(np.float32).eps)
    for logits in (constant, rounding.astype(np.float32)):
        assert judged(named(1.0, labels=labels), named(1.0, labels=labels), logits, labels) == {
            "student": "constant_outputs"
        }
    # Small numbers are not constant ones: a model that starts at zero is small as a whole.
    assert judged(1e-4 * named(1.0), 1e-4 * named(1.0, seed=2), 1e-4 * named(1.0, seed=3)) == {}


def test_a_run_is_at_chance_unless_it_beats_the_most_frequent_class_surely():
    """Two classes, 512 and 488 of 1,000. By an exact binomial test at 1/1000, 561 right are needed."""
    labels = np.repeat([0, 1], [512, 488])
    rng = np.random.default_rng(0)

    def right(count):
        hits = np.random.default_rng(1).permutation(1000) < count
        logits = np.zeros((1000, 2), np.float32)
        logits[np.arange(1000), np.where(hits, labels, 1 - labels)] = rng.uniform(1, 3, 1000)
        return logits

    for count, reason in ((400, "at_chance"), (512, "at_chance"), (550, "at_chance"), (570, None), (900, None)):
        fit = learning.outputs(right(count), labels, labels)
        found = learning.unlearned({("teacher", 0): FALLING}, {("teacher", 0): fit}, BASELINES)
        assert [run.reason for run in found] == ([reason] if reason else [])


def test_of_runs_that_guess_about_one_in_a_thousand_passes():
    rng = np.random.default_rng(0)
    guesses = rng.binomial(500, 0.5, size=20_000)
    fit = learning.outputs(named(1.0, labels=LABELS[:500]), LABELS[:500], LABELS[:500])
    losses = {("teacher", seed): FALLING for seed in range(len(guesses))}
    fit = fit._replace(most_frequent=250, association=1.0)
    fits = {("teacher", seed): fit._replace(right=int(count)) for seed, count in enumerate(guesses)}
    passed = len(guesses) - len(learning.unlearned(losses, fits, {}))
    assert passed / len(guesses) <= 1e-3 + 3 * np.sqrt(1e-3 / len(guesses))


def reason_of(predictions, labels):
    """Why a run with these predictions counts as not having learnt; None where it has."""
    logits = np.random.default_rng(3).uniform(0, 1, (len(labels), 2))
    logits[np.arange(len(labels)), predictions] += 1
    found = learning.unlearned(
        {("teacher", 0): FALLING}, {("teacher", 0): learning.outputs(logits, labels, labels)}, {}
    )
    return found[0].reason if found else None


def test_a_run_that_names_every_example_rightly_has_learnt_however_unequal_the_classes_are():
    """157 and 3 of 160: guesses that name 3 would hit just those once in 160 over 3, 669,920, draws."""
    labels = np.repeat([0, 1], [157, 3])
    assert learning.outputs(np.eye(2)[labels], labels, labels).association == pytest.approx(2 / 669_920)
    assert reason_of(labels, labels) is None
    assert reason_of(np.zeros(160, int), labels) == "at_chance"
    swapped = labels.copy()
    swapped[[0, 1, 2, 158, 159]] = 1, 1, 1, 0, 0  # one of the three found, among four named
    assert reason_of(swapped, labels) == "at_chance"


def test_of_runs_that_guess_where_classes_are_unequal_at_most_two_in_a_thousand_pass():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [95, 5])
    passed = sum(
        reason_of((rng.random(100) < share).astype(int), labels) is None for share in np.repeat([0.0, 0.02, 0.5], 700)
    )
    assert passed <= 2100 * 2e-3 + 3 * np.sqrt(2100 * 2e-3)


def test_a_student_whose_confidence_hardly_varies_beside_its_teachers_has_learnt_nothing():
    """Whatever it does, its slope is below the ratio of the deviations; so is that of a twin."""
    teacher = named(1.0, scale=10.0)
    assert judged(teacher, named(1.0, seed=2), 0.02 * named(1.0, seed=3)) == {"student": "flat"}
    assert judged(teacher, 0.02 * named(1.0, seed=2), named(1.0, seed=3)) == {"onehot": "flat"}
    assert judged(teacher, named(1.0, seed=2), 0.3 * named(1.0, seed=3)) == {}
    fit = learning.outputs(0.02 * named(1.0, seed=3), LABELS, LABELS, teacher)
    x, y = (
        learning.exaggeration.confidence_pair(teacher, logits)[1] for logits in (teacher, 0.02 * named(1.0, seed=3))
    )
    assert (
        abs(learning.exaggeration.line(x, y).slope) <= fit.confidence / fit.teacher_confidence < learning.LEAST_SPREAD
    )


@pytest.mark.parametrize(
    ("teacher", "onehot", "student", "found"),
    [
        (1.0, 1.0, 0.567, {"student": "behind"}),  # seen on digits
        (1.0, 1.0, 0.8, {}),
        (1.0, 0.6, 0.567, {}),  # the network cannot do better in these steps
        (0.6, 1.0, 0.567, {}),  # nor can its teacher
        (0.7, 0.7, 0.25, {"student": "behind"}),
    ],
)
def test_a_student_far_behind_both_its_teacher_and_its_twin_has_collapsed(teacher, onehot, student, found):
    assert judged(named(teacher), named(onehot, seed=2), named(student, seed=3)) == found


def test_a_student_that_does_not_memorise_wrong_labels_has_learnt():
    wrong = np.arange(EXAMPLES) >= 0.5 * EXAMPLES
    labels = np.where(wrong, (LABELS + 3) % CLASSES, LABELS)
    memorised = [named(1.0, labels=labels, seed=seed) for seed in (1, 2)]
    clean_only = named(1.0, labels=LABELS, seed=3)
    assert learning.outputs(clean_only, labels, LABELS).accuracy == 0.5
    assert judged(*memorised, clean_only, labels, LABELS) == {}
    assert judged(*memorised, clean_only, labels, labels) == {"student": "behind"}


def test_few_examples_do_not_suffice_to_call_a_student_collapsed():
    few = LABELS[:30]
    logits = [named(share, labels=few, seed=seed) for seed, share in enumerate((1.0, 1.0, 0.6))]
    assert judged(*logits, few) == {}


def test_nothing_is_concluded_from_a_teacher_of_constant_outputs():
    """As seen on IMDB: 0.512 on its training labels, which is the share of one class."""
    labels = np.repeat([0, 1], [512, 488])
    constant = np.tile(np.float32([0.03, 0.0]), (1000, 1))
    fit = learning.outputs(constant, labels, labels)
    assert fit.accuracy == fit.chance == 0.512
    runs = learning.unlearned({("teacher", 0): FALLING}, {("teacher", 0): fit}, BASELINES)
    interval = Interval(0.0, -0.001, 0.001, 0.95, "seeds", 2)
    slopes = [
        Estimate("exaggeration_slope", arm, interval, (0.0005, -0.0005), split=split, subset="lowest_25")
        for arm in ("student", "onehot")
        for split in ("train", "test")
    ]
    without = verdicts.decide(verdicts.exaggeration_claims(slopes, BASELINES))
    found = verdicts.decide(verdicts.exaggeration_claims(slopes, BASELINES, unlearned=runs))
    assert [verdict.verdict for verdict in without] == ["contradicted"] * 2
    assert [verdict.verdict for verdict in found] == ["inconclusive"] * 2
    assert all("teacher did not learn (it gives every example the same logits)" in v.because for v in found)
