"""What a study will take on accelerators that are not here, from their own compilers: before a machine is rented.

Every kind of training step of the study is built as training builds it, compiled for the topology, and read: does it fit, how long
may a step take, and why. An estimate is the largest of what its operations, its memory traffic and the compiler's cycles take.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import data, models
from kd_jax.config import Study, Training, versions
from kd_jax.data import Dataset, cache, shapes
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.errors import BadInput
from kd_jax.files import write_text
from kd_jax.plan import Plan, Run, make_plan
from kd_jax.recipes.settings import FURTHER_SIZES, SIZES, VOCABULARY, Size
from kd_jax.studies.footprint import of_runs
from kd_jax.studies.prepare import Prepared, precision_on
from kd_jax.studies.progress import Quiet
from kd_jax.train import ahead, engine, table
from kd_jax.train import devices as parallel
from kd_jax.train.ahead import Compiled, Topology
from kd_jax.train.teachers import Table

CANNOT_KNOW = (
    "A compiler's estimate is not a measurement. It leaves out the host, input that is decoded or sent while training runs,"
    " gathers, which no compiler estimates, waiting for other chips, and saving. A rented machine says more in its first epoch."
)
OF_TEXTS = "Texts are taken at their full length: batches of shorter ones take less."
Compiling = Callable[[Any, Topology], Compiled]
READING = 1  # changes when `Compiled` means something else; earlier results are then computed anew


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
) -> dict[str, Any]:
    """Return what a study takes on a topology, as JSON values; nothing is trained.

    Args:
        study: the configuration.
        dataset: its data, or a stand-in.
        topology: the accelerators.
        progress: `progress(total)` gives a context manager that counts programs; see `studies.progress`.
        compiled: `compiled(lowered, topology)` asks the compiler; `remembered` by default.

    Raises:
        BadInput: for a study that cannot be done, or not there.
    """
    if study.distillation.is_teacher_given:
        flag = "teacher_from" if study.distillation.teacher_from else "teacher_logits"
        raise BadInput(
            f"--{flag}: expected a teacher that is trained, for only that can be planned; leave it out and name its --teacher"
        )
    if study.networks.precision == "auto":
        study = study.replaced(precision=precision_on("tpu" if topology.chip.clock else "gpu"))
    for training in (study.training, study.teacher_training):
        parallel.check_batch(training.batch_size, topology.devices)
    data.check(dataset, study)
    engine.check(study, dataset)
    plan = make_plan(study, len(dataset.train.y))
    if isinstance(dataset, TokenisedTexts):
        dataset = replace(dataset, buckets=dataset.buckets[-1:])
    of_kind: dict[Any, list[Run]] = {}
    for run in plan.runs:
        of_kind.setdefault(_kind(run), []).append(run)
    kinds: dict[Any, dict[str, Any]] = {}
    evaluations: dict[str, dict[str, Any]] = {}
    ask = compiled or remembered
    with progress(len(of_kind) + len({network for network, *_ in of_kind})) as bar:
        for kind, runs in of_kind.items():
            run, network = runs[0], runs[0].arm.model
            bar.note(f"compiling {run.arm.name} ({network}) for {topology.name}")
            in_table = _in_table(plan, dataset, run, topology)
            built = _built(study, dataset, run, topology, in_table)
            arms = list(dict.fromkeys(run.arm.name for run in runs))
            kinds[kind] = {"arms": arms, "runs": len(runs)} | _step(study, dataset, run, built, topology, ask, in_table)
            bar.advance(1, f"step of {run.arm.name}")
            if network not in evaluations:
                bar.note(f"compiling the evaluation of {network} for {topology.name}")
                evaluations[network] = _evaluation(study, dataset, run, built, topology, ask)
                bar.advance(1, f"evaluation of {network}")
    seconds = sum(_seconds_of(run, kinds, evaluations, dataset) for run in plan.runs)
    if any(step["teacher_table"] for step in kinds.values()):
        seconds += study.seeds * _filling(study, dataset, topology, evaluations)
    prepared = Prepared(Path(), study, plan, dataset, {})
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
        "notes": _notes(study, dataset, topology),
        "cannot_know": CANNOT_KNOW,
        "versions": {name: versions()[name] for name in ("kd_jax", "jax", "jaxlib")},
    }


def _kind(run: Run) -> tuple[str, bool, Training]:
    """What decides which program trains a run: network, whether it is taught, how it is trained."""
    return run.arm.model, bool(run.taught_by), _of_program(run.training)


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
    count = len(topology.devices)
    return table.is_chosen(asked, dataset, run.training, loss, students, itemsize, lambda size: size <= most, count)


def _built(study: Study, dataset: Dataset, run: Run, topology: Topology, in_table: bool = False) -> engine.Engine:
    taught = engine.Teacher.of(study, in_table=in_table) if run.taught_by else None
    networks = study.networks
    model, norm = run.arm.model, networks.batch_norm
    return engine.build(networks.precision, run.training, dataset, model, topology.devices, taught, batch_norm=norm)


def _step(
    study: Study,
    dataset: Dataset,
    run: Run,
    built: engine.Engine,
    topology: Topology,
    compiled: Compiling,
    in_table: bool,
) -> dict[str, Any]:
    precision, teacher = study.networks.precision, None
    if in_table:
        rows = len(dataset.train.y) * dataset.view_count(run.training.augment)
        row = table.width(dataset.classes, topology.devices[0].platform)
        teacher = Table(jax.ShapeDtypeStruct((rows, row), models.PARAMETER_DTYPES[precision]))
    elif run.taught_by:
        network = models.build(study.networks.teacher, dataset.classes, precision, **dataset.network_settings)
        example = dataset.example(models.PARAMETER_DTYPES[precision])
        teacher = jax.eval_shape(network.init, jax.random.key(0), example)
    lowered = ahead.lower_step(built, teacher, run.training.batch_size, topology.devices)
    found = compiled(lowered, topology)
    if found.flops is None:
        found = found._replace(flops=_flops_here(study, dataset, run, teacher, in_table, topology))
    steps = min(built.segment_steps, run.length.steps_per_epoch) if built.on_device_loop else 1
    return {
        "network": run.arm.model,
        "teacher": study.networks.teacher if run.taught_by else None,
        "teacher_table": in_table,
        "batch_size": run.training.batch_size,
        **_timed(found, topology, precision, steps, run.training.batch_size),
    }


def _flops_here(
    study: Study, dataset: Dataset, run: Run, teacher: Any, in_table: bool, topology: Topology
) -> float | None:
    """The operations of one device's share of a step, as XLA counts them in the program for a CPU."""
    batch_size = run.training.batch_size // len(topology.devices)
    share, here = replace(run, training=replace(run.training, batch_size=batch_size)), _here()
    lowered = ahead.lower_step(
        _built(study, dataset, share, here, in_table), teacher, share.training.batch_size, here.devices
    )
    return ahead.flops(lowered)


def _here() -> Topology:
    """One CPU device, for what is counted rather than compiled for."""
    return Topology("", ahead.CHIPS["h100"], jax.devices("cpu")[:1], 1, "")


def _evaluation(
    study: Study, dataset: Dataset, run: Run, built: engine.Engine, topology: Topology, compiled: Compiling
) -> dict[str, Any]:
    lowered, size = ahead.lower_evaluation(built, topology.devices)
    found = compiled(lowered, topology)
    if found.flops is None:
        here = _here()
        small = replace(dataset, evaluation_size=size // len(topology.devices))
        lowered, _ = ahead.lower_evaluation(_built(study, small, run, here), here.devices)
        found = found._replace(flops=ahead.flops(lowered))
    return {"batch_size": size, **_timed(found, topology, study.networks.precision, 1, size)}


def _timed(found: Compiled, topology: Topology, precision: str, steps: int, examples: int) -> dict[str, Any]:
    """What a program takes, as JSON values; times are in milliseconds."""
    limits = found.limits(topology.chip, precision, steps)
    binds = max(limits, key=lambda name: limits[name])
    estimate = limits[binds]
    return {
        "fits": found.fits,
        "milliseconds": {name: 1e3 * seconds for name, seconds in limits.items()},
        "estimated_ms": 1e3 * estimate,
        "binds": binds,
        "examples_per_second": examples / estimate if estimate else None,
        "peak_bytes": found.peak_bytes,
        "argument_bytes": found.argument_bytes,
        "flops": found.flops,
        "traffic_bytes": found.traffic_bytes,
        "cycles": found.cycles,
        "call_cycles": found.call_cycles,
        "kernels": found.kernels,
        "all_reduces": found.all_reduces,
        "all_reduce_bytes": found.all_reduce_bytes,
        "compile_seconds": found.seconds,
        "compile_cpu_seconds": found.cpu_seconds,
        "problem": found.problem,
    }


def _seconds_of(
    run: Run, kinds: Mapping[Any, Mapping[str, Any]], evaluations: Mapping[str, Mapping[str, Any]], dataset: Dataset
) -> float:
    """What a run takes: its steps, and an evaluation of all further splits after every epoch."""
    kind = kinds[_kind(run)]
    of_test = evaluations[run.arm.model]
    splits = list(dataset.splits.values())[1:]
    batches = sum(math.ceil(len(split.y) / of_test["batch_size"]) for split in splits)
    epochs = run.length.total_steps / max(run.length.steps_per_epoch, 1)
    return (run.length.total_steps * kind["estimated_ms"] + epochs * batches * of_test["estimated_ms"]) / 1e3


def _filling(study: Study, dataset: Dataset, topology: Topology, evaluations: Mapping[str, Mapping[str, Any]]) -> float:
    """The seconds in which one chip fills the table of a teacher, at the pace at which all of them evaluate, shared out."""
    of_test = evaluations[study.networks.teacher]
    batches = len(dataset.train.y) * dataset.view_count(study.training.augment) / of_test["batch_size"]
    return batches * of_test["estimated_ms"] * len(topology.devices) / 1e3


def _peak(kind: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Any]], dataset: Dataset) -> int:
    """The largest memory while a kind of run trains: its step beside the test examples, or an evaluation beside its arguments."""
    of_test = evaluations[kind["network"]]
    beside = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(dataset.resident(dataset.test)))
    return max(kind["peak_bytes"] + beside, of_test["peak_bytes"] + kind["argument_bytes"])


def _notes(study: Study, dataset: Dataset, topology: Topology) -> list[str]:
    notes = []
    share = study.training.batch_size // len(topology.devices)
    # Texts have their features along the lanes.
    if topology.chip.clock and dataset.tokenizer is None and share % ahead.LANES:
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
    if not topology.chip.clock:
        notes.append(
            f"On a GPU this is a lower bound: between two kernels are {ahead.LAUNCH * 1e6:g} microseconds, and"
            " cuDNN's choices are not known without a device. Measured on an H100 at batch 1024 in bfloat16: 22.0 ms a step of"
            " resnet56 -> resnet56 over a bound of 7.5, 10.4 of resnet56 -> resnet20 over 3.7; and 2.37 GB, as estimated."
        )
    return notes


def remembered(lowered: Any, topology: Topology) -> Compiled:
    """Return what the compiler says of a lowered program, from the user's cache folder where it was asked before."""
    place = cache.place()
    stamp = f"{READING} {topology.name} {topology.compiler} {jax.__version__}"
    key = hashlib.sha256(f"{stamp} {lowered.as_text()}".encode()).hexdigest()
    path = place / "ahead" / f"{key[:32]}.json" if place else None
    if path is not None and path.is_file():
        with contextlib.suppress(OSError, ValueError, TypeError):  # damaged, or of another version
            return Compiled(**json.loads(path.read_text(encoding="utf-8")))
    found, _ = ahead.compile_lowered(lowered)
    if path is not None:
        with contextlib.suppress(OSError):  # the next call compiles again
            write_text(path, json.dumps(found._asdict()))
    return found
