"""Numbers about several studies: shares of a gain, and gain against the teacher's accuracy."""

import numpy as np
import pytest
from scipy import stats

from kd_jax.analysis import across
from kd_jax.analysis.claims import decide


def measured(folder, gain, accuracy=(1.0, 1.0, 1.0), lead=(0.0, 0.0, 0.0), learned=True, **values):
    return across.StudentResult(folder, "student", values, *map(np.array, (accuracy, lead, gain)), learned)


def test_a_share_of_means_covers_the_true_share_as_often_as_it_claims():
    """Correlated numerators and denominators, six seeds, 4,000 draws; the interval is exact for normal values."""
    rng = np.random.default_rng(0)
    covariance = [[0.04, 0.02], [0.02, 0.03]]
    covered = 0
    for draw in rng.multivariate_normal([0.6, 1.0], covariance, size=(4000, 6)):
        share = across.ratio_of_means(*draw.T)
        covered += share is not None and share.low <= 0.6 <= share.high
    assert abs(covered / 4000 - 0.95) < 3 * np.sqrt(0.95 * 0.05 / 4000)


def test_its_ends_are_where_the_difference_stops_being_plausible():
    """By definition: r is inside when a t test does not reject that the mean of a - r b is zero."""
    a, b = np.array([0.010, 0.014, 0.006, 0.011]), np.array([0.020, 0.024, 0.015, 0.018])
    share = across.ratio_of_means(a, b)
    assert share.low < share.estimate < share.high
    for end in (share.low, share.high):
        assert stats.ttest_1samp(a - end * b, 0).pvalue == pytest.approx(0.05, rel=1e-6)
    assert (share.estimate, share.count, share.resampled) == (pytest.approx(a.mean() / b.mean()), 4, "seeds")


def test_a_share_of_a_gain_that_may_be_none_has_no_ends():
    assert across.ratio_of_means([0.01, 0.02, 0.0], [0.01, -0.01, 0.02]) is None
    assert across.ratio_of_means([0.01, 0.01], [0.01, 0.01]) is None  # by chance


def test_a_switched_student_is_held_against_the_one_that_differs_by_the_switch_alone():
    plain = [0.020, 0.024, 0.022]
    studies = [
        measured("e", [0.001, 0.0, 0.003], switch="", teacher_step=5),
        measured("a", plain, switch="", teacher_step=0),
        measured("b", [0.018, 0.023, 0.019], switch="onehot:kd@5", teacher_step=0),
        measured("c", [0.001, 0.003, 0.002], switch="kd:onehot@5", teacher_step=0),
        measured("d", [0.050, 0.050, 0.050], switch="", teacher_step=9),
    ]
    numbers, claims = across.switching(studies)
    verdicts = decide(claims)
    table = {(n.name, n.variant): n for n in numbers}
    assert {n.against for n in numbers} == {"a"}
    np.testing.assert_allclose(table["gain_difference", "b"].values, [-0.002, -0.001, -0.003], atol=1e-12)
    assert table["gain_recovered", "b"].interval.estimate == pytest.approx(0.06 / 0.066)
    assert [v.verdict for v in verdicts] == ["supported", "contradicted"]
    assert table["gain_recovered", "c"].to_json() == {
        "name": "gain_recovered",
        "arm": "student",
        "variant": "c",
        "against": "a",
        "split": "test",
        "subset": "all",
        **vars(table["gain_recovered", "c"].interval),
        "values": [],
    }


def test_nothing_is_concluded_from_a_share_of_nothing_or_of_a_loss_or_of_runs_that_did_not_learn():
    switched = measured("b", [0.010, 0.012, 0.011], switch="onehot:kd@5")
    for plain, said in (
        (measured("a", [0.02, -0.02, 0.01], switch=""), "may be none"),
        (measured("a", [-0.020, -0.021, -0.022], switch=""), "loses accuracy"),
        (measured("a", [0.011, 0.012, 0.013], switch="", learned=False), "did not learn"),
    ):
        (verdict,) = decide(across.switching([plain, switched])[1])
        assert verdict.verdict == "inconclusive"
        assert said in verdict.because


def test_gains_that_agree_in_all_seeds_by_chance_conclude_nothing():
    equal = [measured(name, [0.01, 0.01], switch=switch) for name, switch in (("a", ""), ("b", "onehot:kd@5"))]
    numbers, claims = across.switching(equal)
    (verdict,) = decide(claims)
    assert [number.name for number in numbers] == ["gain_difference"]
    assert verdict.verdict == "inconclusive"
    assert "the same in all seeds, by chance" in verdict.because


def test_gain_against_accuracy_is_the_slope_within_each_seed():
    """Three teachers; the seeds differ by an offset, which no slope within a seed sees."""
    accuracy = np.array([[0.8, 0.82, 0.78], [0.9, 0.91, 0.88], [1.0, 1.0, 0.99]])
    slopes, offsets = np.array([-0.2, -0.25, -0.3]), np.array([0.3, 0.1, 0.5])
    studies = [measured(str(i), offsets + slopes * row, row, 2 * (1 - row), decay=i) for i, row in enumerate(accuracy)]
    studies.append(measured("failed", [9.0, 9.0, 9.0], [0.1, 0.1, 0.1], [9.0, 0.0, 1.0], learned=False, decay=7))
    (fit, lead), claims = across.helping(studies)
    verdicts = decide(claims)
    np.testing.assert_allclose(fit.values, slopes)
    np.testing.assert_allclose(lead.values, -slopes / 2)
    assert (fit.name, lead.name) == ("gain_per_teacher_accuracy", "gain_per_teacher_lead")
    assert [verdict.verdict for verdict in verdicts] == ["supported", "supported"]
    assert "over 3 variants" in verdicts[0].because
    reverse = [study._replace(gain=-study.gain) for study in studies]
    assert [verdict.verdict for verdict in decide(across.helping(reverse)[1])] == ["contradicted", "contradicted"]


def test_teachers_of_almost_one_accuracy_have_no_slope():
    studies = [measured(str(i), [i, i, i], [1 - 0.009 * i] * 3, decay=i) for i in range(3)]
    assert across.helping(studies) == ([], [])


def test_one_by_one_each_field_has_a_slope_of_its_own():
    base = {"noise": 0.2, "epochs": 40}
    studies = [measured("base", [0.02, 0.02, 0.02], **base)]
    studies += [measured(f"n{n}", [n, n, n], [1 - n] * 3, **base | {"noise": n}) for n in (0.1, 0.4)]
    studies += [measured(f"e{e}", [0.1 / e] * 3, [0.9 + e / 1000] * 3, **base | {"epochs": e}) for e in (5, 10)]
    numbers, _ = across.helping(studies)
    assert [n.field for n in numbers] == ["", "noise", "epochs"]
