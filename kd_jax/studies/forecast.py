"""What a study will take on accelerators that are not here, from their own compilers: before a machine is rented.

Every kind of training step of the study is built as training builds it, compiled for the topology, and read (`programs`): does it
fit, how long may a step take, and why. An estimate is the largest of what its operations, its memory traffic and the compiler's
cycles take.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import data, models
from kd_jax.config import Study, Training, versions
from kd_jax.data import Dataset, shapes
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.errors import BadInput
from kd_jax.plan import Plan, Run, make_plan
from kd_jax.recipes.settings import FURTHER_SIZES, SIZES, VOCABULARY, Size
from kd_jax.studies import lanes, programs, side_by_side
from kd_jax.studies.arithmetic import precision_on
from kd_jax.studies.footprint import of_runs
from kd_jax.studies.lanes import SeedsAtOnce
from kd_jax.studies.prepare import Prepared
from kd_jax.studies.programs import Compiling
from kd_jax.studies.progress import Quiet
from kd_jax.train import ahead, engine, table
from kd_jax.train import devices as parallel
from kd_jax.train.ahead import Topology

CANNOT_KNOW = (
    "A compiler's estimate is not a measurement. It leaves out the host, input that is decoded or sent while training runs,"
    " gathers, padding and new layouts, which no compiler estimates, waiting for other chips, and saving. A rented machine says"
    " more in its first epoch."
)
OF_TEXTS = "Texts are taken at their full length: batches of shorter ones take less."


def dataset_of(study: Study, size: Size | None, data_dir: Path | str) -> Dataset:
    """Return the data of a study, or a stand-in of its shapes where that is enough.

    Args:
        study: the configuration.
        size: how large the published set is; None to take what is known of it, or what lies in `data_dir`.
        data_dir: where data lies, as `data.load` takes it.

    Raises:
        BadInput: for a set of which nothing is known and that is not there.
    """
    name = study.data.dataset
    known = SIZES.get(name) or FURTHER_SIZES.get(name)
    size, is_own = size or known, size is not None
    if size is None:
        there = name in data.EMBEDDED or data.tfds.find(name, data_dir) is not None
        if not there:
            listed = ", ".join([*SIZES, *FURTHER_SIZES])
            raise BadInput(
                f"--dataset={name}: expected a set in --data_dir or one whose size is known ({listed}); pass its size:"
                " --examples TRAIN TEST --classes N --shape HEIGHT WIDTH CHANNELS"
            )
        return data.load(study.data, data_dir)
    # Of the sets that are known, those of one axis are texts.
    texts = len(size.example) == 1 and (not is_own or models.is_roberta(study.networks.student[0]))
    kind = "texts" if texts else "images" if len(size.example) == 3 else "numbers"
    if study.training.augment == "resized_crop_flip" or name == "imagenet2012":
        kind = "streamed"
    vocabulary = (VOCABULARY if study.networks.init_from else study.data.vocabulary) if texts else 0
    return shapes.stand_in(kind, study.data, size.train, size.test, size.classes, size.example, vocabulary)


def forecast(
    study: Study,
    dataset: Dataset,
    topology: Topology,
    progress: Callable[..., Any] = Quiet,
    compiled: Compiling | None = None,
    seeds_at_once: SeedsAtOnce = "auto",
) -> dict[str, Any]:
    """Return what a study takes on a topology, as JSON values; nothing is trained.

    Args:
        study: the configuration.
        dataset: its data, or a stand-in.
        topology: the accelerators.
        progress: `progress(total)` gives a context manager that counts programs; see `studies.progress`.
        compiled: `compiled(lowered, topology)` asks the compiler; `programs.remembered` by default.
        seeds_at_once: as for `studies.train.train_prepared`; seeds are reckoned at once where they are lanes of one program.

    Raises:
        BadInput: for a study that cannot be done, or not there.
    """
    if study.distillation.is_teacher_given:
        flag = "teacher_from" if study.distillation.teacher_from else "teacher_logits"
        raise BadInput(
            f"--{flag}: expected a teacher that is trained, for only that can be planned; leave it out and name its --teacher"
        )
    if study.networks.precision == "auto":
        study = study.replaced(precision=precision_on(topology.chip.platform))
    for training in (study.training, study.teacher_training):
        parallel.check_batch(training.batch_size, topology.devices)
    data.check(dataset, study)
    engine.check(study, dataset)
    plan = make_plan(study, len(dataset.train.y))
    if isinstance(dataset, TokenisedTexts):
        dataset = replace(dataset, buckets=dataset.buckets[-1:])
    prepared = Prepared(Path(), study, plan, dataset, {})
    no_lane = partial(_no_lane, prepared, topology, seeds_at_once)
    of_kind: dict[Any, list[list[Run]]] = {}
    for batch in lanes.batches(plan.runs, lambda run: not no_lane(run)):
        of_kind.setdefault(_kind(batch), []).append(batch)
    kinds: dict[Any, dict[str, Any]] = {}
    evaluations: dict[str, dict[str, Any]] = {}
    ask = compiled or programs.remembered
    with progress(len(of_kind) + len({_evaluated(network, at_once) for network, _, _, at_once in of_kind})) as bar:
        for kind, batches in of_kind.items():
            run, network, at_once = batches[0][0], kind[0], kind[-1]
            bar.note(f"compiling {run.arm.name} ({network}) for {topology.name}")
            seeds = at_once if at_once > 1 else 0
            program = programs.Program(study, dataset, run, _in_table(plan, dataset, run, topology), seeds)
            built = programs.built(program, topology)
            arms = list(dict.fromkeys(run.arm.name for batch in batches for run in batch))
            counted = {"arms": arms, "runs": sum(map(len, batches))}
            kinds[kind] = counted | programs.step(program, built, topology, ask)
            bar.advance(1, f"step of {run.arm.name}")
            name = _evaluated(network, at_once)
            if name not in evaluations:
                bar.note(f"compiling the evaluation of {name} for {topology.name}")
                evaluations[name] = programs.evaluation(program, built, topology, ask)
                bar.advance(1, f"evaluation of {name}")
    seconds = sum(
        _seconds_of(batch[0], kinds[kind], evaluations, dataset)
        for kind, batches in of_kind.items()
        for batch in batches
    )
    if any(step["teacher_table"] for step in kinds.values()):
        seconds += study.seeds * _filling(study, dataset, topology, evaluations)
    footprint = of_runs(prepared, [(run, len(run.length.checkpoint_steps)) for run in plan.runs])
    listed = list(kinds.values())
    peak = max(_peak(kind, evaluations, dataset) for kind in listed)
    fits = all(each["fits"] for each in (*listed, *evaluations.values())) and peak <= topology.chip.memory
    chips = len(topology.devices)
    return {
        "topology": topology.name,
        "chip": topology.chip.name,
        "chips": chips,
        "hosts": topology.hosts,
        "data": {"name": dataset.name, "train_examples": len(dataset.train.y), "test_examples": len(dataset.test.y)},
        "precision": study.networks.precision,
        "fits": fits,
        "peak_bytes": peak,
        "memory_bytes": int(topology.chip.memory),
        "steps": listed,
        "evaluations": evaluations,
        "runs": len(plan.runs),
        "total_steps": plan.total_steps,
        "hours": seconds / 3600 if fits else None,
        "chip_hours": seconds * chips / 3600 if fits else None,
        "compile_seconds": sum(each["compile_seconds"] for each in (*listed, *evaluations.values())),
        "footprint": footprint._asdict(),
        "notes": [
            *_at_once(plan, topology, seeds_at_once, no_lane),
            *_notes(study.training.batch_size, dataset, topology),
        ],
        "cannot_know": CANNOT_KNOW,
        "versions": {name: versions()[name] for name in ("kd_jax", "jax", "jaxlib")},
    }


def _kind(runs: Sequence[Run]) -> tuple[str, bool, Training, int]:
    """What decides which program trains runs at the same time: network, whether it is taught, how it is trained, how many."""
    run = runs[0]
    return run.arm.model, bool(run.taught_by), _of_program(run.training), len(runs)


def _no_lane(prepared: Prepared, topology: Topology, seeds_at_once: SeedsAtOnce, run: Run) -> str:
    """Why the seeds of a kind of run are not reckoned as lanes of one program; empty where they are, as training decides it."""
    if seeds_at_once == "off":
        return "as asked for"
    if len(topology.devices) > 1:
        return "each batch is shared by all chips"
    in_table = _in_table(prepared.plan, prepared.dataset, run, topology)
    return lanes.obstacle(prepared, run, seeds_at_once == "on", topology.chip.platform, in_table)


def _evaluated(network: str, at_once: int) -> str:
    """The name of an evaluation."""
    return f"{network}, {at_once} seeds at once" if at_once > 1 else network


def _of_program(training: Training) -> Training:
    """A training without what changes numbers in a program, and not what it takes."""
    return replace(
        training,
        epochs=1,
        learning_rate=1.0,
        warmup=0.0,
        decay="step",
        decay_at=(),
        weight_decay=float(training.weight_decay > 0),
    )


def _in_table(plan: Plan, dataset: Dataset, run: Run, topology: Topology) -> bool:
    """Whether a run looks the answers of its teacher up, as training decides it."""
    if not run.taught_by or topology.hosts > 1:
        return False
    study = plan.study
    students = sum(other.teacher_name == run.teacher_name for other in plan.runs if other.taught_by)
    itemsize = np.dtype(models.PARAMETER_DTYPES[study.networks.precision]).itemsize
    asked, loss, most = study.distillation.teacher_table, study.distillation_loss, table.SHARE * topology.chip.memory

    def has_room(size):
        return size <= most

    count, platform = len(topology.devices), topology.chip.platform
    return table.is_chosen(asked, dataset, run.training, loss, students, itemsize, has_room, platform, count)


def _seconds_of(
    run: Run, kind: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Any]], dataset: Dataset
) -> float:
    """What a run takes, or those trained with it: its steps, and an evaluation of all further splits after every epoch."""
    of_test = evaluations[_evaluated(kind["network"], kind["seeds_at_once"])]
    splits = list(dataset.splits.values())[1:]
    batches = sum(math.ceil(len(split.y) / of_test["batch_size"]) for split in splits)
    epochs = run.length.total_steps / max(run.length.steps_per_epoch, 1)
    return (run.length.total_steps * kind["estimated_ms"] + epochs * batches * of_test["estimated_ms"]) / 1e3


def _filling(study: Study, dataset: Dataset, topology: Topology, evaluations: Mapping[str, Mapping[str, Any]]) -> float:
    """The seconds in which one chip fills the table of a teacher, at the pace at which all of them evaluate, shared out."""
    of_test = next(each for each in evaluations.values() if each["network"] == study.networks.teacher)
    batches = len(dataset.train.y) * dataset.view_count(study.training.augment) / of_test["batch_size"]
    return batches * of_test["estimated_ms"] / of_test["seeds_at_once"] * len(topology.devices) / 1e3


def _peak(kind: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Any]], dataset: Dataset) -> int:
    """The largest memory while a kind of run trains: its step beside the test examples, or an evaluation beside its arguments."""
    of_test = evaluations[_evaluated(kind["network"], kind["seeds_at_once"])]
    beside = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(dataset.resident(dataset.test)))
    return max(kind["peak_bytes"] + beside, of_test["peak_bytes"] + kind["argument_bytes"])


def _at_once(plan: Plan, topology: Topology, seeds_at_once: SeedsAtOnce, no_lane: Callable[[Run], str]) -> list[str]:
    """What is to be said of several seeds: which are trained as one program, or that training shares chips out otherwise."""
    study = plan.study
    if study.seeds == 1 or seeds_at_once == "off":
        return []
    if not all(map(no_lane, plan.runs)):
        return [lanes.sentence(plan.runs, no_lane)]
    groups = side_by_side.groups(study.seeds, topology.devices, [run.training.batch_size for run in plan.runs])
    if len(groups) < 2:
        return []
    return [
        f"Reckoned is one seed after the other, each batch shared by all {len(topology.devices)} chips, as --seeds_at_once=off"
        f" trains. Without it training exchanges less: {side_by_side.sentence(study.seeds, groups)}"
    ]


def _notes(batch_size: int, dataset: Dataset, topology: Topology) -> list[str]:
    notes = []
    share = batch_size // len(topology.devices)
    # Texts have their features along the lanes.
    if topology.chip.platform == "tpu" and dataset.tokenizer is None and share % ahead.LANES:
        filled = -(-share // ahead.LANES) * ahead.LANES
        notes.append(
            f"A batch of {share} a chip is filled up to {filled}, whole rows of the {ahead.LANES} lanes of a TPU, wherever a"
            f" network of few channels lays the batch along them: {1 - share / filled:.0%} of that work is padding, which"
            f" --batch_size={filled * len(topology.devices)} or fewer chips would use."
        )
    if dataset.tokenizer is not None:
        notes.append(OF_TEXTS)
    if not dataset.is_resident:
        notes.append("The images are decoded on the host while training runs; whether it keeps up is not estimated.")
    if topology.chip.platform == "gpu":
        notes.append(
            f"On a GPU this is a lower bound: between two kernels are {ahead.LAUNCH * 1e6:g} microseconds, and"
            " cuDNN's choices are not known without a device. Measured on an H100 at batch 1024 in bfloat16: 22.0 ms a step of"
            " resnet56 -> resnet56 over a bound of 7.5, 10.4 of resnet56 -> resnet20 over 3.7; and 2.37 GB, as estimated."
        )
    return notes
