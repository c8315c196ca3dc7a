"""Estimates, verdicts and runs that did not learn as data: what is written can be read again."""

import json
from dataclasses import replace

import pytest

from kd_jax.analysis import results, verdicts
from kd_jax.analysis.results import Estimate, Interval, Unlearned, Verdict

INTERVAL = Interval(0.5, 0.25, 0.75, 0.95, "seeds", 2)
ENDS = {"estimate": 0.5, "low": 0.25, "high": 0.75, "level": 0.95, "resampled": "seeds", "count": 2}
OF_LOGITS = {"name": "kl", "arm": "student", "split": "test", "subset": "all", **ENDS, "values": [0.25, 0.75]}
OF_WEIGHTS = {
    "name": "eigen_ratio",
    "arm": "student",
    "layer": "Dense_0",
    "directions": [0, 7],
    **ENDS,
    "values": [1.0],
}
OF_TWO_OF_THREE = {**OF_WEIGHTS, "values": [1.0, 1.5], "kept": [0, 2]}
OF_FUNCTIONS = {"name": "kernel_drift", "arm": "onehot", **ENDS, "values": [0.5, 0.5]}
OF_VARIANTS = {
    **{"name": "gain_difference", "arm": "student", "variant": "a", "against": "b", "split": "test", "subset": "all"},
    **{**ENDS, "values": []},
}
OF_A_SWEEP = {"name": "gain_per_teacher_lead", "arm": "student", "field": "epochs", "split": "test", "subset": "all"}


@pytest.mark.parametrize(
    "written",
    [OF_LOGITS, OF_WEIGHTS, OF_TWO_OF_THREE, OF_FUNCTIONS, OF_VARIANTS, {**OF_A_SWEEP, **ENDS, "values": [0.1, 0.2]}],
)
def test_an_estimate_that_is_read_and_written_again_has_the_same_keys_in_the_same_order(written):
    again = Estimate.from_json(json.loads(json.dumps(written))).to_json()
    assert again == written
    assert list(again) == list(written)


def test_which_seeds_have_a_value_is_known_from_the_json():
    found = Estimate.from_json(json.loads(json.dumps(OF_TWO_OF_THREE)))
    whole = Estimate.from_json({**OF_WEIGHTS, "values": [2.0, 3.0, 4.0]})
    assert [each.tolist() for each in results.paired(found, whole)] == [[1.0, 1.5], [2.0, 4.0]]


def test_that_no_verdict_may_be_drawn_is_no_part_of_the_json():
    estimate = replace(Estimate.from_json(OF_WEIGHTS), no_verdict=True)
    assert estimate.to_json() == OF_WEIGHTS


def test_estimates_are_found_by_what_they_are_about():
    estimates = results.read({"estimates": [OF_LOGITS, OF_WEIGHTS, OF_FUNCTIONS, OF_VARIANTS]})
    assert set(results.index(estimates, "name", "split")) == {("kl", "test"), ("gain_difference", "test")}
    assert set(results.index(estimates, "variant")) == {("a",)}
    assert results.index(estimates, "layer", "directions")["Dense_0", (0, 7)].values == (1.0,)
    assert len(results.index(estimates, "name", "arm")) == 4


@pytest.mark.parametrize("reason", results.REASONS)
def test_a_run_that_did_not_learn_is_data_with_a_sentence(reason):
    names = ("first", "last", "spread", "size", "accuracy", "chance", "examples", "teacher_spread", "teacher", "onehot")
    run = Unlearned("student", 3, reason, dict.fromkeys(names, 0.125))
    assert Unlearned.from_json(json.loads(json.dumps(run.to_json()))) == run
    assert run.sentence().startswith("student-seed3 ")
    assert "{" not in run.sentence()


def test_a_verdict_is_withheld_where_a_run_that_it_rests_on_did_not_learn():
    said = Verdict("a claim", "contradicted", "slope 0.000")
    runs = [
        Unlearned("student", 1, "flat"),
        Unlearned("onehot_order", 0, "loss_rose"),
        Unlearned("teacher", 0, "at_chance"),
    ]
    assert verdicts.withheld(said, ("teacher", "onehot"), runs[:2]) == said
    held = verdicts.withheld(said, ("teacher", "onehot", "student"), runs)
    assert held.verdict == "inconclusive"
    assert held.because == (
        "student did not learn (its confidence hardly varies) and teacher did not learn (it is at chance); slope 0.000"
    )
