"""Seeds that are given up: a seed of which a run diverges is named and left out of every arm, and the others are as without it."""

import json

import jax
import numpy as np
import pytest

from kd_jax.config import BadInput, Study, to_json
from kd_jax.errors import Diverged
from kd_jax.plan import NEXT, make_plan, seeds_of
from kd_jax.report import about
from kd_jax.studies import analyse, export, prepare, prune, sweep_summary
from kd_jax.studies import run as run_stage
from kd_jax.studies import train as train_stage
from kd_jax.studies.analyses import confidence
from kd_jax.workdir import records
from tests.studies.test_sweep import PRESET, STUDY, call

pytestmark = pytest.mark.usefixtures("no_figures")
THREE = STUDY.replaced(seeds=3)


@pytest.fixture
def diverging(monkeypatch):
    """`diverging(*runs)`: from then on these runs diverge; it returns the names of all runs that are begun."""
    whole, begun = run_stage.train, []

    def at(*names):
        begun.clear()

        def train(workdir, run, *rest):
            begun.append(run.name)
            if run.name in names or f"{workdir.name}/{run.name}" in names:
                raise Diverged(f"{run.name}: the loss is nan in epoch 2; lower --learning_rate or raise --warmup")
            return whole(workdir, run, *rest)

        monkeypatch.setattr(run_stage, "train", train)
        return begun

    return at


def train(study, workdir, on_nan="skip_seed"):
    return train_stage.train("tested", study, workdir, "unused", jax.devices()[:1], on_nan=on_nan)


def analysed(workdir):
    summary = analyse.analyze(workdir)
    return {tuple(e.get(key) for key in ("name", "arm", "split", "subset", "layer")): e for e in summary["estimates"]}


@pytest.mark.long
def test_a_seed_that_diverges_is_left_out_and_the_others_have_the_numbers_of_the_study_without_it(
    tmp_path, diverging, capsys
):
    train(THREE, tmp_path / "whole")
    begun = diverging("onehot-seed1")
    train(THREE, tmp_path / "skipped")
    kept = [f"{arm}-seed{seed}" for seed in range(3) for arm in ("teacher", "onehot", "student")]
    assert begun == [run for run in kept if run != "student-seed1"]
    assert "seed 1 is given up: onehot-seed1: the loss is nan" in capsys.readouterr().err
    record = records.read_study(tmp_path / "skipped")
    assert list(record["skipped"]) == ["1"]
    assert record["skipped"]["1"]["run"] == "onehot-seed1"
    assert seeds_of(THREE, record) == [0, 2]
    whole, found = analysed(tmp_path / "whole"), analysed(tmp_path / "skipped")
    per_seed = [key for key, each in whole.items() if len(each.get("values", ())) == 3 and key in found]
    assert {key[0] for key in per_seed} >= {"accuracy", "accuracy_gain", "exaggeration_slope", "nll"}
    for key in per_seed:
        # The best epoch of a seed is chosen by the others, and a teacher of the next seed is another one without that seed.
        if key[0] != "accuracy_best_lead" and key[1] != NEXT and key[4] is None:
            assert found[key]["values"] == whole[key]["values"][::2], key
            assert found[key]["count"] == 2
    summary = records.read_summary(tmp_path / "skipped")
    assert any(warning.startswith("1 of 3 seeds diverged") for warning in summary["warnings"])
    assert about.seeds(summary["study"]) == "0 to 2 without 1"
    # The same command again: nothing to train, nothing to analyse, whatever it is to do with the next one.
    begun = diverging()
    for on_nan in ("skip_seed", "stop"):
        assert train(THREE, tmp_path / "skipped", on_nan) == 0
    assert begun == []
    assert analyse.is_analysed(tmp_path / "skipped", THREE, record)
    assert not analyse.is_analysed(tmp_path / "skipped", THREE)  # an analysis with that seed would be another one
    # Other commands of a work folder take it as it is.
    with pytest.raises(BadInput, match="--run=teacher-seed1: expected a seed that was not given up, one of 0, 2"):
        export.export(tmp_path / "skipped", "teacher-seed1", "safetensors")
    assert prune.prune(tmp_path / "skipped").unfinished == ()
    assert (tmp_path / "skipped" / "runs" / "teacher-seed1" / "trajectory").is_dir()
    # More seeds may be asked for later.
    assert train(THREE.replaced(seeds=4), tmp_path / "skipped") == 3
    assert seeds_of(THREE.replaced(seeds=4), records.read_study(tmp_path / "skipped")) == [0, 2, 3]


def test_too_few_seeds_are_refused_in_a_line_before_more_is_trained_and_more_seeds_help(tmp_path, diverging):
    begun = diverging("teacher-seed0")
    said = r"expected at least 2 of 2 seeds that do not diverge, found 1; pass more --seeds.*teacher-seed0: the loss is nan"
    for _ in range(2):
        with pytest.raises(Diverged, match=said):
            train(STUDY, tmp_path)
    assert begun == ["teacher-seed0"]
    with pytest.raises(BadInput, match=said):
        analyse.analyze(tmp_path)
    assert train(THREE, tmp_path) == 6
    assert len(analysed(tmp_path)["accuracy", "student", "test", "all", None]["values"]) == 2


def test_one_seed_that_diverges_leaves_nothing(tmp_path, diverging):
    diverging("student-seed0")
    with pytest.raises(Diverged, match="at least 1 of 1 seeds that do not diverge, found 0"):
        train(STUDY.replaced(seeds=1), tmp_path)


def test_by_default_the_first_run_that_diverges_ends_the_study(tmp_path, diverging):
    begun = diverging("teacher-seed1")
    with pytest.raises(Diverged, match="teacher-seed1"):
        train(THREE, tmp_path, "stop")
    assert begun[-1] == "teacher-seed1"
    assert "skipped" not in records.read_study(tmp_path)


@pytest.mark.long
def test_a_network_of_finite_weights_whose_answers_are_not_gives_its_seed_up(tmp_path, monkeypatch):
    whole = confidence.extract.logit_pairs

    def pairs(*args):
        for pair in whole(*args):
            infinite = (pair.arm, pair.seed, pair.split) == ("student", 1, "train")
            yield pair._replace(student=pair.student + np.inf) if infinite else pair

    monkeypatch.setattr(confidence.extract, "logit_pairs", pairs)
    prepared = prepare.prepare("tested", THREE, tmp_path, "unused", jax.devices()[:1])
    train_stage.train_prepared(prepared, jax.devices()[:1])
    with pytest.raises(Diverged, match=r"student-seed1: its answers to the train examples.*no finite"):
        analyse.analyze_prepared(prepared)
    summary = analyse.analyze_prepared(prepared, on_nan="skip_seed")
    assert summary["study"]["skipped"]["1"]["run"] == "student-seed1"
    assert list(records.read_study(tmp_path)["skipped"]) == ["1"]


def test_the_teacher_of_the_next_seed_is_that_of_the_next_seed_that_finished():
    plan = make_plan(
        Study.from_flags(dataset="digits", teacher="mlp_8", student=("mlp_4",), seeds=4, control="free"), 2000
    )
    arm = next(view for view in plan.views if view.of_next_seed)
    kept = plan.with_seeds([0, 2, 3])
    assert [plan.network(arm, seed)[0].seed for seed in plan.seeds] == [1, 2, 3, 0]
    assert [kept.network(arm, seed)[0].seed for seed in kept.seeds] == [2, 3, 0]


@pytest.mark.long
def test_variants_of_a_sweep_are_paired_by_the_seeds_that_finished_in_all(tmp_path, diverging, capsys):
    diverging("switch=none/student-seed1", "switch=onehot_kd_1/teacher-seed9")
    flags = ("--sweep", "switch=none,onehot:kd@1", "--seeds=3", "--on_nan=skip_seed")
    assert call(tmp_path, *flags, preset=PRESET) == 0
    summary = records.read_summary(tmp_path, of_sweep=True)
    gains = {
        e["variant"]: e["values"]
        for e in summary["estimates"]
        if (e["name"], e.get("split")) == ("accuracy_gain", "test")
    }
    assert {name: len(values) for name, values in gains.items()} == {"switch=none": 2, "switch=onehot_kd_1": 3}
    (found,) = (e for e in summary["estimates"] if e["name"] == "gain_difference")
    np.testing.assert_allclose(found["values"], np.subtract(gains["switch=onehot_kd_1"][::2], gains["switch=none"]))
    assert any("those of all: 0, 2" in warning for warning in summary["warnings"])
    assert "1 of 3 seeds diverged" in capsys.readouterr().out
    assert sweep_summary._common([[0, 1], [2, 3]]) is None
    assert sweep_summary._common([[0], [5]]) == []


@pytest.mark.parametrize("skipped", [[], {"x": {}}, {"1": "nan"}, {"1": {"why": 3}}, None])
def test_a_record_with_other_contents_is_refused_in_a_line(tmp_path, skipped):
    record = {"study": "s", "config": to_json(STUDY), "skipped": skipped}
    (tmp_path / "study.json").write_text(json.dumps(record))
    with pytest.raises(BadInput, match="skipped: expected seeds with the reason why"):
        records.read_study(tmp_path)


def test_metrics_that_end_before_the_last_epoch_are_told(tmp_path):
    train(STUDY.replaced(seeds=1), tmp_path)
    path = tmp_path / "runs" / "student-seed0" / "metrics.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    said = "student-seed0: its metrics.jsonl ends at step 6 of 9, so its later epochs are not known"
    assert analyse.analyze(tmp_path)["warnings"].count(said) == 1
