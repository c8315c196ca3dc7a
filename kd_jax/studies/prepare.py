"""Before a study is trained or analysed: check everything that can be checked, load its data, and make its record."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from kd_jax import config, data, models
from kd_jax.config import SCHEMA, Networks, Study, versions
from kd_jax.data import Dataset, Given
from kd_jax.errors import BadInput
from kd_jax.plan import GivenTeacher, Plan, lengths_of, make_plan, seeds_of
from kd_jax.provenance import program
from kd_jax.studies import analyses, arithmetic, networks, pretrained, teachers
from kd_jax.studies.teachers import Found
from kd_jax.train import devices as parallel
from kd_jax.train import engine, hosts
from kd_jax.train.optimizer import descent_times
from kd_jax.workdir import records

Record = dict[str, Any]  # contents of `study.json`


@dataclass(frozen=True)
class Prepared:
    """A study that can be trained or analysed.

    Attributes:
        workdir: the work folder.
        study: the configuration.
        plan: its runs.
        dataset: what it is trained on.
        record: contents of its `study.json`.
        teacher: a teacher that exists already, as it was found; None where teachers are trained, and in a study that was opened.
    """

    workdir: Path
    study: Study
    plan: Plan
    dataset: Dataset
    record: Record
    teacher: Found | None = None


def prepare(
    name: str,
    study: Study,
    workdir: Path | str,
    data_dir: Path | str,
    devices: Sequence[Any],
    also: Iterable[int] = (),
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
    command: str = "",
) -> Prepared:
    """Check everything that can be checked before training, and return what training needs. Writes nothing.

    Where several processes train together, all call it, with the same arguments. Process 0 reads the work folder and the teacher
    that exists already; each reads the data by itself.

    Args:
        name: the name of the study, for `study.json`.
        study: the configuration.
        workdir: the work folder; it may be absent, or hold the same study.
        data_dir: where the data lies, as `data.load` takes it; empty for data that is nowhere on disk.
        devices: the devices that `train.devices.select` returned.
        also: steps at which the teachers, and what stands for them, are to be kept, besides those that the study asks for.
        workers: number of processes that decode a streamed set; 0 for this one.
        load: `data.load`, or a function like it that remembers what it has loaded.
        command: the command line of this program, for `study.json`.

    Raises:
        BadInput: for a study that cannot be done, or not here.
    """
    also = list(also)
    hosts.check_same(
        {
            "the flags": _sha256([name, config.to_json(study), also]),
            "the versions of Python, JAX and the other packages": _sha256(versions()),
        },
        "start the same command in the same environment everywhere",
    )
    asked = study
    study = hosts.told(lambda: teachers.resolved(arithmetic.with_precision(asked, workdir, devices), workdir))
    if study.networks.precision != asked.networks.precision:
        arithmetic.set_precision(study.networks)
    previous = hosts.told(lambda: check_workdir(workdir, name, study))
    arithmetic.use(previous)
    before = hosts.told(lambda: teachers.networks_of(study)) | (previous.get("networks", {}) if previous else {})
    with hosts.each():
        networks.remember(before)
        for model in networks.of(study):
            models.check_name(model)
        for training in (study.training, study.teacher_training):
            parallel.check_batch(training.batch_size, devices)
    fixed = hosts.told(lambda: given_of(workdir, previous) if previous else teachers.tokens(study))
    with hosts.each():
        dataset = load(study.data, data_dir, fixed, workers)
        data.check(dataset, study, networks.has_dropout(study, dataset))
        own = networks.describe(study, dataset)
        networks.check_unchanged(before, own)
        engine.check(study, dataset)
    hosts.check_same(
        {"the data": _sha256([dataset.fingerprint]), "the networks": _sha256(own)},
        "copy the same data, and the same files of networks, to every machine",
    )
    teacher = hosts.told(lambda: teachers.find(study, dataset, workdir, previous))
    begun = lengths_of(previous) if previous else None
    given = teacher.given if teacher else None
    with hosts.each():
        plan = make_plan(study, len(dataset.train.y), also, given, networks.sources(own), begun=begun)
        # What cannot be looked at is refused now, and not after training.
        analyses.check(plan, dataset)
        starts = pretrained.describe(_started_here(study), dataset)
        _check_untrained(study, starts)
    hosts.check_same({"the weights of --init_from": _sha256(starts)}, "copy the same files to every machine")
    record = _record(name, plan, dataset, data_dir, program(devices, command), starts, own)
    if teacher is not None:
        record["teacher_from" if study.distillation.teacher_from else "teacher_logits"] = teacher.record
    if previous is not None:
        record = continued(record, previous)
    return _trained_seeds(Prepared(Path(workdir), study, plan, dataset, record, teacher))


def _trained_seeds(prepared: Prepared) -> Prepared:
    """The study with the runs of those seeds alone that were not given up."""
    plan = prepared.plan.with_seeds(seeds_of(prepared.study, prepared.record))
    return replace(prepared, plan=plan)


def analysable(prepared: Prepared) -> Prepared:
    """Return a study that was trained, with the runs of the seeds that finished in every arm.

    Raises:
        BadInput: when so many seeds were given up that the rest says nothing about seeds.
    """
    if obstacle := too_few_seeds(prepared):
        raise BadInput(f"{prepared.workdir}: {obstacle}")
    return _trained_seeds(prepared)


def too_few_seeds(prepared: Prepared) -> str:
    """Return, in words, why a study of which seeds were given up cannot be analysed; empty where it can.

    Of several seeds, two at least must remain, for intervals are over seeds; of one seed, that one.
    """
    study, given_up = prepared.study, prepared.record.get("skipped", {})
    least, left = min(2, study.seeds), len(seeds_of(study, prepared.record))
    if left >= least:
        return ""
    seed, of = next(iter(given_up.items()))
    return (
        f"expected at least {least} of {study.seeds} seeds that do not diverge, found {left}; pass more --seeds, or train otherwise"
        f" in another --workdir (seed {seed}: {of['why']})"
    )


def _sha256(value: Any) -> str:
    """The sha256, as hex, of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _started_here(study: Study) -> Networks:
    """The networks of a study without a teacher that exists already, which starts from no weights here."""
    networks = study.networks
    return replace(networks, teacher=networks.student[0]) if study.distillation.is_teacher_given else networks


def open_study(
    workdir: Path | str,
    data_dir: Path | str | None = None,
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
    dataset: str = "",
) -> Prepared:
    """Return the study of a work folder.

    Args:
        workdir: the work folder.
        data_dir: where the data lies now; by default where it lay when the study was trained.
        workers, load: as for `prepare`.
        dataset: the name or folder of its data now, where that is another; empty for the study's own.

    Raises:
        BadInput: when there is no study, or the data is absent or not the same.
    """
    record = records.read_study(workdir)
    records.check_links(workdir)
    study = config.from_json(record["config"])
    arithmetic.set_precision(study.networks)
    arithmetic.use(record)
    asked = replace(study.data, dataset=dataset or study.data.dataset)
    if "label" not in record["config"]:
        asked = data.usual_label(asked)
    try:
        found = load(asked, data_dir or record["data"]["data_dir"], given_of(workdir, record), workers)
    except BadInput as error:
        if dataset or not config.is_folder(study.data.dataset):
            raise
        raise BadInput(f"{error}; where the folder lies now, kd-jax analyze --dataset=DIR says") from None
    if found.fingerprint != record["data"]["fingerprint"]:
        raise BadInput(
            f"{found.name}: fingerprint {found.fingerprint[:12]}, expected {record['data']['fingerprint'][:12]},"
            " the data of this study; name its --data_dir, or its folder with --dataset=DIR"
        )
    own = record.get("networks", {})
    networks.remember(own)
    given, trained = GivenTeacher.of(record), lengths_of(record)
    plan = make_plan(study, len(found.train.y), (), given, networks.sources(own), trained)
    # An earlier version has less to say of its arms.
    return _trained_seeds(Prepared(Path(workdir), study, plan, found, record | {"arms": _arms(plan)}))


def given_of(workdir: Path | str, record: Record) -> Given:
    """Return what the work folder of a study fixes about its tokens; for images nothing."""
    tokens = record["data"].get("tokens")
    if tokens is None:
        return Given()
    beside = pretrained.tokenizer_of(config.from_json(record["config"]).networks.init_from)
    place = str(Path(workdir) / "tokenizer.json")
    return Given(records.read_tokenizer(workdir), tokens["vocabulary"], tokens["positions"], beside, place)


def check_workdir(workdir: Path | str, name: str, study: Study) -> Record | None:
    """Return the record of the study that the folder holds, or None; it may lack seeds of this one, but not have others.

    Args:
        workdir: the work folder.
        name, study: the study that is to use it.

    Raises:
        BadInput: when it holds another study, or seeds that this one lacks.
    """
    record = records.check_workdir(workdir, name, study.identity(), lambda values: config.from_json(values).identity())
    records.check_links(workdir)
    if record is not None:
        old = config.from_json(record["config"])
        if not set(old.seed_range()) <= set(study.seed_range()):
            raise BadInput(
                f"--workdir={workdir}: holds seeds {old.seed} to {old.seed + old.seeds - 1}, expected those and possibly"
                f" more; pass --seed={old.seed} --seeds={old.seeds} or more, or another --workdir"
            )
    return record


def _check_untrained(study: Study, starts: dict[str, Any]) -> None:
    """Refuse a teacher that is not trained and starts at random; one of one's own may bring its weights along."""
    teacher, given = study.networks.teacher, study.distillation.is_teacher_given
    if not (study.teacher_training.epochs or given or teacher in starts or models.is_foreign(teacher)):
        raise BadInput(
            f"--teacher_with={config.shown(study.distillation.teacher_with)}: expected at least an epoch, for {teacher} starts at"
            " random; pass its weights with --init_from"
        )


def _record(
    name: str,
    plan: Plan,
    dataset: Dataset,
    data_dir: Path | str,
    here: Record,
    starts: dict[str, Any],
    own: dict[str, dict[str, str]],
) -> Record:
    study = plan.study
    students = plan.length("student")
    times = descent_times(study.training, students.total_steps, students.checkpoint_steps)
    alike = study.teacher_training == study.training and plan.given is None
    taught = descent_times(study.training, students.total_steps, [plan.teacher_step]) if alike else None
    return {
        "schema": SCHEMA,
        "study": name,
        "config": config.to_json(study),
        "arms": _arms(plan),
        "steps_per_epoch": students.steps_per_epoch,
        "total_steps": students.total_steps,
        "checkpoint_steps": students.checkpoint_steps,
        "descent_times": times,
        "teacher_time": taught[0] if taught else None,
        "data": {
            "data_dir": str(Path(data_dir).expanduser().absolute()) if data_dir else "",
            **dataset.facts(study.seed, study.training.batch_size),
        },
        "parameters": {arm.model: _parameters(study, dataset, arm.model) for arm in plan.arms},
        "keys": {run.name: run.key for run in plan.runs if run.source is None},
        "init_from": starts,
        **({"networks": own} if own else {}),
        "teacher_hash": {},
        "arithmetic": arithmetic.described(),
        **{key: here[key] for key in ("platform", "versions")},
        "history": [here],
    }


def _arms(plan: Plan) -> list[dict[str, Any]]:
    return [vars(arm) | plan.length(arm.name)._asdict() for arm in plan.arms]


def continued(record: Record, previous: Record) -> Record:
    """The record of a study that continues one on record: where that was begun stays, and so do its teachers.

    Raises:
        BadInput: when data or pre-trained weights have changed since.
    """
    if previous["data"]["fingerprint"] != record["data"]["fingerprint"]:
        raise BadInput(
            f"--dataset={record['config']['dataset']}: its contents changed since this work folder was begun (fingerprint"
            f" {record['data']['fingerprint'][:12]}, expected {previous['data']['fingerprint'][:12]}); pass another --workdir"
        )
    if previous.get("init_from", {}) != record["init_from"]:
        folders = config.shown(tuple(record["config"]["init_from"]))
        raise BadInput(f"--init_from={folders}: its weights changed since; pass another --workdir")
    begun = {key: previous[key] for key in ("platform", "versions", "arithmetic") if key in previous}
    kept = {
        key: previous[key]
        for key in ("teacher_hash", "teacher_tables", "peak_memory", "pruned", "skipped")
        if key in previous
    }
    # A run keeps the key under which it was begun: a later version may make another of the same configuration.
    keys = record["keys"] | {run: key for run, key in previous.get("keys", {}).items() if run in record["keys"]}
    return record | begun | kept | {"keys": keys, "history": [*previous.get("history", [begun]), *record["history"]]}


def _parameters(study, dataset, model_name):
    """Number of trainable scalars of a network on this data."""
    model = models.build(model_name, dataset.classes, study.networks.precision, **dataset.network_settings)
    return models.parameter_count(jax.eval_shape(model.init, jax.random.key(0), dataset.example()).params)
