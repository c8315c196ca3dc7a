"""How often verdicts are wrong, and how large an effect they find: tables in Markdown, by simulation.

    python tests/long_rates.py null power

About a quarter of an hour on one core. `kd_jax/analysis/simulated.py` says what is simulated.
"""

import sys
from functools import partial

import numpy as np

from kd_jax.analysis import power, simulated
from kd_jax.analysis.claims import LEVEL, decisions

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


TABLES = {"null": null, "power": found}

if __name__ == "__main__":
    for table in sys.argv[1:] or TABLES:
        TABLES[table]()
        print()
