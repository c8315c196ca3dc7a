"""One setting of benchmark.py in kd_jax: the compiled program that studies run, told by the driver when to run."""

import contextlib
import json
import sys
import time
from functools import partial
from operator import itemgetter
from pathlib import Path

import jax
import numpy as np
from benchmark import answer, examples, serve

from kd_jax import data, losses, models
from kd_jax.config import Data, Distillation, Training
from kd_jax.data.arrays import Source, Split, digest
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.train import devices as parallel
from kd_jax.train import engine, loop
from kd_jax.train.teachers import Table


def dataset_of(setting: dict) -> data.Dataset:
    """Return the examples of a setting as a study has them."""
    x, y = examples(setting)
    if setting["kind"] == "texts":
        ids = np.arange(len(y))
        train, test = Split(x, y, y, ids, len(y)), Split(x[:64], y[:64], y[:64], ids[:64], 64)
        return TokenisedTexts(
            name="benchmark",
            train=train,
            test=test,
            classes=setting["classes"],
            test_split="test",
            fingerprint=digest(train, test),
            vocabulary=setting["vocabulary"],
            buckets=(setting["length"],),
            tokenizer_json="",
            token_facts={"positions": setting["length"]},
        )
    from kd_jax.data.images import assemble

    names = np.array([], np.str_)
    return assemble(Source("benchmark", x, y, x[:64], y[:64], setting["classes"], "test", names), Data())


def training_of(setting: dict) -> Training:
    """Return how a setting's student is trained."""
    texts = setting["kind"] == "texts"
    return Training(
        epochs=10_000,
        batch_size=setting["batch"],
        augment=setting.get("augment", "none"),
        learning_rate=2e-5 if texts else 0.01,
        optimizer="adamw" if texts else "nesterov",
        weight_decay=0.01 if texts else 5e-4,
        dropout=0.1 if texts else 0.0,
    )


def flat(params) -> dict[str, np.ndarray]:
    """Return {"layer/kernel": array} of a tree of parameters."""
    leaves, _ = jax.tree.flatten_with_path(params)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def first_loss(setting: dict, dataset: data.Dataset, student, teacher) -> float:
    """Return the mean loss of the first batch in float32, on clean views, with the statistics of the batch."""
    build = partial(models.build, classes=dataset.classes, **dataset.network_settings)
    settings = Distillation()
    objective = losses.label_objective()
    if teacher is not None:
        objective = losses.distillation_objective(lambda step: settings.weight, "kd", settings)

    def loss(student, teacher, x, y):
        view = dataset.clean_view(np.float32)(x)
        train = setting["kind"] == "images"  # texts would draw dropout
        batch = {"y": y}
        if teacher is not None:
            batch["teacher"] = build(setting["teacher"]).apply(teacher, view)
        return objective(build(setting["student"]).apply(student, view, train=train), batch, 0).mean()

    x, y = dataset.train.x[: setting["batch"]], dataset.train.y[: setting["batch"]]
    with jax.default_matmul_precision("highest"):
        return float(jax.jit(loss)(student, teacher, x, y))


def profiled(run, block, steps: int) -> list[str]:
    """Return lines that say what the device spends the time of a step on, the longest first, from JAX's profiler."""
    import tempfile
    from collections import Counter

    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            taken = run(steps)
            block()
        path = next(iter(Path(folder).rglob("*.xplane.pb")))
        seen = jax.profiler.ProfileData.from_file(str(path))
        spent, count, first, last = Counter(), Counter(), float("inf"), 0.0
        for plane in seen.planes:
            if "/device:" not in plane.name:
                continue
            for line in plane.lines:
                if not line.name.startswith("Stream"):
                    continue
                for event in line.events:
                    spent[event.name] += event.duration_ns
                    count[event.name] += 1
                    first, last = min(first, event.start_ns), max(last, event.start_ns + event.duration_ns)
    total = sum(spent.values())
    span = (last - first) / taken / 1e6 if total else 0.0
    lines = [
        f"{sum(count.values()) / taken:.0f} kernels a step, {total / taken / 1e6:.2f} ms of {span:.2f}; the longest:"
    ]
    for name, nanoseconds in spent.most_common(40):
        lines.append(f"{nanoseconds / taken / 1e3:9.1f} us {count[name] / taken:6.1f} x  {name[:110]}")
    return lines


def seconds_a_view(answers, teacher) -> float:
    """Return how long a table takes for each view of all examples, from its second to its fifth."""
    times = []

    class Enough(Exception):
        """Five views have been asked about."""

    def told(number, count):
        times.append(time.perf_counter())
        if number == min(5, count - 1):
            raise Enough

    with contextlib.suppress(Enough):
        answers(teacher, told)
    return (times[-1] - times[1]) / max(len(times) - 2, 1)


def main(setting: dict) -> None:
    devices = parallel.select(setting["platform"])[:1]
    dataset, training = dataset_of(setting), training_of(setting)
    build = partial(engine.build, setting["precision"], training, dataset, devices=devices)
    teacher, lanes = None, setting.get("lanes", 0)
    if setting["teacher"]:
        teacher = build(setting["teacher"]).start(jax.random.key(1)).variables
        of_teacher = engine.Teacher(setting["teacher"], Distillation(), "kd", in_table=setting["table"])
        engine_of = build(setting["student"], teacher=of_teacher, lanes=lanes)
    else:
        engine_of = build(setting["student"], lanes=lanes)
    seeds = range(max(lanes, 1))
    state = engine_of.start(*(jax.random.key(seed) for seed in seeds))
    student = engine_of.apart(state.variables)[0]
    networks = {"student": student} | ({"teacher": teacher} if teacher else {})
    weights: dict = {f"{arm}:{name}": leaf for arm, of in networks.items() for name, leaf in flat(of.params).items()}
    np.savez(setting["weights"], **weights)
    loss = first_loss(setting, dataset, student, teacher)
    orders = [dataset.rows_of(seed, 0, training.batch_size) for seed in seeds]
    of_seeds = list if lanes else itemgetter(0)
    keys = of_seeds([jax.random.key(2 + seed) for seed in seeds])
    feed = engine_of.feed(of_seeds(orders), keys)
    asked, views = teacher, 0
    if engine_of.answers is not None:
        views = dataset.view_count(training.augment)
        shape = len(dataset.train.y) * views, dataset.classes
        asked = Table(np.zeros(shape, np.float32))  # a step takes as long whatever they are
    constants = engine_of.constants(keys, of_seeds([asked] * len(seeds)))
    total = training.epochs * feed.steps_per_epoch
    pauses = loop.segments(state, engine_of.zero(), engine_of, constants, feed, total, [])
    latest = {}

    def run(steps: int) -> int:
        begin = latest["step"]
        while latest["step"] < begin + steps:
            pause = next(pauses)
            latest.update(step=pause.step, totals=pause.totals)
        return latest["step"] - begin

    latest["step"] = 0
    began = time.perf_counter()
    run(1)
    compiled = time.perf_counter() - began
    began = time.perf_counter()
    taken = run(2)
    compiled -= (time.perf_counter() - began) / taken
    shown = profiled(run, lambda: None, 8) if setting.get("profile") else []
    filling = seconds_a_view(engine_of.answers, teacher) * views if views else None
    answer(
        compile_seconds=compiled,
        first_loss=loss,
        device=devices[0].device_kind,
        segment_steps=engine_of.segment_steps,
        jax=jax.__version__,
        peak_bytes=parallel.peak_memory(devices)["device_bytes"],
        profile=shown,
        table_seconds=filling,
        seeds=len(seeds),
    )
    # A pause comes only when the device has finished.
    serve(run, lambda: None)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
