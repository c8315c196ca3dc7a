"""What an analysis finds: estimates with their intervals, verdicts on claims, and runs that did not learn."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True)
class Interval:
    """An estimate and the range that holds the true value in `level` of all repetitions.

    Attributes:
        estimate, low, high: the estimate and the ends of the range.
        level: the share of repetitions whose range holds the true value, such as 0.95.
        resampled: what a repetition would draw anew: "examples" of the same networks, "sequences", whole groups of tokens
            that depend on each other, "seeds", whole trainings, or "repetitions" of a time that was measured.
        count: how many of them there were.
    """

    estimate: float
    low: float
    high: float
    level: float
    resampled: str
    count: int


class Measured(NamedTuple):
    """A number of one seed.

    Attributes:
        value: the number.
        interval: computes its interval over examples, which costs time and is asked for only with a single seed.
    """

    value: float
    interval: Callable[[], Interval]


# What an estimate can be about, in the order in which `summary.json` lists it.
ABOUT = ("variant", "against", "field", "split", "subset", "layer", "directions", "rank")


@dataclass(frozen=True)
class Estimate:
    """One number of `summary.json`: what was measured, of which runs, its interval, and the value of each seed.

    What a number is not about is empty here and absent from the JSON.

    >>> interval = Interval(0.5, 0.25, 0.75, 0.95, "seeds", 2)
    >>> gain = Estimate("accuracy_gain", "student", interval, (0.4, 0.6), split="test", subset="all")
    >>> list(gain.to_json())
    ['name', 'arm', 'split', 'subset', 'estimate', 'low', 'high', 'level', 'resampled', 'count', 'values']
    >>> Estimate.from_json(gain.to_json()) == gain
    True

    Attributes:
        name: one of the names of the interface, such as `exaggeration_slope`.
        arm: the arm whose runs were measured.
        interval: over seeds where there are two or more, else over examples.
        values: one per seed, in the order of the seeds; empty for a number that single seeds do not have.
        variant: folder of the sweep's variant that it is about.
        against: folder of the variant that `variant` is compared with.
        field: the one field of the configuration in which the variants looked at differ.
        split: `train`, `test`, or another split of the data.
        subset: `all`, `lowest_25`, `highest_25` (by the teacher's confidence), `clean`, `noisy` (by the label), and the quarters
            of those, such as `noisy_lowest_25`.
        layer: the layer whose weights were measured.
        directions: the eigendirections, or groups of them, that it is about, 0 the top; a pair for a ratio.
        rank: the place in the teacher's ordering of the classes that it is about, 1 the top class.
        no_verdict: whether no verdict may be drawn from it, as from directions that were chosen by hand. It is not in the JSON.
        kept: where values of some seeds are missing, the positions of the others among the seeds; else empty.
    """

    name: str
    arm: str
    interval: Interval
    values: tuple[float, ...]
    variant: str = ""
    against: str = ""
    field: str = ""
    split: str = ""
    subset: str = ""
    layer: str = ""
    directions: tuple[int, ...] = ()
    rank: int = 0
    no_verdict: bool = False
    kept: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as a flat dict of JSON values."""
        about = {key: value for key in ABOUT if (value := getattr(self, key))}
        if self.directions:
            about["directions"] = list(self.directions)
        kept = {"kept": list(self.kept)} if self.kept else {}
        return {"name": self.name, "arm": self.arm, **about, **vars(self.interval), "values": list(self.values), **kept}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Estimate":
        """Return the estimate that `to_json` wrote."""
        interval = Interval(**{each.name: values[each.name] for each in fields(Interval)})
        about = {key: values[key] for key in ABOUT if key in values}
        if "directions" in about:
            about["directions"] = tuple(about["directions"])
        kept = tuple(values.get("kept", ()))
        return cls(values["name"], values["arm"], interval, tuple(values["values"]), kept=kept, **about)


def read(summary: Mapping[str, Any]) -> list[Estimate]:
    """Return the estimates of a `summary.json`."""
    return [Estimate.from_json(values) for values in summary["estimates"]]


def index(estimates: Iterable[Estimate], *keys: str) -> dict[tuple[Any, ...], Estimate]:
    """Return {values of the keys: estimate}, of the estimates that are about all of these keys.

    >>> interval = Interval(1.0, 0.5, 1.5, 0.95, "seeds", 2)
    >>> ratio = Estimate("eigen_ratio", "student", interval, (0.9, 1.1), layer="Dense_0", directions=(0, 7))
    >>> list(index([ratio], "arm", "directions"))
    [('student', (0, 7))]
    >>> index([ratio], "arm", "split")
    {}

    Args:
        estimates: the estimates to choose from.
        keys: names of attributes. Where several estimates agree in all of them, the last one is kept.
    """
    table = {}
    for estimate in estimates:
        values = tuple(getattr(estimate, key) for key in keys)
        if all(values):
            table[values] = estimate
    return table


def paired(one: Estimate, other: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of two estimates, float64 [seeds] each, of the seeds for which both have one.

    >>> interval = Interval(1.0, 0.5, 1.5, 0.95, "seeds", 2)
    >>> student = Estimate("eigen_ratio", "student", interval, (0.7, 0.8, 0.9))
    >>> null = Estimate("eigen_ratio", "onehot_init", interval, (1.0, 1.2), kept=(0, 2))
    >>> [values.tolist() for values in paired(student, null)]
    [[0.7, 0.9], [1.0, 1.2]]
    """
    tables = [dict(zip(each.kept or range(len(each.values)), each.values, strict=True)) for each in (one, other)]
    both = [seed for seed in tables[0] if seed in tables[1]]
    first, second = (np.array([table[seed] for seed in both], np.float64) for table in tables)
    return first, second


REQUIRED = ("claim", "verdict", "because")  # of a verdict, in JSON
INCONCLUSIVE = "inconclusive"  # the verdict where a study shows neither the claim nor its opposite


class Verdict(NamedTuple):
    """A claim, whether a study supports it, and the numbers that decided.

    Attributes:
        claim: the claim, as a sentence.
        verdict: `supported`, `contradicted` or `inconclusive`.
        because: the numbers, in words.
        sentence: the answer as one sentence for a reader who knows none of the terms; it states nothing that is not supported.
        decided_by: which comparison or null decided, in words.
        p_value: the probability of a result as far from no effect, were there none; None where the verdict is no test. It is of
            two-sided t tests over seeds; of a claim with several parts, the largest.
        adjusted: the same after Holm's correction for all verdicts of the study; None without one.
        more_seeds: how many further seeds it would take to show an effect of the size that was found in four of five studies; None
            where that is not known, where the effect points the other way, or where even 1,000 seeds are too few.
        name, arm, split: the quantity, the arm and the split of the data that the claim is about, as of an `Estimate`; empty where
            it is about several or none.
    """

    claim: str
    verdict: str
    because: str
    sentence: str = ""
    decided_by: str = ""
    p_value: float | None = None
    adjusted: float | None = None
    more_seeds: int | None = None
    name: str = ""
    arm: str = ""
    split: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a dict of JSON values; what is empty or not known is absent."""
        values = self._asdict()
        return {name: value for name, value in values.items() if name in REQUIRED or value not in ("", None)}


# Why a run counts as not having learnt: (in a verdict, as a sentence after the name of the run).
REASONS = {
    "no_metrics": ("it has no metrics", "has no line in its metrics.jsonl: whether it learned is not known"),
    "loss_rose": (
        "its loss rose",
        "did not learn: training loss {first:.3g} in the first epoch, {last:.3g} in the last; lower --learning_rate (the"
        " distillation loss has a factor temperature^2), or raise --batch_size or --warmup",
    ),
    "constant_outputs": (
        "it gives every example the same logits",
        "did not learn: its logits vary by {spread:.1e} over the training examples, which is rounding beside their size of"
        " {size:.3g}; lower --learning_rate or raise --warmup",
    ),
    "at_chance": (
        "it is at chance",
        "did not learn: accuracy {accuracy:.3f} on its {examples} training labels is not shown to be better than {chance:.3f}, that"
        " of always naming the most frequent class; train longer, or change --learning_rate",
    ),
    "flat": (
        "its confidence hardly varies",
        "did not learn: its confidence varies by {spread:.3g} nats over the training examples, its teacher's by"
        " {teacher_spread:.3g} (standard deviations), so that no slope could be seen; train longer, or change --learning_rate",
    ),
    "behind": (
        "it is far behind both its teacher and its one-hot twin",
        "did not learn: accuracy {accuracy:.3f} on the training labels that are as published, where its teacher has {teacher:.3f}"
        " and its one-hot twin {onehot:.3f}; train longer, or change --learning_rate",
    ),
}


@dataclass(frozen=True)
class Unlearned:
    """A run that did not learn, or of which it is not known: its numbers say nothing about distillation.

    >>> Unlearned("student", 3, "loss_rose", {"first": 1.0, "last": 2.0}).to_json()
    {'arm': 'student', 'seed': 3, 'reason': 'loss_rose', 'first': 1.0, 'last': 2.0}

    Attributes:
        arm, seed: the run.
        reason: a key of `REASONS`; `kd_jax.analysis.learning` defines them.
        numbers: the numbers that decided, by name.
    """

    arm: str
    seed: int
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as a flat dict of JSON values."""
        return {"arm": self.arm, "seed": self.seed, "reason": self.reason, **self.numbers}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Unlearned":
        """Return the record that `to_json` wrote."""
        numbers = {key: value for key, value in values.items() if key not in ("arm", "seed", "reason")}
        return cls(values["arm"], values["seed"], values["reason"], numbers)

    def sentence(self, fix: str = "") -> str:
        """Return the record as a sentence, with what to do about it: `fix`, or else the advice for a run that is trained here.

        >>> numbers = {"accuracy": 0.1, "examples": 50, "chance": 0.2}
        >>> Unlearned("teacher", 0, "at_chance", numbers).sentence("look at its rows").endswith("class; look at its rows")
        True
        """
        said = f"{self.arm}-seed{self.seed} {REASONS[self.reason][1].format(**self.numbers)}"
        return f"{said.rpartition('; ')[0]}; {fix}" if fix and "; " in said else said
