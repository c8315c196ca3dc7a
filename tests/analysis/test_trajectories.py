"""Steps and counts of single examples against loops over the definitions, and their estimates."""

import itertools
import json

import numpy as np
import pytest

from kd_jax.analysis import intervals, trajectories
from kd_jax.analysis.trajectories import MARGIN, Trajectory

STEPS = np.array([0, 1, 5, 20, 100])


def drawn(arm="student", seed=0, examples=400, noisy=0.25):
    rng = np.random.default_rng(seed)
    return Trajectory(
        arm,
        seed,
        "mlp",
        np.arange(examples),
        STEPS,
        rng.normal(0, 2, size=(5, examples)).astype(np.float32).cumsum(axis=0),
        rng.uniform(size=(5, examples)) < 0.6,
        rng.normal(2, 1, examples).astype(np.float32),
        np.arange(examples) < noisy * examples,
    )


def since(holds):
    """By definition: the first step from which on it holds at every checkpoint."""
    steps = [step for t, step in enumerate(STEPS) if all(holds[t:])]
    return steps[0] if steps else np.inf


def test_every_step_is_what_its_definition_says():
    run = drawn()
    found = trajectories.of_examples(run)
    for i in range(len(run.ids)):
        right, beyond = run.right[:, i], run.confidence[:, i] - run.teacher_confidence[i]
        firsts = {
            "step_first_right": right,
            "step_crossed": beyond >= 0,
            "step_surer": beyond >= MARGIN,
        }
        for name, holds in firsts.items():
            assert found[name][i] == next((step for step, h in zip(STEPS, holds, strict=True) if h), np.inf)
        assert found["step_learnt"][i] == since(right)
        assert found["step_less_sure"][i] == since(beyond <= -MARGIN)
        assert found["forgetting_events"][i] == sum(a and not b for a, b in itertools.pairwise(right))


def test_a_teacher_is_not_held_against_itself():
    assert set(trajectories.of_examples(drawn("teacher"))) == {"step_first_right", "step_learnt", "forgetting_events"}


def test_learnt_follows_first_right_and_surer_follows_crossed():
    found = trajectories.of_examples(drawn())
    assert (found["step_learnt"] >= found["step_first_right"]).all()
    assert (found["step_surer"] >= found["step_crossed"]).all()
    never = np.isfinite(found["step_learnt"]) & np.isinf(found["step_first_right"])
    assert not never.any()
    both = np.isfinite(found["step_less_sure"]) & (found["step_crossed"] == STEPS[-1])
    assert not both.any()  # who is less sure to the end cannot cross there


def table(runs):
    return {(e.name, e.arm, e.subset): e for e in trajectories.estimates(runs)}


def test_medians_shares_and_events_are_those_of_the_examples_of_each_subset():
    runs = [drawn(seed=seed) for seed in (0, 1, 2)]
    found = table(runs)
    for subset, mask in (("clean", ~runs[0].noisy), ("noisy", runs[0].noisy)):
        numbers = [{name: each[mask] for name, each in trajectories.of_examples(run).items()} for run in runs]
        steps = [np.median(of["step_first_right"]) for of in numbers]
        assert found["step_first_right", "student", subset].interval == intervals.of_median(steps, "seeds")
        crossed = [np.isfinite(of["step_crossed"]).mean() for of in numbers]
        assert found["share_crossed", "student", subset].interval == intervals.over_seeds(crossed)
        events = [of["forgetting_events"].mean() for of in numbers]
        assert found["forgetting_events", "student", subset].values == pytest.approx(events)
        again = [(of["forgetting_events"] > 0)[np.isfinite(of["step_first_right"])].mean() for of in numbers]
        assert found["share_forgotten", "student", subset].values == pytest.approx(again)
    assert {subset for *_, subset in found} == {"all", "clean", "noisy", "lowest_25", "highest_25"}
    assert {e.split for e in found.values()} == {"train"}


def test_a_median_that_is_never_reached_is_left_out_and_its_share_stays():
    run = drawn()
    low = run._replace(confidence=np.where(np.arange(400) < 240, -9.0, run.confidence).astype(np.float32))
    found = table([run, low])
    assert ("step_crossed", "student", "all") not in found
    assert found["share_crossed", "student", "all"].values[1] <= 0.4
    for estimate in found.values():
        json.dumps(estimate.to_json(), allow_nan=False)


def test_with_one_seed_intervals_are_over_examples_and_without_wrong_labels_nothing_is_split():
    found = table([drawn(noisy=0)])
    assert {subset for *_, subset in found} == {"all", "lowest_25", "highest_25"}
    for (*_, subset), estimate in found.items():
        assert estimate.interval.resampled == "examples"
        assert estimate.interval.count <= (400 if subset == "all" else 100)
    values = trajectories.of_examples(drawn(noisy=0))["step_first_right"]
    median = found["step_first_right", "student", "all"].interval
    assert median == intervals.of_median(values, "examples")


def test_shares_crossed_never_fall_and_end_at_the_share_that_ever_crosses():
    run = drawn()
    shares = trajectories.shares(run, run.noisy)
    assert (np.diff(shares.crossed) >= 0).all()
    assert shares.crossed[-1] == np.isfinite(trajectories.of_examples(run)["step_crossed"][run.noisy]).mean()
    np.testing.assert_allclose(shares.right, run.right[:, run.noisy].mean(axis=1))
