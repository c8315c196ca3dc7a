"""Sweeps: what their words mean, what they share, and what they leave."""

import json
import re

import jax
import pytest

from kd_jax import cli, data
from kd_jax.cli import sweep_words as variants
from kd_jax.config import BadInput, Study
from kd_jax.plan import arms as arms_of
from kd_jax.plan import make_plan, run_key
from kd_jax.studies import sweep, sweep_summary
from kd_jax.workdir import records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=120,
    test_examples=60,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=3,
    batch_size=40,
    learning_rate=0.1,
    optimizer="sgd",
    checkpoints=4,
    seeds=2,
)
PRESET = cli.Preset(STUDY, STUDY)


def call(workdir, *flags, preset=PRESET):
    return cli.study_main("tested", "", preset, ["--platform=cpu", f"--workdir={workdir}", *flags])


def kinds(workdir):
    """{run: whether it was trained there, and not linked}"""
    found = sorted(workdir.glob("*/runs/*"))
    return {f"{run.parent.parent.name}/{run.name}": not run.is_symlink() for run in found}


def test_words_become_variants():
    every = variants.parse(["temperature=1,4", "--weight=0.5,1"])
    assert [v.folder for v in every] == [f"temperature={t},weight={w}" for t in "14" for w in ("0.5", "1")]
    one = variants.parse(["temperature=1,4", "teacher-with=epochs=2,none"], combine="one_by_one")
    assert [v.folder for v in one] == [
        "base",
        "temperature=1",
        "temperature=4",
        "teacher_with=epochs=2",
        "teacher_with=none",
    ]
    (hard, ramp) = variants.parse(["switch=kd:onehot@5,onehot:kd@2.5,ramp=100"])
    assert (hard.values["switch"], ramp.values["switch"]) == ("kd:onehot@5", "onehot:kd@2.5,ramp=100")
    assert ramp.folder == "switch=onehot_kd_2.5,ramp=100"


def test_two_variants_never_share_a_folder_and_names_stay_where_nothing_collides():
    names = variants.folders([{"dataset": "glue/sst2"}, {"dataset": "glue_sst2"}, {"dataset": "GLUE_sst2"}])
    assert names[1] == "dataset=glue_sst2"
    assert len({name.lower() for name in names}) == 3
    assert all(re.fullmatch(r"dataset=(glue|GLUE)_sst2-[0-9a-f]{6}", name) for name in (names[0], names[2]))
    assert variants.folders([{"dataset": "glue/sst2"}, {"dataset": "glue/mnli"}]) == [
        "dataset=glue_sst2",
        "dataset=glue_mnli",
    ]


def test_a_variants_flags_take_the_place_of_those_that_are_there():
    argv = ["--small", "--decay-at", "0.5", "0.75", "--switch=kd:onehot@2", "--epochs", "3"]
    assert variants.words_of(argv, {"decay_at": "0.1 0.2"}) == [
        *("--small", "--switch=kd:onehot@2", "--epochs", "3", "--decay_at", "0.1", "0.2")
    ]
    assert variants.words_of(argv, {"decay_at": "none"})[-1] == "--decay_at"
    assert variants.words_of(argv, {"switch": "none"})[-1] == "--switch="
    assert variants.words_of(argv, {"augment": "none"})[-1] == "--augment=none"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--sweep=temprature=1,2"],
            r"--sweep=temprature=1,2: expected FIELD=VALUE,VALUE,\.\.\. with one of dataset, ",
        ),
        (["--sweep=seeds=1,2"], r"--sweep=seeds=1,2: expected FIELD=VALUE"),
        (["--sweep=temperature"], r"--sweep=temperature: expected values after temperature="),
        (["--sweep=temperature=1,1"], r"expected values after temperature=, each once"),
        (["--sweep", "weight=0,1", "weight=0.5"], r"--sweep=weight=0.5: expected each field once"),
        (["--sweep=temperature=1,-1"], r"--temperature=-1\.0: expected a number above 0"),
        (["--sweep=epochs=2,x"], r"--epochs.*x"),
        (["--sweep=student=mlp_8,mlp_0"], r"model 'mlp_0': expected widths"),
        (["--sweep=batch_size=40,500"], r"--batch_size=500: expected at most the 120"),
        (["--sweep=precision=float32,float64"], r"--sweep=precision: expected float64 in a sweep of its own"),
    ],
)
def test_a_bad_variant_is_one_line_and_nothing_is_written(tmp_path, capsys, flags, said):
    assert call(tmp_path / "work", *flags) == 2
    streams = capsys.readouterr()
    assert streams.err.count("\n") == 1
    assert re.search(said, streams.err), streams.err
    assert not (tmp_path / "work").exists()


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_sweep_trains_what_is_equal_once_and_grows_without_training_again(tmp_path, capsys):
    workdir = tmp_path / "work"
    assert call(workdir, "--sweep", "temperature=1,4", "--seeds=1") == 0
    assert [name for name, own in kinds(workdir).items() if own] == [
        *(f"temperature=1/{arm}-seed0" for arm in ("onehot", "student", "teacher")),
        "temperature=4/student-seed0",
    ]
    before = {run: (run / "metrics.jsonl").stat().st_mtime_ns for run in workdir.glob("*/runs/*")}
    capsys.readouterr()
    assert call(workdir, "--sweep", "temperature=1,4", "--seeds=1") == 0
    assert "all is done already" in capsys.readouterr().out
    assert call(workdir, "--sweep", "temperature=2,4", "--seeds=1") == 0
    new = {name for name, own in kinds(workdir).items() if own and name.startswith("temperature=2")}
    assert new == {"temperature=2/student-seed0"}
    assert all((run / "metrics.jsonl").stat().st_mtime_ns == time for run, time in before.items())
    # Every variant is a work folder of its own, and says the same as one that was trained alone.
    assert call(tmp_path / "alone", "--temperature=2", "--seeds=1") == 0
    linked, alone = (
        json.loads((folder / "analysis" / "summary.json").read_text())["estimates"]
        for folder in (workdir / "temperature=2", tmp_path / "alone")
    )
    assert linked == alone
    found = json.loads((workdir / "analysis" / "summary.json").read_text())
    assert {e["variant"] for e in found["estimates"]} == {"temperature=2", "temperature=4"}
    assert {path.name for path in (workdir / "analysis").iterdir()} >= {
        "table.csv",
        "table.md",
        "report.html",
        "figures",
    }
    page = (workdir / "analysis" / "report.html").read_text()
    assert "The first, temperature=2: digits: 120 training and 60 test examples" in page
    assert 'href="../temperature=4/analysis/report.html"' in page
    assert '<meta name="viewport"' in page
    # Refused: a single study in its folder, and a sweep in that of a single study.
    assert call(workdir) == 2
    assert "holds a sweep" in capsys.readouterr().err
    assert call(tmp_path / "alone", "--sweep=weight=0.5,1") == 2
    assert "holds a single study" in capsys.readouterr().err
    # The analysis alone, from the checkpoints; the report alone.
    (workdir / "analysis" / "summary.json").unlink()
    assert cli.main(["analyze", str(workdir)]) == 0
    assert json.loads((workdir / "analysis" / "summary.json").read_text()) == found
    (workdir / "analysis" / "report.html").unlink()
    assert cli.main(["report", str(workdir)]) == 0
    assert (workdir / "analysis" / "report.html").is_file()


def test_runs_are_one_when_nothing_that_decides_them_differs():
    teacher, onehot, student = arms_of(STUDY)

    def same(arm, **changes):
        return run_key(STUDY, arm, 0) == run_key(STUDY.replaced(**changes), arm, 0)

    for changes in ({"temperature": 2.0}, {"weight": 0.5}, {"switch": "kd:onehot@1"}, {"teacher_step": 3}):
        assert same(teacher, **changes)
        assert same(onehot, **changes)
        assert not same(student, **changes)
    assert not same(teacher, teacher_with=("epochs=2",))
    assert same(onehot, teacher_with=("epochs=2",))
    assert not same(student, teacher_with=("epochs=2",))
    assert same(teacher, teacher_with=("epochs=3",))  # which it has anyway
    assert same(onehot, nulls=("order",), seeds=5, layers=("Dense_0",))
    for changes in ({"label_noise": 0.1}, {"learning_rate": 0.2}, {"epochs": 4}, {"checkpoints": 5}):
        assert not any(same(arm, **changes) for arm in (teacher, onehot, student))


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_switches_are_compared_and_early_stops_share_their_teacher(tmp_path):
    flags = ("--sweep", "teacher_step=0,5", "switch=none,onehot:kd@1", "--weight=0.7")
    assert call(tmp_path / "work", *flags) == 0
    own = [name for name, trained in kinds(tmp_path / "work").items() if trained and "seed0" in name]
    assert sum("teacher" in name.split("/")[1] for name in own) == 1
    assert sum("onehot-seed" in name for name in own) == 1
    assert sum("student" in name for name in own) == 4
    assert 5 in records.kept_steps(tmp_path / "work" / "teacher_step=0,switch=none" / "runs" / "teacher-seed1")
    found = json.loads((tmp_path / "work" / "analysis" / "summary.json").read_text())
    differences = [e for e in found["estimates"] if e["name"] == "gain_difference"]
    assert [(e["variant"], e["against"]) for e in differences] == [
        (f"teacher_step={step},switch=onehot_kd_1", f"teacher_step={step},switch=none") for step in (0, 5)
    ]
    gains = {
        (e["variant"], e["name"]): e["values"]
        for e in found["estimates"]
        if e["name"] == "accuracy_gain" and e["split"] == "test"
    }
    for e in differences:
        a, b = (gains[e[key], "accuracy_gain"] for key in ("variant", "against"))
        assert e["values"] == pytest.approx([x - y for x, y in zip(a, b, strict=True)])
    assert (tmp_path / "work" / "analysis" / "figures" / "switching.png").is_file()
    assert found["answer"][:2] == [verdict["sentence"] for verdict in found["verdicts"]]


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_teacher_that_was_not_kept_where_another_variant_stops_it_is_trained_again_up_to_there(tmp_path):
    """In its own folder, to which the other variant links."""
    flags = ("--seeds=1", "--student=mlp_8")
    assert call(tmp_path / "work", "--sweep=teacher_step=0", *flags) == 0
    assert 7 not in records.kept_steps(tmp_path / "work" / "teacher_step=0" / "runs" / "teacher-seed0")
    assert call(tmp_path / "work", "--sweep=teacher_step=0,7", *flags) == 0
    own = kinds(tmp_path / "work")
    assert own["teacher_step=0/teacher-seed0"]
    assert not own["teacher_step=7/teacher-seed0"]
    assert not own["teacher_step=7/onehot-seed0"]
    assert own["teacher_step=7/student-seed0"]
    assert 7 in records.kept_steps(tmp_path / "work" / "teacher_step=7" / "runs" / "teacher-seed0")


def test_a_link_whose_run_is_gone_is_trained_again(tmp_path):
    workdir = tmp_path / "work"
    (folder := workdir / "temperature=4" / "runs").mkdir(parents=True)
    (folder / "teacher-seed0").symlink_to("../../temperature=1/runs/teacher-seed0")
    sweep._share(workdir, workdir / "temperature=4", make_plan(STUDY, 120), {})
    assert not (folder / "teacher-seed0").is_symlink()


def test_a_sweep_of_another_study_is_refused(tmp_path):
    records.write_json(tmp_path / "sweep.json", {"study": "other", "variants": []})
    with pytest.raises(BadInput, match="holds a sweep of other, expected one of tested"):
        sweep.run(sweep.Sweep("tested", [], tmp_path, None, jax.devices()[:1]))


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_whether_runs_learned_is_read_from_data_and_not_from_the_wording_of_warnings(tmp_path):
    workdir = tmp_path / "work"
    assert call(workdir, "--sweep=weight=0.5,1", "--epochs=8") == 0
    paths = {name: workdir / name / "analysis" / "summary.json" for name in ("weight=0.5", "weight=1")}
    summaries = {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}

    def learned(**changed):
        """Whether each variant's student is taken to have learnt, with such warnings and such records of runs."""
        found = {}
        for name, summary in summaries.items():
            found[name] = {key: value for key, value in (summary | changed).items() if value is not None}
            records.write_json(paths[name], found[name])
        runs = {name: sweep_summary._unlearned(workdir / name, of) for name, of in found.items()}
        return [measured.learned for measured in sweep_summary._measured(sweep.read(workdir), found, runs)]

    student = {"arm": "student", "seed": 1, "reason": "loss_rose", "first": 1.0, "last": 2.0}
    assert learned() == [True, True]
    assert (
        learned(warnings=["student-seed1 did not learn: training loss 1 in the first epoch, 2 in the last"])
        == [True] * 2
    )
    assert learned(unlearned=[student]) == [False, False]
    assert learned(unlearned=[student | {"arm": "onehot_order"}]) == [True, True]
    sweep.report(workdir)
    (first, second) = json.loads((workdir / "analysis" / "summary.json").read_text(encoding="utf-8"))["unlearned"]
    assert (first["variant"], first["arm"]) == ("weight=0.5", "onehot_order")
    assert second == first | {"variant": "weight=1"}
    # Summaries that were written before such records were: the runs are judged anew.
    assert learned(unlearned=None) == [True, True]
    metrics = workdir / "weight=1" / "runs" / "student-seed0" / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    lines[-1]["train_loss"] = lines[0]["train_loss"] + 1
    del lines[-1]["check"]  # earlier versions wrote none
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert learned(unlearned=None) == [True, False]


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("sweep_words", [(), ("--sweep", "temperature=1,4")])
def test_data_is_read_once_by_a_command_however_many_variants_train_and_are_analysed(
    tmp_path, monkeypatch, sweep_words
):
    read, real = [], data._source
    monkeypatch.setattr(data, "_source", lambda *args: read.append(args) or real(*args))
    assert call(tmp_path / "work", "--seeds=1", "--epochs=1", *sweep_words) == 0
    assert len(read) == 1


@pytest.mark.long
def test_figures_of_variants_are_drawn_when_they_are_asked_for_and_then_stay_as_new_as_the_numbers(tmp_path):
    workdir = tmp_path / "work"

    def drawn():
        return {path.parent.parent.name for path in workdir.glob("*/analysis/figures")}

    assert call(workdir, "--sweep", "temperature=1,4", "--seeds=1", "--epochs=1") == 0
    assert list((workdir / "analysis" / "figures").glob("*.png"))
    assert not drawn()
    page = (workdir / "temperature=1" / "analysis" / "report.html").read_text()
    assert "have not been drawn. To draw them, run kd-jax report" in page
    assert 'id="charts"' in page
    assert cli.main(["report", str(workdir / "temperature=1")]) == 0
    assert drawn() == {"temperature=1"}
    assert "asked for" not in (workdir / "temperature=1" / "analysis" / "report.html").read_text()
    assert cli.main(["analyze", str(workdir)]) == 0
    assert drawn() == {"temperature=1"}
    assert cli.main(["report", str(workdir), "--variant_figures"]) == 0
    assert drawn() == {"temperature=1", "temperature=4"}
    assert call(tmp_path / "all", "--sweep", "temperature=1,4", "--seeds=1", "--epochs=1", "--variant_figures") == 0
    assert len(list((tmp_path / "all").glob("temperature=*/analysis/figures/*.png"))) > 2


@pytest.mark.parametrize("what", ["a folder", "a link to itself", "nothing"])
def test_a_sweep_whose_record_is_no_file_is_one_line(tmp_path, what, capsys):
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "summary.json").write_text(json.dumps({"study": {"variants": []}, "estimates": []}))
    if what == "a folder":
        (tmp_path / "sweep.json").mkdir()
    elif what == "a link to itself":
        (tmp_path / "sweep.json").symlink_to("sweep.json")
    assert cli.main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert ("sweep.json" if what != "nothing" else "expected the analysis of a study") in said[0]
