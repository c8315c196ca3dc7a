"""What is pruned is gone and known to be gone: nothing is trained again, and analysis goes on with what there is."""

import io
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kd_jax import cli
from kd_jax.config import Study
from kd_jax.errors import BadInput
from kd_jax.plan import Variant, checkpoint_steps
from kd_jax.studies import analyse, footprint, prepare, prune, sweep, sweep_summary
from kd_jax.studies import train as train_stage
from kd_jax.studies.progress import Progress
from kd_jax.workdir import checkpoints, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=200,
    test_examples=100,
    teacher="mlp_8",
    student=("mlp_8",),
    epochs=4,
    batch_size=40,
    learning_rate=0.05,
    checkpoints=8,
    teacher_step=7,
)
ASKED = checkpoint_steps(20, 8)
RUNS = ("teacher-seed0", "onehot-seed0", "student-seed0")


def train(study, workdir):
    return train_stage.train("tested", study, workdir, "unused", jax.devices()[:1])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A trained and analysed study."""
    patch = pytest.MonkeyPatch()
    patch.setattr(analyse, "write_report", lambda workdir, folder, *_: (folder / "report.html").write_text(""))
    workdir = tmp_path_factory.mktemp("done") / "study"
    train(STUDY, workdir)
    summary = analyse.analyze(workdir)
    patch.undo()
    return workdir, summary


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done[0], tmp_path / "copy")
    return tmp_path / "copy"


def files(folder):
    return {str(path.relative_to(folder)): path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()}


def of_final_networks(summary):
    along = ("step_", "share_", "forgetting_events")  # of examples, at the checkpoints that there are
    return [e for e in summary["estimates"] if "layer" not in e and not e["name"].startswith(along)]


@pytest.mark.usefixtures("no_figures")
def test_every_second_step_and_both_ends_and_the_teaching_step_are_kept(done, copy):
    """Final networks give the same numbers, the curves go through fewer points, and nothing is trained again."""
    before = files(copy / "runs")
    found = prune.prune(copy, "every=2")
    expected = {*ASKED[::2], 20}
    assert records.kept_steps(copy / "runs" / "student-seed0") == sorted(expected)
    assert records.kept_steps(copy / "runs" / "teacher-seed0") == sorted({*sorted({*ASKED, 7})[::2], 7, 20})
    after = files(copy / "runs")
    assert found.files == len(before) - len(after) > 0
    assert found.bytes == sum(before.values()) - sum(after.values())
    assert not any("/resume/" in name for name in after)
    assert train(STUDY, copy) == 0
    summary = analyse.analyze(copy)
    assert of_final_networks(summary) == of_final_networks(done[1])
    with np.load(copy / "analysis" / "eigen" / "student-seed0-Dense_0.npz") as arrays:
        assert arrays["steps"].tolist() == sorted(expected)
    (warning,) = [said for said in summary["warnings"] if said.startswith("pruned")]
    assert f"(--keep=every=2): trajectories have 5 of {len(ASKED) + 1} checkpoints" in warning
    assert not (copy / "analysis-before-pruning").exists()


@pytest.mark.usefixtures("no_figures")
def test_of_last_steps_alone_what_can_be_computed_is_and_the_earlier_analysis_stays(done, copy):
    assert prune.prune(copy, "last").lost
    assert [records.kept_steps(copy / "runs" / name) for name in RUNS] == [[7, 20], [7, 20], [20]]
    assert train(STUDY, copy) == 0
    summary = analyse.analyze(copy)
    assert of_final_networks(summary) == of_final_networks(done[1])
    assert (done[0] / "analysis" / "eigen").exists() > (copy / "analysis" / "eigen").exists()
    assert any("not followed along training" in said for said in summary["warnings"])
    assert json.loads((copy / "analysis-before-pruning" / "summary.json").read_text()) == done[1]
    # More seeds are trained, and only they.
    assert train(STUDY.replaced(seeds=2), copy) == 3
    assert records.kept_steps(copy / "runs" / "student-seed1") == ASKED
    analyse.analyze(copy)
    assert json.loads((copy / "analysis-before-pruning" / "summary.json").read_text()) == done[1]


@pytest.mark.usefixtures("no_figures")
def test_by_default_nothing_that_analysis_reads_is_taken(done, copy):
    store = copy / "runs" / "onehot-seed0" / "trajectory"
    shutil.copytree(store / "20", store / "6")  # nobody asked for it
    found = prune.prune(copy)
    assert (found.steps, found.states, found.lost) == (1, 3, False)
    assert records.kept_steps(copy / "runs" / "onehot-seed0") == sorted({*ASKED, 7})  # 7: the control of the teacher
    assert analyse.analyze(copy)["estimates"] == done[1]["estimates"]
    again = prune.prune(copy)
    assert (again.steps, again.states, again.files, again.bytes) == (0, 0, 0, 0)


def test_a_dry_run_counts_the_same_and_touches_nothing(copy):
    before = files(copy)
    foretold = prune.prune(copy, "every=3", dry_run=True)
    assert {name: size for name, size in files(copy).items() if name != ".lock"} == before | {} or files(copy) == before
    assert prune.prune(copy, "every=3") == foretold


def test_a_prune_that_is_killed_on_the_way_leaves_a_finished_study_and_goes_on(copy, monkeypatch):
    real, calls = shutil.rmtree, []

    def killed(path, *more, **words):
        if Path(path).name == ".pruned" and Path(path).exists():
            calls.append(path)
            if len(calls) == 3:
                raise KeyboardInterrupt
        return real(path, *more, **words)

    monkeypatch.setattr(prune.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        prune.prune(copy, "last")
    monkeypatch.undo()
    assert train(STUDY, copy) == 0
    for name in RUNS:
        for step in records.kept_steps(copy / "runs" / name):
            checkpoints.load_variables(copy / "runs" / name, step)
    prune.prune(copy, "last")
    assert [records.kept_steps(copy / "runs" / name) for name in RUNS] == [[7, 20], [7, 20], [20]]
    assert not list(copy.glob("runs/*/.pruned"))


def test_a_step_that_is_kept_and_lost_all_the_same_is_trained_again(done, copy):
    prune.prune(copy, "last")
    shutil.rmtree(copy / "runs" / "student-seed0" / "trajectory" / "20")
    with pytest.raises(BadInput, match=r"student-seed0 is not \(its trajectory lacks step 20\)"):
        analyse.analyze(copy)
    assert train(STUDY, copy) == 1
    ends = [checkpoints.load_variables(records.run_folder(workdir, "student-seed0"), 20) for workdir in (done[0], copy)]
    assert packing.tree_digest(ends[0]) == packing.tree_digest(ends[1])


def test_runs_that_are_not_finished_are_left_alone_and_named(copy, capsys):
    shutil.rmtree(copy / "runs" / "student-seed0" / "trajectory" / "20")
    before = files(copy / "runs" / "student-seed0")
    assert cli.main(["prune", str(copy), "--keep=last"]) == 0
    said = capsys.readouterr().out
    assert "left alone, for they are not finished: student-seed0" in said
    assert "what can no longer be computed again" in said
    assert files(copy / "runs" / "student-seed0") == before
    assert records.kept_steps(copy / "runs" / "onehot-seed0") == [7, 20]


@pytest.mark.parametrize("keep", ["first", "every=0", "every=", "every=2.5"])
def test_another_word_is_one_line(copy, capsys, keep):
    before = files(copy)
    assert cli.main(["prune", str(copy), f"--keep={keep}"]) == 2
    error = capsys.readouterr().err
    assert error == f"--keep={keep}: expected last, analysed or every=N of at least 1; pass one such as every=4\n"
    assert files(copy) == before


def test_a_folder_that_is_written_or_holds_no_study_is_one_line(copy, tmp_path):
    with records.locked(copy), pytest.raises(BadInput, match="another program is writing it"):
        prune.prune(copy)
    with pytest.raises(BadInput, match=r"expected a work folder with a study\.json"):
        prune.prune(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_of_a_sweep_a_run_keeps_what_any_of_its_variants_needs(tmp_path, monkeypatch):
    """Variants share the teacher: one is taught by its step 7, the other by its last."""
    monkeypatch.setattr(sweep_summary, "write_report", lambda *_: None)
    base = STUDY.replaced(epochs=2)
    studies = [
        (Variant(f"teacher_step={step}", {"teacher_step": str(step)}), base.replaced(teacher_step=step))
        for step in (7, 0)
    ]

    def run():
        return sweep.run(sweep.Sweep("tested", studies, tmp_path, lambda name: "unused", jax.devices()[:1]))[0]

    assert run() > 0
    with pytest.raises(BadInput, match=f"this is a variant of a sweep.*kd-jax prune {tmp_path}"):
        prune.prune(tmp_path / "teacher_step=7")
    found = prune.prune(tmp_path, "last")
    assert found.steps > 0
    teachers = [tmp_path / variant.folder / "runs" / "teacher-seed0" for variant, _ in studies]
    assert os.path.samefile(*teachers)
    assert records.kept_steps(teachers[0]) == [7, 10]
    assert run() == 0


def test_what_training_will_write_is_said_before_and_is_what_it_writes(tmp_path, capsys):
    train(STUDY, tmp_path / "study")
    said = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("This will keep"))
    folders = [tmp_path / "study" / "runs" / name for name in RUNS]
    steps = sum(len(records.kept_steps(folder)) for folder in folders)
    states = sum(len(list((folder / "resume").glob("[0-9]*"))) for folder in folders)
    assert said.startswith(
        f"This will keep {steps} checkpoints of 3 networks, and up to 6 states to resume from: about "
    )
    written = [size for name, size in files(tmp_path / "study" / "runs").items() if not name.endswith(".jsonl")]
    foretold = int(re.search(r"about (\d+) files", said)[1])
    assert foretold - len(written) == (6 - states) * 8  # of a run this short there is one state
    prepared = prepare.prepare("tested", STUDY, tmp_path / "other", "unused", jax.devices()[:1])
    lacking = [(run, len(run.length.checkpoint_steps)) for run in prepared.plan.runs]
    expected = footprint.of_runs(prepared, lacking)
    assert (expected.checkpoints, expected.files) == (steps, foretold)
    assert 0.8 * sum(written) < expected.bytes < 1.5 * sum(written)  # of so small networks a third are descriptions


def test_a_disk_without_room_is_one_line_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(footprint.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(BadInput, match=r"expected room for \d MB of checkpoints, found 0 MB free; pass fewer"):
        train(STUDY, tmp_path / "below" / "study")
    assert os.listdir(tmp_path) == []


def test_what_is_compiled_is_said_before_it_is(tmp_path):
    stream = io.StringIO()
    progress = partial(Progress, stream=stream)
    train_stage.train("tested", STUDY, tmp_path, "unused", jax.devices()[:1], progress=progress)
    said = [line for line in stream.getvalue().splitlines() if "compiling" in line]
    assert [line.rpartition("] ")[2] for line in said] == ["compiling teacher", "compiling student"]
    assert said[0].startswith("[  0 %]")  # the one-hot run has its teacher's network and training


def test_on_a_terminal_the_bar_says_at_once_what_is_compiled():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with Progress(10, stream=stream) as progress:
        progress.note("compiling teacher")
        assert "compiling teacher   0%" in stream.getvalue().split("\r")[-1]


def test_the_time_left_leaves_out_what_was_waited_for(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("kd_jax.studies.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    with Progress(100, stream=stream) as progress:
        progress.note("compiling teacher", waits=True)
        for at, units in ((600.0, 10), (610.0, 10), (620.0, 10)):
            clock[0] = at
            progress.advance(units, "teacher-seed0", always=True)
    said = stream.getvalue().splitlines()[1:]
    # Ten units took 600 s because of the compiler, then ten take 10 s each time: 80 and 70 of them are left.
    assert said == ["[ 10 %] teacher-seed0", "[ 20 %] teacher-seed0, 1:20 left", "[ 30 %] teacher-seed0, 1:10 left"]
