"""Recipes and settings: what they say, that the command line takes them, and that every network they name exists."""

import re
from collections import Counter
from pathlib import Path

import pytest

from kd_jax import cli, models
from kd_jax.cli import study as study_line
from kd_jax.recipes import images as recipes

ROOT = Path(__file__).parents[2]


@pytest.fixture
def studied(monkeypatch):
    """`studied(flags, experiment) -> Study` that an experiment would run, without running it; None where it refuses."""
    asked = []
    monkeypatch.setattr(study_line, "train_and_report", lambda name, session, study, command: asked.append(study))

    def parse(*flags, experiment="cifar_kd"):
        status = cli.run_study(experiment, flags)
        assert status == (0 if asked else 2)
        return asked.pop() if asked else None

    return parse


# ---- recipes


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "rate", "warmup", "decay_by", "decay_at", "weight", "optimizer"),
    [
        ("cifar_v1", 450, 1024, 1.0, 15, 0.1, [200, 300, 400], 1.0, "nesterov"),
        ("cifar100_v2", 200, 128, 0.1, 1, 0.2, [60, 120, 160], 1.0, "nesterov"),
        ("tiny_imagenet", 200, 128, 0.1, 5, 0.1, [75, 135], 1.0, "nesterov"),
        ("imagenet", 90, 1024, 0.4, 5, 0.1, [30, 60, 80], 0.1, "nesterov"),
        ("repdistiller", 240, 64, 0.05, 0, 0.1, [150, 180, 210], 0.9, "sgd"),
    ],
)
def test_recipes_in_epochs(name, epochs, batch, rate, warmup, decay_by, decay_at, weight, optimizer):
    study = recipes.study(name)
    assert (study.training.epochs, study.training.batch_size, study.training.learning_rate) == (epochs, batch, rate)
    assert study.training.warmup * epochs == pytest.approx(warmup)
    assert [share * epochs for share in study.training.decay_at] == pytest.approx(decay_at)
    assert (study.training.decay_by, study.distillation.weight, study.distillation.temperature) == (
        decay_by,
        weight,
        4.0,
    )
    augment = "resized_crop_flip" if name == "imagenet" else "crop_flip"
    assert (study.training.optimizer, study.training.momentum, study.training.weight_decay, study.training.augment) == (
        optimizer,
        0.9,
        5e-4,
        augment,
    )
    assert (study.training.mixup, study.training.cutmix, study.training.label_smoothing, study.distillation.switch) == (
        0,
        0,
        0,
        "",
    )  # off in the paper's settings


@pytest.mark.parametrize(
    ("name", "dataset", "teacher", "student"),
    [
        ("cifar_v1", "cifar10", "resnet56", ("resnet56", "resnet20")),
        ("cifar100_v2", "cifar100", "resnet56", ("resnet56", "resnet20")),
        ("tiny_imagenet", "tiny_imagenet", "resnet50_small", ("resnet50_small", "resnet18_small")),
        ("imagenet", "imagenet2012", "resnet50", ("resnet50", "resnet18")),
        ("repdistiller", "cifar100", "resnet56", ("resnet20",)),
    ],
)
def test_the_data_and_networks_of_recipes(name, dataset, teacher, student):
    study = recipes.study(name)
    assert (study.data.dataset, study.networks.teacher, study.networks.student) == (dataset, teacher, student)
    assert (study.training.loss, study.distillation_loss) == ("cross_entropy", "kd")


def test_the_schedule_of_repdistiller_answers_to_its_old_name_too(studied):
    assert studied("--recipe=crd") == studied("--recipe=repdistiller") == recipes.study("repdistiller")


def test_the_default_of_cifar_kd_is_the_first_recipe_and_small_reduces_each(studied):
    assert studied() == studied("--recipe=cifar_v1") == recipes.study("cifar_v1")
    for name in recipes.RECIPES:
        small, full = studied(f"--recipe={name}", "--small"), recipes.study(name)
        assert small.training.epochs * small.data.train_examples <= 10_000
        assert small.networks.teacher == ("cnn_16x32" if full.data.dataset in recipes.LARGE else "cnn_32x64")
        assert small.networks.student == (small.networks.teacher,)
        assert (small.data.dataset, small.training.optimizer, small.distillation.weight) == (
            full.data.dataset,
            full.training.optimizer,
            full.distillation.weight,
        )


def test_flags_change_a_recipe_and_leave_the_rest_of_it(studied):
    study = studied("--recipe=repdistiller", "--epochs=3", "--dataset", "cifar10", "--switch=kd:onehot@1")
    assert (study.training.epochs, study.data.dataset, study.distillation.switch) == (3, "cifar10", "kd:onehot@1")
    assert (study.training.batch_size, study.training.optimizer, study.distillation.weight) == (64, "sgd", 0.9)


@pytest.mark.parametrize("flags", [["--recipe=nonsense"], ["--recipe", "nonsense", "--small"]])
def test_an_unknown_recipe_is_one_line_that_names_the_known(studied, capsys, flags):
    assert studied(*flags) is None
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--recipe" in error
    assert all(name in error for name in recipes.RECIPES)


# ---- settings


def test_the_settings_are_18_over_the_papers_data_and_networks():
    settings = recipes.SETTINGS
    assert len(settings) == len({" ".join(setting.command) for setting in settings}) == 18
    assert {s.dataset for s in settings} == {"cifar10", "cifar100", "tiny_imagenet", "imagenet2012"}
    assert {s.dataset for s in settings if s.label_noise} == {"cifar100"}
    networks = {name.removesuffix("_small") for s in settings for name in (s.teacher, s.student)}
    assert networks == {"resnet56", "resnet20", "resnet50", "resnet18", "mobilenetv2"}
    for dataset in {s.dataset for s in settings}:
        assert {s.teacher == s.student for s in settings if s.dataset == dataset} == {True, False}
    folders = Counter(word for s in settings for word in s.command if word.startswith("--workdir="))
    assert set(folders.values()) == {1}


@pytest.mark.parametrize("network", sorted({name for s in recipes.SETTINGS for name in (s.teacher, s.student)}))
def test_every_network_of_the_settings_is_known(network):
    assert models.check_name(network) == network


def test_the_commands_of_the_settings_run_what_they_say(studied):
    for setting in recipes.SETTINGS:
        program, run, name, *flags = setting.command
        assert (program, run) == ("kd-jax", "run")
        study, recipe = studied(*flags, experiment=name), recipes.study(setting.recipe)
        assert study == setting.study
        assert (study.data.dataset, study.data.label_noise) == (setting.dataset, setting.label_noise)
        assert (study.networks.teacher, study.networks.student) == (setting.teacher, (setting.student,))
        assert (study.training.epochs, study.training.learning_rate, study.training.decay_at) == (
            recipe.training.epochs,
            recipe.training.learning_rate,
            recipe.training.decay_at,
        )


def test_imagenet_kd_is_of_tiny_imagenet_and_small_reduces_it_further_than_cifar(studied):
    assert studied(experiment="imagenet_kd") == recipes.study("tiny_imagenet")
    small = studied("--small", experiment="imagenet_kd")
    assert (small.data.dataset, small.seeds, small.networks.nulls) == ("tiny_imagenet", 2, ("slower",))
    assert small.training.epochs * small.data.train_examples <= 2500


def test_the_small_imagenet_is_streamed_as_the_whole_is_in_smaller_views(studied):
    small = studied("--recipe=imagenet", "--small", experiment="imagenet_kd")
    assert (small.data.dataset, small.training.augment, small.data.image_size) == (
        "imagenet2012",
        "resized_crop_flip",
        32,
    )


def test_kd_jax_settings_prints_each_setting_and_its_command_in_100_columns(capsys):
    assert cli.main(["settings"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 100
    commands = re.sub(r" \\\n +", " ", text)
    for number, setting in enumerate(recipes.SETTINGS, 1):
        assert " ".join(setting.command) in commands
        (row,) = re.findall(rf"^ *{number}  .*", text, re.M)
        assert [setting.dataset, setting.teacher, setting.student, setting.recipe] == re.sub(
            r" (-|20%) ", " ", row
        ).split()[1:]
    assert "our reconstruction" in re.sub(r"\s+", " ", text)


def test_settings_has_help(capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["settings", "--help"])
    assert leaving.value.code == 0
    assert "the command that runs each" in capsys.readouterr().out
