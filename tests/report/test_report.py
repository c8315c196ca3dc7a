"""Tables, page and progress: what a reader sees."""

import csv
import io
import itertools
import json
import re

import numpy as np
import pytest

from kd_jax import report
from kd_jax.analysis import closed_forms as theory
from kd_jax.cli.progress import Progress
from kd_jax.config import BadInput, Study, to_json
from kd_jax.plan import checkpoint_steps
from kd_jax.report import page, tables


def estimate(name="accuracy", arm="student", split="test", subset="all", value=0.5, low=0.4, high=0.6, **more):
    interval = {"estimate": value, "low": low, "high": high, "level": 0.95, "resampled": "seeds", "count": 3}
    return {"name": name, "arm": arm, "split": split, "subset": subset, **interval, "values": [0.4, 0.5, 0.6], **more}


FOUND = {
    "estimates": [estimate(), estimate("accuracy_gain", value=-0.1, low=-0.123456, high=-0.05)],
    "verdicts": [{"claim": "a < b & c", "verdict": "supported", "because": "<script>"}],
    "warnings": ["onehot-seed0 did not learn"],
    "study": {
        "study": "tested",
        "arms": [{"name": "student", "model": "mlp", "teacher": "teacher"}],
        "config": {
            **{"teacher": "mlp", "student": ["mlp"], "temperature": 4.0, "weight": 1.0, "epochs": 3},
            **{"batch_size": 8, "learning_rate": 0.1, "seed": 0, "seeds": 3},
        },
        "data": {"name": "made", "train_examples": 9, "test_examples": 5, "test_split": "test", "wrong_labels": 2},
        "platform": {"platform": "cpu", "device": "cpu", "devices": 1},
        "versions": {"jax": "0"},
        "parameters": {"mlp": 1234567},
    },
}


def test_an_interval_is_shown_by_its_half_width_or_by_its_ends():
    assert tables.shown(estimate()) == "0.500 ± 0.100"
    assert tables.shown(FOUND["estimates"][1]) == "-0.100 [-0.123, -0.050]"


def test_tables_hold_every_arm_and_say_what_is_missing():
    header, rows = tables.main_table(FOUND)
    assert list(header) == ["arm", "student (mlp)"]
    cells = dict(rows)
    assert cells["test accuracy"] == "0.500 ± 0.100"
    assert cells["test ECE"] == "-"
    assert len({len(line.rstrip("|").split("|")) for line in tables.markdown(header, rows).splitlines()}) == 1


def test_csv_is_unrounded():
    stream = io.StringIO()
    csv.writer(stream).writerows(tables.csv_rows(FOUND))
    rows = list(csv.reader(io.StringIO(stream.getvalue())))
    assert dict(zip(tables.CSV_COLUMNS, rows[1], strict=True))["low"] == "-0.123456"


def test_the_page_is_one_file_and_escapes_what_it_shows():
    text = page.render(FOUND, {"slopes": "QUJD"})
    assert "a &lt; b &amp; c" in text
    assert "<script" not in text
    assert "data:image/png;base64,QUJD" in text
    assert not re.findall(r"(?:src|href)=['\"](?!data:)", text)
    assert "onehot-seed0 did not learn" in text
    assert "mlp (1,234,567 parameters)" in text


def test_a_report_needs_an_analysis(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({}))
    with pytest.raises(BadInput, match="kd-jax analyze"):
        report.write_report(tmp_path)


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
    monkeypatch.setattr("kd_jax.cli.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with Progress(100, done=40, stream=stream) as progress:
        progress.skip(40)
        progress.advance(10, "onehot-seed0", always=True)  # 10 units in 10 s, 10 units left
    assert stream.getvalue() == "[ 90 %] onehot-seed0, 0:10 left\n"


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


def test_the_closed_form_is_drawn_for_what_it_speaks_of_alone():
    """Squared loss, gradient descent, no hidden layers, no labels beside the teacher; with the times of teacher and student."""
    study = Study.from_flags(
        teacher="features_50", student=("features_50",), loss="mse", optimizer="sgd", teacher_step=300
    )

    def drawn(times=(0.0, 0.3, 2.0), taught=0.3, model="features_50", **changes):
        of_study = {"config": to_json(study.replaced(**changes)), "descent_times": times, "teacher_time": taught}
        return report._linear_theory({"study": of_study}, model)

    values = np.array([50.0, 1.6, 0.1])
    np.testing.assert_allclose(drawn()(values, 50.0), theory.matched_ratio(values, 50.0, 0.3, 2.0, 2.0))
    np.testing.assert_allclose(drawn(taught=2.0)(values, 50.0), theory.matched_ratio(values, 50.0, 2.0, 2.0, 2.0))
    assert drawn(loss="cross_entropy") is None
    assert drawn(weight=0.5) is None
    assert drawn(times=None, taught=None, optimizer="adam") is None
    assert drawn(taught=None) is None  # a teacher that was trained in another way
    assert drawn(model="mlp_5", teacher="mlp_5", student=("mlp_5",)) is None
    assert drawn(teacher="mlp_5") is None
