"""What the paper's 30 settings would take on some accelerators: a few steps compiled, the others reckoned from those.

A compile takes minutes, so one distillation step per network is compiled, with a teacher of its own kind. Its instructions say
which network they came from, so it gives two times: a forward pass of the frozen teacher, and all else, which is a step of
training. A student of another network takes its own training and its teacher's pass. Networks of equal blocks follow from two
shallow ones: each further block costs what the last did. What was not compiled at all is scaled by operations from a network that
was, and the table says so.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.plan import Run, make_plan
from kd_jax.recipes.settings import FORWARD_FLOPS, PaperSetting, settings
from kd_jax.studies.forecast import CANNOT_KNOW, dataset_of
from kd_jax.train import ahead, engine, hlo
from kd_jax.train import table as table_of
from kd_jax.train.ahead import Chip, Compiled, Topology

Record = dict[str, Any]
TRAINED = 3  # passes forward that a step of training costs, about
STEPS = 32  # of a call, among which what a call takes is shared
PRECISION = "bfloat16"
# On a GPU there is a bound and no estimate. Measured on an H100 with bfloat16 and batches of 1024 over what the bound says
# (26 November 2026, jax 0.11.2): ResNet-56 -> 56 21.98 ms over 7.48, ResNet-56 -> 20 10.43 ms over 3.68. Of texts nothing was.
OVER_BOUND = {"h100": 2.9}
# network -> (the same with fewer blocks, how many; with more, how many; its own)
BLOCKS = {
    "resnet56": ("resnet8", 1, "resnet20", 3, 9),
    "roberta_base": ("roberta_1x768", 1, "roberta_2x768", 2, 12),
    "roberta_medium": ("roberta_1x512", 1, "roberta_2x512", 2, 8),
    "roberta_small": ("roberta_1x512", 1, "roberta_2x512", 2, 4),
}
NETWORK = re.compile(r'op_name="[^"]*?(?:^|/)(?:CifarResNet|ResNet|MobileNetV2|RoBERTa|MLP|CNN)[/"]')


class Parts(NamedTuple):
    """Times of a network, for a batch over all chips.

    Attributes:
        train_ms: a step of training on labels [ms].
        forward_ms: a pass forward, as a teacher's [ms].
        how: `compiled`, or what it was reckoned from.
    """

    train_ms: float
    forward_ms: float
    how: str


def compiled(network: str, setting: PaperSetting, topology: Topology) -> tuple[Record, str]:
    """Return (what the compiler says of a network that teaches one of its kind in a setting; the text of the program).

    Args:
        network: its name; it need not be one of the setting.
        setting: gives data and batch size.
        topology: the accelerators.
    """
    study = setting.study.replaced(teacher=network, student=(network,), precision=PRECISION)
    dataset = _whole_length(dataset_of(study, setting.size, ""))
    built = engine.build(PRECISION, study.training, dataset, network, topology.devices, engine.Teacher.of(study))
    teacher = models.build(network, dataset.classes, PRECISION, **dataset.network_settings)
    variables = jax.eval_shape(teacher.init, jax.random.key(0), dataset.example())
    lowered = ahead.lower_step(built, variables, study.training.batch_size, topology.devices)
    found, text = ahead.compile_lowered(lowered)
    return record_of(network, setting, topology.name, len(topology.devices), topology.chip, found, text), text


def _whole_length(dataset: Any) -> Any:
    return replace(dataset, buckets=dataset.buckets[-1:]) if isinstance(dataset, TokenisedTexts) else dataset


def record_of(
    network: str, setting: PaperSetting, topology: str, chips: int, chip: Chip, found: Compiled, text: str
) -> Record:
    """Return what is kept of a compiled distillation step of a network with a teacher of its own kind."""
    read = hlo.parse(text)
    whole = dict(zip(("cycles", "traffic", "kernels"), read.totals(), strict=True))
    taught = dict(zip(("cycles", "traffic", "kernels"), read.totals(_is_teacher), strict=True))
    share = setting.study.training.batch_size // chips
    flops = FORWARD_FLOPS.get((network, setting.study.data.dataset), 0.0) * share
    times = []
    for passes, of, call in (
        (TRAINED, {name: whole[name] - taught[name] for name in whole}, found.call_cycles),
        (1, taught, 0),
    ):
        part = Compiled(
            True,
            flops=passes * flops,
            traffic_bytes=of["traffic"],
            cycles=of["cycles"] if found.cycles else None,
            call_cycles=call,
            kernels=of["kernels"],
        )
        times.append(1e3 * max(part.limits(chip, PRECISION, STEPS).values()))
    return {
        "network": network,
        "group": group_of(setting),
        "topology": topology,
        "chips": chips,
        "batch_size": setting.study.training.batch_size,
        "train_ms": times[0],
        "forward_ms": times[1],
        "peak_bytes": found.peak_bytes,
        "compile_cpu_seconds": found.cpu_seconds,
    }


def _is_teacher(line: hlo.Instruction) -> bool:
    return "jvp(" not in line.rest and bool(NETWORK.search(line.rest))


def group_of(setting: PaperSetting) -> str:
    """Return which settings cost alike: those of one shape of examples and one batch size.

    >>> group_of(settings()[0]), group_of(settings()[21])
    ('32x32, batch 1024', '512 tokens, batch 64')
    """
    example, batch = setting.size.example, setting.study.training.batch_size
    shown = f"{example[0]} tokens" if len(example) == 1 else f"{example[0]}x{example[1]}"
    return f"{shown}, batch {batch}"


def parts(network: str, setting: PaperSetting, topology: str, records: Sequence[Record]) -> Parts | None:
    """Return the times of a network in a setting; None where nothing like it was compiled."""
    there = {
        each["network"]: each for each in records if (each["topology"], each["group"]) == (topology, group_of(setting))
    }
    return _direct(network, there) or _scaled(network, setting, topology, records)


def _direct(network: str, there: Mapping[str, Record]) -> Parts | None:
    if network in there:
        return Parts(there[network]["train_ms"], there[network]["forward_ms"], "compiled")
    if network in BLOCKS:
        few, of_few, more, of_more, own = BLOCKS[network]
        if few in there and more in there:
            train, forward = (
                there[few][name] + (there[more][name] - there[few][name]) * (own - of_few) / (of_more - of_few)
                for name in ("train_ms", "forward_ms")
            )
            return Parts(train, forward, f"blocks of {few}, {more}")
    return None


def _scaled(network: str, setting: PaperSetting, topology: str, records: Sequence[Record]) -> Parts | None:
    """By operations, from the most similar network of a setting that is known: of the same kind of data, itself before others."""
    flops = FORWARD_FLOPS[network, setting.study.data.dataset] * setting.study.training.batch_size
    chips = _chips(topology)
    candidates = []
    for other in settings():
        for name in dict.fromkeys((other.study.networks.teacher, *other.study.networks.student)):
            for place in dict.fromkeys(each["topology"] for each in records):
                if _chip(place).platform != _chip(topology).platform:
                    continue  # a bound of a GPU and an estimate of a TPU are two things
                there = {
                    each["network"]: each
                    for each in records
                    if (each["topology"], each["group"]) == (place, group_of(other))
                }
                known = _direct(name, there)
                if known is None:
                    continue
                theirs = FORWARD_FLOPS[name, other.study.data.dataset] * other.study.training.batch_size
                alike = (
                    len(other.size.example) == len(setting.size.example),
                    (name, group_of(other)) == (network, group_of(setting)),
                    place == topology,
                    group_of(other) == group_of(setting),
                    name == network,
                    -abs(math.log(chips / _chips(place))),  # as many examples a chip as may be
                    -abs(math.log(theirs / flops)),
                )
                speed = _chip(topology).flops / _chip(place).flops * chips / _chips(place)
                factor = flops / theirs / speed
                candidates.append((alike, factor, known, f"{name} ({group_of(other)}, {place})"))
    if not candidates:
        return None
    _, factor, known, source = max(candidates, key=lambda each: each[0])
    return Parts(known.train_ms * factor, known.forward_ms * factor, f"FLOPs of {source}")


def _chips(topology: str) -> int:
    """The number of chips of a topology by name."""
    name = ahead.SLICES.get(topology, topology)
    _, _, sides = name.partition(":")
    count = 1
    for side in filter(None, sides.split("x")):
        count *= int(side)
    return count


def _chip(topology: str) -> Chip:
    return ahead.CHIPS[ahead.SLICES.get(topology, topology).partition(":")[0]]


def table(records: Sequence[Record], topologies: Sequence[str], seeds: int) -> dict[str, Any]:
    """Return the contents of `recipes/estimates.json`: what every setting takes on every topology.

    Args:
        records: what `compiled` returned.
        topologies: names of topologies.
        seeds: of every setting.
    """
    rows, once, keys = [], dict.fromkeys(topologies, 0.0), {name: set() for name in topologies}
    for setting in settings():
        study = setting.study.replaced(seeds=seeds)
        plan = make_plan(study, setting.size.train)
        hours: dict[str, float | None] = {}
        how: dict[str, str] = {}
        for topology in topologies:
            seconds = 0.0
            used: dict[str, str] = {}
            views = _views(setting, topology)
            for run in plan.runs:
                of_run = _seconds(run, study, setting, topology, records, used, views)
                seconds += of_run
                if run.key not in keys[topology]:
                    keys[topology].add(run.key)
                    once[topology] += of_run / 3600
            hours[topology] = seconds / 3600 if math.isfinite(seconds) else None
            how[topology] = "; ".join(f"{name}: {source}" for name, source in used.items())
        rows.append(
            {"number": setting.number, "name": setting.name, "runs": len(plan.runs), "hours": hours, "how": how}
        )
    return {
        "topologies": list(topologies),
        "chips": {name: _chips(name) for name in topologies},
        "seeds": seeds,
        "precision": PRECISION,
        "compiled": list(records),
        "settings": rows,
        "total": {name: _sum([row["hours"][name] for row in rows]) for name in topologies},
        "total_once": {name: _sum([hours]) for name, hours in once.items()},
        "cannot_know": CANNOT_KNOW,
    }


def _sum(hours: Sequence[float | None]) -> float | None:
    """The sum, or None where a part of it is not known."""
    known = [each for each in hours if each is not None and math.isfinite(each)]
    return sum(known) if len(known) == len(hours) else None


def _views(setting: PaperSetting, topology: str) -> int:
    """The views of an example whose answers a student looks up, as training decides it for one student; 0 where it asks anew.

    Slices of several chips count as several hosts, where nothing is looked up.
    """
    study, dataset = setting.study, dataset_of(setting.study, setting.size, "")
    asked, most = study.distillation.teacher_table, table_of.SHARE * _chip(topology).memory
    loss, training = study.distillation_loss, study.training
    if _chips(topology) > 1:
        return 0
    platform = _chip(topology).platform
    chosen = table_of.is_chosen(asked, dataset, training, loss, 1, 4, lambda size: size <= most, platform)
    return dataset.view_count(training.augment) if chosen else 0


def _seconds(
    run: Run,
    study: Study,
    setting: PaperSetting,
    topology: str,
    records: Sequence[Record],
    used: dict[str, str],
    views: int,
) -> float:
    """What a run takes on all chips of a topology, an evaluation after every epoch included; NaN where it is not known."""
    own = parts(run.arm.model, setting, topology, records)
    teacher = parts(study.networks.teacher, setting, topology, records) if run.taught_by else None
    if own is None:
        return math.nan
    used[run.arm.model] = own.how
    over = OVER_BOUND.get(topology, 1.0) if len(setting.size.example) == 3 else 1.0
    if topology in OVER_BOUND:
        used[run.arm.model] += f", times {over}, as measured" if over > 1 else ", a lower bound"
    # A table asks for every view once, else every step asks.
    asks = views * run.length.steps_per_epoch if views else run.length.total_steps
    of_teacher = asks * teacher.forward_ms if teacher else 0.0
    epochs = run.length.total_steps / run.length.steps_per_epoch
    evaluation = own.forward_ms * setting.size.test / run.training.batch_size
    return over * (run.length.total_steps * own.train_ms + of_teacher + epochs * evaluation) / 1e3
