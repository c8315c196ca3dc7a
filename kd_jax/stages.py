"""The stages of a study: train it, analyse what it left, report. Each starts from what the one before put in the work folder."""

import json
import shutil
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import jax
import numpy as np

from kd_jax import config, data, extract, extract_function, findings, initial, models, runs
from kd_jax.analysis import eigen, functions, summary, verdicts
from kd_jax.config import BadInput, versions
from kd_jax.data.tokens import Given
from kd_jax.progress import Progress
from kd_jax.report import about, write_report
from kd_jax.train import buckets, engine, epoch
from kd_jax.train import devices as parallel
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


def prepare(name, study, workdir, data_dir, devices, also=()):
    """Check all that can be checked before training, and return (dataset, record for `study.json`). Writes nothing.

    Args:
        name, study, workdir, data_dir, devices, also: as for `train`.

    Raises:
        BadInput: for a study that cannot be done, or not here.
    """
    for model in (study.teacher, *study.student):
        models.check_name(model)
    for arm in config.arms(study):
        parallel.check_batch(config.as_trained(study, arm).batch_size, devices)
    previous = _check_workdir(workdir, name, study)
    given = _given(workdir, previous) if previous else initial.given(study)
    dataset = data.load(study, data_dir, given)
    # So that what cannot be looked at is told now, not after training.
    extract.chosen_layers(study, dataset)
    extract_function.probe(dataset, study.kernel_examples)
    starts = initial.describe(study, dataset)
    return dataset, _record(name, study, dataset, data_dir, devices, previous, also, starts)


def train(name, study, workdir, data_dir, devices, also=()):
    """Train every run of a study that is not done yet.

    Args:
        name: of the study, for `study.json`.
        study: a `Study`.
        workdir: the work folder; made if absent, resumed if it holds the same study.
        data_dir: where the data lies, as `data.load` takes it.
        devices: of `train.devices.select`.
        also: steps at which the teachers are to be kept, besides those that the study asks for.

    Returns:
        How many runs were trained or finished; 0 when all was done already.

    Raises:
        BadInput: before anything is written.
        Stopped: told to stop, saved.
        Diverged: a loss is not finite.
    """
    dataset, record = prepare(name, study, workdir, data_dir, devices, also)
    lengths = _lengths(study, dataset, also)
    with runs.locked(workdir), _stop_requests() as stop:
        todo, done, total = [], 0, 0
        for seed in study.seed_range():
            for arm in config.arms(study):
                steps = lengths[arm.name].total_steps
                total += steps
                if steps in runs.kept_steps(runs.run_folder(workdir, config.run_name(arm, seed))):
                    done += steps
                else:
                    todo.append((arm, seed))
        runs.write_study(workdir, record)
        if dataset.tokens:
            runs.write_tokenizer(workdir, dataset.tokens.tokenizer)
        if not todo:
            return 0
        for line in about.data(record):
            print(line, file=sys.stderr)
        engines = {}
        with Progress(total, done) as progress:
            for arm, seed in todo:
                teacher_model = study.teacher if arm.teacher else None
                own = config.as_trained(study, arm)
                key = arm.model, teacher_model, own
                if key not in engines:
                    start = initial.make(record["init_from"], arm.model)
                    engines[key] = engine.build(own, dataset, arm.model, teacher_model, devices, start)
                teacher = _teacher(workdir, study, arm, seed, record, lengths)
                run = _Run(workdir, own, dataset, arm, seed, lengths[arm.name], progress, stop)
                run.train(engines[key], teacher)
                if teacher is not None:
                    _check_teacher(teacher, config.run_name(config.arms(study)[0], seed), record)
        record["peak_memory"] = parallel.peak_memory(devices)
        runs.write_study(workdir, record)
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


def _lengths(study, dataset, also=()):
    """{arm's name: its `config.Length`}; `also` are further checkpoints of the teacher.

    Raises:
        BadInput: for a teacher that is stopped after its end, or has no whole batch.
    """
    arms, count = config.arms(study), len(dataset.train.y)
    for arm in arms:
        if config.as_trained(study, arm).batch_size > count:
            raise BadInput(f"--teacher_with={config.shown(study.teacher_with)}: expected a batch of at most {count}")
    lengths = {arm.name: config.length(study, arm, count, also if arm.name == "teacher" else ()) for arm in arms}
    total = lengths["teacher"].total_steps
    if study.teacher_step > total:
        raise BadInput(
            f"--teacher_step={study.teacher_step}: expected at most {total}, the steps of a training; pass 0 for the last"
        )
    return lengths


def _given(workdir, record):
    """What the work folder of a study fixes about its tokens; nothing for images."""
    tokens = record["data"].get("tokens", {})
    return Given(runs.read_tokenizer(workdir), tokens.get("vocabulary"), tokens.get("positions"))


def _record(name, study, dataset, data_dir, devices, previous, also, starts):
    lengths = _lengths(study, dataset, also)
    steps_per_epoch, total, checkpoint_steps = lengths["student"]
    if previous is not None and previous["data"]["fingerprint"] != dataset.fingerprint:
        raise BadInput(
            f"--dataset={study.dataset}: its contents changed since this work folder was begun"
            f" (fingerprint {dataset.fingerprint[:12]}, expected {previous['data']['fingerprint'][:12]}); pass another --workdir"
        )
    if previous is not None and previous.get("init_from", {}) != starts:
        raise BadInput(
            f"--init_from={config.shown(study.init_from)}: its weights changed since; pass another --workdir"
        )
    times = descent_times(study, total, checkpoint_steps)
    taught = None
    if times is not None and not study.teacher_with:
        (taught,) = descent_times(study, total, [study.teacher_step or total])
    record = {
        "study": name,
        "config": config.to_json(study),
        "arms": [vars(arm) | lengths[arm.name]._asdict() for arm in config.arms(study)],
        "steps_per_epoch": steps_per_epoch,
        "total_steps": total,
        "checkpoint_steps": checkpoint_steps,
        "descent_times": times,
        "teacher_time": taught,
        "data": {
            "name": dataset.name,
            "data_dir": str(Path(data_dir).expanduser().absolute()),
            "fingerprint": dataset.fingerprint,
            "classes": dataset.classes,
            "train_examples": len(dataset.train.y),
            "test_examples": len(dataset.test.y),
            "test_split": dataset.test_split,
            "wrong_labels": int((dataset.train.y != dataset.train.true_y).sum()),
            **_kind_of_data(study, dataset),
        },
        "parameters": {arm.model: _parameters(study, dataset, arm.model) for arm in config.arms(study)},
        "init_from": starts,
        "teacher_hash": {},
        "platform": {"platform": devices[0].platform, "device": devices[0].device_kind, "devices": len(devices)},
        "versions": versions(),
    }
    if previous is not None:
        # Where and with what it was begun stays on record, and so do the teachers.
        record |= {
            key: previous[key] for key in ("teacher_hash", "platform", "versions", "peak_memory") if key in previous
        }
    return record


def _kind_of_data(study, dataset):
    """What the record says about images, or about texts."""
    if not dataset.tokens:
        shape = list(dataset.train.x.shape[1:])
        return {"image_shape": shape, "mean": dataset.mean.tolist(), "std": dataset.std.tolist()}
    examples = {f"{name}_examples": len(split.y) for name, split in dataset.further.items()}
    lengths = buckets.lengths(dataset.train.x)
    rows = epoch.order(study.seed, 1, 0, len(lengths), study.batch_size, lengths)
    tokens, places = buckets.count(lengths, rows, dataset.tokens.buckets)
    padding = {
        "padding": float(1 - tokens.sum() / places.sum()),
        "padding_uncut": float(1 - tokens.sum() / (rows.size * dataset.tokens.buckets[-1])),
    }
    return {**examples, "tokens": dataset.tokens.facts | padding}


def _parameters(study, dataset, model_name):
    """Number of trainable scalars of a network on this data."""
    model = models.build(model_name, dataset.classes, study.precision, **dataset.build)
    x = jax.ShapeDtypeStruct((1, *dataset.train.x.shape[1:]), np.float32)
    return models.parameter_count(jax.eval_shape(model.init, jax.random.key(0), x).params)


def _teacher(workdir, study, arm, seed, record, lengths):
    """The frozen teacher's variables for an arm, or None. Its hash enters the study's record, or must agree with it."""
    if arm.teacher is None:
        return None
    name = f"{arm.teacher}-seed{seed}"
    step = study.teacher_step or lengths[arm.teacher].total_steps
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

    def __init__(self, workdir, study, dataset, arm, seed, length, progress, stop):
        self.name = config.run_name(arm, seed)
        self.folder = runs.run_folder(workdir, self.name)
        self.study, self.dataset, self.arm, self.seed = study, dataset, arm, seed
        self.length, self.progress, self.stop = length, progress, stop
        self.lengths = buckets.lengths(dataset.train.x) if dataset.tokens else None
        self.rows = lru_cache(maxsize=2)(self._rows)

    def train(self, built, teacher):
        init_key, _ = self._keys(self.arm.init)
        _, view_key = self._keys(self.arm.order)
        feed, *tests = [
            built.place(epoch.Feed(split.x, split.y, view_key, teacher if name == "train" else None))
            for name, split in self.dataset.splits.items()
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        with runs.trajectory(self.folder, write=True) as trajectory, runs.resume(self.folder) as resume:
            fresh = built.start(init_key), built.zero()
            restored = resume.load_newest_like(jax.device_get(fresh))
            state, totals = built.place(restored) if restored is not None else fresh
            step = int(state.step)
            runs.rewind_metrics(self.folder, step)
            self.progress.skip(step)
            self._report(0, step // self.length.steps_per_epoch, None)
            keep = set(self.length.checkpoint_steps)
            if step in keep:
                trajectory.save(step, jax.device_get(state.variables))
            saved = began = paused = time.monotonic()
            for pause in fit(
                state, totals, built.advance, feed, self.rows, self.study.epochs, sorted(keep), built.zero
            ):
                metrics = None
                if pause.ends_epoch:
                    metrics = self._metrics(built, pause, tests, began)
                    runs.append_metrics(self.folder, metrics)
                    began = time.monotonic()
                speed = self._speed(pause.epoch, step, pause.step, time.monotonic() - paused)
                self._report(pause.step - step, pause.epoch, pause.totals, metrics, speed)
                step = pause.step
                if step in keep:
                    trajectory.save(step, jax.device_get(pause.state.variables))
                due = time.monotonic() - saved > RESUME_SECONDS
                if due or self.stop.requested or step == self.length.total_steps:
                    # An epoch that ends here starts again from nothing.
                    sums = built.zero() if pause.ends_epoch else pause.totals
                    resume.save(step, jax.device_get((pause.state, sums)))
                    saved = time.monotonic()
                paused = time.monotonic()
                if self.stop.requested:
                    raise Stopped(f"{self.name} saved at step {step} of {self.length.total_steps}")

    def _keys(self, stream):
        return jax.random.split(jax.random.fold_in(jax.random.key(self.seed), stream))

    def _rows(self, at):
        size = len(self.dataset.train.y)
        return epoch.order(self.seed, self.arm.order, at, size, self.study.batch_size, self.lengths)

    def _count(self, at, start, stop):
        """(tokens, places) in the steps from `start` to `stop` of the run, all of one epoch."""
        first = at * self.length.steps_per_epoch
        rows = self.rows(at)[start - first : stop - first]
        return [int(of.sum()) for of in buckets.count(self.lengths, rows, self.dataset.tokens.buckets)]

    def _speed(self, at, start, stop, seconds):
        """How fast texts went by, for the progress line."""
        return f" {self._count(at, start, stop)[0] / seconds:,.0f} tokens/s" if self.dataset.tokens else ""

    def _metrics(self, built, pause, tests, began):
        seconds = time.monotonic() - began
        totals = jax.device_get(pause.totals)
        test, *further = [built.evaluate(pause.state.variables, feed) for feed in tests]
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
        if built.kd_weight is not None:
            line["kd_weight"] = built.kd_weight(pause.step - 1)
        for name, found in zip(self.dataset.further, further, strict=True):
            line[f"{name}_loss"] = float(found["loss"] / found["count"])
            line[f"{name}_accuracy"] = float(found["correct"] / found["count"])
        if self.dataset.tokens:
            tokens, places = self._count(pause.epoch, pause.step - self.length.steps_per_epoch, pause.step)
            line["tokens_per_second"] = tokens / int(totals["count"]) * line["examples_per_second"]
            line["padding"] = 1 - tokens / places
        if not np.isfinite(line["train_loss"]):
            raise Diverged(
                f"{self.name}: the loss is {line['train_loss']} in epoch {line['epoch']}; lower --learning_rate or raise --warmup"
            )
        return line

    def _report(self, steps, at, totals, metrics=None, speed=""):
        detail = f"epoch {at + 1 if totals else at}/{self.study.epochs}"
        if totals is not None:
            totals = jax.device_get(totals)
            detail += f" loss {totals['loss'] / totals['count']:.3f} accuracy {totals['correct'] / totals['count']:.3f}"
        if metrics is not None:
            detail += f" test {metrics['test_accuracy']:.3f}"
        detail += speed
        last = metrics is not None and metrics["step"] == self.length.total_steps
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


def open_study(workdir, data_dir=None):
    """Return (record, study, dataset) of a work folder.

    Args:
        workdir: the work folder.
        data_dir: where the data lies now; by default where it lay when the study was trained.

    Raises:
        BadInput: when there is no study, or the data is absent or not the same.
    """
    record = runs.read_study(workdir)
    study = config.from_json(record["config"])
    set_precision(study)
    dataset = data.load(study, data_dir or record["data"]["data_dir"], _given(workdir, record))
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


def analyze(workdir, data_dir=None, look=None):
    """Recompute every number and figure of a work folder from its checkpoints, and return `summary.json`'s contents.

    Args:
        workdir: the work folder.
        data_dir: as `open_study`.
        look: {name: value} of `config.LOOKED_AT`, instead of the study's own.

    Raises:
        BadInput: as `open_study`; or when a run is not finished, or another program works in the folder.
    """
    record, study, dataset = open_study(workdir, data_dir)
    study = replace(study, **look or {})
    with runs.locked(workdir):
        return _analyze(workdir, record | {"config": config.to_json(study)}, study, dataset)


def _analyze(workdir, record, study, dataset):
    arms, seeds = config.arms(study), list(study.seed_range())
    lengths = _lengths(study, dataset)
    unfinished = [
        config.run_name(arm, seed)
        for arm in arms
        for seed in seeds
        if lengths[arm.name].total_steps not in runs.kept_steps(runs.run_folder(workdir, config.run_name(arm, seed)))
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

        last = {name: length.total_steps for name, length in lengths.items()}
        pairs = extract.logit_pairs(workdir, study, dataset, last, seeds, advance)
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
