"""How often verdicts are wrong, how large an effect they find, how often intervals hold the truth: tables, by simulation.

    python tests/long_rates.py null power coverage

About a quarter of an hour on one core. `kd_jax/analysis/simulated.py` says what is simulated.
"""

import sys
from functools import partial

import numpy as np
from scipy import stats

from kd_jax.analysis import across, calibration, exaggeration, intervals, power, simulated, summary
from kd_jax.analysis.claims import LEVEL, decisions
from kd_jax.analysis.examples import OfPair

SEEDS = (3, 5, 10)
NARROW = {"student": simulated.WEIGHTS["student"], "onehot_order": simulated.WEIGHTS["onehot_order"]}
# name: (simulation, a large effect, its unit)
KINDS = {
    "exaggeration, training points": (simulated.exaggeration, 2.0, "of slope"),
    "exaggeration, test points": (partial(simulated.exaggeration, slopes=simulated.TEST), 4.0, "of slope"),
    "exaggeration, test points, one control for all seeds": (
        partial(simulated.exaggeration, slopes=simulated.TEST, is_one_control=True),
        20.0,
        "of slope",
    ),
    "gain, 500 test examples": (simulated.gain, 0.5, "of accuracy"),
    "gain, 10,000 test examples": (partial(simulated.gain, spread=0.002, examples=10_000), 0.5, "of accuracy"),
    "gain, one control for all seeds": (partial(simulated.gain, is_one_control=True), 1.0, "of accuracy"),
    "bias of weights, nulls order, init, teacher": (simulated.bias, 3.0, "of log ratio"),
    "bias of weights, null order": (partial(simulated.bias, spreads=NARROW), 3.0, "of log ratio"),
    "bias of weights, no null": (
        partial(simulated.bias, spreads={"student": simulated.WEIGHTS["student"]}),
        3.0,
        "of log ratio",
    ),
    "bias of the movement of weights, nulls order, init, teacher": (
        partial(simulated.bias, spreads=simulated.MOVED, name="eigen_ratio_moved"),
        9.0,
        "of log ratio",
    ),
    "bias of functions, null order": (
        partial(simulated.bias, spreads=NARROW, name="function_ratio"),
        3.0,
        "of log ratio",
    ),
    "theory describes (filters, linearisation)": (simulated.theory, 0.049, "of error below 0.05"),
    "switched student keeps half, at half": (simulated.switching, 0.5, "of accuracy"),
    "switched student keeps half, no gain at all": (partial(simulated.switching, whole=0.0, half=0.0), 0, ""),
    "gain rises with the teacher's lead": (simulated.helping, 40.0, "of gain per unit"),
    "gain falls with the teacher's fit": (
        partial(simulated.helping, what="teacher_accuracy"),
        40.0,
        "of gain per unit",
    ),
}


def null(draws: int = 4000) -> None:
    """Print how often there is `supported`, and how often `contradicted`, where there is no effect."""
    print(f"| claim, no effect | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} |\n|---|{'---|' * len(SEEDS)}")
    for name, (simulate, *_) in KINDS.items():
        cells = []
        for seeds in SEEDS:
            rates = [simulated.rate(simulate, seeds, 0.0, draws, verdict) for verdict in ("supported", "contradicted")]
            cells.append(" / ".join(f"{100 * rate:.1f}" for rate in rates))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    cells = [f"{100 * any_of_five(seeds, draws):.1f}" for seeds in SEEDS]
    print(f"| any `supported` of the five of a study, after Holm's correction | {' | '.join(cells)} |", flush=True)


def any_of_five(seeds: int, draws: int) -> float:
    """Return how often any of five independent claims without an effect is supported."""
    rng = np.random.default_rng(seeds)
    exaggeration = [simulate for simulate, *_ in KINDS.values()][:2]
    kinds = [*exaggeration, simulated.gain, simulated.bias, simulated.switching]
    return float(
        np.mean(
            [
                any(each.verdict == "supported" for each in decisions([kind(rng, seeds, 0.0)[0] for kind in kinds]))
                for _ in range(draws)
            ]
        )
    )


def found(draws: int = 800) -> None:
    """Print the effect that is found in 80 % of studies, where it is the only claim, and where it is the first of five."""
    print(f"| claim | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} | effect |\n|---|{'---|' * len(SEEDS)}---|")
    formula = [" / ".join(f"{power.effect_found(seeds, level):.2f}" for level in (LEVEL, LEVEL / 5)) for seeds in SEEDS]
    print(f"| one t test, by formula | {' | '.join(formula)} | standard deviations of a paired difference |")
    for name, (simulate, most, unit) in KINDS.items():
        if not most:
            continue
        cells = []
        for seeds in SEEDS:
            sizes = [simulated.effect_found(simulate, seeds, draws, most, level) for level in (LEVEL, LEVEL / 5)]
            cells.append(" / ".join(f"{size:.3g}" for size in sizes))
        print(f"| {name} | {' | '.join(cells)} | {unit} |", flush=True)


def coverage(draws: int = 1000) -> None:
    """Print how often 95 % intervals hold the true value."""
    print(f"| over seeds | {' | '.join(f'{seeds} seeds' for seeds in SEEDS)} |\n|---|{'---|' * len(SEEDS)}")
    for name, (draw, interval, true) in OVER_SEEDS.items():
        cells = [_covered(draw, interval, true, seeds, 10 * draws) for seeds in SEEDS]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(
        f"\n| over examples | {' | '.join(f'{count:,} examples' for count in EXAMPLES)} |\n|---|{'---|' * len(EXAMPLES)}"
    )
    for name, (draw, interval, true) in OVER_EXAMPLES.items():
        cells = [_covered(draw, interval, true, count, draws) for count in EXAMPLES]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _covered(draw, interval, true, count, draws):
    rng = np.random.default_rng(count)
    found = [interval(draw(rng, count)) for _ in range(draws)]
    return f"{100 * np.mean([each is not None and each.low <= true <= each.high for each in found]):.1f}"


EXAMPLES = (75, 300, 1500)
OVER_SEEDS = {
    "mean, normal": (lambda rng, n: rng.normal(1, 0.3, n), intervals.over_seeds, 1.0),
    "mean, log-normal, deviation 0.3 of it": (
        lambda rng, n: rng.lognormal(-np.log(1.09) / 2, np.sqrt(np.log(1.09)), n),
        intervals.over_seeds,
        1.0,
    ),
    "eigendirection ratio of two log-normal runs, deviation 0.1 each": (
        lambda rng, n: np.exp(0.1 * np.subtract(*rng.normal(size=(2, n)))),
        intervals.over_seeds,
        np.exp(0.01),
    ),
    "share of a gain, by Fieller": (
        lambda rng, n: rng.multivariate_normal([0.6, 1.0], [[0.04, 0.02], [0.02, 0.03]], size=n).T,
        lambda values: across.ratio_of_means(*values),
        0.6,
    ),
}


def _sure(rng, count, shift=0.0):
    confidences = 1 - 0.5 * rng.beta(0.5, 2, count)
    return confidences, rng.uniform(size=count) < confidences - shift * (confidences > 0.6)


def _slopes(rng, count):
    """Confidences of a teacher, and of a student that bends and scatters the more the surer the teacher is."""
    x = rng.gamma(3, size=count)
    y = 0.5 * x**2 - 1 + (0.2 + 0.5 * x) * rng.normal(size=count)
    return OfPair(x, y, np.ones(count, bool), np.ones(count))


def _line(name, subset):
    x = stats.gamma(3).ppf((np.arange(400_000) + 0.5) / 400_000)
    true = exaggeration.lines(x, 0.5 * x**2 - 1)[subset]
    value = true.slope if name == "exaggeration_slope" else true.mean_deviation
    return _slopes, lambda pair: summary.measure_pair(pair)[name, subset].interval(), value


OVER_EXAMPLES = {
    "accuracy 0.9": (lambda rng, n: rng.uniform(size=n) < 0.9, intervals.of_proportion, 0.9),
    "accuracy 0.99": (lambda rng, n: rng.uniform(size=n) < 0.99, intervals.of_proportion, 0.99),
    "ECE, calibrated": (_sure, lambda values: calibration.ece_interval(*values), 0.0),
    "ECE, 0.1 too sure": (
        partial(_sure, shift=0.1),
        lambda values: calibration.ece_interval(*values),
        calibration.ece(*_sure(np.random.default_rng(0), 4_000_000, 0.1)),
    ),
    "mean of exponential losses": (lambda rng, n: rng.exponential(size=n), intervals.of_mean, 1.0),
    "mean of log-normal losses": (lambda rng, n: rng.lognormal(size=n), intervals.of_mean, np.exp(0.5)),
    "slope, all": _line("exaggeration_slope", "all"),
    "slope, lowest quarter": _line("exaggeration_slope", "lowest_25"),
    "slope, highest quarter": _line("exaggeration_slope", "highest_25"),
    "mean deviation, lowest quarter": _line("mean_deviation", "lowest_25"),
}

TABLES = {"null": null, "power": found, "coverage": coverage}

if __name__ == "__main__":
    for table in sys.argv[1:] or TABLES:
        TABLES[table]()
        print()
