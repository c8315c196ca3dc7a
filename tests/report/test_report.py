"""Tables, figures and progress: what a reader sees."""

import csv
import dataclasses
import io
import itertools
import re

import pytest

from kd_jax.analysis.results import Estimate, Interval
from kd_jax.plan import Arm, checkpoint_steps
from kd_jax.report import figures, sweeps, tables
from kd_jax.studies.progress import Progress


def estimate(name="accuracy", arm="student", split="test", subset="all", value=0.5, low=0.4, high=0.6):
    interval = Interval(value, low, high, 0.95, "seeds", 3)
    return Estimate(name, arm, interval, (0.4, 0.5, 0.6), split=split, subset=subset)


ESTIMATES = [estimate(), estimate("accuracy_gain", value=-0.1, low=-0.123456, high=-0.05)]
ARMS = [Arm("student", "mlp", teacher="teacher", baseline="onehot"), Arm("onehot_order", "mlp", null_of="onehot")]


def test_an_interval_is_shown_by_its_half_width_or_by_its_ends():
    assert tables.shown(ESTIMATES[0].interval) == "0.500 ± 0.100"
    assert tables.shown(ESTIMATES[1].interval) == "-0.100 [-0.123, -0.050]"


def test_tables_hold_every_arm_but_nulls_and_say_what_is_missing():
    header, rows = tables.main_table(ESTIMATES, ARMS)
    assert list(header) == ["arm", "student (mlp)"]
    cells = dict(rows)
    assert cells["test accuracy"] == "0.500 ± 0.100"
    assert cells["test ECE"] == "-"
    assert len({len(line.rstrip("|").split("|")) for line in tables.markdown(header, rows).splitlines()}) == 1


def test_a_network_that_stands_for_all_seeds_is_named_beside_others_and_not_where_there_is_one_seed():
    alone = Interval(0.5, 0.4, 0.6, 0.95, "examples", 100)
    single = [dataclasses.replace(estimate(arm=arm), interval=alone) for arm in ("teacher", "control")]
    said = tables.what_intervals_are([*ESTIMATES, *single])
    assert said == (
        "Mean and 95% interval over 3 seeds. The teacher is one for all seeds; its own intervals are over examples."
        " The control is one for all seeds; its own intervals are over examples."
    )
    of_one = [dataclasses.replace(each, variant="seeds=1") for each in single]
    several = [dataclasses.replace(each, variant="seeds=3") for each in ESTIMATES]
    assert "one for all seeds" not in tables.what_intervals_are([*several, *of_one])


def test_no_two_rows_of_a_sweep_in_csv_are_about_the_same():
    slope = estimate("gain_per_teacher_accuracy")
    slopes = [slope, dataclasses.replace(slope, field="teacher's epochs")]
    less = dataclasses.replace(estimate("gain_difference"), variant="a")
    both = [dataclasses.replace(less, against=against) for against in ("b", "c")]
    rows = [dict(zip(sweeps.CSV_COLUMNS, row, strict=True)) for row in sweeps.csv_rows([*slopes, *both])]
    assert [(row["variant"], row["against"], row["field"]) for row in rows] == [
        ("", "", ""),
        ("", "", "teacher's epochs"),
        ("a", "b", ""),
        ("a", "c", ""),
    ]


def test_csv_is_unrounded():
    stream = io.StringIO()
    csv.writer(stream).writerows(tables.csv_rows(ESTIMATES))
    rows = list(csv.reader(io.StringIO(stream.getvalue())))
    assert dict(zip(tables.CSV_COLUMNS, rows[1], strict=True))["low"] == "-0.123456"


def test_columns_of_a_table_are_aligned_on_the_side_that_was_asked_for():
    lines = tables.text(["a", "long heading"], [["longer", "1"], ["b", "22"]], right={1}).splitlines()
    assert lines == ["a       long heading", "-" * 20, "longer             1", "b                 22"]


def lines_of(losses):
    return [
        {"epoch": epoch, "train_accuracy": loss, "test_accuracy": loss, "test_loss": loss}
        for epoch, loss in enumerate(losses, 1)
    ]


def test_learning_curves_are_over_the_seeds_that_have_the_epoch():
    metrics = {"teacher": [lines_of([4.0, 2.0, 1.0]), lines_of([2.0, 1.0])], "student": [lines_of([3.0]), []]}
    for axes in figures.learning_curves(metrics).axes:
        of_teacher, of_student = axes.get_lines()
        assert of_teacher.get_xydata().tolist() == [[1, 3.0], [2, 1.5], [3, 1.0]]
        assert of_student.get_xydata().tolist() == [[1, 3.0]]
        band = axes.collections[0].get_paths()[0].vertices
        assert {tuple(point) for point in band.tolist()} == {(1, 4), (1, 2), (2, 2), (2, 1), (3, 1)}


def test_without_metrics_there_are_no_curves():
    for metrics in ({}, {"teacher": [[], []], "student": []}):
        assert not any(axes.get_lines() for axes in figures.learning_curves(metrics).axes)


def test_without_a_terminal_progress_is_plain_lines_with_the_time_left():
    stream = io.StringIO()
    with Progress(10, done=5, stream=stream) as progress:
        progress.advance(1, "student-seed3", "epoch 1/2 loss 0.5", always=True)
        progress.advance(1, "student-seed3", "said too soon after")
        progress.advance(3, "student-seed3", "epoch 2/2", always=True)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"\[ 60 %\] student-seed3 epoch 1/2 loss 0\.5, \d+:\d\d left", lines[0])
    assert re.fullmatch(r"\[100 %\] student-seed3 epoch 2/2, 0:00 left", lines[1])


def test_work_of_an_earlier_program_does_not_shorten_the_time_left(monkeypatch):
    clock = iter([0.0, 10.0])
    monkeypatch.setattr("kd_jax.studies.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with Progress(100, done=40, stream=stream) as progress:
        progress.skip(40)
        progress.advance(10, "onehot-seed0", always=True)  # 10 units in 10 s, 10 units left
    assert stream.getvalue() == "[ 90 %] onehot-seed0, 0:10 left\n"


def test_how_long_the_first_steps_were_waited_for_is_said_once_when_they_are_taken(monkeypatch):
    now = 100.0
    monkeypatch.setattr("kd_jax.studies.progress.time.monotonic", lambda: now)
    stream = io.StringIO()
    with Progress(100, stream=stream, since=97.5) as progress:
        progress.note("compiling teacher", waits=True)
        progress.skip(10)
        progress.advance(0, "teacher-seed0", "epoch 0/2")
        now = 101.5
        progress.advance(10, "teacher-seed0")
        now = 103.0
        progress.advance(10, "teacher-seed0")
    assert stream.getvalue().splitlines() == [
        "[  0 %] compiling teacher",
        "teacher-seed0: first steps 4.0 s after the start",
    ]


def test_on_a_terminal_progress_is_a_bar():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress(10, stream=stream) as progress:
        progress.advance(10, "student-seed3", "epoch 2/2 loss 0.5")
    shown = stream.getvalue().split("\r")[-1]
    assert "student-seed3 epoch 2/2 loss 0.5 100%" in shown


@pytest.mark.parametrize(("total", "count"), [(1, 2), (7, 50), (1000, 50), (100000, 40)])
def test_checkpoints_are_dense_early_even_late_and_hold_both_ends(total, count):
    steps = checkpoint_steps(total, count)
    assert steps[0] == 0
    assert steps[-1] == total
    assert steps == sorted(set(steps))
    assert len(steps) <= count + 2
    if total > 100:
        assert steps[:3] == [0, 1, 2]
        gaps = [b - a for a, b in itertools.pairwise(steps)]
        assert max(gaps) <= total / (count - count // 2) + 1
