"""The stages of a study: train it, analyse what it left, report. Each starts from what the one before put in the work folder."""

import json
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np

from kd_jax import config, data, extract, extract_function, findings, models, runs
from kd_jax.analysis import eigen, functions, summary, verdicts
from kd_jax.config import BadInput, versions
from kd_jax.data.order import order
from kd_jax.progress import Progress
from kd_jax.report import write_report
from kd_jax.train import devices as parallel
from kd_jax.train import engine
from kd_jax.train.fit import fit
from kd_jax.train.state import descent_times

RESUME_SECONDS = 30.0  # at most about this much work is lost to a crash


class Stopped(Exception):
    """The program was told to stop and has saved; the same command goes on from there."""


class Diverged(Exception):
    """The loss is no longer a number."""


def set_precision(study):
    """Switch JAX to 64 bits for a float64 study. Call before the first array is made."""
    jax.config.update("jax_enable_x64", study.precision == "float64")


# ---- train


def train(name, study, workdir, data_dir, devices, workers=0):
    """Train every run of a study that is not done yet.

    Args:
        name: of the study, for `study.json`.
        study: a `Study`.
        workdir: the work folder; made if absent, resumed if it holds the same study.
        data_dir: where the data lies, as `data.load` takes it.
        devices: of `train.devices.select`.
        workers: processes that decode a streamed set; 0: this one.

    Returns:
        How many runs were trained or finished; 0 when all was done already.

    Raises:
        BadInput: before anything is written.
        Stopped: told to stop, saved.
        Diverged: a loss is not finite.
    """
    for model in (study.teacher, *study.student):
        models.check_name(model)
    parallel.check_batch(study.batch_size, devices)
    previous = _check_workdir(workdir, name, study)
    dataset = data.load(study, data_dir, workers)
    # So that what cannot be looked at is told now, not after training.
    extract.chosen_layers(study, dataset)
    extract_function.probe(dataset, study.kernel_examples)
    record = _record(name, study, dataset, data_dir, devices, previous)
    with runs.locked(workdir), _stop_requests() as stop:
        total = record["total_steps"]
        todo, done = [], 0
        for seed in study.seed_range():
            for arm in config.arms(study):
                folder = runs.run_folder(workdir, config.run_name(arm, seed))
                if total in runs.kept_steps(folder):
                    done += total
                else:
                    todo.append((arm, seed))
        runs.write_study(workdir, record)
        if not todo:
            return 0
        engines = {}
        with Progress(total * len(config.arms(study)) * study.seeds, done) as progress:
            for arm, seed in todo:
                teacher_model = study.teacher if arm.teacher else None
                key = arm.model, teacher_model, arm.rate
                if key not in engines:
                    scaled = replace(study, learning_rate=arm.rate * study.learning_rate)
                    engines[key] = engine.build(scaled, dataset, arm.model, teacher_model, devices)
                teacher = _teacher(workdir, study, arm, seed, record)
                run = _Run(workdir, study, dataset, arm, seed, record, progress, stop)
                run.train(engines[key], teacher)
                if teacher is not None:
                    _check_teacher(teacher, config.run_name(config.arms(study)[0], seed), record)
    return len(todo)


def _check_workdir(workdir, name, study):
    """Return the record of the study that the folder holds, or None; it may lack seeds of this one, but not have others."""
    record = runs.check_workdir(workdir, name, study.identity(), lambda values: config.from_json(values).identity())
    if record is not None:
        old = config.from_json(record["config"])
        if not set(old.seed_range()) <= set(study.seed_range()):
            raise BadInput(
                f"--workdir={workdir}: holds seeds {old.seed} to {old.seed + old.seeds - 1}, expected those and possibly"
                f" more; pass --seed={old.seed} --seeds={old.seeds} or more, or another --workdir"
            )
    return record


def _record(name, study, dataset, data_dir, devices, previous):
    steps_per_epoch = len(dataset.train.y) // study.batch_size
    total = steps_per_epoch * study.epochs
    if study.teacher_step > total:
        raise BadInput(
            f"--teacher_step={study.teacher_step}: expected at most {total}, the steps of a training; pass 0 for the last"
        )
    if previous is not None and previous["data"]["fingerprint"] != dataset.fingerprint:
        raise BadInput(
            f"--dataset={study.dataset}: its contents changed since this work folder was begun"
            f" (fingerprint {dataset.fingerprint[:12]}, expected {previous['data']['fingerprint'][:12]}); pass another --workdir"
        )
    checkpoint_steps = config.checkpoint_steps(total, study.checkpoints, study.teacher_step)
    record = {
        "study": name,
        "config": config.to_json(study),
        "arms": [vars(arm) for arm in config.arms(study)],
        "steps_per_epoch": steps_per_epoch,
        "total_steps": total,
        "checkpoint_steps": checkpoint_steps,
        "descent_times": descent_times(study, total, checkpoint_steps),
        "data": {
            "name": dataset.name,
            "data_dir": str(Path(data_dir).expanduser().absolute()),
            "fingerprint": dataset.fingerprint,
            "classes": dataset.classes,
            "image_shape": list(dataset.train.x.shape[1:]),
            "train_examples": len(dataset.train.y),
            "test_examples": len(dataset.test.y),
            "test_split": dataset.test_split,
            "wrong_labels": int((dataset.train.y != dataset.train.true_y).sum()),
            "mean": dataset.mean.tolist(),
            "std": dataset.std.tolist(),
        },
        "parameters": {arm.model: _parameters(study, dataset, arm.model) for arm in config.arms(study)},
        "teacher_hash": {},
        "platform": {"platform": devices[0].platform, "device": devices[0].device_kind, "devices": len(devices)},
        "versions": versions(),
    }
    if previous is not None:
        # Where and with what it was begun stays on record, and so do the teachers.
        record |= {key: previous[key] for key in ("teacher_hash", "platform", "versions")}
    return record


def _parameters(study, dataset, model_name):
    """Number of trainable scalars of a network on this data."""
    model = models.build(model_name, dataset.classes, study.precision)
    x = jax.ShapeDtypeStruct((1, *dataset.train.x.shape[1:]), np.float32)
    return models.parameter_count(jax.eval_shape(model.init, jax.random.key(0), x).params)


def _teacher(workdir, study, arm, seed, record):
    """The frozen teacher's variables for an arm, or None. Its hash enters the study's record, or must agree with it."""
    if arm.teacher is None:
        return None
    name = f"{arm.teacher}-seed{seed}"
    step = study.teacher_step or record["total_steps"]
    variables = models.Variables(**runs.load_variables(runs.run_folder(workdir, name), step))
    if name not in record["teacher_hash"]:
        record["teacher_hash"][name] = runs.tree_digest(variables)
        runs.write_study(workdir, record)
    _check_teacher(variables, name, record)
    return variables


def _check_teacher(variables, name, record):
    found, expected = runs.tree_digest(variables), record["teacher_hash"][name]
    if found != expected:
        raise RuntimeError(f"{name} changed: hash {found[:12]}, expected {expected[:12]}")


class _Run:
    """One run: joins training, which knows no disk, to its folder, which knows no training."""

    def __init__(self, workdir, study, dataset, arm, seed, record, progress, stop):
        self.name = config.run_name(arm, seed)
        self.folder = runs.run_folder(workdir, self.name)
        self.study, self.dataset, self.arm, self.seed = study, dataset, arm, seed
        self.record, self.progress, self.stop = record, progress, stop

    def train(self, built, teacher):
        init_key, _ = self._keys(self.arm.init)
        _, view_key = self._keys(self.arm.order)
        train, test = self.dataset.train, self.dataset.test
        rows_of = partial(order, self.seed, self.arm.order, examples=len(train.y), batch_size=self.study.batch_size)
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            built.feed(train, view_key, teacher, rows_of) as feed,
            built.feed(test, view_key) as test_feed,
            runs.trajectory(self.folder, write=True) as trajectory,
            runs.resume(self.folder) as resume,
        ):
            fresh = built.start(init_key), built.zero()
            restored = resume.load_newest_like(jax.device_get(fresh))
            state, totals = built.place(restored) if restored is not None else fresh
            step = int(state.step)
            runs.rewind_metrics(self.folder, step)
            self.progress.skip(step)
            self._report(0, step // self.record["steps_per_epoch"], None)
            keep = set(self.record["checkpoint_steps"])
            if step in keep:
                trajectory.save(step, jax.device_get(state.variables))
            saved = began = time.monotonic()
            for pause in fit(state, totals, built.advance, feed, rows_of, self.study.epochs, sorted(keep), built.zero):
                metrics = None
                if pause.ends_epoch:
                    metrics = self._metrics(built, pause, test_feed, began) | built.speed(feed)
                    runs.append_metrics(self.folder, metrics)
                    began = time.monotonic()
                self._report(pause.step - step, pause.epoch, pause.totals, metrics)
                step = pause.step
                if step in keep:
                    trajectory.save(step, jax.device_get(pause.state.variables))
                due = time.monotonic() - saved > RESUME_SECONDS
                if due or self.stop.requested or step == self.record["total_steps"]:
                    # An epoch that ends here starts again from nothing.
                    sums = built.zero() if pause.ends_epoch else pause.totals
                    resume.save(step, jax.device_get((pause.state, sums)))
                    saved = time.monotonic()
                if self.stop.requested:
                    raise Stopped(f"{self.name} saved at step {step} of {self.record['total_steps']}")

    def _keys(self, stream):
        return jax.random.split(jax.random.fold_in(jax.random.key(self.seed), stream))

    def _metrics(self, built, pause, test_feed, began):
        seconds = time.monotonic() - began
        totals, test = jax.device_get(pause.totals), built.evaluate(pause.state.variables, test_feed)
        line = {
            "epoch": pause.epoch + 1,
            "step": pause.step,
            "learning_rate": built.learning_rate(pause.step - 1),
            "train_loss": float(totals["loss"] / totals["count"]),
            "train_accuracy": float(totals["correct"] / totals["count"]),
            "test_loss": float(test["loss"] / test["count"]),
            "test_accuracy": float(test["correct"] / test["count"]),
            "seconds": seconds,
            "examples_per_second": float(totals["count"] / seconds),
        }
        if not np.isfinite(line["train_loss"]):
            raise Diverged(
                f"{self.name}: the loss is {line['train_loss']} in epoch {line['epoch']}; lower --learning_rate or raise --warmup"
            )
        return line

    def _report(self, steps, at, totals, metrics=None):
        detail = f"epoch {at + 1 if totals else at}/{self.study.epochs}"
        if totals is not None:
            totals = jax.device_get(totals)
            detail += f" loss {totals['loss'] / totals['count']:.3f} accuracy {totals['correct'] / totals['count']:.3f}"
        if metrics is not None:
            detail += f" test {metrics['test_accuracy']:.3f}"
            if "input_wait" in metrics:
                rates = metrics["input_examples_per_second"], metrics["step_examples_per_second"]
                detail += " input {:.0f}/s, steps {:.0f}/s".format(*rates)
        last = metrics is not None and metrics["step"] == self.record["total_steps"]
        self.progress.advance(steps, self.name, detail, always=last)


class _Stop:
    requested = False


@contextmanager
def _stop_requests():
    """Turn the first SIGTERM or SIGINT into a request to save and stop; a second SIGINT interrupts at once."""
    stop = _Stop()

    def request(number, frame):
        stop.requested = True
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


# ---- analyse


def open_study(workdir, data_dir=None, workers=0):
    """Return (record, study, dataset) of a work folder.

    Args:
        workdir: the work folder.
        data_dir: where the data lies now; by default where it lay when the study was trained.
        workers: as `train`.

    Raises:
        BadInput: when there is no study, or the data is absent or not the same.
    """
    record = runs.read_study(workdir)
    study = config.from_json(record["config"])
    set_precision(study)
    dataset = data.load(study, data_dir or record["data"]["data_dir"], workers)
    if dataset.fingerprint != record["data"]["fingerprint"]:
        raise BadInput(
            f"{dataset.name}: fingerprint {dataset.fingerprint[:12]}, expected {record['data']['fingerprint'][:12]},"
            " the data of this study; name its --data_dir"
        )
    return record, study, dataset


def is_analysed(workdir, study):
    """Whether the work folder's analysis is of just this study: its seeds, and what it asks to be looked at."""
    path = Path(workdir) / "analysis" / "summary.json"
    if not (path.is_file() and path.with_name("report.html").is_file()):
        return False
    return config.from_json(json.loads(path.read_text())["study"]["config"]) == study


def analyze(workdir, data_dir=None, look=None, workers=0):
    """Recompute every number and figure of a work folder from its checkpoints, and return `summary.json`'s contents.

    Args:
        workdir: the work folder.
        data_dir: as `open_study`.
        look: {name: value} of `config.LOOKED_AT`, instead of the study's own.
        workers: as `train`.

    Raises:
        BadInput: as `open_study`; or when a run is not finished, or another program works in the folder.
    """
    record, study, dataset = open_study(workdir, data_dir, workers)
    study = replace(study, **look or {})
    with runs.locked(workdir):
        return _analyze(workdir, record | {"config": config.to_json(study)}, study, dataset)


def _analyze(workdir, record, study, dataset):
    arms, seeds = config.arms(study), list(study.seed_range())
    unfinished = [
        name
        for name in (config.run_name(arm, seed) for arm in arms for seed in seeds)
        if record["total_steps"] not in runs.kept_steps(runs.run_folder(workdir, name))
    ]
    if unfinished:
        raise BadInput(f"{workdir}: expected finished runs, {unfinished[0]} is not; run the study's command again")
    chosen = extract.chosen_layers(study, dataset)
    extract_function.probe(dataset, study.kernel_examples)
    # Made beside the old one, which is replaced only by a whole new one.
    folder = Path(workdir) / ".analysis"
    shutil.rmtree(folder, ignore_errors=True)
    for kind in ("pairs", "eigen"):
        (folder / kind).mkdir(parents=True)
    baselines = {arm.name: arm.baseline for arm in arms if arm.baseline}
    references = eigen.references(arms)
    passes = sum(not arm.null_of for arm in arms)
    passes += sum(arm.model == onehot.model for onehot, _ in chosen for arm in arms)
    if study.kernel_examples:
        passes += extract_function.passes(study)
    with Progress(passes * len(seeds)) as progress:

        def advance(label):
            progress.advance(1, "analysing", label)

        pairs = extract.logit_pairs(workdir, study, dataset, record["total_steps"], seeds, advance)
        fitted = []
        estimates = summary.estimates(findings.kept(pairs, folder / "pairs", fitted), baselines)
        growths = list(extract.growths(workdir, study, dataset, seeds, chosen, advance))
        followed, predicted = findings.follow_functions(workdir, study, dataset, seeds, record["total_steps"], advance)
    findings.keep_growths(growths, folder / "eigen")
    findings.keep_functions(followed, predicted, folder / "function")
    by_direction = eigen.estimates(growths, references, study.pairs)
    by_direction += functions.estimates(followed, predicted, arms)
    losses = {
        (arm.name, seed): findings.comparable_losses(
            runs.read_metrics(runs.run_folder(workdir, config.run_name(arm, seed))),
            config.parse_switch(study.switch) if arm.teacher else None,
            record["steps_per_epoch"],
        )
        for arm in arms
        for seed in seeds
    }
    did_not_learn = verdicts.unlearned(losses)
    found = {
        "estimates": [estimate.to_json() for estimate in [*estimates, *by_direction]],
        "verdicts": [
            verdict._asdict()
            for verdict in verdicts.verdicts(estimates, baselines, did_not_learn)
            + verdicts.eigen_verdicts(by_direction, baselines, references, did_not_learn)
            + verdicts.function_verdicts(by_direction, baselines, did_not_learn)
        ],
        "warnings": [*map(str, did_not_learn), *(findings.fully_fitted(fitted) if study.loss == "mse" else [])],
        "study": record,
    }
    runs.write_json(folder / "summary.json", found)
    write_report(workdir, folder)
    final = Path(workdir) / "analysis"
    shutil.rmtree(final, ignore_errors=True)
    folder.rename(final)
    return found
