"""The finished runs of another work folder as teachers: `--teacher_from`. They are copied into the work folder of the study."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax import config
from kd_jax.config import Study
from kd_jax.data import Dataset, Given
from kd_jax.data import tokens as tokenizers
from kd_jax.errors import BadInput, Damaged
from kd_jax.models import Variables
from kd_jax.plan import TEACHER, GivenTeacher, Length, Plan, Run, of_record, training_of
from kd_jax.studies import pretrained
from kd_jax.studies.teachers.found import Found, Record, given_of
from kd_jax.workdir import checkpoints, packing, records


class Source(NamedTuple):
    """What `--teacher_from` names: a work folder, or one run in it.

    Attributes:
        typed: the flag's value.
        folder: the work folder.
        record: contents of its `study.json`.
        run: the run that teaches all seeds; None for the teachers of the study.
    """

    typed: str
    folder: Path
    record: dict[str, Any]
    run: str | None

    @property
    def arm(self) -> dict[str, Any]:
        """The entry in the record of the arm that teaches."""
        name = self.run.rpartition("-seed")[0] if self.run else TEACHER
        arm = next((arm for arm in self.record["arms"] if arm["name"] == name), None)
        if arm is not None and "total_steps" in arm:
            return arm
        if self.run:
            raise _bad(self.typed, f"expected a run of its study, {self.record['study']}; name another")
        raise _bad(
            self.typed, "expected a study with a teacher of its own; name a run of it, such as DIR/runs/student-seed0"
        )


def _bad(typed: str, said: str) -> BadInput:
    return BadInput(f"--teacher_from={typed}: {said}")


def source_of(typed: str) -> Source | None:
    """Return what `--teacher_from` names; None where it is empty, or names nothing that is there."""
    path = Path(typed).expanduser()
    if not typed or not path.exists():
        return None
    if (path / "sweep.json").is_file():
        raise _bad(typed, "expected a single study, this folder holds a sweep; name one of its variants' folders")
    if (path / "study.json").is_file():
        return Source(typed, path, records.read_study(path), None)
    path = path.absolute()
    folder = path.parent.parent
    if path.parent.name == "runs" and (folder / "study.json").is_file():
        return Source(typed, folder, records.read_study(folder), path.name)
    raise _bad(typed, "expected the work folder of a study, or a run in it such as DIR/runs/student-seed0")


def absent(typed: str) -> BadInput:
    """Return what is to be raised where `--teacher_from` names nothing that is there."""
    return _bad(typed, "expected the work folder of a finished study, there is none; name the --workdir of one")


def precision_of(teacher_from: str) -> str | None:
    """Return the arithmetic of the study of `--teacher_from`; None without it, or where its folder is not there."""
    source = source_of(teacher_from)
    return config.from_json(source.record["config"]).networks.precision if source else None


def networks_of(study: Study) -> dict[str, dict[str, str]]:
    """Return what is on record of the teacher's network where it is one of somebody's own; see `studies.networks`."""
    source = source_of(study.distillation.teacher_from)
    described = source.record.get("networks", {}) if source else {}
    return {name: where for name, where in described.items() if name == study.networks.teacher}


def tokens(study: Study) -> Given:
    """Return what a study of texts takes from its teacher, its tokenizer among it, or from pre-trained weights.

    Raises:
        BadInput: when both differ, or texts would be longer than the teacher can read.
    """
    of_weights = pretrained.given(study.networks, study.data)
    source = source_of(study.distillation.teacher_from)
    of_teacher = source.record["data"].get("tokens") if source else None
    if source is None or of_teacher is None:
        return of_weights
    given = Given(
        records.read_tokenizer(source.folder), of_teacher["vocabulary"], of_teacher["positions"], of_weights.beside
    )
    if of_weights.vocabulary is not None and of_weights[1:3] != given[1:3]:
        raise _bad(
            source.typed,
            f"expected a teacher with the {of_weights.vocabulary} token ids and {of_weights.positions} positions of"
            f" --init_from, found {given.vocabulary} and {given.positions}; pass weights that share its tokenizer",
        )
    if study.data.max_length > of_teacher["positions"]:
        raise BadInput(
            f"--max_length={study.data.max_length}: expected at most {given.positions}, the positions of the teacher; lower it"
        )
    return given


def _check_data(study: Study, source: Source, dataset: Dataset) -> None:
    """Refuse data whose examples or classes are not those of a teacher's network."""
    theirs, ours = source.record["data"], dataset.facts(study.seed, study.training.batch_size)
    shapes = {"image_shape": "images of height, width and channels", "example_shape": "examples of numbers"}
    for key, what in ({"classes": "classes"} | shapes).items():
        if theirs.get(key) != ours.get(key):
            raise _bad(
                source.typed, f"expected a teacher for {ours.get(key)} {what}, found {theirs.get(key)}; name another"
            )
    _check_classes(source, _trained_on(source).get("class_names", []), ours.get("class_names", []))
    (their_tokens, our_tokens) = (facts.get("tokens", {}).get("tokenizer_hash") for facts in (theirs, ours))
    own = study.data.tokenizer
    if own and our_tokens is not None:
        # The teacher's took the place of the one that was named.
        named, _ = tokenizers.choose(study.data, (), Given())
        our_tokens = hashlib.sha256(named.to_str().encode()).hexdigest()
    if their_tokens != our_tokens:
        raise BadInput(f"--tokenizer={own}: expected the teacher's own beside --teacher_from; leave it out")


def _check_classes(source: Source, theirs: list[str], ours: list[str]) -> None:
    """Refuse a class that the teacher has in another place. Names of which it has none are told apart by nobody, and pass."""
    for place, name in enumerate(theirs):
        if name in ours and ours[place] != name:
            raise _bad(
                source.typed,
                f"expected a teacher with the classes of the data in their order, found {name!r} as its class {place}, where the"
                f" data have {ours[place]!r}; train one on these classes",
            )


def _trained_on(source: Source) -> Record:
    """What the teacher's own data were: those of the study, or where it was not trained there, those on record for it."""
    data = source.record["data"]
    found = {key: data[key] for key in ("fingerprint", "mean", "std", "class_names") if key in data} | {
        "data": data["name"]
    }
    if source.arm["name"] == TEACHER and (origin := source.record.get("teacher_from")):
        found = {key: origin[key] for key in ("fingerprint", "mean", "std", "class_names", "data") if key in origin}
    return found


def found_runs(study: Study, dataset: Dataset, previous: Record | None) -> Found:
    """The teachers of `--teacher_from`, after every check; those on record where it is no longer there."""
    source = source_of(study.distillation.teacher_from)
    before = previous.get("teacher_from") if previous else None
    if source is None:
        if before is None:
            raise absent(study.distillation.teacher_from)
        return _from_record(study, before)
    theirs, arm = config.from_json(source.record["config"]), source.arm
    if theirs.networks.precision != study.networks.precision:
        own = theirs.networks.precision
        raise _bad(
            source.typed,
            f"expected a teacher in --precision={study.networks.precision}, found {own}; pass --precision={own}",
        )
    _check_data(study, source, dataset)
    runs, folders = {}, {}
    for seed in study.seed_range():
        name = _run_of(source, theirs, seed)
        runs[f"{TEACHER}-seed{seed}"] = _described(source, arm, theirs, name, study.distillation.teacher_step)
        folders[f"{TEACHER}-seed{seed}"] = records.run_folder(source.folder, name)
    if before is not None:
        for name, of_run in runs.items():
            old = before["runs"].get(name)
            if old is not None and old["sha256"] != of_run["sha256"]:
                raise _bad(
                    source.typed,
                    f"its weights changed since this work folder was begun (sha256 {of_run['sha256'][:12]}, expected"
                    f" {old['sha256'][:12]}); pass another --workdir",
                )
    switched = bool(arm["teacher"] and theirs.distillation.switch)
    trained_on = _trained_on(source)
    if arm["name"] == TEACHER and (origin := source.record.get("teacher_from")):
        # It was not trained in that study either.
        switched = origin["switched"]
    record = {
        "folder": source.folder.resolve().name,
        "study": source.record["study"],
        "network": arm["model"],
        **trained_on,
        "switched": switched,
        "training": None if study.networks.init_from else _training(source, theirs, arm["name"], dataset),
        "runs": runs,
    }
    return Found(given_of({"teacher_from": record}), record, folders)


def _from_record(study: Study, before: Record) -> Found:
    """The teacher on record, of which the copies are there and the original is not; one run may teach further seeds."""
    runs = dict(before["runs"])
    one = next(iter(runs.values())) if len({of_run["run"] for of_run in runs.values()}) == 1 else None
    for seed in study.seed_range():
        name = f"{TEACHER}-seed{seed}"
        if name not in runs and one is None:
            raise absent(study.distillation.teacher_from)
        runs.setdefault(name, one)
    record = {**before, "runs": runs}
    return Found(given_of({"teacher_from": record}), record)


def _run_of(source: Source, theirs: Study, seed: int) -> str:
    """The name of the run that teaches a seed."""
    if source.run:
        return source.run
    if theirs.seeds == 1:
        return f"{TEACHER}-seed{theirs.seed}"
    if seed not in theirs.seed_range():
        last = theirs.seed + theirs.seeds - 1
        raise _bad(
            source.typed,
            f"expected a teacher for seed {seed}, it has seeds {theirs.seed} to {last}; pass such --seed and --seeds, or name one"
            f" run that teaches all, such as DIR/runs/teacher-seed{theirs.seed}",
        )
    return f"{TEACHER}-seed{seed}"


def _described(source: Source, arm: Record, theirs: Study, name: str, asked: int) -> dict[str, Any]:
    """What is kept on record of a run that teaches, after a check that it is finished and whole; `asked` is `--teacher_step`."""
    folder = records.run_folder(source.folder, name)
    there = set(records.kept_steps(folder))
    length = Length(*(arm[key] for key in Length._fields))
    if length.total_steps not in there and name.rpartition("seed")[2] in source.record.get("skipped", {}):
        raise _bad(
            source.typed,
            f"expected finished runs, {name} diverged and was given up; name one run that teaches all seeds, such as DIR/runs/NAME",
        )
    if length.total_steps not in there:
        raise _bad(
            source.typed,
            f"expected finished runs, {name} is not (it lacks step {length.total_steps}); run that study again",
        )
    # Others may have been taken away: the steps at which it does not teach are for curves alone.
    length = length._replace(checkpoint_steps=[step for step in length.checkpoint_steps if step in there])
    origin = (
        source.record.get("teacher_from", {}).get("runs", {}).get(name)
    )  # where that study has it from, in its turn
    own = theirs.distillation.teacher_step if arm["name"] == TEACHER else 0
    step = asked or (origin["step"] if origin else own) or length.total_steps
    if step not in length.checkpoint_steps:
        kept = config.shown(tuple(length.checkpoint_steps))
        raise BadInput(f"--teacher_step={step}: expected a step that {name} of --teacher_from has kept, one of {kept}")
    try:
        sha256 = packing.tree_digest(load(folder, step))
    except Damaged as error:
        raise _bad(
            source.typed, f"expected a whole checkpoint, {error}; run that study again, which trains it anew"
        ) from None
    start = origin or {"init": arm["init"], "order": arm["order"], "seed": int(name.rpartition("-seed")[2])}
    about = {"run": name, "step": step, "sha256": sha256} | {key: start[key] for key in ("init", "order", "seed")}
    return about | length._asdict()


def _training(source: Source, theirs: Study, name: str, dataset: Dataset) -> dict[str, Any] | None:
    """How an arm of another study was trained, as JSON values, so that it can be told whether a run here is like it.

    None where it was trained elsewhere, from a teacher, or on other data, and where it was not trained, or not from random weights.
    """
    given = GivenTeacher.of(source.record)
    arm = next((arm for arm in of_record(theirs, source.record).arms if arm.name == name), None)
    training = None if arm is None else training_of(theirs, arm)
    if arm is None or training is None or (given is not None and name == TEACHER):
        return None
    alike = source.record["data"]["fingerprint"] == dataset.fingerprint and not theirs.networks.init_from
    if arm.teacher or not alike or not training.epochs:
        return None
    values = config.to_json(Study(training=training))
    return {name: values[name] for name in vars(training)}


def bring_runs(workdir: Path | str, plan: Plan, found: Found, record: Record) -> None:
    """Copy the runs that teach into the work folder, where they are not there yet; see `teachers.bring`."""
    copied: dict[str, Path] = {}
    for run in plan.runs:
        if run.source is not None:
            own, pruned = records.run_folder(workdir, run.name), records.pruned_steps(record, run.name)
            _bring_run(own, run, found.folders.get(run.name), copied, pruned)


def _bring_run(own: Path, run: Run, folder: Path | None, copied: dict[str, Path], pruned: set[int]) -> None:
    assert run.source is not None
    if own.is_symlink() and not own.exists():
        own.unlink()  # what had it is gone
    there = copied.setdefault(run.source.sha256, own)
    if not set(records.missing_steps(own, run.length.checkpoint_steps)) - pruned:
        return
    if there != own:
        shutil.rmtree(own, ignore_errors=True)
        os.symlink(os.path.relpath(there, own.parent), own)
        return
    if folder is None or not folder.is_dir():
        raise BadInput(
            f"{own}: expected a whole copy of the teacher, and the folder of --teacher_from is no longer there to copy it again"
        )
    own.parent.mkdir(parents=True, exist_ok=True)
    # Beside `runs`, so that what a crash leaves behind is no run.
    half = own.parent.parent / f".{own.name}"
    shutil.rmtree(half, ignore_errors=True)
    (half / "trajectory").mkdir(parents=True)
    for step in run.length.checkpoint_steps:
        shutil.copytree(folder / "trajectory" / str(step), half / "trajectory" / str(step))
    if (folder / "metrics.jsonl").is_file():
        shutil.copy2(folder / "metrics.jsonl", half / "metrics.jsonl")
    shutil.rmtree(own, ignore_errors=True)
    half.rename(own)


def load(folder: Path | str, step: int) -> Variables:
    """Return the network of a run at a step of its trajectory.

    Raises:
        Damaged: when it cannot be read, or is not what was written.
        BadInput: when a weight is not finite.
    """
    with checkpoints.trajectory(folder) as opened:
        flat = opened.load(step)
    for name, leaf in flat.items():
        if not np.isfinite(leaf).all():
            raise BadInput(
                f"{folder}: expected a teacher of finite weights, found NaN or infinity in {name} at step {step}; train it anew in"
                " another --workdir, with a lower --learning_rate"
            )
    tree = packing.nest(flat)
    return Variables(tree["params"], tree.get("model_state", {}))
