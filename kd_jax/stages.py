"""The stages of a study: train it, analyse what it left, report. Each starts from what the one before put in the work folder."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from kd_jax import config, data, extract, extract_function, findings, initial, models, runs
from kd_jax.analysis import eigen, functions, summary, verdicts
from kd_jax.config import BadInput, versions
from kd_jax.data.tokens import Given
from kd_jax.progress import Progress
from kd_jax.report import about, write_report
from kd_jax.running import Diverged as Diverged
from kd_jax.running import Run, stop_requests
from kd_jax.running import Stopped as Stopped
from kd_jax.train import buckets, engine, epoch
from kd_jax.train import devices as parallel
from kd_jax.train.state import descent_times


def set_precision(study):
    """Switch JAX to 64 bits for a float64 study. Call before the first array is made."""
    jax.config.update("jax_enable_x64", study.precision == "float64")


# ---- train


def prepare(name, study, workdir, data_dir, devices, also=(), workers=0):
    """Check all that can be checked before training, and return (dataset, record for `study.json`). Writes nothing.

    Args:
        name, study, workdir, data_dir, devices, also, workers: as for `train`.

    Raises:
        BadInput: for a study that cannot be done, or not here.
    """
    for model in (study.teacher, *study.student):
        models.check_name(model)
    for arm in config.arms(study):
        parallel.check_batch(config.as_trained(study, arm).batch_size, devices)
    previous = _check_workdir(workdir, name, study)
    given = _given(workdir, previous) if previous else initial.given(study)
    dataset = data.load(study, data_dir, given, workers)
    # So that what cannot be looked at is told now, not after training.
    extract.chosen_layers(study, dataset)
    extract_function.probe(dataset, study.kernel_examples)
    starts = initial.describe(study, dataset)
    return dataset, _record(name, study, dataset, data_dir, devices, previous, also, starts)


def train(name, study, workdir, data_dir, devices, also=(), workers=0):
    """Train every run of a study that is not done yet.

    Args:
        name: of the study, for `study.json`.
        study: a `Study`.
        workdir: the work folder; made if absent, resumed if it holds the same study.
        data_dir: where the data lies, as `data.load` takes it.
        devices: of `train.devices.select`.
        also: steps at which the teachers are to be kept, besides those that the study asks for.
        workers: processes that decode a streamed set; 0: this one.

    Returns:
        How many runs were trained or finished; 0 when all was done already.

    Raises:
        BadInput: before anything is written.
        Stopped: told to stop, saved.
        Diverged: a loss is not finite.
    """
    dataset, record = prepare(name, study, workdir, data_dir, devices, also, workers)
    lengths = _lengths(study, dataset, also)
    with runs.locked(workdir), stop_requests() as stop:
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
                run = Run(workdir, own, dataset, arm, seed, lengths[arm.name], progress, stop)
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
    dataset = data.load(study, data_dir or record["data"]["data_dir"], _given(workdir, record), workers)
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
