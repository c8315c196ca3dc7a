"""Recipes of texts and the paper's language settings: what they say, and that the command line takes them."""

import re
from collections import Counter
from pathlib import Path

import pytest

from kd_jax import cli, models
from kd_jax.cli import study as study_line
from kd_jax.recipes import texts as text_recipes
from kd_jax.recipes.images import SETTINGS as OF_IMAGES

ROOT = Path(__file__).parents[2]
EXAMPLES = {  # of the training splits, as published
    "glue/sst2": 67_349,
    "glue/mnli": 392_702,
    "glue/qqp": 363_846,
    "imdb_reviews": 25_000,
    "ag_news_subset": 120_000,
}


@pytest.fixture
def studied(monkeypatch):
    """`studied(*flags) -> Study` that text_kd.py would run, without running it; None where it refuses."""
    asked = []
    monkeypatch.setattr(study_line, "train_and_report", lambda name, session, study, command: asked.append(study))

    def parse(*flags):
        status = cli.run_study("text_kd", flags)
        assert status == (0 if asked else 2)
        return asked.pop() if asked else None

    return parse


@pytest.mark.parametrize("dataset", text_recipes.DATASETS)
def test_fine_tuning_is_25000_steps_of_which_1000_are_warm_up_in_whole_epochs(dataset):
    study = text_recipes.study(dataset, pretrained=True)
    steps = study.training.epochs * (EXAMPLES[dataset] // study.training.batch_size)
    assert abs(steps - 25_000) <= EXAMPLES[dataset] // study.training.batch_size / 2
    assert round(study.training.warmup * 25_000) == 1000
    assert (study.training.batch_size, study.training.learning_rate, study.distillation.weight) == (64, 1e-5, 1.0)
    assert (study.training.optimizer, study.training.decay, study.training.decay_on) == ("adamw", "linear", "kernels")


def test_temperatures_are_those_of_the_protocol():
    found = {dataset: text_recipes.study(dataset).distillation.temperature for dataset in text_recipes.DATASETS}
    assert found == {"glue/sst2": 2, "glue/mnli": 2, "imdb_reviews": 16, "glue/qqp": 1, "ag_news_subset": 1}


def test_the_data_set_chooses_the_recipe_also_in_a_version_or_folder_and_others_take_that_of_sst2(studied):
    assert studied() == text_recipes.study("glue/sst2")
    mnli = text_recipes.study("glue/mnli")
    assert studied("--dataset=glue/mnli") == mnli
    for name in ("glue/mnli:2.0.0", "/somewhere/glue/mnli/2.0.0"):
        study = studied("--dataset", name, "--epochs=2")
        assert (study.data.dataset, study.training.epochs, study.data.max_length) == (name, 2, mnli.data.max_length)
    other = studied("--dataset=glue/cola")
    assert (other.data.dataset, other.distillation.temperature) == (
        "glue/cola",
        text_recipes.study("glue/sst2").distillation.temperature,
    )


def test_weights_ask_for_the_recipe_of_fine_tuning_and_small_for_the_reduced_one(studied):
    for flags in (["--init_from=w"], ["--init-from", "w"]):
        study = studied("--dataset=glue/qqp", *flags, "--seeds=2")
        assert study.networks.init_from == ("w",)
        assert (study.training.learning_rate, study.networks.teacher, study.seeds) == (1e-5, "roberta_base", 2)
    small = studied("--small", "--dataset=imdb_reviews")
    assert (small.data.train_examples, small.networks.teacher, small.data.dataset) == (
        1000,
        "roberta_1x64",
        "imdb_reviews",
    )
    assert small.training.epochs * small.data.train_examples <= 5000


def test_recipes_name_networks_that_exist():
    for dataset in text_recipes.DATASETS:
        for study in (text_recipes.study(dataset), text_recipes.study(dataset, pretrained=True)):
            for name in (study.networks.teacher, *study.networks.student):
                assert models.check_name(name)


def test_the_language_settings_are_12_over_the_papers_data_and_networks(studied):
    settings = text_recipes.SETTINGS
    assert len(settings) == len({" ".join(setting.command) for setting in settings}) == 12
    assert set(Counter(setting.dataset for setting in settings).values()) == {3}
    assert {setting.dataset for setting in settings} == set(text_recipes.DATASETS) - {"glue/sst2"}
    assert {name for s in settings for name in (s.teacher, s.student)} == {
        "roberta_base",
        "roberta_medium",
        "roberta_small",
    }
    for setting in settings:
        program, run, name, *flags = setting.command
        assert (program, run, name) == ("kd-jax", "run", "text_kd")
        study, recipe = studied(*flags), text_recipes.study(setting.dataset, pretrained=True)
        assert study == setting.study
        assert (study.data.dataset, study.networks.teacher, study.networks.student) == (
            setting.dataset,
            setting.teacher,
            (setting.student,),
        )
        assert (study.training.epochs, study.training.learning_rate, study.distillation.temperature) == (
            recipe.training.epochs,
            recipe.training.learning_rate,
            recipe.distillation.temperature,
        )
        assert len(study.networks.init_from) == len({setting.teacher, setting.student})


def test_kd_jax_settings_prints_them_after_those_of_images(capsys):
    assert cli.main(["settings"]) == 0
    text = capsys.readouterr().out
    commands = re.sub(r" \\\n +", " ", text)
    for number, setting in enumerate(text_recipes.SETTINGS, len(OF_IMAGES) + 1):
        assert " ".join(setting.command) in commands
        assert (
            len(re.findall(rf"^ *{number}  {setting.dataset} +{setting.teacher} +{setting.student}$", text, re.M)) == 1
        )
    assert re.sub(r"\s+", " ", text).count("our reconstruction") == 2
