"""`--config`: settings from a file, flags beside it, and a study again from its own record."""

import json
from pathlib import Path

import pytest
import yaml

from kd_jax.cli import commands, config_file, study
from kd_jax.config import BadInput, Study, from_json, to_json
from kd_jax.recipes.studies import Preset

PRESET = Preset(Study.from_flags(dataset="digits", epochs=7, seeds=3), Study.from_flags(dataset="digits", epochs=2))
EVERYTHING = Study.from_flags(
    dataset="digits",
    student=("mlp_8", "mlp_4"),
    decay_at=(0.5, 0.75),
    pairs=((0, 3), (0, 5)),
    teacher_with=("epochs=3",),
    precision="float64",
    seeds=4,
)


def parsed(words, preset=PRESET, flag=None):
    return study._parsed(words, "", preset, flag, None)[1]


def written(tmp_path, values, name="study.json"):
    path = tmp_path / name
    path.write_text((yaml.safe_dump if name.endswith("yaml") else json.dumps)(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["study.json", "study.yaml"])
def test_every_setting_can_come_from_a_file(tmp_path, name):
    path = written(tmp_path, to_json(EVERYTHING), name)
    assert parsed([f"--config={path}"]) == EVERYTHING


def test_a_file_stands_between_the_preset_and_the_flags(tmp_path):
    path = written(tmp_path, {"epochs": 5, "temperature": 2})
    found = parsed(["--config", str(path), "--temperature=3"])
    assert (found.training.epochs, found.distillation.temperature, found.seeds) == (5, 3.0, 3)
    assert parsed([f"--config={path}", "--small"]).training.epochs == 5


def test_a_file_may_choose_the_recipe(tmp_path):
    presets = {"short": Preset(Study(), Study()), "long": Preset(PRESET.full, PRESET.small)}
    path = written(tmp_path, {"recipe": "long", "seeds": 2})
    found = parsed([f"--config={path}"], presets, "recipe")
    assert (found.training.epochs, found.seeds) == (7, 2)
    assert parsed([f"--config={path}", "--recipe=short"], presets, "recipe").training.epochs == Study().training.epochs


def test_what_yaml_takes_for_something_else_is_what_was_meant(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("learning_rate: 1e-2\nweight_decay: 5E-4\nteacher_table: on\n", encoding="utf-8")
    found = parsed([f"--config={path}"])
    assert (found.training.learning_rate, found.training.weight_decay) == (0.01, 5e-4)
    assert found.distillation.teacher_table == "on"
    path.write_text("teacher_table: off\n", encoding="utf-8")
    assert parsed([f"--config={path}"]).distillation.teacher_table == "off"
    for wrong in ("learning_rate: 1e-2x", "learning_rate: nan", "augment: off", "learning_rate: '0.1'"):
        path.write_text(wrong, encoding="utf-8")
        with pytest.raises(BadInput, match=r"expected (a number|one of)"):
            parsed([f"--config={path}"])


def test_whole_numbers_stand_for_floats():
    assert config_file._fitted(float, 2) == 2.0
    assert isinstance(config_file._fitted(float, 2), float)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": 3}, "found epoch; did you mean epochs?"),
        ({"epochs": "3"}, 'epochs: expected a whole number, found "3"'),
        ({"epochs": True}, "epochs: expected a whole number, found true"),
        ({"epochs": 1.5}, "epochs: expected a whole number, found 1.5"),
        ({"student": "mlp_8"}, 'student: expected a list, each a word, found "mlp_8"'),
        ({"pairs": [[0, 1, 2]]}, "pairs: expected a list, each 2 values in a list, each a whole number"),
        ({"loss": "hinge"}, "loss: expected one of cross_entropy mse"),
        ({"epochs": 0}, "--epochs=0: expected"),
        ([1], "expected names and values"),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(tmp_path, values, said):
    with pytest.raises(BadInput) as caught:
        parsed([f"--config={written(tmp_path, values)}"])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("a.json", b"epochs: 3"),
        ("a.yaml", b"a: [1"),
        ("absent.json", None),
        ("deep.json", DEEP.encode()),
        ("deep.yaml", DEEP[:2000].encode()),
        ("date.yaml", b"epochs: 2026-13-45"),
        ("latin.json", b'{"dataset": "\xe9"}'),
        ("nul.yaml", b"a: \0"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, contents):
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    with pytest.raises(BadInput) as caught:
        parsed([f"--config={tmp_path / name}"])
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_a_study_is_run_again_from_its_own_record(tmp_path, no_figures):
    words = [
        "--platform=cpu",
        "--small",
        "--seeds=1",
        "--checkpoints=3",
        "--epochs=2",
        "--student=mlp_8",
        "--teacher=mlp_8",
        "--nulls",
    ]
    assert commands.main(["run", "digits_kd", *words, f"--workdir={tmp_path / 'first'}"]) == 0
    record = json.loads((tmp_path / "first" / "study.json").read_text())
    command = record["history"][0]["command"]
    assert command.startswith("kd-jax run digits_kd --platform=cpu")
    path = tmp_path / "first" / "study.json"
    assert commands.main(["run", f"--config={path}", "--platform=cpu", f"--workdir={tmp_path / 'again'}"]) == 0
    again = json.loads((tmp_path / "again" / "study.json").read_text())
    assert from_json(again["config"]) == from_json(record["config"])
    assert again["teacher_hash"] == record["teacher_hash"]


def test_a_file_that_names_no_study_needs_one(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, {"epochs": 3})
    assert commands.main(["run", f"--config={path}"]) == 2
    assert "name the study: kd-jax run STUDY" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_help_shows_how_the_program_was_called(capsys):
    with pytest.raises(SystemExit):
        commands.main(["run", "digits_kd", "--help"])
    assert "usage: kd-jax run digits_kd" in capsys.readouterr().out
