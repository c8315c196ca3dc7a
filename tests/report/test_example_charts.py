"""Charts of single examples: the scatter of confidences, galleries, reliability, thumbnails."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from kd_jax.analysis import calibration, gallery, summary
from kd_jax.analysis.summary import Pair
from kd_jax.report import (
    charts,
    charts_audit,
    charts_confidence,
    charts_galleries,
    charts_reliability,
    colours,
    thumbnails,
)
from kd_jax.report.charts_confidence import Examples

ARMS = ["teacher", "onehot", "student"]
CLASSES = 4


def pairs(split, count, seeds=2, noisy=0.0):
    """Logits of two arms beside their teachers, and the examples: the student is 1.5 times as sure as its teacher."""
    rng = np.random.default_rng(count)
    true_y = rng.integers(0, CLASSES, count)
    y = np.where(rng.random(count) < noisy, (true_y + 1) % CLASSES, true_y)
    ids = np.sort(rng.choice(10 * count, count, replace=False))
    listed = []
    for seed in range(seeds):
        teacher = 3 * np.eye(CLASSES)[y] + rng.normal(size=(count, CLASSES))
        for arm, factor, spread in (("onehot", 1.0, 1.0), ("student", 1.5, 0.2)):
            student = factor * teacher + spread * rng.normal(size=teacher.shape)
            listed.append(Pair(arm, seed, split, teacher, student, y, true_y, ids))
    return listed


def runs_of(listed):
    return [gallery.of_run(summary.compared(pair)) for pair in listed]


def log_odds(logits, classes):
    """log p/(1-p), from probabilities in float64."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = (p / p.sum(axis=1, keepdims=True))[np.arange(len(logits)), classes]
    return np.log(p / (1 - p))


@pytest.fixture(scope="module")
def study():
    listed = pairs("test", 60) + pairs("train", 90, noisy=0.3)
    examples = {pair.split: Examples(pair.ids, pair.y, pair.true_y) for pair in listed}
    return listed, examples


def chosen(split, arm, seed):
    return {"split": split, "arm": arm, "seed": str(seed)}


def test_points_and_what_is_said_of_them_are_those_of_the_logits(study):
    listed, examples = study
    made = charts_confidence.chart(runs_of(listed), examples, ARMS)
    for pair in listed:
        data = charts.resolved(made.figure, chosen(pair.split, pair.arm, pair.seed))["data"]
        points = next(trace for trace in data if "meta" in trace)
        top = pair.teacher.argmax(axis=1)
        assert np.allclose(points["x"], log_odds(pair.teacher, top), rtol=1e-3, atol=1e-3)
        assert np.allclose(points["y"], log_odds(pair.student, top), rtol=1e-3, atol=1e-3)
        said = points["meta"]["tip"]["values"]
        assert said["id"] == pair.ids.tolist()
        assert said["label"] == pair.y.tolist()
        assert said["teacher"] == top.tolist()
        assert said["student"] == pair.student.argmax(axis=1).tolist()
        published = [true if true != given else None for true, given in zip(pair.true_y, pair.y, strict=True)]
        assert said["published"] == published
        for row, p in enumerate(said["p"]):
            own = log_odds(pair.student, pair.student.argmax(axis=1))[row]
            same = said["student"][row] == said["teacher"][row]
            assert p is None if same else np.isclose(p, 1 / (1 + np.exp(-own)), atol=6e-4)
        wrong = next((trace for trace in data if trace["name"] == "wrong label"), None)
        assert (0 if wrong is None else len(wrong["x"])) == (pair.y != pair.true_y).sum()


def test_lines_are_least_squares_in_float64_over_all_points_and_the_quarters(study):
    listed, examples = study
    made = charts_confidence.chart(runs_of(listed), examples, ARMS)
    pair = listed[3]
    top = pair.teacher.argmax(axis=1)
    x, y = log_odds(pair.teacher, top), log_odds(pair.student, top)
    low, high = np.quantile(x, (0.25, 0.75))
    data = charts.resolved(made.figure, chosen(pair.split, pair.arm, pair.seed))["data"]
    for name, mask in (("all points", x > -np.inf), ("lowest 25 %", x <= low), ("highest 25 %", x >= high)):
        line = next(trace for trace in data if trace.get("name", "").startswith(name))
        slope, intercept = np.polyfit(x[mask], y[mask], 1)
        assert line["name"].endswith(f"slope {slope:.2f}")
        assert np.allclose(line["x"], (x[mask].min(), x[mask].max()), rtol=1e-4)
        assert np.allclose(line["y"], intercept + slope * np.array(line["x"]), rtol=1e-3, atol=1e-3)


def test_a_scatter_of_many_points_is_cut_to_the_same_random_ones_every_time_and_says_so(study, monkeypatch):
    listed, examples = study
    monkeypatch.setattr(charts_confidence, "POINTS", 20)
    first, again = (charts_confidence.chart(runs_of(listed), examples, ARMS) for _ in range(2))
    assert first.json() == again.json()
    assert "20 of the 60 test examples and 20 of the 90 train examples" in first.caption
    pair = listed[0]
    points = charts.resolved(first.figure, chosen("test", pair.arm, 0))["data"][0]
    rows = [pair.ids.tolist().index(id_) for id_ in points["meta"]["tip"]["values"]["id"]]
    assert len(set(rows)) == 20
    x = log_odds(pair.teacher, pair.teacher.argmax(axis=1))
    assert np.allclose(points["x"], x[rows], rtol=1e-3, atol=1e-3)
    whole = charts_confidence.chart(runs_of(listed)[:1], {"test": examples["test"]}, ARMS)
    assert "slope" in charts.resolved(whole.figure, chosen("test", "onehot", 0))["data"][-1]["name"]


def test_all_scatters_of_a_page_together_are_bounded():
    assert len(charts_confidence.drawn(60_000, 1)) == 20_000
    assert 100 * len(charts_confidence.drawn(60_000, 100)) <= charts_confidence.PAGE_POINTS
    assert charts_confidence.drawn(300, 1).tolist() == list(range(300))


def test_infinite_confidences_are_neither_drawn_nor_fitted(study):
    listed, examples = study
    pair = listed[0]
    student = pair.student.copy()
    student[5] = np.where(np.arange(CLASSES) == pair.teacher[5].argmax(), 0.0, -np.inf)
    runs = runs_of([pair._replace(student=student)])
    made = charts_confidence.chart(runs, examples, ARMS)
    points = charts.resolved(made.figure, chosen(pair.split, pair.arm, 0))["data"][0]
    assert points["y"][5] is None
    assert "nan" not in made.json().lower().replace("nans", "")


def test_one_arm_has_one_colour_in_all_charts(study):
    listed, examples = study
    runs = runs_of(listed)
    scatter = charts_confidence.chart(runs, examples, ARMS)
    reliability = charts_reliability.chart(charts_reliability.answers(runs, examples), ARMS)
    for arm in ("onehot", "student"):
        points = charts.resolved(scatter.figure, chosen("test", arm, 0))["data"][0]
        drawn = charts.resolved(reliability.figure, {"split": "test", "seed": "mean"})["data"]
        curve = next(trace for trace in drawn if trace.get("name") == arm)
        assert points["marker"]["color"] == curve["line"]["color"] == colours.arms(ARMS)[arm]


def test_students_of_two_teachers_are_each_drawn_beside_their_own(study):
    listed, examples = study
    own = next(pair for pair in listed if (pair.arm, pair.split) == ("student", "test"))
    other = own._replace(arm="student_early", teacher=own.teacher[:, ::-1] * 0.5, against="teacher_early")
    arms = [*ARMS, "student_early", "teacher_early"]
    runs = runs_of([own, other])
    figure = charts_confidence.chart(runs, examples, arms).figure
    for pair in (own, other):
        drawn = charts.resolved(figure, chosen("test", pair.arm, 0))
        points = drawn["data"][0]
        top = pair.teacher.argmax(axis=1)
        assert np.allclose(points["x"], log_odds(pair.teacher, top), rtol=1e-3, atol=1e-3)
        assert points["meta"]["tip"]["values"]["teacher"] == top.tolist()
        assert points["meta"]["tip"]["values"]["against"] == pair.against
        assert drawn["layout"]["xaxis"]["title"]["text"].startswith(f"{pair.against}:")
    found = {(each.arm, each.seed) for each in charts_reliability.answers(runs, examples)}
    assert found == {("teacher", 0), ("student", 0), ("teacher_early", 0), ("student_early", 0)}


# ---- reliability


def test_reliability_of_a_seed_is_the_share_that_is_right_in_each_bin_and_of_the_mean_their_mean(study):
    listed, examples = study
    made = charts_reliability.chart(charts_reliability.answers(runs_of(listed), examples), ARMS)
    by_seed = []
    for pair in (each for each in listed if (each.arm, each.split) == ("student", "test")):
        p = np.exp(pair.student - pair.student.max(axis=1, keepdims=True))
        p = (p / p.sum(axis=1, keepdims=True)).max(axis=1)
        hit = pair.student.argmax(axis=1) == pair.y
        bins = np.ceil(p * 15).astype(int)
        expected = {at: (hit[bins == at].mean(), (bins == at).sum()) for at in np.unique(bins)}
        by_seed.append(expected)
        data = charts.resolved(made.figure, {"split": "test", "seed": str(pair.seed)})["data"]
        curve, bars = (trace for trace in data if trace.get("name") == "student")
        assert np.allclose(curve["y"], [right for right, _ in expected.values()], rtol=1e-3)
        assert curve["customdata"] == bars["y"] == [count for _, count in expected.values()]
        assert sum(bars["y"]) == 60
    data = charts.resolved(made.figure, {"split": "test", "seed": "mean"})["data"]
    curve = next(trace for trace in data if trace.get("name") == "student")
    for at, right, up, down in zip(
        np.ceil(np.array(curve["x"]) * 15),
        curve["y"],
        curve["error_y"]["array"],
        curve["error_y"]["arrayminus"],
        strict=True,
    ):
        seeds = [each[at][0] for each in by_seed if at in each]
        assert np.isclose(right, np.mean(seeds), rtol=1e-3)
        assert np.isclose(right + up, max(seeds), rtol=2e-3, atol=1e-3)
        assert np.isclose(right - down, min(seeds), rtol=2e-3, atol=1e-3)
    assert calibration.ECE_BINS == 15


def test_without_labels_there_is_no_reliability_chart(study):
    listed, examples = study
    bare = {split: Examples(of_split.ids) for split, of_split in examples.items()}
    assert charts_reliability.chart(charts_reliability.answers(runs_of(listed), bare), ARMS) is None


# ---- galleries


def test_galleries_show_the_most_exaggerated_points_and_the_wrong_labels_that_were_fitted():
    """Of 40 examples one is put in of each kind."""
    rng = np.random.default_rng(0)
    y = np.zeros(40, int)
    true_y = y.copy()
    true_y[[7, 8]] = 1
    teacher = np.stack((np.linspace(1, 5, 40), np.zeros(40)), axis=1)
    student = teacher + 0.01 * rng.random(teacher.shape)
    student[2, 0] -= 3  # of the lowest quarter, and less sure still
    student[38, 0] += 3  # of the highest quarter, and surer still
    student[20, 0] -= 9  # in the middle: neither
    student[8, 0] -= 6  # the wrong label that the teacher fits and the student does not; 7 is fitted by both
    found = gallery.gallery(
        runs_of([Pair("student", 0, "train", teacher, student, y, true_y, np.arange(40))]), (), y, true_y, most=1
    )
    assert {kind: [each.row for each in listed] for kind, listed in found.items()} == {
        "less_sure": [8],
        "surer": [38],
        "memorised": [7],
        "resisted": [8],
    }
    first = gallery.gallery(
        runs_of([Pair("student", 0, "train", teacher, student, y, true_y, np.arange(40))]), (), y, true_y
    )
    assert [each.row for each in first["less_sure"]][:2] == [8, 2]
    assert all(each.row != 20 for each in first["less_sure"])


def test_a_card_says_labels_probabilities_the_range_of_seeds_and_the_control(study):
    listed, examples = study
    images = np.arange(90, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    ids = examples["train"].ids
    shown = {**examples, "train": examples["train"]._replace(views=thumbnails.Views(ids, images))}
    made = charts_galleries.galleries(runs_of(listed), shown, {"student": "onehot"}, ["a", "b", "c", "d"])
    memorised = next(each for each in made if "teacher and student fit" in each.title)
    view, said = memorised.examples[0]
    row = ids.tolist().index(int(said.split()[1].rstrip(",")))
    train = [pair for pair in listed if pair.split == "train"]
    label, published = train[0].y[row], train[0].true_y[row]
    assert label != published
    assert f"label {'abcd'[label]} (published: {'abcd'[published]})" in said
    top = [pair.teacher.argmax(axis=1) for pair in train]
    deviation = [
        log_odds(pair.student, k)[row] - log_odds(pair.teacher, k)[row] for pair, k in zip(train, top, strict=True)
    ]
    student, control = deviation[1::2], deviation[0::2]
    assert (
        f"{np.mean(student):+.1f} [{min(student):+.1f}, {max(student):+.1f}] nats; onehot {np.mean(control):+.1f}"
        in said
    )
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(view[1]))))
    assert (pixels == row).all()


# ---- thumbnails


def test_every_thumbnail_is_found_again_in_the_picture_of_all():
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        images = rng.integers(0, 256, (11, 5, 4, channels), dtype=np.uint8)
        sheet = thumbnails.sheet(thumbnails.Views(np.arange(11), images))
        kind, _, content = sheet["sprite"].partition(",")
        assert kind == "data:image/png;base64"
        whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).reshape(
            -1, 4 * sheet["columns"], channels
        )
        for at, image in enumerate(images):
            row, column = divmod(at, sheet["columns"])
            assert (whole[5 * row : 5 * row + 5, 4 * column : 4 * column + 4] == image).all()


def test_the_view_of_a_point_is_that_of_its_example(study):
    listed, examples = study
    ids = examples["test"].ids[::3]
    texts = np.array([f"text of {id_}" for id_ in ids])
    shown = {**examples, "test": examples["test"]._replace(views=thumbnails.Views(ids, texts))}
    made = charts_confidence.chart(runs_of(listed), shown, ARMS)
    tip = charts.resolved(made.figure, chosen("test", "student", 0))["data"][0]["meta"]["tip"]
    found = [made.figure["views"]["test"]["texts"][at] if at is not None else None for at in tip["view"]]
    expected = [f"text of {id_}" if id_ in ids else None for id_ in tip["values"]["id"]]
    assert found == expected


def test_examples_of_few_shades_are_brightened_all_by_one_factor():
    images = np.array([0, 8, 16], np.uint8).reshape(3, 1, 1, 1)
    assert thumbnails.views(np.arange(3), images).shown.ravel().tolist() == [0, 120, 240]
    bright = np.array([0, 8, 200], np.uint8).reshape(3, 1, 1, 1)
    assert thumbnails.views(np.arange(3), bright).shown.ravel().tolist() == [0, 8, 200]


# ---- audits


def test_an_audit_has_the_charts_of_a_study_with_the_views_that_it_was_given(study):
    pair = study[0][1]
    compared = summary.compared(pair)
    given = {"split": "test", "unit": "examples", "student": [{}]}

    def show(row):
        return "text", f"number {row}"

    made = charts_audit.charts(given, {"student": compared.beside}, [], pair.y, ["a", "b", "c", "d"], show)
    assert list(made) == ["confidence", "reliability"]
    points = charts.resolved(made["confidence"].figure, chosen("test", "student", 0))["data"][0]
    top = pair.teacher.argmax(axis=1)
    assert np.allclose(points["y"], log_odds(pair.student, top), rtol=1e-3, atol=1e-3)
    assert made["confidence"].figure["views"]["test"]["texts"] == [f"number {row}" for row in range(len(pair.y))]
    without = charts_audit.charts(given, {"student": compared.beside}, [])
    assert list(without) == ["confidence"]
    assert without["confidence"].figure["views"] == {}


def test_every_network_is_drawn_against_its_own_teacher():
    """A study can have two: what is said of an example differs, and each teacher has its own reliability."""
    ordinary = pairs("test", 60, seeds=1)
    early = [pair._replace(arm=f"{pair.arm}_early", against="teacher_early") for pair in pairs("test", 61, seeds=1)]
    early = [
        pair._replace(
            teacher=pair.teacher[:60], student=pair.student[:60], **{k: getattr(ordinary[0], k) for k in ABOUT}
        )
        for pair in early
    ]
    examples = {"test": Examples(*(getattr(ordinary[0], key) for key in ("ids", "y", "true_y")))}
    arms = ["teacher", "teacher_early", "onehot", "onehot_early", "student", "student_early"]
    figure = charts_confidence.chart(runs_of([*early, *ordinary]), examples, arms).figure
    for pair in (*ordinary, *early):
        drawn = charts.resolved(figure, chosen("test", pair.arm, 0))["data"][0]
        np.testing.assert_allclose(drawn["x"], log_odds(pair.teacher, pair.teacher.argmax(1)), rtol=1e-3, atol=1e-3)
    told = charts_reliability.answers(runs_of([*early, *ordinary]), examples)
    for name, pair in (("teacher", ordinary[0]), ("teacher_early", early[0])):
        (found,) = [each for each in told if each.arm == name]
        np.testing.assert_array_equal(found.hit, pair.teacher.argmax(1) == pair.y)


ABOUT = ("y", "true_y", "ids")
