"""The stages of a study: train it, analyse what it left, report. Each starts from what the one before put in the work folder."""

import sys
from pathlib import Path

import jax
import numpy as np

from kd_jax import config, data, models
from kd_jax.cli.progress import Progress
from kd_jax.config import BadInput, versions
from kd_jax.data.tokens import Given
from kd_jax.plan import arms as arms_of
from kd_jax.plan import make_plan, training_of
from kd_jax.report import about
from kd_jax.studies import analyses
from kd_jax.studies import pretrained as initial
from kd_jax.studies.run import Diverged as Diverged
from kd_jax.studies.run import Stopped as Stopped
from kd_jax.studies.run import Training, stop_requests
from kd_jax.train import buckets, engine, epoch
from kd_jax.train import devices as parallel
from kd_jax.train.state import descent_times
from kd_jax.workdir import checkpoints, records


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
    for arm in arms_of(study):
        parallel.check_batch(training_of(study, arm).batch_size, devices)
    previous = _check_workdir(workdir, name, study)
    given = _given(workdir, previous) if previous else initial.given(study)
    dataset = data.load(study, data_dir, given, workers)
    # So that what cannot be looked at is told now, not after training.
    analyses.check(study, dataset)
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
    plan = make_plan(study, len(dataset.train.y), also)
    with records.locked(workdir), stop_requests() as stop:
        total, done, todo = plan.total_steps, 0, []
        for run in plan.runs:
            if run.length.total_steps in records.kept_steps(records.run_folder(workdir, run.name)):
                done += run.length.total_steps
            else:
                todo.append(run)
        records.write_study(workdir, record)
        if dataset.tokens:
            records.write_tokenizer(workdir, dataset.tokens.tokenizer)
        if not todo:
            return 0
        for line in about.data(record):
            print(line, file=sys.stderr)
        engines = {}
        with Progress(total, done) as progress:
            for run in todo:
                arm, seed = run.arm, run.seed
                teacher_model = study.teacher if arm.teacher else None
                key = arm.model, teacher_model, run.training
                own = study.replaced(**vars(run.training))
                if key not in engines:
                    start = initial.make(record["init_from"], arm.model)
                    engines[key] = engine.build(own, dataset, arm.model, teacher_model, devices, start)
                teacher = _teacher(workdir, run, record)
                Training(workdir, own, dataset, arm, seed, run.length, progress, stop).train(engines[key], teacher)
                if teacher is not None:
                    _check_teacher(teacher, run.taught_by, record)
        record["peak_memory"] = parallel.peak_memory(devices)
        records.write_study(workdir, record)
    return len(todo)


def _check_workdir(workdir, name, study):
    """Return the record of the study that the folder holds, or None; it may lack seeds of this one, but not have others."""
    record = records.check_workdir(workdir, name, study.identity(), lambda values: config.from_json(values).identity())
    if record is not None:
        old = config.from_json(record["config"])
        if not set(old.seed_range()) <= set(study.seed_range()):
            raise BadInput(
                f"--workdir={workdir}: holds seeds {old.seed} to {old.seed + old.seeds - 1}, expected those and possibly"
                f" more; pass --seed={old.seed} --seeds={old.seeds} or more, or another --workdir"
            )
    return record


def _given(workdir, record):
    """What the work folder of a study fixes about its tokens; nothing for images."""
    tokens = record["data"].get("tokens", {})
    return Given(records.read_tokenizer(workdir), tokens.get("vocabulary"), tokens.get("positions"))


def _record(name, study, dataset, data_dir, devices, previous, also, starts):
    plan = make_plan(study, len(dataset.train.y), also)
    steps_per_epoch, total, checkpoint_steps = plan.length("student")
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
        "arms": [vars(arm) | plan.length(arm.name)._asdict() for arm in plan.arms],
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
        "parameters": {arm.model: _parameters(study, dataset, arm.model) for arm in arms_of(study)},
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


def _teacher(workdir, run, record):
    """The frozen teacher's variables for a run, or None. Its hash enters the study's record, or must agree with it."""
    if run.taught_by is None:
        return None
    variables = models.Variables(
        **checkpoints.load_variables(records.run_folder(workdir, run.taught_by), run.teacher_step)
    )
    if run.taught_by not in record["teacher_hash"]:
        record["teacher_hash"][run.taught_by] = checkpoints.tree_digest(variables)
        records.write_study(workdir, record)
    _check_teacher(variables, run.taught_by, record)
    return variables


def _check_teacher(variables, name, record):
    found, expected = checkpoints.tree_digest(variables), record["teacher_hash"][name]
    if found != expected:
        raise RuntimeError(f"{name} changed: hash {found[:12]}, expected {expected[:12]}")
