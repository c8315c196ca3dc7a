"""From fabricated logits with known answers to estimates and verdicts."""

import json

import numpy as np
import pytest
from scipy import stats

from kd_jax.analysis import intervals, summary, verdicts
from kd_jax.analysis.results import Estimate, Interval

NAMES = {  # of the interface, less `eigen_ratio`, which does not come from logits
    "accuracy",
    "nll",
    "ece",
    "brier",
    "agreement",
    "kl",
    "exaggeration_slope",
    "exaggeration_intercept",
    "mean_deviation",
    "accuracy_gain",
    "accuracy_over_teacher",
    "entropy",
    "entropy_difference",
    "entropy_slope",
    "kl_scale",
    "kl_shape",
}
KEYS = {"name", "arm", "split", "subset", "estimate", "low", "high", "level", "resampled", "count", "values"}
CLASSES = 4
BASELINES = {"student": "onehot"}


def logits(top, confidence):
    """Logits whose confidence in the class `top` is `confidence`, exactly."""
    result = np.full((len(top), CLASSES), -np.log(CLASSES - 1))
    result[np.arange(len(top)), top] = confidence
    return result


def pair(arm, seed, slope, split="test", wrong=0.2, noisy=0.0, examples=200):
    """A `Pair` whose student's confidence is 1 + slope times the teacher's, with a given share of its labels wrong.

    Args:
        wrong: share of examples whose label is not the class that both models name.
        noisy: share of examples, taken from the others, whose published label is not the one trained on.
    """
    rng = np.random.default_rng([seed, 7])
    top = rng.integers(0, CLASSES, examples)
    confidence = rng.gamma(3, size=examples)
    y, true_y = top.copy(), top.copy()
    y[: round(wrong * examples)] += 1
    true_y[: round(wrong * examples)] += 1
    true_y[examples - round(noisy * examples) :] += 2
    student = logits(top, 1 + slope * confidence)
    ids = np.arange(examples)
    return summary.Pair(arm, seed, split, logits(top, confidence), student, y % CLASSES, true_y % CLASSES, ids)


def study(*pairs, baselines=BASELINES):
    """{(name, arm, split, subset): Estimate}, of which there is one each; those about a rank are looked at in `test_beyond`."""
    found = summary.estimates(map(summary.compared, pairs), baselines)
    found = [e for e in found if not e.rank]
    table = {(e.name, e.arm, e.split, e.subset): e for e in found}
    assert len(table) == len(found)
    return table


# ---- estimates


def test_the_estimates_are_those_of_the_interface():
    arms = ("onehot", "student")
    table = study(*[pair(a, k, 1.5, split, noisy=0.2) for split in ("train", "test") for k in (0, 1) for a in arms])
    assert {name for name, *_ in table} == NAMES | {"accuracy_true", "kl_temperature"}
    assert {arm for _, arm, *_ in table} == {"teacher", *arms}
    assert {split for *_, split, _ in table} == {"train", "test"}
    quarters = {f"{part}{quarter}" for part in ("", "clean_", "noisy_") for quarter in ("lowest_25", "highest_25")}
    assert {subset for *_, subset in table} == {"all", "clean", "noisy"} | quarters
    assert {name for name, *_, subset in table if subset == "clean"} == NAMES
    assert {name for name, *_, subset in table if subset == "noisy"} == NAMES | {"accuracy_true"}
    assert {name for name, *_, subset in table if subset == "lowest_25"} == {
        "exaggeration_slope",
        "exaggeration_intercept",
        "mean_deviation",
    }
    for estimate in table.values():
        written = json.loads(json.dumps(estimate.to_json(), allow_nan=False))
        assert set(written) == KEYS
        assert len(written["values"]) == 2


def test_which_arms_have_which_estimates():
    table = study(pair("onehot", 0, 0.8), pair("student", 0, 1.5))
    of = {arm: {name for name, a, *_ in table if a == arm} for arm in ("teacher", "onehot", "student")}
    assert of["teacher"] == {"accuracy", "nll", "ece", "brier", "entropy"}
    assert of["onehot"] == NAMES - {"accuracy_gain", "accuracy_over_teacher"} | {"kl_temperature"}
    assert of["student"] == NAMES | {"kl_temperature"}


def test_the_planted_slope_of_each_seed_is_its_value_in_the_order_of_the_seeds():
    planted = {4: 1.5, 2: 0.7, 9: 1.1}
    table = study(*[pair("student", seed, slope) for seed, slope in planted.items()], baselines={})
    for subset in ("all", "lowest_25", "highest_25"):
        slope = table["exaggeration_slope", "student", "test", subset]
        np.testing.assert_allclose(slope.values, [0.7, 1.5, 1.1], rtol=1e-9)
        intercept = table["exaggeration_intercept", "student", "test", subset]
        np.testing.assert_allclose(intercept.values, 1, rtol=1e-9)


def test_with_two_seeds_or_more_the_interval_is_over_seeds():
    table = study(*[pair(arm, seed, 1 + seed / 10) for seed in range(3) for arm in ("onehot", "student")])
    for estimate in table.values():
        assert estimate.interval == intervals.over_seeds(estimate.values)
        assert (estimate.interval.resampled, estimate.interval.count) == ("seeds", 3)
    slope = table["exaggeration_slope", "student", "test", "lowest_25"].interval
    np.testing.assert_allclose(
        (slope.estimate, slope.low, slope.high), (1.1, *stats.t.interval(0.95, 2, 1.1, 0.1 / np.sqrt(3))), rtol=1e-9
    )


def test_a_number_that_one_of_three_seeds_lacks_says_which_seeds_have_it():
    pairs = [pair("student", seed, 1.5) for seed in (3, 4, 5)]
    student = pairs[1].student.astype(float)
    other = ({*range(CLASSES)} - {int(pairs[1].y[0]), int(student[0].argmax())}).pop()
    student[0, other] = -np.inf  # the teacher holds it possible: the divergence is infinite
    table = study(pairs[0], pairs[1]._replace(student=student), pairs[2], baselines={})
    assert table["kl", "student", "test", "all"].kept == (0, 2)
    assert len(table["kl", "student", "test", "all"].values) == 2
    assert table["agreement", "student", "test", "all"].kept == ()


def test_with_one_seed_the_interval_is_over_examples():
    table = study(pair("onehot", 5, 0.8), pair("student", 5, 1.5))
    for (*_, subset), estimate in table.items():
        interval = estimate.interval
        assert estimate.values == (interval.estimate,)
        assert (interval.resampled, interval.level) == ("examples", 0.95)
        assert interval.count == (200 if subset == "all" else 50)
        assert interval.low <= interval.estimate <= interval.high
    accuracy = table["accuracy", "student", "test", "all"].interval
    assert accuracy == intervals.of_proportion(np.arange(200) < 160)


def test_the_interval_over_examples_of_a_noisy_slope_is_its_bootstrap():
    given = pair("student", 0, 1.5)
    rng = np.random.default_rng(0)
    x = given.teacher[np.arange(200), given.teacher.argmax(axis=1)]
    y = 1.5 * x + rng.normal(size=200)
    noisy = given._replace(student=logits(given.teacher.argmax(axis=1), y))
    found = study(noisy, baselines={})["exaggeration_slope", "student", "test", "all"].interval
    draws = [stats.linregress(x[index], y[index]).slope for index in rng.integers(0, 200, size=(1000, 200))]
    expected = 2 * 1.959964 * np.std(draws)
    np.testing.assert_allclose(found.high - found.low, expected, rtol=0.2)  # 400 and 1000 draws: 4 % of error
    np.testing.assert_allclose(found.estimate, stats.linregress(x, y).slope, rtol=1e-9)


def test_in_each_draw_of_the_bootstrap_the_quarters_are_cut_anew():
    given = pair("student", 0, 1)
    top = given.teacher.argmax(axis=1)
    x = given.teacher[np.arange(200), top]
    y = x**2  # where the line bends, the place of the cut is most of what is uncertain about the slope

    def slope_below(cut, index):
        below = index[x[index] <= cut]
        return stats.linregress(x[below], y[below]).slope

    draws = np.random.default_rng(0).integers(0, 200, size=(1000, 200))
    anew = np.std([slope_below(np.quantile(x[index], 0.25), index) for index in draws])
    kept = np.std([slope_below(np.quantile(x, 0.25), index) for index in draws])
    table = study(given._replace(student=logits(top, y)), baselines={})
    found = table["exaggeration_slope", "student", "test", "lowest_25"].interval
    np.testing.assert_allclose((found.high - found.low) / (2 * 1.959964), anew, rtol=0.2)
    assert kept < 0.7 * anew


def test_clean_and_noisy_points_are_split_by_whether_their_label_is_the_published_one():
    # Of 200, the first 40 are labelled wrongly as published, the last 50 are named right but were published as another.
    given = pair("student", 0, 1.5, "train", wrong=0.2, noisy=0.25)
    table = study(given, baselines={})
    accuracy = {subset: table["accuracy", "student", "train", subset].interval for subset in ("all", "clean", "noisy")}
    assert {subset: found.count for subset, found in accuracy.items()} == {"all": 200, "clean": 150, "noisy": 50}
    assert accuracy["all"].estimate == 0.8
    assert accuracy["noisy"].estimate == 1
    np.testing.assert_allclose(accuracy["clean"].estimate, 110 / 150)
    assert table["accuracy", "teacher", "train", "noisy"].interval == accuracy["noisy"]
    assert table["exaggeration_slope", "student", "train", "noisy"].interval.count == 50
    taught, student, wrong = given.teacher.argmax(1), given.student, given.y != given.true_y
    assert table["accuracy_true", "student", "train", "noisy"].interval.estimate == np.mean(
        student.argmax(1)[wrong] == given.true_y[wrong]
    )
    p, q = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (given.teacher, student))
    x, y = (np.log(of / (1 - of))[wrong] for of in (r[np.arange(len(r)), taught] for r in (p, q)))
    low = x <= np.quantile(x, 0.25)
    slope = table["exaggeration_slope", "student", "train", "noisy_lowest_25"].interval.estimate
    np.testing.assert_allclose(slope, np.polyfit(x[low], y[low], 1)[0], rtol=1e-8)
    kl = {subset: table["kl", "student", "train", subset].interval.estimate for subset in ("all", "clean", "noisy")}
    np.testing.assert_allclose(kl["all"], (150 * kl["clean"] + 50 * kl["noisy"]) / 200, rtol=1e-12)


def test_without_wrong_labels_nothing_is_split_by_label():
    table = study(pair("student", 0, 1.5), baselines={})
    assert not {subset for *_, subset in table} & {"clean", "noisy"}


@pytest.mark.parametrize("clean", [0, 1])
def test_a_subset_too_small_for_an_interval_is_left_out(clean):
    given = pair("student", 0, 1.5, "train", examples=40)
    true_y = (given.y + 1) % CLASSES
    true_y[:clean] = given.y[:clean]
    table = study(given._replace(true_y=true_y), baselines={})
    assert {subset for *_, subset in table if not subset.endswith("25")} == {"all", "noisy"}


def test_no_estimate_travels_without_an_interval():
    given = pair("student", 0, 1.5, "train", examples=40)
    true_y = (given.y + 1) % CLASSES
    true_y[:2] = given.y[:2]  # two points have a line, but most draws of two do not
    constant = logits(given.teacher.argmax(axis=1), np.full(40, 0.1))  # a teacher of one confidence has none at all
    for undefined in (given._replace(true_y=true_y), given._replace(teacher=constant)):
        table = study(undefined, baselines={})
        assert table
        for estimate in table.values():
            json.dumps(estimate.to_json(), allow_nan=False)


def test_a_slope_on_a_teacher_of_one_confidence_is_not_reported():
    given = pair("student", 0, 1.5)
    constant = logits(given.teacher.argmax(axis=1), np.full(200, 87.6))  # the mean of 200 times 87.6 is not 87.6
    table = study(given._replace(teacher=constant), baselines={})
    assert "exaggeration_slope" not in {name for name, *_ in table}
    assert ("mean_deviation", "student", "test", "all") in table


def test_the_accuracy_gain_is_the_paired_difference():
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, 300)
    onehot_right = rng.uniform(size=300) < 0.7
    student_right = onehot_right ^ (rng.uniform(size=300) < 0.1)  # alike on nine of ten: pairing pays
    both = {
        arm: pair(arm, 0, 1, examples=300)._replace(
            student=logits(np.where(right, y, (y + 1) % CLASSES), np.full(300, 2.0)), y=y, true_y=y
        )
        for arm, right in (("onehot", onehot_right), ("student", student_right))
    }
    expected = student_right.astype(float) - onehot_right
    low, high = stats.t.interval(0.95, 299, expected.mean(), stats.sem(expected))
    for order in (both.values(), reversed(both.values())):
        found = study(*order)["accuracy_gain", "student", "test", "all"].interval
        np.testing.assert_allclose((found.estimate, found.low, found.high), (expected.mean(), low, high), rtol=1e-9)
        assert (found.resampled, found.count) == ("examples", 300)


def test_over_seeds_the_accuracy_gain_pairs_each_student_with_the_onehot_run_of_its_seed():
    wrong = {0: (0.4, 0.3), 1: (0.2, 0.15), 2: (0.1, 0.2)}  # seed: of the one-hot run, of the student
    pairs = []
    for seed, shares in wrong.items():
        for arm, share in zip(("onehot", "student"), shares, strict=True):
            given = pair(arm, seed, 1)
            named = (given.y + (np.arange(200) < 200 * share)) % CLASSES
            pairs.append(given._replace(student=logits(named, np.full(200, 3.0))))
    table = study(*pairs)
    found = table["accuracy_gain", "student", "test", "all"]
    np.testing.assert_allclose(found.values, [0.1, 0.05, -0.1], atol=1e-12)
    assert found.interval == intervals.over_seeds(found.values)
    # The teachers of `pair` are right but for a fifth.
    over = table["accuracy_over_teacher", "student", "test", "all"]
    teacher = table["accuracy", "teacher", "test", "all"]
    np.testing.assert_allclose(over.values, np.subtract([0.7, 0.85, 0.8], teacher.values), atol=1e-12)


def test_each_student_is_compared_with_its_own_baseline():
    table = study(
        pair("onehot", 0, 1),
        pair("student", 0, 1),
        pair("onehot_mlp", 0, 1),
        pair("student_mlp", 0, 1),
        baselines={"student": "onehot", "student_mlp": "onehot_mlp"},
    )
    gains = {arm: e.interval.estimate for (name, arm, *_), e in table.items() if name == "accuracy_gain"}
    assert gains == {"student": 0, "student_mlp": 0}


# ---- verdicts


def estimate(name, arm, low, high, values=(0.0,), split="test", subset="all"):
    resampled = "seeds" if len(values) > 1 else "examples"
    interval = Interval((low + high) / 2, low, high, 0.95, resampled, len(values) if len(values) > 1 else 100)
    return Estimate(name, arm, interval, tuple(values), split=split, subset=subset)


def slope(arm, low, high, **more):
    return estimate("exaggeration_slope", arm, low, high, subset="lowest_25", **more)


def slope_of(arm, values, **more):
    interval = intervals.over_seeds(values)
    return slope(arm, interval.low, interval.high, values=values, **more)


def judged(*estimates):
    return verdicts.decide(verdicts.exaggeration_claims(list(estimates), BASELINES))


@pytest.mark.parametrize(
    ("student", "control"), [((1.2, 1.4), (0.8, 1.0)), ((0.9, 1.1), (0.9, 1.1)), ((0.5, 0.8), (0.2, 0.3))]
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_one_seed_decides_nothing_about_exaggeration(student, control, split):
    """Two trainings can differ surely, by examples, and still by chance."""
    (found,) = judged(slope("student", *student, split=split), slope("onehot", *control, split=split))
    assert (found.verdict, found.p_value, found.more_seeds) == ("inconclusive", None, None)
    assert split in found.claim
    assert "one seed" in found.because
    assert "cannot be told from one seed" in found.sentence


@pytest.mark.parametrize(
    ("student", "control", "expected"),
    [
        ((1.30, 1.35, 1.32), (0.90, 0.95, 0.92), "supported"),
        ((1.40, 1.55, 1.70), (1.30, 1.45, 1.60), "supported"),  # ranges overlap, yet each seed is 0.1 above its twin
        ((1.30, 1.35, 1.32), (1.00, 1.60, 1.20), "inconclusive"),
        ((1.30, 1.35, 1.32), (1.50, 1.55, 1.52), "inconclusive"),
        ((0.90, 1.35, 1.10), (0.40, 0.85, 0.60), "inconclusive"),
        ((0.50, 0.55, 0.52), (0.10, 0.15, 0.12), "contradicted"),
    ],
)
def test_exaggeration_over_seeds_compares_each_seed_with_its_own_control(student, control, expected):
    (found,) = judged(slope_of("student", student), slope_of("onehot", control))
    assert found.verdict == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.02, 0.021, 0.019), "supported"),
        ((-0.02, -0.021, -0.019), "contradicted"),
        ((0.02, -0.01, 0.01), "inconclusive"),
        ((0.0, 0.0, 0.0), "inconclusive"),
    ],
)
def test_the_gain_is_judged_by_the_side_of_zero_its_interval_lies_on(values, expected):
    interval = intervals.over_seeds(values)
    (found,) = judged(estimate("accuracy_gain", "student", interval.low, interval.high, values=values))
    assert found.verdict == expected


def test_one_seed_decides_nothing_about_the_gain():
    for low, high in ((0.01, 0.03), (-0.03, -0.01)):
        (found,) = judged(estimate("accuracy_gain", "student", low, high))
        assert found.verdict == "inconclusive"
        assert "one seed" in found.because


def test_a_verdict_gives_the_numbers_that_decided():
    slopes = slope("student", 1.25, 1.45), slope("onehot", 0.75, 0.95)
    fit = estimate("accuracy", "teacher", 0.985, 0.995, split="train")
    exaggeration, gain = judged(*slopes, estimate("accuracy_gain", "student", 0.01, 0.03), fit)
    for shown in ("1.350 [1.250, 1.450]", "0.850 [0.750, 0.950]", "100 examples", "onehot"):
        assert shown in exaggeration.because
    for shown in ("0.020 [0.010, 0.030]", "99.0 %"):
        assert shown in gain.because


def test_a_slope_below_one_is_not_called_fidelity():
    (found,) = judged(slope("student", 0.5, 0.8), slope("onehot", 0.2, 0.3))
    assert "does not show that the student follows the teacher" in found.because


def test_without_estimates_there_is_no_verdict():
    assert judged() == []
    assert judged(slope("student", 1.2, 1.4)) == []  # nor without the control


def test_a_study_with_a_planted_exaggeration_is_supported_from_logits_to_verdict():
    rng = np.random.default_rng(0)
    pairs = []
    for seed in range(4):
        for arm, planted in (("student", 1.4), ("onehot", 0.7)):
            given = pair(arm, seed, planted, examples=2000)
            noise = 0.1 * rng.normal(size=given.student.shape)
            pairs.append(given._replace(student=given.student + noise))
    exaggeration, gain = judged(*study(*pairs).values())
    assert (exaggeration.verdict, gain.verdict) == ("supported", "inconclusive")
    assert "exaggerates" in exaggeration.claim
    assert "accuracy" in gain.claim


@pytest.mark.parametrize(
    ("values", "expected"), [((0.008, 0.008), "inconclusive"), ((0.008, 0.0081, 0.0079), "supported")]
)
def test_a_gain_that_is_the_same_in_all_seeds_shows_nothing(values, expected):
    """Shares of a test set are whole counts, so two can agree by chance; the interval is then a point."""
    gain = Estimate("accuracy_gain", "student", intervals.over_seeds(values), values, split="test", subset="all")
    (verdict,) = verdicts.decide(verdicts.exaggeration_claims([gain], {"student": "onehot"}))
    assert verdict.verdict == expected
