"""Best epochs beside last ones: planted curves, and that nothing is found where there is nothing."""

import numpy as np
import pytest

from kd_jax.analysis import epochs, intervals
from kd_jax.analysis.epochs import Curve


def curve(*accuracy):
    return Curve(np.arange(1, len(accuracy) + 1), np.array(accuracy))


def lines(accuracy, steps_per_epoch=10):
    return [{"epoch": i, "step": i * steps_per_epoch, "test_accuracy": a} for i, a in enumerate(accuracy, 1)]


def test_a_teacher_is_looked_at_up_to_the_step_at_which_it_teaches():
    written = lines([0.1, 0.5, 0.4, 0.9])
    found = epochs.curve(written, "test", 30)
    assert found is not None
    assert (found.epochs.tolist(), found.accuracy.tolist()) == ([1, 2, 3], [0.1, 0.5, 0.4])
    assert epochs.curve(written, "test", 9) is None
    assert epochs.curve(written, "mismatched", 40) is None
    assert epochs.curve([], "test", 40) is None


def test_the_estimates_are_each_runs_own_best_and_over_seeds():
    of = {"teacher": [curve(0.5, 0.9, 0.8), curve(0.6, 0.8, 0.8)], "student": [curve(0.1, 0.2, 0.3)] * 2}
    table = {(e.name, e.arm): e for e in epochs.estimates(of, "test", 100)}
    assert table["accuracy_best", "teacher"].values == (0.9, 0.8)
    assert table["epoch_best", "teacher"].values == (2.0, 2.0)  # of equals the first
    np.testing.assert_allclose(table["accuracy_best_lead", "teacher"].values, (0.1, 0.0), atol=1e-12)
    assert table["accuracy_best_lead", "student"].values == (0.0, 0.0)
    for estimate in table.values():
        assert (estimate.split, estimate.subset) == ("test", "all")
        assert estimate.interval == intervals.over_seeds(estimate.values)


def test_of_one_seed_there_is_the_best_accuracy_alone_over_examples():
    (found,) = epochs.estimates({"teacher": [curve(0.5, 0.9, 0.8)], "student": []}, "test", 50)
    assert found.name == "accuracy_best"
    assert found.interval == intervals.of_proportion(np.arange(50) < 45)


def test_an_epoch_chosen_by_other_seeds_leads_nowhere_where_curves_are_flat():
    """The largest of 60 accuracies is 2.3 standard deviations too good; the lead of an epoch chosen by others is not."""
    rng = np.random.default_rng(0)
    leads, own, found = [], [], 0
    for _ in range(300):
        curves = [curve(*rng.normal(0.9, 0.01, 60)) for _ in range(5)]
        leads.append(np.mean(epochs.lead(curves)))
        own.append(np.mean([each.accuracy.max() - each.accuracy[-1] for each in curves]))
        found += bool(epochs.past_best({"teacher": curves}))
    assert abs(np.mean(leads)) < 4 * np.std(leads) / np.sqrt(300)
    assert np.mean(own) > 0.02
    assert found == 0


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_interval_of_a_lead_holds_it_as_often_as_it_claims(seeds):
    """Curves that are flat, or have a peak that is hard to tell: there the seeds choose together, and t intervals miss."""
    rng, steps = np.random.default_rng(0), np.arange(15)
    for shape in (0 * steps, -0.02 * np.maximum(steps - 6, 0) / 13 - 0.1 * np.exp(-steps / 2)):
        drawn = [[curve(*(0.9 + shape + 0.006 * rng.normal(size=15))) for _ in range(seeds)] for _ in range(200)]
        leads = [epochs.lead(each) for each in drawn]
        found, naive = [epochs.lead_interval(each) for each in drawn], [intervals.over_seeds(each) for each in leads]
        truth = np.mean(leads)
        held, naively = (np.mean([of.low <= truth <= of.high for of in each]) for each in (found, naive))
        assert held > 0.92
        assert naively < 0.91 or seeds == 3
    assert epochs.lead_interval(drawn[0][:2]) == intervals.over_seeds(epochs.lead(drawn[0][:2]))


def test_a_planted_decline_is_told_with_its_size_and_an_advice():
    rng = np.random.default_rng(1)
    shape = np.concatenate([np.linspace(0.5, 0.96, 10), np.linspace(0.96, 0.88, 40)])
    falls = [curve(*(shape + 0.004 * rng.normal(size=50))) for _ in range(5)]
    rises = [curve(*np.linspace(0.5, 0.9, 50)) for _ in range(5)]
    said = epochs.past_best({"teacher": falls, "student": rises})
    assert "teacher 0.96" in said
    assert f"{np.mean([each.accuracy[-1] for each in falls]):.3f} at the end" in said
    assert "--teacher_step" in said
    assert "student" not in said
    assert "--teacher_step" not in epochs.past_best({"onehot": falls})
    assert epochs.past_best({"teacher": falls[:1]}) == ""  # how other seeds would differ is not known


def test_seeds_that_were_trained_for_different_times_are_compared_where_all_are():
    short, long = curve(0.5, 0.9, 0.7), curve(0.5, 0.8, 0.7, 0.6, 0.95)
    assert epochs.lead([short, long]) == pytest.approx([0.2, -0.15])
