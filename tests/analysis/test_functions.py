"""Runs of a linear model in function space: what is predicted from step 0 is what was measured."""

import numpy as np
import pytest

from kd_jax.analysis import closed_forms as theory
from kd_jax.analysis import eigen, functions, linearisation, verdicts
from kd_jax.analysis.functions import Followed, Functions, Path, Predicted
from kd_jax.analysis.results import Unlearned
from kd_jax.config import Study
from kd_jax.plan import Arm

EXAMPLES, CLASSES, TOTAL = 10, 2, 60
ARMS = (
    Arm("teacher", "linear", init=0, order=0),
    Arm("onehot", "linear"),
    Arm("student", "linear", teacher="teacher", baseline="onehot"),
    Arm("onehot_mlp", "mlp"),
    Arm("onehot_slower", "linear", null_of="onehot", rate=0.25),
)


def trained(study, same_start=False):
    """(`Functions` of a linear model trained by gradient descent, learning rates)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(EXAMPLES, 6)) * 0.7 ** np.arange(6)
    targets = np.eye(CLASSES)[rng.integers(CLASSES, size=EXAMPLES)]
    starts = rng.normal(size=(2, 6, CLASSES))
    rates = np.full(TOTAL, 0.5 / np.linalg.eigvalsh(x @ x.T / EXAMPLES)[-1])
    steps = np.array([0, 1, 3, 12, 20, TOTAL])

    def run(weights, target, factor=1.0):
        logits = [x @ weights]
        for rate in factor * rates:
            weights = weights - rate * x.T @ (x @ weights - target) / EXAMPLES
            logits.append(x @ weights)
        return np.array(logits)

    weight = study.distillation.weight
    teacher = run(starts[int(same_start)], targets)
    taught = (1 - weight) * targets + weight * teacher[study.distillation.teacher_step or TOTAL]
    paths = {
        "teacher": teacher,
        "onehot": run(starts[1], targets),
        "student": run(starts[1], taught),
        "onehot_slower": run(starts[1], targets, 0.25),
    }
    paths = {arm: Path(steps, logits[steps]) for arm, logits in paths.items()}
    kernel = np.kron(x @ x.T, np.eye(CLASSES))
    return Functions("linear", 7, kernel, {}, targets, paths, False), rates


def study(**change):
    return Study.from_flags(**{"loss": "mse", "optimizer": "sgd", "momentum": 0.0, "teacher_step": 12} | change)


def followed_and_predicted(study, same_start=False):
    found, rates = trained(study, same_start)
    spectrum = linearisation.spectrum(found.kernel, CLASSES)
    followed = {run.arm: run for run in functions.follow(found, spectrum, ARMS)}
    predicted = {
        run.arm: run for run in functions.predict(found, spectrum, ARMS, study.training, study.distillation, rates)
    }
    return followed, predicted


@pytest.mark.parametrize("change", [{}, {"weight": 0.3}, {"teacher_step": 0}])
def test_a_linear_model_is_where_its_linearisation_says(change):
    followed, predicted = followed_and_predicted(study(**change))
    assert set(followed) == set(predicted) == {"teacher", "onehot", "student", "onehot_slower"}
    for arm, run in followed.items():
        assert (run.seed, run.model) == (7, "linear")
        assert run.progress.shape == run.growth.shape == (6, len(run.groups))
        np.testing.assert_allclose(predicted[arm].linearised, run.progress, atol=1e-10)
        if arm != "student":
            np.testing.assert_allclose(predicted[arm].filtered, run.progress, atol=1e-10)
    # The slower run gets less far along every group in which anything moves.
    moving = functions.moving(followed["onehot"])
    assert (followed["onehot_slower"].progress < followed["onehot"].progress)[1:, :moving].all()


def test_groups_without_eigenvalues_do_not_move():
    """Six inputs: 12 of the 20 eigenvalues are not zero. Groups are of 2, 4 and 14 vectors, so all three move."""
    followed, _ = followed_and_predicted(study())
    run = followed["onehot"]
    assert run.groups.tolist() == [[0, 2], [2, 6], [6, 20]]
    assert functions.moving(run) == 3
    assert functions.moving(run._replace(groups=np.array([[0, 2], [2, 6], [6, 12], [12, 20]]))) == 3


def test_the_composed_filter_needs_a_teacher_that_started_where_the_student_did():
    for same_start in (True, False):
        followed, predicted = followed_and_predicted(study(), same_start)
        gap = np.abs(predicted["student"].filtered - followed["student"].progress).max()
        assert gap < 1e-10 if same_start else gap > 0.01


def test_no_filter_is_predicted_where_none_is_defined():
    found, rates = trained(study())
    spectrum = linearisation.spectrum(found.kernel, CLASSES)
    for changed, of in ((found, study(optimizer="adam")), (found._replace(normalised=True), study())):
        assert functions.predict(changed, spectrum, ARMS, of.training, of.distillation, rates) == []


# ---- of a study


def flow(arm, seed, times, teacher_time=None):
    """A run of gradient flow from zero, whose progress in three groups is the filter."""
    values = np.array([1.0, 0.3, 0.05])
    progress = theory.progress(values, times[:, None])
    if teacher_time is not None:
        progress = progress * theory.progress(values, teacher_time)
    groups = np.array([[0, 1], [1, 2], [2, 3]])
    return Followed(arm, seed, "mlp", values, groups, np.arange(len(times)), progress, progress, 0.1 + 0.02 * seed)


TIMES = np.linspace(0, 6, 400)
OF_STUDY = (
    Arm("onehot", "mlp"),
    Arm("student", "mlp", teacher="teacher", baseline="onehot"),
    Arm("onehot_slower", "mlp", null_of="onehot", rate=0.25),
)


def runs_of(seed):
    """A student stopped at 2 of a teacher, its twin, and a null."""
    runs = flow("onehot", seed, TIMES), flow("student", seed, TIMES, 2.0), flow("onehot_slower", seed, TIMES / 4)
    return [*runs[:2], runs[2]._replace(drift=np.nan)]


def test_the_ratio_is_that_of_the_theory_at_equal_progress_and_1_for_another_learning_rate():
    onehot, student, slower = runs_of(0)
    for pair in ((0, 1), (1, 2)):
        first, second = onehot.eigenvalues[list(pair)]
        levels = np.linspace(0, student.progress[-1, pair[0]], 1001)[1:]
        of_onehot = theory.progress(second, -np.log1p(-levels) / first)
        first_limit, second_limit = theory.progress(onehot.eigenvalues[list(pair)], 2.0)
        of_student = second_limit * theory.progress(second, -np.log1p(-levels / first_limit) / first)
        expected = of_student.sum() / of_onehot.sum()
        assert expected < 0.9
        assert functions.ratio(onehot.progress, student.progress, pair) == pytest.approx(expected, rel=0.02)
        assert functions.ratio(onehot.progress, slower.progress, pair) == pytest.approx(1, abs=0.01)
    assert np.isnan(functions.ratio(onehot.progress, 0 * student.progress, (0, 1)))


def test_estimates_are_over_seeds_and_errors_are_root_mean_squares():
    followed = [run for seed in (0, 1, 2) for run in runs_of(seed)]
    predicted = [
        Predicted(run.arm, run.seed, "mlp", run.progress + 0.03, run.progress - 0.1) for run in followed if run.seed
    ]
    table = {(e.name, e.arm, e.directions): e for e in functions.estimates(followed, predicted, OF_STUDY)}
    assert len(table[("function_ratio", "student", (1, 2))].values) == 3
    assert table[("function_ratio", "student", (1, 2))].interval.high < 1
    assert table["kernel_drift", "onehot", ()].values == pytest.approx((0.1, 0.12, 0.14))
    assert ("kernel_drift", "onehot_slower", ()) not in table  # it was not measured
    assert table["linearisation_error", "student", ()].values == pytest.approx((0.03, 0.03))
    assert table["filter_error", "onehot", ()].interval.estimate == pytest.approx(0.1)
    assert table["filter_error", "onehot", ()].to_json().keys().isdisjoint({"layer", "directions"})
    assert table[("function_ratio", "student", (1, 2))].to_json()["directions"] == [1, 2]
    assert not functions.estimates([run for run in followed if run.seed == 0], [], OF_STUDY)


@pytest.mark.parametrize(
    ("error", "verdict"), [(0.01, "supported"), (0.2, "contradicted"), ((0.02, 0.04, 0.09), "inconclusive")]
)
def test_theory_describes_a_student_when_its_error_and_its_twins_are_small(error, verdict):
    followed = [run for seed in (0, 1, 2) for run in runs_of(seed)]
    errors = np.broadcast_to(error, 3)
    predicted = [
        Predicted(run.arm, run.seed, "mlp", run.progress, run.progress + errors[run.seed] * (run.arm == "student"))
        for run in followed
    ]
    found = functions.estimates(followed, predicted, OF_STUDY)
    linear, composed = verdicts.decide(verdicts.function_claims(found, {"student": "onehot"}))
    assert linear.verdict == "supported"
    assert composed.verdict == verdict
    assert "a(s) a(T)" in composed.claim
    assert "the kernel of student moves by 12.0 %" in composed.because
    failed = [Unlearned("teacher", 0, "at_chance")]
    assert {v.verdict for v in verdicts.decide(verdicts.function_claims(found, {"student": "onehot"}, failed))} == {
        "inconclusive"
    }


def test_verdicts_look_where_the_students_filter_lags():
    """A teacher that has learnt two groups of three fully teaches them as labels do."""
    for teacher_time, expected in ((2.0, {(0, 1), (1, 2)}), (15.0, {(1, 2)}), (400.0, set())):
        followed = [
            flow(arm, seed, TIMES, time)
            for seed in (0, 1)
            for arm, time in (("onehot", None), ("student", teacher_time), ("onehot_slower", None))
        ]
        predicted = [Predicted(run.arm, run.seed, "mlp", run.progress, run.progress) for run in followed]
        found = [e for e in functions.estimates(followed, predicted, OF_STUDY) if e.name == "function_ratio"]
        for arm in ("student", "onehot_slower"):
            assert {e.directions for e in found if e.arm == arm and not e.no_verdict} == expected
        bias = verdicts.decide(verdicts.function_bias_claims(found, {"student": "onehot"}, eigen.references(OF_STUDY)))
        assert [verdict.verdict for verdict in bias] == ["supported"] * bool(expected)


def test_without_a_prediction_theory_is_not_judged_and_the_bias_is_in_every_group():
    found = functions.estimates([run for seed in (0, 1) for run in runs_of(seed)], [], OF_STUDY)
    assert verdicts.decide(verdicts.function_claims(found, {"student": "onehot"})) == []
    (bias,) = verdicts.decide(verdicts.function_bias_claims(found, {"student": "onehot"}, eigen.references(OF_STUDY)))
    assert bias.verdict == "supported"
    assert "function" in bias.claim
    assert "groups 0 and 1, 1 and 2" in bias.because
