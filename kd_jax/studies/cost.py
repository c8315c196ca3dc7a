"""What the networks of a study cost to run on this device: parameters, bytes, operations, time. File: `analysis/cost.json`."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

from kd_jax import data, models
from kd_jax.analysis import intervals, results
from kd_jax.analysis.results import Interval
from kd_jax.config import versions
from kd_jax.data import Dataset
from kd_jax.errors import BadInput
from kd_jax.extract.logits import analysis_precision, model_of, view_of
from kd_jax.models import Variables
from kd_jax.plan import TEACHER, Run
from kd_jax.studies.prepare import Prepared, open_study
from kd_jax.studies.report import write_report
from kd_jax.workdir import checkpoints, records

FILE = "cost.json"
SECONDS = 0.25  # spent on repetitions of one network and batch size, about
FEWEST, MOST = 3, 200  # repetitions
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
    path = Path(workdir) / "analysis" / "summary.json"
    records.read_study(workdir)
    if not path.is_file():
        raise BadInput(f"{workdir}: expected analysis/summary.json; run: kd-jax analyze {workdir}")
    prepared = open_study(workdir, data_dir, workers, load)
    with records.locked(workdir):
        found = measure(prepared, device, json.loads(path.read_text(encoding="utf-8")))
        records.write_json(path.with_name(FILE), found)
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
    networks, listed = {}, []
    for arm in arms:
        if arm.model not in networks:
            run = plan.run(arm.name, prepared.study.seed)
            step = plan.teacher_step if arm.name == TEACHER else run.length.total_steps
            variables = Variables(**checkpoints.load_variables(records.run_folder(prepared.workdir, run.name), step))
            networks[arm.model] = _of_network(variables, run, dataset, precision, x, device, clock)
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


def _of_network(
    variables: Variables,
    run: Run,
    dataset: Dataset,
    precision: str,
    x: np.ndarray,
    device: Any,
    clock: Callable[[], float],
) -> dict[str, Any]:
    model, view = model_of(run.arm.model, dataset, precision), view_of(dataset, precision)

    @jax.jit
    def forward(variables, x):
        with jax.default_matmul_precision("highest"):
            return model.apply(variables, view(x), train=False).logits

    here = jax.device_put(variables, device)
    times = {}
    flops = None
    for batch in (LATENCY_BATCH, THROUGHPUT_BATCH):
        # From the middle, for blocks of texts are sorted by length.
        start = (len(x) - batch) // 2
        inputs = jax.device_put(x[start : start + batch], device)
        compiled = forward.lower(here, inputs).compile()
        flops = flops or flops_of(compiled, batch)
        times[batch] = repeat(lambda run=compiled, given=inputs: jax.block_until_ready(run(here, given)), clock)
    single, many = (intervals.of_median(times[batch], "repetitions") for batch in times)
    return {
        "parameters": models.parameter_count(variables.params),
        "bytes": sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(variables)),
        "flops": flops,
        "latency": vars(single),
        "throughput": vars(rate(many, THROUGHPUT_BATCH)),
    }


def flops_of(compiled: Any, batch: int) -> float | None:
    """Return the floating-point operations of an example in a compiled program, as XLA counts them; None where it does not.

    Args:
        compiled: what `jax.jit(...).lower(...).compile()` returned.
        batch: how many examples it takes at a time.
    """
    counted = (compiled.cost_analysis() or {}).get("flops", -1)
    return float(counted) / batch if counted > 0 else None


def repeat(call: Callable[[], Any], clock: Callable[[], float]) -> list[float]:
    """Return the seconds that each of several calls took, after one that is not counted.

    There are at least `FEWEST` and at most `MOST`, as many as fit into `SECONDS`.
    """
    call()
    times: list[float] = []
    while len(times) < FEWEST or (sum(times) < SECONDS and len(times) < MOST):
        began = clock()
        call()
        times.append(clock() - began)
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
