"""Figures show all that they are given and nothing else, and an arm has one colour in all of them."""

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from kd_jax.analysis.across import StudentResult
from kd_jax.analysis.eigen import Growth
from kd_jax.analysis.results import Estimate, Interval
from kd_jax.plan import Arm
from kd_jax.report import audit_figures, colours, eigen_figures, figures, labels, sweep_figures

ARMS = [Arm("onehot", "mlp"), Arm("student", "mlp", teacher="teacher", baseline="onehot")]
REFERENCES = {"teacher": "onehot", "student": "onehot", "onehot_order": "onehot"}


def shown_points(axes):
    """All points of markers in the axes, float [points, 2]."""
    scattered = [each.get_offsets() for each in axes.collections if len(each.get_offsets()) > 1]
    marked = [line.get_xydata() for line in axes.get_lines() if line.get_linestyle() == "None"]
    return np.concatenate([np.asarray(each, float) for each in (*scattered, *marked)])


@pytest.mark.parametrize("outliers", [0, 1, 3])
def test_every_point_is_whole_within_the_frame_and_those_beyond_it_are_counted(outliers):
    rng = np.random.default_rng(0)
    x = np.append(rng.normal(size=3000), [0.0] * outliers)
    y = np.append(x[:3000] + rng.normal(size=3000), [40.0, -60.0, 90.0][:outliers])
    axes = figures.confidence_points(x, y, ax=Figure().subplots())
    (low, high), points = axes.get_xlim(), shown_points(axes)
    assert axes.get_ylim() == (low, high)
    assert len(points) == 3000 + outliers
    assert ((points > low) & (points < high)).all()
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert [text for text in said if "beyond" in text] == ([f"beyond the frame: {outliers}"] if outliers else [])


def test_reliable_predictions_are_not_cut_off_at_the_corner():
    axes = audit_figures.reliability_panel(np.full(20, 1.0), np.ones(20, bool), ax=Figure(figsize=(4, 4)).subplots())
    FigureCanvasAgg(axes.figure).draw()
    points = axes.collections[0]
    radius = np.sqrt(points.get_sizes().max()) / 2 * axes.figure.dpi / 72
    corner = axes.transData.transform(points.get_offsets()[-1]) + radius
    assert (corner <= axes.get_window_extent().max).all()


def growth(arm, seed=0, start=0.0, values=(1.0, 0.5, 0.25, 1e-17)):
    moved = np.linspace(0, 1, 6)[:, None] * np.array([1, 0.5, 0.3, 0.0])
    values = np.array(values)
    return Growth(arm, seed, "mlp", "Dense_0", values, np.zeros(4), np.arange(6), moved + start, moved)


def test_weights_that_start_at_zero_are_shown_once():
    zero = [growth(arm) for arm in ("onehot", "student")]
    other = [growth(arm, start=1.0) for arm in ("onehot", "student")]
    pairs = len(eigen_figures.curves(zero, REFERENCES).axes)
    assert len(eigen_figures.curves(other, REFERENCES).axes) == 2 * pairs
    assert len(eigen_figures.ratios_by_rank(zero, REFERENCES).axes) == 2
    assert len(eigen_figures.ratios_by_rank(other, REFERENCES).axes) == 3


def test_of_a_spectrum_there_is_what_is_above_rounding_and_the_rest_is_counted():
    figure = eigen_figures.ratios_by_rank([growth("onehot"), growth("student")], REFERENCES)
    spectrum = figure.axes[0]
    assert spectrum.get_lines()[0].get_ydata().tolist() == [1.0, 0.5, 0.25]
    assert "other 1 of 4 directions" in spectrum.texts[0].get_text()


def test_an_arm_has_one_colour_in_all_figures_and_shares_it_with_no_subset():
    names = ["teacher", "onehot", "student", "onehot_order"]
    expected = colours.arms(names)
    lines = [{"epoch": 1, "train_accuracy": 0.5, "test_accuracy": 0.5, "test_loss": 1.0}]
    learning = figures.learning_curves({name: [lines] for name in names[:3]}).axes[0].get_lines()
    assert {line.get_label(): to_hex(line.get_color()) for line in learning} == {n: expected[n] for n in names[:3]}
    grown = eigen_figures.curves([growth(n) for n in names], REFERENCES).axes[0].get_lines()
    assert {line.get_label(): to_hex(line.get_color()) for line in grown} == expected
    others = [*colours.SUBSETS.values(), colours.REFERENCE]
    families = [*itertools.chain(*colours.FAMILIES.values()), *colours.NULLS.values()]
    assert not set(others) & set(families)


def test_what_is_of_one_seed_beside_the_mean_of_several_says_so():
    rng = np.random.default_rng(0)
    logits = {"test": {arm.name: (rng.normal(size=(40, 3)), rng.normal(size=(40, 3))) for arm in ARMS}}
    interval = Interval(1.234, 1.1, 1.3, 0.95, "seeds", 5)
    estimates = [Estimate("exaggeration_slope", "student", interval, (1.0,) * 5, split="test", subset="all")]
    figure = figures.confidence(logits, ARMS, 7, estimates)
    assert "seed 7, one of 5" in figure.get_suptitle()
    said = [text.get_text() for text in figure.axes[1].get_legend().get_texts()]
    assert any("mean of 5: 1.23" in text for text in said)
    assert "student on test examples: slopes all points" in str(figure.get_label())


def measured(count, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(count):
        gain, fit = rng.normal(0.01, 0.002, 3), np.full(3, 0.99) + rng.normal(0, 0.004, 3)
        values = {"epochs": 10 * number, "teacher_step": 0 if number % 2 else 100}
        yield StudentResult(f"epochs={10 * number}", "student", values, fit, fit - 0.9, gain, True)


def boxes(axes):
    texts = [text for text in axes.texts if text.get_text()]
    return [text.get_window_extent() for text in texts]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_of_the_gain_figure_lie_over_neither_each_other_nor_the_points(seed):
    figure = sweep_figures.gain(list(measured(9, seed)))
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        found = boxes(axes)
        assert len(found) == 8  # the first variant is the base, and needs none
        assert not any(a.overlaps(b) for a, b in itertools.combinations(found, 2))
        frame = axes.get_window_extent()
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in found)
        means = [
            line.get_xydata()[0] for line in axes.get_lines() if line.get_marker() == "o" and len(line.get_xdata()) == 1
        ]
        at = [axes.transData.transform(mean) for mean in means]
        assert not any(box.contains(*point) for box in found for point in at)


def test_labels_without_room_are_written_all_the_same():
    figure = Figure(figsize=(1, 1))
    axes = figure.subplots()
    labels.place(figure, {axes: [labels.Label("a label that is far too long", 0.5, 0.5, "#222222")] * 3})
    assert sum(bool(text.get_text()) for text in axes.texts) == 3


def test_a_sentinel_is_no_value_in_the_title_of_a_figure():
    rng = np.random.default_rng(0)
    switched = [
        StudentResult(
            "a", "student", {"switch": switch, "teacher_step": 0}, np.ones(2), np.ones(2), rng.normal(size=2), True
        )
        for switch in ("onehot:kd@5", "kd:onehot@5", "")
    ]
    assert sweep_figures.switching(switched).axes[0].get_title() == "student, teacher_step its last"
