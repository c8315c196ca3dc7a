"""Verdicts by paired t tests and Holm's correction: against SciPy, against the definition, and against simulation."""

from functools import partial

import numpy as np
import pytest
from scipy import stats

from kd_jax.analysis import claims, intervals, simulated, verdicts
from kd_jax.analysis.claims import Claim, Part, decide, decisions
from kd_jax.analysis.power import Effect, effect_found, power, seeds_needed
from kd_jax.analysis.results import Estimate, Unlearned, Verdict

SENTENCES = {"supported": "Yes.", "contradicted": "No.", "inconclusive": "Open."}


def claim(*values, opposite=(), **more):
    parts, against = (
        tuple(Part(f"part {i}", np.array(of)) for i, of in enumerate(each)) for each in (values, opposite)
    )
    return Claim("a claim", "numbers", SENTENCES, "accuracy_gain", "student", parts, against, **more)


def test_a_part_is_the_t_test_of_its_mean():
    values = np.random.default_rng(0).normal(0.3, 1, size=7)
    assert Part("", values).p_value == pytest.approx(2 * stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert Part("", -values).p_value == 1
    both = np.random.default_rng(1).normal(size=(2, 6))
    assert Part("", both[0] - both[1]).p_value == pytest.approx(
        min(1, 2 * stats.ttest_rel(*both, alternative="greater").pvalue)
    )


def test_a_part_that_is_the_same_in_all_seeds_is_sure_by_its_sign():
    rounding = np.array([1.4, 1.55, 1.7]) - np.array([1.3, 1.45, 1.6])
    assert rounding.std() > 0
    assert [Part("", values).p_value for values in (rounding, -rounding, np.zeros(3))] == [0, 1, 1]


def test_a_model_that_is_the_same_for_all_seeds_is_one_more_draw():
    """An interval of prediction: the standard error has the variance of that one model too."""
    values = np.random.default_rng(0).normal(1, 1, size=5)
    t = values.mean() / (values.std(ddof=1) * np.sqrt(1 + 1 / 5))
    assert Part("", values, shared=True).p_value == pytest.approx(2 * stats.t.sf(t, 4))
    wide, narrow = (intervals.over_seeds(values, shared=shared) for shared in (True, False))
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(np.sqrt(6))


def test_a_claim_of_several_parts_is_as_sure_as_its_weakest():
    strong, weak = [1.0, 1.1, 0.9, 1.0], [0.2, -0.1, 0.3, 0.1]
    (found,) = decide([claim(strong, weak)])
    assert found.p_value == Part("", np.array(weak)).p_value
    assert (found.verdict, found.decided_by) == ("inconclusive", "part 1")
    (found,) = decide([claim(strong, strong[::-1])])
    assert (found.verdict, found.sentence) == ("supported", "Yes.")


def test_the_opposite_needs_all_its_parts_or_any_of_them():
    low, open_, no = [-1.0, -1.1, -0.9], [1.0, -1.0, 0.5], [1.0, 1.1, 0.9]
    assert decide([claim(low, opposite=(no, open_))])[0].verdict == "inconclusive"
    (found,) = decide([claim(low, opposite=(open_, no), any_opposite=True)])
    assert (found.verdict, found.decided_by) == ("contradicted", "part 1")
    assert found.p_value == pytest.approx(2 * Part("", np.array(no)).p_value)  # Bonferroni's price for looking at two


def test_holms_correction_is_the_definition():
    """Reject the smallest while it is below level / number of those left; the adjusted p is the level at which one is rejected."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.uniform(size=5) ** 3
        adjusted = claims.holm(p)
        for level in (0.01, 0.05, 0.2):
            rejected, order = set(), np.argsort(p)
            for rank, at in enumerate(order):
                if p[at] > level / (5 - rank):
                    break
                rejected.add(at)
            assert {i for i in range(5) if adjusted[i] <= level} == rejected


def test_a_study_of_more_claims_asks_more_of_each():
    values = [0.30, 0.10, 0.25, 0.20, 0.05]  # p = 0.02
    (alone,) = decide([claim(values)])
    assert alone.verdict == "supported"
    assert alone.p_value == alone.adjusted
    together = decide([claim(values), claim([0.1, -0.1, 0.05]), claim([0.2, -0.1, 0.05])])
    assert [each.verdict for each in together] == ["inconclusive"] * 3
    assert together[0].adjusted == pytest.approx(3 * together[0].p_value)
    assert "by Holm's correction for 3 verdicts" in together[0].because


def test_what_cannot_be_tested_is_no_part_of_the_correction():
    values = [0.30, 0.10, 0.25, 0.20, 0.05]
    given = Verdict("another", "supported", "by definition")
    found = decide([claim(values), claim(values, open="one seed"), given])
    assert found[0].verdict == "supported"
    assert (found[1].verdict, found[1].p_value, found[1].decided_by) == ("inconclusive", None, "one seed")
    assert found[2] is given


def test_nothing_is_decided_about_a_claim_that_rests_on_a_run_that_did_not_learn():
    held = claims.withheld(claim([1.0, 1.1, 0.9]), ("teacher", "student"), [Unlearned("teacher", 0, "at_chance")])
    (found,) = decide([held])
    assert (found.verdict, found.p_value) == ("inconclusive", None)
    assert found.because == "teacher did not learn (it is at chance); numbers"
    assert found.sentence == "Whether distillation helps cannot be told: teacher did not learn (it is at chance)."


# ---- power


@pytest.mark.parametrize(("size", "seeds", "level"), [(1.0, 10, 0.05), (0.4, 30, 0.05), (2.0, 5, 0.01)])
def test_power_is_how_often_a_t_test_finds_the_effect(size, seeds, level):
    draws = np.random.default_rng(0).normal(size, 1, size=(20_000, seeds))
    found = stats.ttest_1samp(draws, 0, axis=1)
    share = np.mean((found.pvalue < level) & (found.statistic > 0))
    assert power([Effect(size)], seeds, level) == pytest.approx(share, abs=4 * np.sqrt(0.25 / 20_000))


def test_seeds_needed_is_the_least_number_with_the_power():
    for effects in ([Effect(0.7)], [Effect(1.0), Effect(0.6)], [Effect(3.0, shared=True)]):
        needed = seeds_needed(effects, 0.05)
        assert power(effects, needed, 0.05) >= 0.8 > power(effects, needed - 1, 0.05)
    assert seeds_needed([Effect(-0.1)], 0.05) is None
    assert seeds_needed([Effect(1e-4)], 0.05) is None  # a million seeds are no advice
    assert (
        seeds_needed([Effect(2.0, shared=True)], 0.05) is None
    )  # one control hides an effect of two of its deviations for good


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_effect_found_has_the_power(seeds):
    assert power([Effect(effect_found(seeds, 0.05))], seeds, 0.05) == pytest.approx(0.8, abs=1e-4)


def with_moments(mean, spread, count):
    values = np.random.default_rng(count).normal(size=count)
    return mean + spread * (values - values.mean()) / values.std(ddof=1)


def test_so_many_more_seeds_find_the_effect_in_four_of_five_studies():
    """Of a gain of 0.6 standard deviations after five seeds, and of a slope 0.9 above 1 and 0.8 above the control's."""
    rng, draws = np.random.default_rng(0), 4000
    gain = claim(with_moments(0.6, 1, 5))
    slope = claim(with_moments(0.9, 1, 5), with_moments(0.8, 1, 5))
    for others, level in (((), 0.05), ((claim([0.1, -0.1, 0.05]),), 0.025)):
        found = decide([gain, *others])[0]
        seeds = 5 + found.more_seeds
        for number, enough in ((seeds, True), (seeds - 1, False)):
            values = rng.normal(0.6, 1, size=(draws, number))
            share = np.mean(stats.ttest_1samp(values, 0, axis=1, alternative="greater").pvalue < level / 2)
            assert (share > 0.8 - 0.025) if enough else (share < 0.8 + 0.025)
        assert f"{found.more_seeds} more seeds" in found.because
    seeds = 5 + decide([slope])[0].more_seeds
    shares = []
    for correlation in (0.0, 0.7):
        noise = rng.multivariate_normal([0.9, 0.8], [[1, correlation], [correlation, 1]], size=(draws, seeds))
        p = stats.ttest_1samp(noise, 0, axis=1, alternative="greater").pvalue
        shares.append(np.mean((p < 0.025).all(axis=1)))
    assert 0.775 < shares[0] < 0.86  # as if the parts were independent
    assert shares[1] > shares[0] - 0.01  # and more often where they go together


def test_where_the_effect_points_the_other_way_no_seeds_are_advised():
    assert decide([claim([-0.2, 0.1, -0.1])])[0].more_seeds is None
    assert decide([claim([0.2, -0.1, 0.1], [-0.1, 0.05, -0.02])])[0].more_seeds is None
    assert decide([claim([1.0, 1.1, 0.9])])[0].more_seeds is None  # nor where it is shown


# ---- null rates


KINDS = {
    "exaggeration": partial(simulated.exaggeration, slopes=simulated.TEST),
    "exaggeration_one_control": partial(simulated.exaggeration, slopes=simulated.TEST, is_one_control=True),
    "gain": simulated.gain,
    "gain_one_control": partial(simulated.gain, is_one_control=True),
    "bias": simulated.bias,
    "function_bias": partial(simulated.bias, spreads={"student": (0.1, 0.1, 0.1)}, name="function_ratio"),
    "theory": simulated.theory,
    "switching": simulated.switching,
    "lead": simulated.helping,
    "fit": partial(simulated.helping, what="teacher_accuracy"),
}


@pytest.mark.parametrize("seeds", [3, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_without_an_effect_a_claim_is_supported_in_at_most_one_study_in_twenty(kind, seeds):
    draws = 120
    rate = simulated.rate(KINDS[kind], seeds, 0.0, draws)
    assert stats.binom.sf(round(rate * draws) - 1, draws, 0.05) > 1e-3


@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_closely(kind, seeds):
    assert simulated.rate(KINDS[kind], seeds, 0.0, 1500) < 0.05


@pytest.mark.parametrize(
    ("kind", "effect"),
    [
        ("exaggeration", 2.0),
        ("gain", 0.1),
        ("bias", 2.0),
        ("theory", 0.04),
        ("switching", 0.2),
        ("lead", 20.0),
        ("fit", 20.0),
    ],
)
def test_a_large_effect_is_found(kind, effect):
    assert simulated.rate(KINDS[kind], 5, effect, 20) == 1


def test_one_control_for_all_seeds_would_be_found_guilty_were_its_own_chance_forgotten():
    """The test of the test above: differences from one control, as if it had been drawn for each seed."""
    rng = np.random.default_rng(0)

    def forgetful(rng, seeds, effect):
        (found,) = simulated.gain(rng, seeds, effect, is_one_control=True)
        parts = (Part("", found.parts[0].values),)
        return [Claim(found.claim, "", found.sentences, found.name, found.arm, parts)]

    assert np.mean([decisions(forgetful(rng, 10, 0.0))[0].verdict == "supported" for _ in range(200)]) > 0.2


def test_the_slope_of_gain_on_lead_is_not_made_by_the_twin_that_both_are_over():
    """Least squares within each seed find a slope where students are drawn anew: their twins' chance is on both sides."""
    rng, draws, seeds = np.random.default_rng(0), 250, 10
    shares = {"least squares": 0, "instrument": 0}
    for _ in range(draws):
        onehot, student, teacher = 0.0067 * rng.normal(size=(3, 4, seeds))
        x, y = np.array([-0.015, 0.0, 0.015, 0.03])[:, None] + teacher - onehot, student - onehot
        centred = x - x.mean(axis=0)
        for name, slopes in (
            ("least squares", (centred * y).sum(axis=0) / (centred**2).sum(axis=0)),
            ("instrument", simulated.across.slopes_within(x, y)),
        ):
            shares[name] += stats.ttest_1samp(slopes, 0, alternative="greater").pvalue < 0.025
    assert shares["least squares"] / draws > 0.07
    assert shares["instrument"] / draws < 0.05


# ---- what verdicts compare


def ratio(arm, values, pair=(0, 7), **more):
    return Estimate(
        "eigen_ratio", arm, intervals.over_seeds(values), tuple(values), layer="Dense_0", directions=pair, **more
    )


def test_a_student_is_held_against_every_null_seed_by_seed_and_the_one_that_decided_is_named():
    student = ratio("student", [0.80, 0.85, 0.75, 0.90])
    clear, close = ratio("onehot_order", [1.0, 1.1, 0.9, 1.15]), ratio("onehot_init", [0.85, 0.80, 0.9, 1.0])
    references = {"student": "onehot", "onehot_order": "onehot", "onehot_init": "onehot"}
    found = [
        decide(verdicts.eigen_claims(those, {"student": "onehot"}, references))[0]
        for those in ([student, clear], [student, clear, close])
    ]
    assert [each.verdict for each in found] == ["supported", "inconclusive"]
    assert found[0].decided_by == "ratio below 1, directions 0 and 7"
    assert found[1].decided_by == "ratio below that of onehot_init, same seed, directions 0 and 7"
    logs = np.log(close.values) - np.log(student.values)
    assert found[1].p_value == pytest.approx(2 * stats.ttest_1samp(logs, 0, alternative="greater").pvalue)


def test_seeds_that_one_of_two_arms_lacks_are_left_out_of_their_comparison():
    student, null = ratio("student", [0.8, 0.7, 0.9]), ratio("onehot_init", [1.0, 0.95], kept=(0, 2))
    (claimed,) = verdicts.eigen_claims(
        [student, null], {"student": "onehot"}, {"student": "onehot", "onehot_init": "onehot"}
    )
    np.testing.assert_allclose(claimed.parts[1].values, np.log([1.0, 0.95]) - np.log([0.8, 0.9]))


def test_a_null_that_cannot_be_compared_is_named_and_nothing_shifts_in_the_list_of_ratios():
    pairs = (0, 7), (0, 15)
    students = [ratio("student", [0.80, 0.85, 0.75, 0.90], pair) for pair in pairs]
    order = [ratio("onehot_order", [1.0, 1.1, 0.9, 1.15], pair) for pair in pairs]
    references = dict.fromkeys(("student", "onehot_order", "onehot_init"), "onehot")
    (whole,) = decide(
        verdicts.eigen_claims(
            [*students, *order], {"student": "onehot"}, {"student": "onehot", "onehot_order": "onehot"}
        )
    )
    assert whole.because.startswith("directions 0 and 7, 0 and 15; 4 seeds; student 0.82")
    assert "not compared" not in whole.because
    assert whole.sentence.endswith("below every null's.")
    late = ratio("onehot_init", [1.2, 1.3, 1.2, 1.4], pairs[1])
    (partly,) = decide(verdicts.eigen_claims([*students, *order, late], {"student": "onehot"}, references))
    assert "; onehot_init -, 1.2" in partly.because
    assert "not compared at every pair: onehot_init; p" in partly.because
    assert partly.sentence.endswith("below every null's that can be compared.")


def test_a_null_that_is_one_run_for_all_seeds_brings_its_own_chance():
    student, null = ratio("student", [0.80, 0.85, 0.75, 0.90]), ratio("teacher", [1.0, 1.1, 0.9, 1.15])
    about = [student, null], {"student": "onehot"}, {"student": "onehot", "teacher": "onehot"}
    (each,), (one,) = verdicts.eigen_claims(*about), verdicts.eigen_claims(*about, single=["teacher"])
    np.testing.assert_array_equal(each.parts[1].values, one.parts[1].values)
    t = stats.ttest_1samp(one.parts[1].values, 0).statistic
    assert each.parts[1].p_value == pytest.approx(2 * stats.t.sf(t, 3))
    assert one.parts[1].p_value == pytest.approx(2 * stats.t.sf(t / np.sqrt(5), 3))
    assert one.parts[1].what == "ratio below that of teacher, one run for all seeds, directions 0 and 7"


def test_nothing_is_concluded_on_the_bias_of_a_student_whose_own_teacher_did_not_learn():
    students = [ratio(arm, [0.80, 0.85, 0.75, 0.90]) for arm in ("student", "student_early")]
    runs = [Unlearned("teacher_early", 0, "at_chance")]
    baselines = dict.fromkeys(("student", "student_early"), "onehot")
    teachers = {"student": "teacher", "student_early": "teacher_early"}
    late, early = decide(verdicts.eigen_claims(students, baselines, baselines, runs, teachers))
    assert (late.verdict, early.verdict) == ("supported", "inconclusive")
    assert early.because.startswith("teacher_early did not learn")


def slope(arm, values):
    return Estimate("exaggeration_slope", arm, intervals.over_seeds(values), values, split="test", subset="lowest_25")


def test_the_control_that_was_used_is_named_where_it_is_not_the_one_hot_twin():
    slopes = [
        slope("student", (1.3, 1.4, 1.35)),
        slope("onehot", (3.0, 3.5, 3.7)),
        slope("teacher_twin", (0.9, 1.0, 1.1)),
    ]
    judged = {
        name: decide(verdicts.exaggeration_claims(slopes, {"student": "onehot"}, controls))[0]
        for name, controls in (("onehot", None), ("teacher_twin", {"student": "teacher_twin"}))
    }
    assert [each.verdict for each in judged.values()] == ["inconclusive", "supported"]
    assert "onehot (same seed)" in judged["onehot"].decided_by
    assert judged["teacher_twin"].because.startswith("slope 1.350")
    assert "control teacher_twin" in judged["teacher_twin"].because
    weak = [slope("student", (1.3, 1.4, 1.35)), slope("teacher_twin", (0.9, 1.3, 1.5))]
    (found,) = decide(verdicts.exaggeration_claims(weak, {"student": "onehot"}, {"student": "teacher_twin"}))
    assert "control teacher_twin (trained as the teacher was, same seed)" in found.decided_by


def test_without_an_exchangeable_control_nothing_is_concluded_and_the_reason_given():
    (found,) = decide(
        verdicts.exaggeration_claims(
            [slope("student", (1.3, 1.4, 1.35))],
            {"student": "onehot"},
            {"student": None},
            no_control="there is one seed",
        )
    )
    assert (found.verdict, found.p_value) == ("inconclusive", None)
    assert "no control is exchangeable with the teacher: there is one seed" in found.because


# ---- sentences


def gain(values, arm="student"):
    return Estimate("accuracy_gain", arm, intervals.over_seeds(values), values, split="test", subset="all")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((0.02, 0.021, 0.019), "Distillation helped: +2.0 points of test accuracy [1.8, 2.2], 3 seeds."),
        ((-0.02, -0.021, -0.019), "Distillation hurt: -2.0 points of test accuracy [-2.2, -1.8], 3 seeds."),
        (
            (0.02, -0.02, 0.0),
            "Distillation did not measurably help: +0.0 points of test accuracy [-5.0, 5.0], 3 seeds.",
        ),
    ],
)
def test_the_sentence_of_a_gain_answers_the_question(values, sentence):
    (found,) = decide(verdicts.exaggeration_claims([gain(values)], {"student": "onehot"}))
    assert found.sentence == sentence


def test_of_several_students_and_teachers_each_is_named():
    found = decide(
        verdicts.exaggeration_claims(
            [gain((0.0, 0.02, -0.01)), gain((0.06, 0.061, 0.064), "student_early")],
            {"student": "onehot", "student_early": "onehot"},
            teachers={"student": "teacher", "student_early": "teacher_early"},
        )
    )
    assert found[0].sentence.startswith("Distillation from teacher did not measurably help student: +0.3 points")
    assert found[1].sentence.startswith("Distillation from teacher_early helped student_early: +6.2 points")


def test_the_sentence_of_an_exaggeration_gives_slope_and_control():
    def said(student, control):
        slopes = [slope("student", student), slope("onehot", control)]
        return decide(verdicts.exaggeration_claims(slopes, {"student": "onehot"}))[0].sentence

    assert said((1.11, 1.12, 1.10), (1.0, 1.01, 0.99)) == (
        "On test points the student exaggerates the teacher's low confidence: slope 1.11 [1.09, 1.13], control 1.00."
    )
    assert said((1.1, 0.9, 1.0), (1.0, 1.0, 1.0)).startswith("On test points the student was not shown to exaggerate")
    assert said((1.11, 1.12, 1.10), (1.2, 1.5, 1.3)).startswith(
        "On test points the slope of the student was not shown to exceed that of the control"
    )
    assert said((0.5, 0.52, 0.51), (0.3, 0.3, 0.4)).startswith("On test points the student does not exaggerate")


def test_every_verdict_has_a_sentence_and_none_claims_what_is_not_supported():
    rng = np.random.default_rng(0)
    for simulate in KINDS.values():
        for effect in (0.0, 0.04):
            for each in decide(simulate(rng, 3, effect)):
                assert each.sentence.endswith(".")
                assert each.decided_by
                if each.verdict == "inconclusive":
                    assert each.claim not in each.sentence.replace(f"not shown that {each.claim}", "")
