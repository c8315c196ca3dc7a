"""What trackers of experiments are told, read back with their own libraries where those are installed."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kd_jax.config import Study, to_json
from kd_jax.errors import BadInput
from kd_jax.plan import make_plan
from kd_jax.studies import prepare, trackers
from kd_jax.studies import train as train_stage
from kd_jax.train import loop
from kd_jax.workdir import metrics_file
from tests.studies.test_train import STUDY as WHOLE

STUDY = Study.from_flags(
    dataset="digits", train_examples=80, test_examples=40, teacher="mlp_8", student=("mlp_8",), epochs=3, batch_size=40
)
RUN = make_plan(STUDY, 80).runs[0]


def lines(first, last):
    return [
        {"epoch": epoch, "step": 2 * epoch, "train_loss": 1 / epoch, "test_accuracy": 0.5, "note": "not a number"}
        for epoch in range(first, last + 1)
    ]


def interrupted(kind, workdir):
    """A run whose third epoch is lost: it is killed after it, and goes on from the end of the second."""
    for start, of_program in ((0, lines(1, 3)), (4, lines(3, 5))):
        tracker = kind(workdir, "tested", to_json(STUDY), RUN)
        tracker.start(RUN, start)
        for line in of_program:
            tracker.epoch(line)
    tracker.end(10)


def test_tensorboard_reads_every_epoch_once_though_a_run_was_killed_and_went_on(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupted(trackers.TensorBoard, tmp_path)
    found = EventAccumulator(str(tmp_path / "tensorboard" / "teacher-seed0"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == {"epoch", "train_loss", "test_accuracy"}
    losses = [(event.step, event.value) for event in found.Scalars("train_loss")]
    assert losses == [(2 * epoch, pytest.approx(1 / epoch)) for epoch in range(1, 6)]
    (parameters,) = found.Tensors("parameters")
    text = parameters.tensor_proto.string_val[0].decode()
    assert '| student | ["mlp_8"] |' in text
    assert '| arm | "teacher" |' in text


def test_tensorboard_has_the_numbers_of_metrics_jsonl(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    devices = jax.devices()[:1]
    prepared = prepare.prepare("tested", STUDY, tmp_path, "unused", devices)
    train_stage.train_prepared(prepared, devices, sinks=trackers.sinks(["tensorboard"], prepared))
    for run in prepared.plan.runs:
        found = EventAccumulator(str(tmp_path / "tensorboard" / run.name))
        found.Reload()
        for line in metrics_file.read(tmp_path / "runs" / run.name):
            for key in set(line) - {"step"}:
                (value,) = [event.value for event in found.Scalars(key) if event.step == line["step"]]
                np.testing.assert_allclose(value, line[key], rtol=1e-6)


def test_mlflow_has_every_epoch_once_and_the_parameters(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    store = f"file://{tmp_path / 'store'}"
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    interrupted(trackers.MLflow, tmp_path)
    client = MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name("kd_jax/tested").experiment_id])
    history = sorted((metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "train_loss"))
    assert history == [(2 * epoch, 1 / epoch) for epoch in range(1, 6)]
    assert (run.data.params["dataset"], run.data.params["student"]) == ("digits", '["mlp_8"]')
    assert (run.info.run_name, run.info.status) == ("teacher-seed0", "FINISHED")


def test_wandb_writes_offline_to_the_work_folder(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    interrupted(trackers.WandB, tmp_path)
    until = time.monotonic() + 60
    while (size := sum(path.stat().st_size for path in (tmp_path / "wandb").glob("offline-run-*/*.wandb"))) < 1000:
        assert time.monotonic() < until, f"{size} bytes"  # a program of its own writes them
        time.sleep(0.1)


class FakeRun:
    """A run of W&B as far as it is used here: steps that it has are refused, on the server too."""

    def __init__(self):
        self.step, self.logged, self.finished = 0, [], False

    def log(self, numbers, step):
        assert step >= self.step
        self.step = step + 1
        self.logged.append((step, numbers))

    def finish(self):
        self.finished = True


def test_wandb_is_told_every_epoch_once_of_one_run(tmp_path, monkeypatch):
    run, begun = FakeRun(), []

    def init(**settings):
        begun.append(settings)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Settings=lambda **_: None))
    interrupted(trackers.WandB, tmp_path)
    assert [step for step, _ in run.logged] == [2, 4, 6, 8, 10]
    assert run.logged[2][1] == {"epoch": 3, "train_loss": 1 / 3, "test_accuracy": 0.5}
    assert run.finished
    assert begun[0]["id"] == begun[1]["id"]
    assert (begun[0]["name"], begun[0]["config"]["teacher"]) == ("teacher-seed0", "mlp_8")
    other = trackers.WandB(tmp_path / "other", "tested", {}, RUN)
    assert other.identity != begun[0]["id"]


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_a_tracker_that_is_not_installed_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadInput, match=rf"--log={name}: expected the package {name} .*pip install 'kd_jax\[{name}\]'"):
        trackers.check([name])
    extras = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f"\n{name} = [" in extras


def test_a_tracker_that_fails_is_named_once_and_ends_no_training(tmp_path, capsys):
    class Broken(trackers.Tracker):
        name = "broken"

        def open(self, step):
            pass

        def tell(self, step, numbers):
            raise ConnectionError("the server\nis gone")

    devices = jax.devices()[:1]
    train_stage.train(
        "tested",
        STUDY.replaced(epochs=2),
        tmp_path,
        "unused",
        devices,
        sinks=lambda run: [Broken(tmp_path, "tested", {}, run)],
    )
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: --log=broken")]
    assert len(said) == 3
    assert said[0].endswith("failed for teacher-seed0 (ConnectionError: the server); training goes on without it")
    assert len(metrics_file.read(tmp_path / "runs" / "student-seed0")) == 2


def test_a_tracker_that_cannot_be_opened_is_one_line(tmp_path):
    tracker = trackers.Tracker(tmp_path, "tested", json.loads("{}"), RUN)
    with pytest.raises(
        BadInput, match=r"--log=: expected a tracker that takes teacher-seed0, found NotImplementedError"
    ):
        tracker.start(RUN, 0)


def test_a_tracker_named_twice_is_refused():
    with pytest.raises(BadInput, match="--log=json json: expected each tracker once"):
        trackers.check(["json", "json"])


def test_a_tracker_of_experiments_hears_what_is_written(tmp_path):
    class Tracker(loop.Sink):
        def __init__(self, run):
            self.run, self.lines = run, []

        def epoch(self, line):
            self.lines.append(line)

    trackers = []

    def sinks(run):
        trackers.append(Tracker(run))
        return trackers[-1:]

    study = WHOLE.replaced(student=("mlp_8",), epochs=2, seeds=1)
    train_stage.train("tested", study, tmp_path, "unused", jax.devices()[:1], sinks=sinks)
    names = [f"{arm}-seed0" for arm in ("teacher", "onehot", "student", "teacher_twin")]
    assert [tracker.run.name for tracker in trackers] == names
    for tracker in trackers:
        assert tracker.lines == metrics_file.read(tmp_path / "runs" / tracker.run.name)
        assert len(tracker.lines) == 2


@pytest.mark.long
def test_on_several_devices_a_tracker_is_asked_for_once_a_run_too(tmp_path):
    """Whether seeds take devices of their own depends on whether there is one; asking twice would open its files twice."""
    asked = []

    def sinks(run):
        asked.append(run.name)
        return [loop.Sink()]

    study = WHOLE.replaced(student=("mlp_8",), epochs=1, seeds=2)
    train_stage.train("tested", study, tmp_path, "unused", jax.devices()[:2], sinks=sinks)
    assert sorted(asked) == sorted(path.name for path in (tmp_path / "runs").iterdir())
