"""The paper's scoreboard: what counts as one of its settings, what does not, and what the others would cost."""

import csv
import json
import re

import numpy as np
import pytest

import kd_jax
from kd_jax import cli
from kd_jax.recipes import images, reported
from kd_jax.recipes.settings import FORWARD_FLOPS, settings
from kd_jax.report import scoreboard as report
from kd_jax.studies import reproductions

SETTINGS = {setting.number: setting for setting in settings()}


def numbers(slopes, arm="student", onehot="onehot", seeds=3):
    """Accuracies and slopes of a student: {split: (slope, deviation over seeds)}; the control's slope is 1."""
    rng, found = np.random.default_rng(seeds), {}
    for split, (slope, deviation) in slopes.items():
        away = np.linspace(-1, 1, seeds)
        found["exaggeration_slope", arm, split, "lowest_25"] = (slope + deviation * away).tolist()
        found["exaggeration_slope", onehot, split, "lowest_25"] = (1 + 0.001 * rng.normal(size=seeds)).tolist()
    found["accuracy", "teacher", "test", "all"] = [0.72] * seeds
    found["accuracy_gain", arm, "test", "all"] = (0.02 + 0.001 * rng.normal(size=seeds)).tolist()
    found["accuracy_over_teacher", arm, "test", "all"] = (0.021 + 0.001 * rng.normal(size=seeds)).tolist()
    return found


def data_of(number):
    size = SETTINGS[number].size
    return {
        "train_examples": size.train,
        "test_examples": size.test,
        "classes": size.classes,
        "image_shape": list(size.example),
    }


CLEAR, VAGUE, BELOW = (1.3, 0.01), (1.3, 0.5), (0.8, 0.01)


@pytest.fixture
def runs(tmp_path, write_analysed):
    """Work folders of four settings, of one that is trained and not analysed, and of much that is none."""
    folder = tmp_path / "runs"

    def write(name, number, study=None, slopes=None, starts=(), **data):
        study = study or SETTINGS[number].study.replaced(seeds=3)
        found = numbers(slopes or {"test": CLEAR, "train": VAGUE}, seeds=study.seeds)
        return write_analysed(folder / name, study, found, starts=starts, **(data_of(number) | data))

    own = {number: SETTINGS[number].study.replaced(seeds=3) for number in SETTINGS}
    write("deep/below/cifar100", 5)
    # What does not decide the numbers of these arms may differ.
    write("fewer_seeds", 5, own[5].replaced(seeds=2, seed=9), {"test": BELOW, "train": BELOW})
    more = own[9].replaced(student=("resnet56", "resnet20"), nulls=("order",), checkpoints=9, noise_seed=4)
    both = numbers({"test": CLEAR, "train": CLEAR})
    both |= numbers({"test": VAGUE, "train": BELOW}, "student_resnet20", "onehot_resnet20")
    write_analysed(folder / "noisy", more, both, **data_of(9))
    write("mnli", 19, slopes={"test": CLEAR}, starts=("roberta_base",))
    write_analysed(folder / "not_analysed", own[1], **data_of(1))
    # None of the settings:
    write("small", 3, images.reduced(own[3]).replaced(teacher="resnet20", student=("resnet20",)), train_examples=1000)
    write("jpeg", 3, own[3].replaced(dataset="cifar10_jpeg"))
    write("epochs", 3, own[3].replaced(epochs=449))
    write("ablation", 7, images.study("cifar100_v2").replaced(teacher="resnet20", student=("resnet20",), seeds=3))
    write("less_data", 13, train_examples=10_000, test_examples=1000, classes=20)
    write("another_temperature", 3, own[3].replaced(temperature=2.0))
    write("teacher_stopped", 3, own[3].replaced(teacher_with=("epochs=20",)))
    write("scratch", 19)
    write("digits", 3, own[3].replaced(dataset="digits", teacher="mlp_8", student=("mlp_8",)))
    (folder / "broken").mkdir()
    (folder / "broken" / "study.json").write_text("{")
    return folder


def test_counts_are_of_whole_runs_of_the_settings_alone(runs):
    found = kd_jax.paper([runs]).summary
    status = {row["number"]: row["status"] for row in found["settings"]}
    assert {number for number in status if status[number] == "run"} == {5, 9, 10, 19}
    assert {number for number in status if status[number] == "not analysed"} == {1}
    verdicts = {
        row["number"]: {split: of["verdict"] for split, of in row["verdicts"].items()}
        for row in found["settings"]
        if row["status"] == "run"
    }
    assert verdicts == {
        5: {"test": "supported", "train": "inconclusive"},
        9: {"test": "supported", "train": "supported"},
        10: {"test": "inconclusive", "train": "contradicted"},
        19: {"test": "supported"},
    }
    counts = {(count["kind"], count["split"]): count for count in found["counts"]}
    keys = ("found", "settings", "run", "supported", "inconclusive", "contradicted", "above_1")
    assert {key: tuple(of[name] for name in keys) for key, of in counts.items()} == {
        ("images", "test"): (18, 18, 3, 2, 1, 0, 3),
        ("images", "train"): (13, 18, 3, 1, 1, 1, 2),
        ("texts", "test"): (7, 12, 1, 1, 0, 0, 1),
    }
    assert report.answer(found)[0] == "4 of the paper's 30 settings have been run here."
    # Of two studies of a setting the one with more seeds counts, whatever came out of the other.
    (row,) = [row for row in found["settings"] if row["number"] == 5]
    assert row["folders"] == [str(runs / "deep" / "below" / "cifar100"), str(runs / "fewer_seeds")]
    assert row["seeds"] == 3


def test_reduced_and_other_runs_are_listed_under_their_own_name_with_what_differs(runs):
    found = kd_jax.paper([runs]).summary
    others = {each["folder"].removeprefix(f"{runs}/"): each for each in found["others"]}
    assert set(others) == {
        "small",
        "jpeg",
        "epochs",
        "ablation",
        "less_data",
        "another_temperature",
        "teacher_stopped",
        "scratch",
        "digits",
    }
    assert {name: each["nearest"] for name, each in others.items()} == {
        "small": 3,
        "jpeg": None,
        "epochs": 3,
        "ablation": 7,
        "less_data": 13,
        "another_temperature": 3,
        "teacher_stopped": 3,
        "scratch": 19,
        "digits": None,
    }
    assert others["jpeg"]["name"].startswith("cifar10_jpeg: ")
    assert others["epochs"]["differs"] == {"epochs": [449, 450]}
    assert others["another_temperature"]["differs"] == {"temperature": [2.0, 4.0]}
    assert others["teacher_stopped"]["differs"] == {"teacher_with": [["epochs=20"], []]}
    assert others["scratch"]["differs"] == {"init_from": ["random weights", "pre-trained weights"]}
    assert others["less_data"]["differs"] == {
        "train examples of the data": [10_000, 100_000],
        "test examples of the data": [1000, 10_000],
        "classes": [20, 200],
    }
    assert others["ablation"]["recipe"] == "cifar100_v2"
    assert {"epochs", "batch_size", "train_examples"} <= set(others["small"]["differs"])
    (unread,) = found["unread"]
    assert unread["folder"] == str(runs / "broken")


def test_what_was_reported_is_data_with_its_source_and_stands_beside_what_was_measured(runs, tmp_path):
    known = {setting.number: setting.reported for setting in SETTINGS.values() if setting.reported}
    assert {number: (of.teacher_accuracy, of.student_accuracy) for number, of in known.items()} == {
        5: (72.52, 74.55),
        9: (69.8, 72.7),
    }
    assert {of.recipe for of in known.values()} == {SETTINGS[5].recipe} == {"cifar_v1"}
    assert [(count.found, count.settings) for count in reported.COUNTS] == [(18, 18), (13, 18), (7, 12)]
    assert "2301.12923" in reported.PAPER
    out = tmp_path / "out"
    found = kd_jax.paper([runs], out=out)
    rows = {row[0].partition(".")[0]: dict(zip(found.table().header, row, strict=True)) for row in found.table().rows}
    assert len(rows) == 30
    assert rows["5"]["reported"] == "+2.03 (72.52 to 74.55)"
    own = numbers({"test": CLEAR, "train": VAGUE})["accuracy_over_teacher", "student", "test", "all"]
    assert rows["5"]["student less teacher"].startswith(f"{100 * np.mean(own):+.2f} [")
    assert rows["1"]["here"] == "not analysed"
    assert rows["2"]["here"] == "not run"
    with open(out / "table.csv", encoding="utf-8") as stream:
        lines = {line["number"]: line for line in csv.DictReader(stream)}
    assert lines["9"]["reported_student_accuracy"] == "72.7"
    assert float(lines["9"]["slope_test_low"]) > 1
    assert lines["9"]["verdict_train"] == "supported"
    assert lines["2"]["command"] == " ".join(SETTINGS[2].command)
    page = (out / "report.html").read_text()
    assert "2301.12923" in page
    assert "../runs/noisy/analysis/report.html" in page
    assert json.loads((out / "summary.json").read_text()) == found.summary


def test_the_cost_of_a_setting_is_its_steps_times_what_xla_counts_and_hours_only_where_speed_was_measured(runs):
    setting = SETTINGS[3]
    cost = reproductions.cost(setting)
    steps = 450 * (50_000 // 1024)
    assert (cost["steps"], cost["examples"]) == (3 * steps, 3 * steps * 1024)
    forward = FORWARD_FLOPS["resnet20", "cifar10"]
    assert cost["flops"] == pytest.approx(steps * 1024 * (3 + 6 + 1) * forward)
    assert cost["hours"] is None
    # A study of the same networks on images of that shape has a speed, though it is none of the settings.
    for arm, speed in {"teacher": 100.0, "onehot": 200.0, "student": 50.0}.items():
        folder = runs / "jpeg" / "runs" / f"{arm}-seed0"
        folder.mkdir(parents=True)
        lines = [{"step": n, "examples_per_second": 1.0 if n == 0 else speed} for n in range(4)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = kd_jax.paper([runs]).summary["settings"]
    (row,) = [row for row in found if row["number"] == 3]
    assert row["cost"]["hours"] == pytest.approx(steps * 1024 * (1 / 100 + 1 / 200 + 1 / 50) / 3600)
    assert row["cost"]["measured_in"] == str(runs / "jpeg")
    # CIFAR-100 has the same shape, other data sets have not.
    assert [row["number"] for row in found if row["status"] != "run" and row["cost"]["hours"]] == [3, 7, 11]


def test_the_command_prints_all_settings_and_the_command_of_each_that_was_not_run(runs, capsys):
    assert cli.main(["paper", str(runs)]) == 0
    text = capsys.readouterr().out
    commands = re.sub(r" \\\n +", " ", text)
    for setting in SETTINGS.values():
        assert setting.name in text
        assert (" ".join(setting.command) in commands) == (setting.number not in (5, 9, 10, 19))
    assert text.lstrip().startswith("4 of the paper's 30 settings have been run here.")
    assert cli.main(["paper", str(runs), "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_place_that_is_no_folder_is_one_line_and_exit_2(tmp_path, capsys):
    for words in ([str(tmp_path / "none")], [str(tmp_path), f"--out={__file__}"]):
        assert cli.main(["paper", *words]) == 2
        assert re.fullmatch(r"\S+: expected a folder.*\n", capsys.readouterr().err)


def test_without_any_run_all_is_not_run(tmp_path):
    found = kd_jax.paper([tmp_path])
    assert {row["status"] for row in found.summary["settings"]} == {"not run"}
    assert "0 of the paper's 30 settings" in str(found)
