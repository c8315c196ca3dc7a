"""What charts are as data: valid, small, and the same numbers as the arrays that they show."""

import hashlib
import itertools
import json
import re

import numpy as np
import pytest

from kd_jax.report import charts, charts_learning, colours


def test_the_library_in_the_package_is_the_one_that_its_readme_names():
    rows = charts.asset("README.md").splitlines()
    row = next(line for line in rows if line.startswith(f"| `{charts.LIBRARY}`"))
    recorded = re.search(r"`([0-9a-f]{64})`", row)
    assert recorded[1] == hashlib.sha256((charts.ASSETS / charts.LIBRARY).read_bytes()).hexdigest()
    head = charts.asset(charts.LIBRARY)[:200]
    assert re.search(r"\| ([\d.]+) \| MIT", row)[1] in head
    assert "MIT license" in head


def test_nothing_that_a_page_inlines_ends_its_script_block():
    for name in (charts.LIBRARY, charts.SCRIPT):
        assert "</script" not in charts.asset(name).lower()
        assert "<!--" not in charts.asset(name)


def test_json_in_a_page_is_escaped_and_has_no_number_that_json_lacks():
    values = {"a": ["</script><b>", float("inf"), -0.5, {"b": float("nan")}], "c": "ä & \u2028"}
    text = charts.embedded(values)
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"a": ["</script><b>", None, -0.5, {"b": None}], "c": "ä & \u2028"}


def test_rounded_numbers_are_within_half_a_unit_of_their_last_digit():
    values = np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-100, 100)
    assert np.allclose(charts.numbers(values), values, rtol=5e-4, atol=0)
    assert max(len(repr(value)) for value in charts.numbers(values[90:110])) <= 10


def test_a_choice_selects_columns_and_a_trace_without_its_column_is_left_out():
    figure = {
        "data": [{"name": "a", "y": {"column": "y|{arm}|a"}}, {"name": "b", "y": {"column": "y|{arm}|b"}}],
        "layout": {"title": {"column": "title|{arm}"}},
        "columns": {"y|s|a": [1], "y|t|a": [2], "y|t|b": [3], "title|s": "S", "title|t": "T"},
    }
    assert charts.resolved(figure, {"arm": "s"}) == {"data": [{"name": "a", "y": [1]}], "layout": {"title": "S"}}
    assert [trace["y"] for trace in charts.resolved(figure, {"arm": "t"})["data"]] == [[2], [3]]


# ---- colours


def _luminance(colour):
    channels = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return linear @ (0.2126, 0.7152, 0.0722), linear


def test_every_colour_is_legible_on_the_page_in_light_and_in_dark():
    families = {colour for family in colours.FAMILIES.values() for colour in family}
    arms = families | {*colours.FIXED.values()} - {colours.TEXT} | {*colours.NULLS.values(), *colours.OTHERS}
    for colour in arms | {*colours.SUBSETS.values(), *colours.FIELDS, colours.REFERENCE, colours.POINT}:
        for page in colours.PAGES.values():
            low, high = sorted((_luminance(colour)[0], _luminance(page)[0]))
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, page)


# Machado, Oliveira and Fernandes, 2009, A physiologically-based model for simulation of color vision deficiency: severity 1.
DICHROMATS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _lab(linear):
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear.clip(0, 1)
    f = np.cbrt(xyz / (0.9505, 1, 1.089))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", DICHROMATS)
def test_the_arms_that_are_compared_most_are_told_apart_by_the_colour_blind(sight):
    palette = colours.arms(["teacher", "teacher_twin", "onehot", "student"])
    seen = [_lab(np.array(DICHROMATS[sight]) @ _luminance(colour)[1]) for colour in palette.values()]
    gaps = {pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in itertools.combinations(range(4), 2)}
    assert min(gaps.values()) > 15, gaps  # of CIE 1976, where 2.3 is just noticeable


def test_an_arm_keeps_its_colour_whatever_other_arms_there_are():
    few, many = ["student", "onehot"], ["teacher", "onehot", "student", "student_b", "onehot_b", "onehot_init"]
    assert all(colours.arms(many)[arm] == colours.arms(few)[arm] for arm in few)
    assert len(set(colours.arms(many).values())) == len(many)


# ---- along training


def _lines(values):
    return [
        {"epoch": epoch, "step": 10 * epoch, "test_accuracy": value, "learning_rate": 0.1}
        for epoch, value in enumerate(values, 1)
    ]


def test_learning_curves_are_the_mean_and_range_of_the_seeds():
    runs = np.random.default_rng(0).random((2, 3, 5))
    metrics = {arm: [_lines(seed) for seed in of_arm] for arm, of_arm in zip(("teacher", "student"), runs, strict=True)}
    made = charts_learning.chart(metrics, metrics)
    drawn = charts.resolved(made.figure, {"quantity": "test_accuracy"})
    means = {trace["name"]: trace for trace in drawn["data"] if trace["mode"] == "lines"}
    for arm, of_arm in zip(metrics, runs, strict=True):
        assert np.allclose(means[arm]["y"], of_arm.mean(axis=0), rtol=5e-4)
        assert np.allclose(
            means[arm]["customdata"], np.stack((of_arm.min(axis=0), of_arm.max(axis=0)), axis=1), rtol=5e-4
        )
        assert means[arm]["line"]["color"] == charts.line_colour(colours.arms(metrics)[arm])
    assert [option["value"] for option in made.figure["controls"][0]["options"]] == ["test_accuracy", "learning_rate"]
    assert drawn["layout"]["yaxis"]["title"]["text"] == "test accuracy"


def test_a_study_without_metrics_has_no_learning_chart():
    assert charts_learning.chart({"teacher": [[]], "student": [[]]}, ["teacher", "student"]) is None
