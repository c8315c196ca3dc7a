"""Charts of estimates and of growth along eigendirections."""

import numpy as np
import pytest

from kd_jax.analysis import eigen
from kd_jax.analysis.eigen import Growth
from kd_jax.analysis.results import Estimate, Interval
from kd_jax.report import charts, charts_directions, charts_intervals, colours

ARMS = ["teacher", "onehot", "student", "onehot_order"]


def options(figure, name, **chosen):
    listed = next(each for each in figure["controls"] if each["name"] == name)["options"]
    listed = charts.resolved({**figure, "data": [], "layout": {"options": listed}}, chosen)["layout"]["options"]
    return [option["value"] for option in listed]


# ---- intervals


def estimates():
    rng = np.random.default_rng(0)
    for name in ("exaggeration_slope", "accuracy_gain", "accuracy"):
        for arm in ("onehot", "student"):
            for split in ("train", "test"):
                for subset in ("all", "lowest_25", "noisy_lowest_25"):
                    values = tuple(rng.normal(size=3))
                    mean = float(np.mean(values))
                    over = Interval(mean, mean - 1.25, mean + 2.5, 0.95, "seeds", 3)
                    yield Estimate(name, arm, over, values, split=split, subset=subset)


def test_every_estimate_is_drawn_with_its_interval_and_its_seeds():
    listed = list(estimates())
    figure = charts_intervals.chart(listed, ARMS).figure
    assert options(figure, "where", quantity="exaggeration_slope") == ["test", "train"]
    for each in listed:
        drawn = charts.resolved(figure, {"quantity": each.name, "where": each.split})["data"]
        trace = next(trace for trace in drawn if trace.get("name") == each.arm)
        at = next(i for i, text in enumerate(trace["text"]) if f"{each.interval.estimate:.4g} [" in text)
        row = {"all": "all examples", "lowest_25": "lowest 25 %", "noisy_lowest_25": "wrong labels, lowest 25 %"}
        assert trace["y"][at] == row[each.subset]
        assert np.isclose(trace["x"][at], each.interval.estimate, rtol=1e-5)
        assert np.isclose(trace["error_x"]["array"][at], 2.5, rtol=1e-3)
        assert np.isclose(trace["error_x"]["arrayminus"][at], 1.25, rtol=1e-3)
        assert f"[{each.interval.low:.4g}, {each.interval.high:.4g}], 95% over 3 seeds" in trace["text"][at]
        seeds = next(trace for trace in drawn if trace["legendgroup"] == each.arm and "name" not in trace)
        own = [value for value, where in zip(seeds["x"], seeds["y"], strict=True) if where == row[each.subset]]
        assert np.allclose(own, each.values, rtol=1e-3)
        assert trace["marker"]["color"] == colours.arms(ARMS)[each.arm]


@pytest.mark.parametrize(("quantity", "null"), [("exaggeration_slope", 1), ("accuracy_gain", 0), ("accuracy", None)])
def test_the_line_of_no_effect_is_where_there_is_none_and_in_view(quantity, null):
    figure = charts_intervals.chart(list(estimates()), ARMS).figure
    layout = charts.resolved(figure, {"quantity": quantity, "where": "test"})["layout"]
    assert [shape["x0"] for shape in layout["shapes"]] == ([] if null is None else [null])
    low, high = layout["xaxis"]["range"]
    assert all(low < end < high for end in ([] if null is None else [null]))
    for each in estimates():
        if (each.name, each.split) == (quantity, "test"):
            assert low < each.interval.low < each.interval.high < high


def test_estimates_of_other_things_are_no_chart():
    other = Estimate("kernel_drift", "student", Interval(1.0, 0.5, 1.5, 0.95, "seeds", 3), (1.0,), layer="Dense_0")
    assert charts_intervals.chart([other], ARMS) is None


# ---- directions


def growths(directions=6, layer="Dense_0", start=1.0, seeds=3):
    """c_k(t) = start + t^(1 + k/10), a little different in every seed, of three arms."""
    t = np.linspace(0, 1, 9)[:, None]
    for arm, power in (("onehot", 0.1), ("student", 0.2), ("onehot_order", 0.1)):
        for seed in range(seeds):
            grown = (1 + 0.1 * seed) * t ** (1 + power * np.arange(directions))
            values = 2.0 ** -np.arange(directions)
            yield Growth(arm, seed, "mlp", layer, values, values, np.arange(9), start + grown, grown)


REFERENCES = {"student": "onehot", "onehot_order": "onehot"}


def test_the_slider_has_a_step_for_every_direction_and_begins_at_the_first_ruled_one():
    figure = charts_directions.chart(growths(17), REFERENCES, ARMS).figure
    assert options(figure, "direction", layer="mlp|Dense_0") == [str(k) for k in range(1, 17)]
    first = next(each for each in figure["controls"] if each["name"] == "direction")["first"]
    chosen = charts.resolved({**figure, "data": [], "layout": {"first": first}}, {"layer": "mlp|Dense_0"})
    assert chosen["layout"]["first"] == str(eigen.ruled_pairs(17)[0][1])


def test_of_many_directions_the_chosen_pairs_are_on_the_slider():
    figure = charts_directions.chart(growths(300, seeds=1), REFERENCES, ARMS, pairs=[(0, 123)]).figure
    steps = options(figure, "direction", layer="mlp|Dense_0")
    assert len(steps) <= charts_directions.DIRECTIONS + 4
    living = eigen.alive(2.0 ** -np.arange(300))  # directions along which there is nothing to learn are left out
    assert {"1", *(str(pair[1]) for pair in eigen.ruled_pairs(living))} <= set(steps)
    assert max(map(int, steps)) == living - 1


def test_a_curve_is_the_mean_of_the_seeds_at_equal_progress_and_its_band_their_range():
    listed = list(growths())
    figure = charts_directions.chart(listed, REFERENCES, ARMS).figure
    for arm in ("onehot", "student", "onehot_order"):
        runs = [growth.components for growth in listed if growth.arm == arm]
        for k in (1, 4):
            choice = {"layer": "mlp|Dense_0", "of": "components", "direction": str(k)}
            drawn = [each for each in charts.resolved(figure, choice)["data"] if each["legendgroup"] == arm]
            curve = next(trace for trace in drawn if trace["mode"] == "lines")
            # np.interp reads c_k at a level of c_0, which only grows here.
            at = np.array([np.interp(curve["x"], run[:, 0], run[:, k]) for run in runs])
            assert np.allclose(curve["y"], at.mean(axis=0), rtol=6e-3)
            assert curve["line"]["color"] == colours.arms(ARMS)[arm]
            bands = [trace for trace in drawn if trace["mode"] == "none"]
            assert len(bands) == (arm != "onehot_order")
            for band in bands:
                upper, lower = np.split(np.array(band["y"]), 2)
                assert np.allclose(upper, at.max(axis=0), rtol=6e-3)
                assert np.allclose(lower[::-1], at.min(axis=0), rtol=6e-3)


def test_a_layer_that_starts_at_zero_is_not_shown_twice():
    listed = [*growths(), *growths(layer="Dense_1", start=0.0)]
    figure = charts_directions.chart(listed, REFERENCES, ARMS).figure
    assert options(figure, "of", layer="mlp|Dense_0") == ["components", "moved"]
    assert options(figure, "of", layer="mlp|Dense_1") == ["components"]
    missing = {"layer": "mlp|Dense_1", "of": "components", "direction": "2"}
    assert len(charts.resolved(figure, missing)["data"]) == 5
