"""What an analysis keeps of examples to look at, and the report of one that has kept nothing."""

import json
import re

import jax
import numpy as np
import pytest

from kd_jax import data
from kd_jax.analysis import gallery
from kd_jax.config import Data, Study
from kd_jax.data import images, numbers
from kd_jax.report import page
from kd_jax.studies import analyse, analyses
from kd_jax.studies import train as train_stage
from kd_jax.studies.analyses import views
from kd_jax.workdir import records


def pictures(train=300, test=40):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (train + test, 8, 8, 1), dtype=np.uint8)
    y = np.arange(train + test) % 3
    return images.assemble(data.from_arrays(x[:train], y[:train], x[train:], y[train:]), Data())


def test_noteworthy_examples_are_kept_and_others_as_there_is_room(tmp_path, monkeypatch):
    dataset = pictures()
    monkeypatch.setattr(views, "MOST_BYTES", 100 * 64)
    views.keep(dataset, {"train": [299, 7, 7]}, tmp_path)
    kept = views.read(tmp_path)
    assert {split: len(each.ids) for split, each in kept.items()} == {"train": 100, "test": 40}
    assert {7, 299} <= set(kept["train"].ids.tolist())
    assert set(gallery.drawn(300, 90).tolist()) <= set(kept["train"].ids.tolist())
    rows = np.searchsorted(dataset.train.ids, kept["train"].ids)
    assert (kept["train"].shown == dataset.train.x[rows]).all()


def test_nothing_is_kept_of_numbers(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 3))
    source = data.from_arrays(x, np.arange(12) % 2, x[:4], np.arange(4) % 2)
    views.keep(numbers.assemble(source, Data()), {}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert views.read(tmp_path) == {}


@pytest.fixture(scope="module")
def analysed(tmp_path_factory):
    study = Study.from_flags(
        dataset="digits", train_examples=200, test_examples=50, teacher="mlp_16", student=("mlp_16",), epochs=2,
        batch_size=50, seeds=2, label_noise=0.2, nulls=(),
    )  # fmt: skip
    workdir = tmp_path_factory.mktemp("charted") / "study"
    train_stage.train("tested", study, workdir, "unused", jax.devices()[:1])
    with pytest.MonkeyPatch.context() as patched:  # its figures are drawn in other tests, and take most of the time
        patched.setattr(analyse, "write_report", lambda workdir, folder, *_: None)
        analyse.analyze(workdir)
    return workdir


def charts_of(workdir):
    folder = workdir / "analysis"
    of_study = analyses.Analysed.of(workdir, folder, records.read_summary(workdir, folder))
    return {name: chart for each in analyses.ANALYSES for name, chart in each.charts(of_study).items()}


def strict(text):
    def refuse(value):
        raise AssertionError(f"{value} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_page_of_a_study_holds_its_charts_as_json_and_one_library(analysed):
    made = charts_of(analysed)
    assert set(made) == {"confidence", "reliability", "intervals", "learning_curves", "directions"}
    text = page.render("x", [], [], [], [], {}, {}, charts=made)
    found = re.findall(r'<script type="application/json">(.*?)</script>', text, re.S)
    assert [strict(each) for each in found] == [strict(chart.json()) for chart in made.values()]
    assert text.count("plotly.js (basic - minified)") == 1
    assert len(text) < 6e6
    for chart in made.values():
        assert chart.alt
        assert chart.caption


def test_every_point_of_digits_has_its_thumbnail(analysed):
    figure = charts_of(analysed)["confidence"].figure
    for split, count in (("test", 50), ("train", 200)):
        assert figure["columns"][f"view|{split}"] == list(range(count))
        assert figure["views"][split]["width"] == 8


def test_an_analysis_without_views_is_reported_without_thumbnails(analysed, tmp_path):
    before = charts_of(analysed)
    kept = analysed / "analysis" / "views.npz"
    aside = tmp_path / "views.npz"
    kept.rename(aside)
    try:
        made = charts_of(analysed)
    finally:
        aside.rename(kept)
    assert made["confidence"].figure["views"] == {}
    assert set(made["confidence"].figure["columns"]["view|test"]) == {None}
    assert [each.title for each in made["confidence"].galleries] == [
        each.title for each in before["confidence"].galleries
    ]
    assert all(view is None for each in made["confidence"].galleries for view, _ in each.examples)
