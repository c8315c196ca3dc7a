"""A program per run, several at once in one work folder: the same study as by one program."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from kd_jax import cli, data
from kd_jax.config import BadInput, Study
from kd_jax.report import again
from kd_jax.studies import batch, train
from kd_jax.studies.prepare import prepare
from kd_jax.workdir import checkpoints, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=120,
    test_examples=60,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=2,
    batch_size=40,
    learning_rate=0.1,
    checkpoints=4,
)
PRESET = cli.Preset(STUDY, STUDY)
RUNS = ["teacher-seed0", "onehot-seed0", "student-seed0"]


def call(workdir, *flags):
    return cli.study_main("tested", "", PRESET, ["--platform=cpu", f"--workdir={workdir}", *flags], prog="tested")


def prepared(workdir, load=data.load):
    return prepare("tested", STUDY, workdir, "unused", jax.devices()[:1], load=load)


def bits(workdir):
    """{run: digest of its last network}"""
    last = {run: max(records.kept_steps(records.run_folder(workdir, run))) for run in RUNS}
    loaded = {run: checkpoints.load_variables(records.run_folder(workdir, run), step) for run, step in last.items()}
    return {run: packing.tree_digest(variables) for run, variables in loaded.items()}


def test_a_list_is_names_alone_teachers_before_students_and_writes_nothing(tmp_path, capsys):
    runs = [f"{arm}-seed{seed}" for seed in (0, 1) for arm in ("teacher", "onehot")]
    assert call(tmp_path / "new", "--list", "--seeds=2") == 0
    assert capsys.readouterr().out.splitlines() == [*runs, "student-seed0", "student-seed1"]
    assert not (tmp_path / "new").exists()
    assert call(tmp_path / "new", "--list", "--ready", "--seeds=2") == 0
    assert capsys.readouterr().out.splitlines() == runs


@pytest.mark.long
def test_programs_that_read_an_empty_folder_keep_what_the_others_wrote_since(tmp_path, capsys):
    load = data.Loader().load
    ready = [prepared(tmp_path, load) for _ in RUNS]
    for name, each in zip(RUNS, ready, strict=True):
        assert train.train_prepared(each, jax.devices()[:1], only=name) == 1
    record = records.read_study(tmp_path)
    variables = checkpoints.load_variables(records.run_folder(tmp_path, "teacher-seed0"), 6)
    assert record["teacher_hash"] == {"teacher-seed0": packing.tree_digest({"params": variables["params"]})}
    assert [entry["only"] for entry in record["history"]] == RUNS
    assert all("ended" in entry for entry in record["history"])
    assert call(tmp_path, "--list") == 0
    assert capsys.readouterr().out == ""
    assert call(tmp_path, "--only=onehot-seed0") == 0
    assert "so are all; the same command without --only analyses them" in capsys.readouterr().out
    assert records.read_study(tmp_path) == record


@pytest.mark.long
def test_programs_at_once_in_one_folder_train_what_one_program_trains(tmp_path):
    """As a scheduler starts them: all that can start, then all that waited; one of them twice."""
    words = (
        "import sys; from kd_jax import cli; from kd_jax.config import Study\n"
        f"study = Study.from_flags(**{vars(STUDY.data) | vars(STUDY.networks) | vars(STUDY.training)!r})\n"
        "sys.exit(cli.study_main('tested', '', cli.Preset(study, study), sys.argv[1:]))"
    )

    def start(workdir, *flags):
        command = [sys.executable, "-c", words, "--platform=cpu", f"--workdir={workdir}", *flags]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=pipe, stderr=pipe, text=True)

    apart, together = tmp_path / "apart", tmp_path / "together"
    whole = start(together)
    for wave in (RUNS[:2] + RUNS[:1], RUNS[2:]):
        programs = [start(apart, f"--only={name}") for name in wave]
        ended = [(program.communicate()[1], program.returncode) for program in programs]
        refused = [said for said, status in ended if status == 2]
        assert {status for _, status in ended} <= {0, 2}, ended
        assert len(refused) <= 1
        assert all("expected a run that nobody trains" in said for said in refused)
    assert not start(apart, "--list").communicate()[0]
    assert start(apart).wait() == 0
    assert whole.wait() == 0
    assert bits(apart) == bits(together)
    assert records.read_study(apart)["teacher_hash"] == records.read_study(together)["teacher_hash"]
    assert {entry["only"] for entry in records.read_study(apart)["history"]} == set(RUNS)
    theirs, ours = (records.read_summary(folder)["estimates"] for folder in (together, apart))
    assert ours == theirs


def test_two_programs_on_one_run_are_refused_and_so_is_one_for_all_beside_one_for_a_run(tmp_path, capsys):
    with records.locked(tmp_path, shared=True), records.locked_run(tmp_path, "onehot-seed0"):
        assert call(tmp_path, "--only=onehot-seed0") == 2
        assert re.fullmatch(r"onehot-seed0 of .*: expected a run that nobody trains, .*\n", capsys.readouterr().err)
        assert call(tmp_path) == 2
        assert "another program is writing it" in capsys.readouterr().err
    with records.locked(tmp_path):
        assert call(tmp_path, "--only=onehot-seed0") == 2
        assert "another program is writing it" in capsys.readouterr().err


def test_changes_of_a_record_by_many_programs_at_once_are_all_kept(tmp_path):
    words = (
        "import sys; from kd_jax.workdir import records\n"
        "for i in range(20):\n"
        "    records.update_study(sys.argv[1], {'study': 's', 'config': {}},"
        " lambda there: there | {f'{sys.argv[2]}-{i}': i})"
    )
    programs = [
        subprocess.Popen([sys.executable, "-c", words, str(tmp_path), str(number)], cwd=Path(__file__).parents[2])
        for number in range(3)
    ]
    assert [program.wait() for program in programs] == [0, 0, 0]
    assert len(records.read_study(tmp_path)) == 2 + 3 * 20


def test_a_program_that_prepared_for_another_study_does_not_go_on_with_this_one(tmp_path):
    ready = prepared(tmp_path)
    other = STUDY.replaced(temperature=7.0)
    train.train_prepared(
        prepare("tested", other, tmp_path, "unused", jax.devices()[:1]), jax.devices()[:1], only="onehot-seed0"
    )
    with pytest.raises(BadInput, match=r"holds a study with temperature=7\.0"):
        train.train_prepared(ready, jax.devices()[:1], only="teacher-seed0")


def test_a_run_of_a_seed_that_was_given_up_is_refused_with_the_reason(tmp_path):
    ready = prepared(tmp_path)
    ready.record["skipped"] = {"0": {"run": "teacher-seed0", "why": "the loss is nan"}}
    with pytest.raises(BadInput, match=r"expected a seed that was not given up; leave it out \(the loss is nan\)"):
        batch.chosen([], "student-seed0", batch.given_up({"": ready}))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--only=studen-seed0"], "did you mean student-seed0?"),
        (["--only=x"], "such as teacher-seed0"),
        (["--only=student-seed0", "--list"], "expected --list or --only, found both"),
        (["--ready"], "expected --list beside it"),
    ],
)
def test_words_that_mean_no_run_are_refused_in_one_line(flags, said, tmp_path, capsys):
    assert call(tmp_path / "new", *flags) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()


FIRST, SECOND = "temperature=1,weight=0.5", "temperature=4,weight=0.5"
SWEEP = ["--sweep", "temperature=1,4", "weight=0.5"]
OF_SWEEP = [f"{FIRST}/{run}" for run in RUNS] + [f"{SECOND}/student-seed0"]


def test_of_a_sweep_what_is_equal_is_listed_once(tmp_path, capsys):
    tmp_path = tmp_path / "new"
    assert call(tmp_path, "--list", *SWEEP) == 0
    assert capsys.readouterr().out.splitlines() == OF_SWEEP
    assert call(tmp_path, f"--only={SECOND}/teacher-seed0", *SWEEP) == 2
    assert f"do --only={FIRST}/teacher-seed0 instead" in capsys.readouterr().err
    assert call(tmp_path, f"--only={SECOND}/student-seed0", *SWEEP) == 2
    assert f"do --only={FIRST}/teacher-seed0 first" in capsys.readouterr().err
    assert not tmp_path.exists()


@pytest.mark.long
def test_a_sweeps_equal_run_is_linked_where_another_variant_wants_it(tmp_path, capsys, no_figures):
    for name in OF_SWEEP:
        capsys.readouterr()
        assert call(tmp_path, "--list", "--ready", *SWEEP) == 0
        assert name in capsys.readouterr().out.splitlines()
        assert call(tmp_path, f"--only={name}", *SWEEP) == 0
    capsys.readouterr()
    assert call(tmp_path, "--list", *SWEEP) == 0
    assert capsys.readouterr().out == ""
    assert call(tmp_path, *SWEEP) == 0
    assert (tmp_path / SECOND / "runs" / "teacher-seed0").is_symlink()
    assert {e["variant"] for e in records.read_summary(tmp_path, of_sweep=True)["estimates"] if "variant" in e} == {
        FIRST,
        SECOND,
    }
    assert len(records.read_study(tmp_path / SECOND)["history"]) == 1


def test_a_page_names_the_command_of_all_programs_once_and_each_with_its_run():
    history = [{"command": "tested", "started": "now", "only": run, "revision": "abc"} for run in RUNS]
    assert again.commands_of(history) == ["tested"]
    facts = again.programs(history)
    assert sum("git revision" in what for what, _ in facts) == 1
    assert ("program 3 of 3, which trained student-seed0 alone, started", "now") in facts


def test_a_command_on_record_has_no_only(tmp_path):
    words = ["--only", "student-seed0", "--seeds=2"]
    assert cli.study.command_line(words, "tested") == "tested --seeds=2"


def test_a_job_knows_the_one_that_it_waits_for(tmp_path):
    jobs = batch.of_study(prepared(tmp_path))
    assert [job.name for job in jobs] == RUNS
    assert [job.waits_for for job in jobs] == ["", "", "teacher-seed0"]
