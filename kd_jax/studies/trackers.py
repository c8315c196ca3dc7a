"""Trackers of experiments that a study reports to while it trains: TensorBoard, Weights & Biases, MLflow.

Each is a `train.loop.Sink` made by `--log`. A tracker is told every line of `metrics.jsonl` under its own names, at the step of the
line, and the parameters of the study once. A run that goes on after it was stopped or killed goes on in its tracker too, and no
epoch is there twice. `metrics.jsonl` stays what analysis reads; one that fails on the way is named once, and training goes on.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from kd_jax.config import to_json
from kd_jax.errors import BadInput
from kd_jax.plan import Run
from kd_jax.studies.prepare import Prepared
from kd_jax.train.loop import Sink
from kd_jax.workdir import remote

PROTOS = ("event", "summary", "tensor", "types")
PROJECT = "kd_jax"  # of W&B, and the beginning of the names of experiments in MLflow


class Tracker(Sink):
    """What trackers share: which numbers of a line they are told, and that a failing one ends no training.

    Args:
        workdir: the work folder.
        study: the name of the study.
        parameters: the study's configuration, as JSON values.
        run: the run to track.
    """

    name = ""  # what is typed after --log

    def __init__(self, workdir: Path, study: str, parameters: Mapping[str, Any], run: Run):
        self.workdir, self.study, self.run = workdir, study, run
        self.parameters = {**parameters, "arm": run.arm.name, "model": run.arm.model, "run_seed": run.seed}
        self._works = True

    def open(self, step: int) -> None:
        """Begin the run in the tracker, or go on with it after this many steps."""
        raise NotImplementedError

    def tell(self, step: int, numbers: dict[str, float]) -> None:
        """Tell the tracker the numbers of an epoch that ends at this step."""
        raise NotImplementedError

    def close(self) -> None:
        """Say that the run is finished, and wait until all is written."""
        raise NotImplementedError

    def start(self, run: Run, step: int) -> None:
        """Open the tracker.

        Raises:
            BadInput: when it cannot be opened.
        """
        try:
            self.open(step)
        except Exception as error:  # of libraries, with types of their own
            raise BadInput(
                f"--log={self.name}: expected a tracker that takes {run.name}, found {_line(error)}; mend it or leave out"
                f" --log={self.name}"
            ) from None

    def epoch(self, line: dict[str, Any]) -> None:
        """Pass on the numbers of a line of metrics."""
        numbers = {key: float(value) for key, value in line.items() if key != "step" and isinstance(value, int | float)}
        self._try(lambda: self.tell(line["step"], numbers))

    def end(self, step: int) -> None:
        """Close the tracker."""
        self._try(self.close)

    def _try(self, call: Callable[[], None]) -> None:
        if not self._works:
            return
        try:
            call()
        except Exception as error:
            self._works = False
            message = (
                f"warning: --log={self.name} failed for {self.run.name} ({_line(error)}); training goes on without it"
            )
            print(message, file=sys.stderr, flush=True)

    @property
    def identity(self) -> str:
        """A name of this run of this work folder, the same whenever it goes on; 16 hexadecimal digits."""
        words = f"{remote.shown(str(self.workdir.absolute()))} {self.run.name} {self.run.key}"
        return hashlib.sha256(words.encode()).hexdigest()[:16]


def _line(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


class TensorBoard(Tracker):
    """Writes event files to `WORKDIR/tensorboard/RUN`, by the writer of the package `tensorboard`, which needs no TensorFlow."""

    name = "tensorboard"

    def open(self, step: int) -> None:
        """Begin an event file; TensorBoard drops what earlier files of the run say of later steps."""
        # Their classes are made when they are imported, so a type checker does not see them.
        protos: Any = [import_module(f"tensorboard.compat.proto.{name}_pb2") for name in PROTOS]
        event_pb2, summary_pb2, tensor_pb2, types_pb2 = protos
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = event_pb2.Event, summary_pb2.Summary
        folder = self.workdir / "tensorboard" / self.run.name
        again = folder.is_dir()
        self._writer = EventFileWriter(str(folder))
        if again:
            begin = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._writer.add_event(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=begin))
        else:
            plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name="text")
            text = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[_table(self.parameters).encode()])
            value = self._summary.Value(
                tag="parameters", metadata=summary_pb2.SummaryMetadata(plugin_data=plugin), tensor=text
            )
            self._writer.add_event(event_pb2.Event(wall_time=time.time(), summary=self._summary(value=[value])))
        self._writer.flush()

    def tell(self, step: int, numbers: dict[str, float]) -> None:
        """Write the scalars of an epoch."""
        values = [self._summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


def _table(parameters: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {json.dumps(value)} |" for name, value in parameters.items()]
    return "\n".join(["| parameter | value |", "|---|---|", *rows])


class WandB(Tracker):
    """Reports to Weights & Biases, where the environment says (`WANDB_MODE=offline` writes to the work folder alone)."""

    name = "wandb"

    def open(self, step: int) -> None:
        """Begin a run in the project `kd_jax`, grouped by work folder, or go on with it; it refuses steps that it has."""
        import wandb

        os.makedirs(self.workdir, exist_ok=True)
        self._run = wandb.init(
            project=PROJECT,
            group=f"{self.study} {self.workdir.absolute()}"[-128:],
            name=self.run.name,
            id=self.identity,
            resume="allow",
            dir=str(self.workdir),
            config=self.parameters,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def tell(self, step: int, numbers: dict[str, float]) -> None:
        """Report an epoch, unless the run has that step already."""
        if step >= self._run.step:
            self._run.log(numbers, step=step)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


class MLflow(Tracker):
    """Reports to MLflow: to the server or store that `MLFLOW_TRACKING_URI` names, else to `WORKDIR/mlflow.db`."""

    name = "mlflow"

    def open(self, step: int) -> None:
        """Begin a run in the experiment `kd_jax/STUDY`, or go on with the one that has this run's identity."""
        from mlflow.tracking import MlflowClient

        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.workdir.absolute() / 'mlflow.db'}"
        self._client = MlflowClient(tracking_uri=where)
        title = f"{PROJECT}/{self.study}"
        known = self._client.get_experiment_by_name(title)
        experiment = known.experiment_id if known else self._client.create_experiment(title)
        found = self._client.search_runs([experiment], f"tags.kd_jax_run = '{self.identity}'")
        if found:
            self._id = found[0].info.run_id
            history = self._client.get_metric_history(self._id, "epoch")
            self._reached = max((metric.step for metric in history), default=-1)
            return
        tags = {"kd_jax_run": self.identity, "workdir": remote.shown(str(self.workdir.absolute()))}
        self._id = self._client.create_run(experiment, run_name=self.run.name, tags=tags).info.run_id
        self._reached = -1
        for name, value in self.parameters.items():
            self._client.log_param(self._id, name, json.dumps(value) if isinstance(value, list) else value)

    def tell(self, step: int, numbers: dict[str, float]) -> None:
        """Report an epoch, unless the run has that step already."""
        if step <= self._reached:
            return
        now = int(1000 * time.time())
        for name, number in numbers.items():
            self._client.log_metric(self._id, name, number, timestamp=now, step=step)

    def close(self) -> None:
        """Say that the run is finished."""
        self._client.set_terminated(self._id)


TRACKERS: dict[str, type[Tracker]] = {each.name: each for each in (TensorBoard, WandB, MLflow)}


def check(names: Sequence[str]) -> None:
    """Check before anything is written that every tracker named is installed.

    Raises:
        BadInput: for a package that is not installed, or a name given twice.
    """
    for name in names:
        if list(names).count(name) > 1:
            raise BadInput(f"--log={' '.join(names)}: expected each tracker once; leave one {name} out")
        try:
            import_module(name)
        except ImportError as error:
            raise BadInput(
                f"--log={name}: expected the package {name} ({error}); pip install 'kd_jax[{name}]'"
            ) from None


def sinks(names: Sequence[str], prepared: Prepared) -> Callable[[Run], list[Tracker]]:
    """Return `sinks(run)`, as `studies.train.train_prepared` takes it: the trackers of a run.

    Args:
        names: keys of `TRACKERS`, which `check` has passed.
        prepared: the study that is to be trained.
    """
    parameters = to_json(prepared.study)
    kinds = [TRACKERS[name] for name in names]
    return lambda run: [kind(prepared.workdir, prepared.record["study"], parameters, run) for kind in kinds]
