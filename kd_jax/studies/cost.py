"""What the networks of a study cost to run on this device: parameters, bytes, operations, time. File: `analysis/cost.json`."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import data, models
from kd_jax.analysis import intervals, results
from kd_jax.analysis.results import Interval
from kd_jax.config import versions
from kd_jax.data import Dataset
from kd_jax.extract.logits import analysis_precision, model_of, view_of
from kd_jax.models import Variables
from kd_jax.plan import TEACHER, Run, seeds_of
from kd_jax.studies import networks
from kd_jax.studies.prepare import Prepared, open_study
from kd_jax.studies.report import write_report
from kd_jax.train import ahead
from kd_jax.workdir import checkpoints, records

FILE = "cost.json"
SECONDS = 0.25  # spent on repetitions of one network and batch size, about
FEWEST, MOST = 3, 2000  # repetitions
LATENCY_BATCH, THROUGHPUT_BATCH = 1, 256


def cost(
    workdir: Path | str,
    device: Any,
    data_dir: Path | str | None = None,
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
) -> dict[str, Any]:
    """Measure what the networks of an analysed study cost to run, write it and the report anew, and return it.

    Args:
        workdir: the work folder.
        device: where to run them.
        data_dir, workers, load: as for `studies.prepare.open_study`.

    Raises:
        BadInput: as `open_study`; or when the study was not analysed, or a run is not finished.
    """
    records.read_study(workdir)
    summary = records.read_summary(workdir)
    prepared = open_study(workdir, data_dir, workers, load)
    networks.find_again(workdir, prepared.record.get("networks", {}))
    with records.locked(workdir):
        found = measure(prepared, device, summary)
        records.write_json(Path(workdir) / "analysis" / FILE, found)
        write_report(workdir)
    return found


def measure(
    prepared: Prepared, device: Any, summary: Mapping[str, Any], clock: Callable[[], float] = time.perf_counter
) -> dict[str, Any]:
    """Return contents of `cost.json`: what teacher and students cost to run, beside their accuracy; of logits in a file nothing.

    Every network is measured once, on test examples that lie on the device, in the precision of the analysis.

    Args:
        prepared: a study whose runs are finished.
        device: where to run them.
        summary: contents of its `summary.json`, for the accuracy.
        clock: returns seconds.

    Raises:
        BadInput: when the checkpoint of a network is not there, or damaged.
    """
    plan, dataset, precision = prepared.plan, prepared.dataset, prepared.study.networks.precision
    arms = [arm for arm in plan.arms if arm.name == TEACHER or arm.teacher]
    accuracies = results.index(results.read(summary), "name", "arm", "split", "subset")
    x = _examples(dataset)
    chosen: dict[str, Run] = {}
    seed = seeds_of(prepared.study, prepared.record)[0]
    for arm in arms:
        chosen.setdefault(arm.model, plan.run(arm.name, seed))
    networks = _of_networks(prepared, list(chosen.values()), x, device, clock)
    listed = []
    for arm in arms:
        accuracy = accuracies.get(("accuracy", arm.name, "test", "all"))
        interval = None if accuracy is None else vars(accuracy.interval)
        listed.append({"arm": arm.name, "model": arm.model, "accuracy": interval})
    return {
        "device": {"platform": device.platform, "device": device.device_kind},
        "precision": analysis_precision(precision),
        "batches": {"latency": LATENCY_BATCH, "throughput": THROUGHPUT_BATCH},
        "example": list(x.shape[1:]),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: versions()[name] for name in ("kd_jax", "jax", "jaxlib")},
        "networks": networks,
        "arms": listed,
    }


def _examples(dataset: Dataset) -> np.ndarray:
    """A batch of test examples as they are stored; the same ones again where there are fewer."""
    chosen = np.arange(min(THROUGHPUT_BATCH, len(dataset.test.y)))
    _, x = next(iter(dataset.blocks(dataset.test.x, THROUGHPUT_BATCH, chosen)))
    return np.resize(x, (THROUGHPUT_BATCH, *x.shape[1:]))


def _of_networks(
    prepared: Prepared, runs: Sequence[Run], x: np.ndarray, device: Any, clock: Callable[[], float]
) -> dict[str, dict[str, Any]]:
    """{network: what `cost.json` says of it}, of a run of each."""
    dataset, precision = prepared.dataset, prepared.study.networks.precision
    found: dict[str, dict[str, Any]] = {}
    calls: dict[int, list[Callable[[], Any]]] = {LATENCY_BATCH: [], THROUGHPUT_BATCH: []}
    for run in runs:
        step = prepared.plan.teacher_step if run.arm.name == TEACHER else run.length.total_steps
        variables = Variables(**checkpoints.load_variables(records.run_folder(prepared.workdir, run.name), step))
        model, view = model_of(run.arm.model, dataset, precision), view_of(dataset, precision)
        here, flops = jax.device_put(variables, device), None
        for batch, of_batch in calls.items():
            # From the middle, for blocks of texts are sorted by length.
            start = (len(x) - batch) // 2
            inputs = jax.device_put(x[start : start + batch], device)
            lowered = jax.jit(partial(_logits, model, view)).lower(here, inputs)
            # Before compilation, which on GPUs replaces convolutions and products by calls of libraries that XLA does not count.
            flops = flops or _per_example(ahead.flops(lowered), batch)
            of_batch.append(partial(_finished, lowered.compile(), here, inputs))
        found[run.arm.model] = {
            "parameters": models.parameter_count(variables.params),
            "bytes": sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(variables)),
            "flops": flops,
        }
    single, many = (repeat(of_batch, clock) for of_batch in calls.values())
    for name, latency, throughput in zip(found, single, many, strict=True):
        found[name]["latency"] = vars(intervals.of_median(latency, "repetitions"))
        found[name]["throughput"] = vars(rate(intervals.of_median(throughput, "repetitions"), THROUGHPUT_BATCH))
    return found


def _logits(model: models.Model, view: Callable[[Any], Any], variables: Variables, x: Any) -> Any:
    with jax.default_matmul_precision("highest"):
        return model.apply(variables, view(x), train=False).logits


def _finished(compiled: Any, variables: Variables, x: Any) -> Any:
    return jax.block_until_ready(compiled(variables, x))


def _per_example(flops: float | None, batch: int) -> float | None:
    return None if flops is None else flops / batch


def repeat(calls: Sequence[Callable[[], Any]], clock: Callable[[], float]) -> list[list[float]]:
    """Return the seconds that each repetition of each of several calls took, after one of each that is not counted.

    The calls take turns, so that what else the machine does meets all of them alike. There are at least `FEWEST` and at most
    `MOST` rounds, as many as fit into `SECONDS` for each call.
    """
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    spent = 0.0
    while len(times[0]) < FEWEST or (spent < SECONDS * len(calls) and len(times[0]) < MOST):
        for call, of_call in zip(calls, times, strict=True):
            began = clock()
            call()
            of_call.append(clock() - began)
            spent += of_call[-1]
    return times


def rate(seconds: Interval, examples: int) -> Interval:
    """Return examples per second of an interval of the seconds that so many examples take."""
    ends = {"estimate": seconds.estimate, "low": seconds.high, "high": seconds.low}
    return Interval(
        **{name: examples / value for name, value in ends.items()},
        level=seconds.level,
        resampled=seconds.resampled,
        count=seconds.count,
    )
