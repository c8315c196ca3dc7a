"""What lies beyond the teacher's top class, against NumPy and SciPy and closed forms, from logits to estimates."""

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import logit, rel_entr, softmax

from kd_jax.analysis import beyond, exaggeration, examples, intervals, rescaling, summary


def models(count=300, classes=12, seed=0, scale=2.0):
    rng = np.random.default_rng(seed)
    teacher = scale * rng.normal(size=(count, classes))
    return teacher, 1.3 * teacher + rng.normal(size=teacher.shape)


def measured(teacher, student, temperature=None, ranks=examples.RANKS):
    said = examples.beside(teacher, student, ranks=ranks, temperature=temperature)
    return {key: found.value for key, found in beyond.measure(*said).items()}


def test_the_slope_at_each_rank_is_that_of_log_odds_in_the_teachers_r_th_class():
    teacher, student = models()
    found = measured(teacher, student)
    order = np.argsort(-teacher, axis=1)
    p, q = softmax(teacher, axis=1), softmax(student, axis=1)
    each = np.arange(len(teacher))
    for rank in range(1, 11):
        k = order[:, rank - 1]
        expected = stats.linregress(logit(p[each, k]), logit(q[each, k])).slope
        assert found["exaggeration_slope_rank", rank] == pytest.approx(expected, rel=1e-5)
    assert ("exaggeration_slope_rank", 11) not in found


def test_rank_one_is_the_exaggeration_slope_itself():
    teacher, student = models()
    x, y = exaggeration.confidence_pair(teacher, student)
    assert measured(teacher, student)["exaggeration_slope_rank", 1] == exaggeration.line(x, y).slope


def test_scaled_logits_of_two_classes_have_their_scale_as_slope_at_both_ranks():
    teacher, _ = models(classes=2)
    found = measured(teacher, 1.7 * teacher)
    ranks = {rank: value for (name, rank), value in found.items() if name == "exaggeration_slope_rank"}
    assert ranks == pytest.approx({1: 1.7, 2: 1.7})


def test_equal_classes_are_ordered_by_their_index_and_of_more_ranks_than_classes_there_are_as_many_as_classes():
    teacher = np.array([[0.0, 2.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    student = np.array([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]])
    found = examples.beside(teacher, student).pair
    behind = ([2, 1], [3, 2], [0, 3])  # classes 1 and 0
    expected = [exaggeration.confidence(student, classes) for classes in behind]
    np.testing.assert_allclose(found.lower_y, np.stack(expected, axis=1), rtol=1e-6)


def test_a_student_that_is_sure_of_the_teachers_second_class_does_not_saturate():
    teacher, student = np.array([[1.0, 0.0, -1.0]]), np.array([[0.0, 100.0, 0.0]])
    found = examples.beside(teacher, student).pair.lower_y
    np.testing.assert_allclose(found[0], [100 - np.log(2), -100], rtol=1e-6)  # log(p/(1-p)) of a p that rounds to 1


def test_a_class_of_probability_0_is_left_out_and_not_taken_for_a_number():
    teacher, student = models(classes=3)
    teacher[:5, 0] = -np.inf
    found = measured(teacher, student)
    assert np.isfinite(list(found.values())).all()
    at = np.where(np.isneginf(teacher).any(axis=1), False, True)
    third = teacher.argmin(axis=1)
    x, y = (exaggeration.confidence(z, third)[at] for z in (teacher, student))
    assert found["exaggeration_slope_rank", 3] == pytest.approx(stats.linregress(x, y).slope, rel=1e-5)


def test_entropies_are_compared_example_by_example():
    teacher, student = models()
    found = measured(teacher, student)
    of = [stats.entropy(softmax(z, axis=1), axis=1) for z in (teacher, student)]
    assert found["entropy_difference", 0] == pytest.approx(np.mean(of[1] - of[0]), rel=1e-9)
    assert found["entropy_slope", 0] == pytest.approx(stats.linregress(*of).slope, rel=1e-9)


def test_scale_and_shape_add_up_to_the_divergence_and_shape_is_its_least_over_temperatures():
    teacher, student = models()
    best = rescaling.matched(teacher, student)
    found = measured(teacher, student, best.estimate)
    p = softmax(teacher, axis=1)

    def kl(temperature):
        return rel_entr(p, softmax(student / temperature, axis=1)).sum(axis=1).mean()

    direct = optimize.minimize_scalar(kl, bounds=(0.1, 10), method="bounded", options={"xatol": 1e-10})
    assert best.estimate == pytest.approx(direct.x, rel=1e-5)
    assert found["kl_shape", 0] == pytest.approx(direct.fun, rel=1e-9)
    assert found["kl_scale", 0] + found["kl_shape", 0] == pytest.approx(kl(1.0), rel=1e-12)
    assert found["kl_scale", 0] > 0


def test_a_scaled_teacher_is_all_scale_and_one_that_cannot_be_improved_all_shape():
    teacher, _ = models()
    best = rescaling.matched(teacher, 3 * teacher).estimate
    found = measured(teacher, 3 * teacher, best)
    assert best == pytest.approx(3, rel=1e-8)
    assert found["kl_shape", 0] == pytest.approx(0, abs=1e-12)
    student = np.log(softmax(teacher, axis=1)) + np.random.default_rng(1).normal(size=teacher.shape)
    student /= rescaling.matched(teacher, student).estimate
    found = measured(teacher, student, rescaling.matched(teacher, student).estimate)
    assert abs(found["kl_scale", 0]) < 1e-9 < found["kl_shape", 0]


@pytest.mark.parametrize("scale", [0.011, 0.5, 1.0, 40.0, 99.0])
def test_newtons_method_finds_the_scale_wherever_it_lies(scale):
    teacher, _ = models(scale=1.0)
    assert rescaling.matched(teacher, scale * teacher).estimate == pytest.approx(scale, rel=1e-8)


def test_of_many_examples_a_part_decides_the_temperature_and_of_few_all():
    assert rescaling.fitted_rows(500, 10).tolist() == list(range(500))
    rows = rescaling.fitted_rows(50_000, 10)
    assert len(rows) == len(set(rows.tolist())) == rescaling.FITTED_ROWS
    assert (np.diff(rows) > 0).all()
    assert rows[-1] < 50_000
    assert len(rescaling.fitted_rows(50_000, 100_000)) == 1000


def test_the_interval_of_a_slope_covers_the_true_one_though_errors_grow_with_x():
    rng = np.random.default_rng(0)
    hits, plain = [], []
    for _ in range(1000):
        x = rng.gamma(2, size=100)
        y = 1.5 * x + x * rng.normal(size=100)
        found = intervals.of_slope(x, y)
        hits.append(found.low <= 1.5 <= found.high)
        fit = stats.linregress(x, y)
        plain.append(abs(fit.slope - 1.5) < stats.t.ppf(0.975, 98) * fit.stderr)
        assert found.estimate == pytest.approx(fit.slope)
    assert 0.925 < np.mean(hits) < 0.975
    assert np.mean(plain) < 0.9  # which equal variances would get wrong


def test_copies_in_their_groups_add_nothing_to_what_is_known_of_a_slope():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)
    once = intervals.of_slope(x, y)
    often = intervals.of_slope(np.repeat(x, 9), np.repeat(y, 9), groups=np.repeat(np.arange(200), 9))
    assert (often.resampled, often.count) == (intervals.GROUPS, 200)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.03)  # but for leverages
    assert intervals.of_slope(np.repeat(x, 9), np.repeat(y, 9)).high - once.estimate < 0.4 * (once.high - once.estimate)


def test_estimates_have_the_ranks_of_every_arm_and_of_clean_and_noisy_points():
    y = np.arange(300) % 12
    true_y = np.where(np.arange(300) < 60, (y + 1) % 12, y)
    pairs = []
    for seed in (0, 1):
        for arm in ("onehot", "student"):
            teacher, student = models(seed=seed + 2 * (arm == "student"))
            pairs.append(summary.Pair(arm, seed, "train", teacher, student, y, true_y, np.arange(300)))
    found = summary.estimates(map(summary.compared, pairs), {"student": "onehot"})
    ranks = {(e.arm, e.subset, e.rank): e for e in found if e.name == "exaggeration_slope_rank"}
    assert set(ranks) == {
        (arm, subset, rank)
        for arm in ("onehot", "student")
        for subset in ("all", "clean", "noisy")
        for rank in range(1, 11)
    }
    plain = {(e.arm, e.subset): e for e in found if e.name == "exaggeration_slope"}
    for (arm, subset, rank), estimate in ranks.items():
        assert estimate.interval.resampled == "seeds"
        assert estimate.to_json()["rank"] == rank
        if rank == 1:
            assert estimate.values == plain[arm, subset].values
    of = {(e.name, e.arm, e.subset): e.interval.estimate for e in found}
    for subset in ("all", "clean", "noisy"):
        parts = of["kl_scale", "student", subset] + of["kl_shape", "student", subset]
        assert parts == pytest.approx(of["kl", "student", subset], rel=1e-12)
    weights = {"clean": 240 / 300, "noisy": 60 / 300}
    of_parts = sum(weight * of["kl_shape", "student", subset] for subset, weight in weights.items())
    assert of_parts == pytest.approx(of["kl_shape", "student", "all"], rel=1e-12)  # one temperature for all
