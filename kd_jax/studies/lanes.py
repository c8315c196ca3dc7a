"""Seeds of a kind of run as lanes of one program on the same devices: which kinds of runs, and in which order.

In a small dense network most of a step is what every operation takes to begin; of several seeds in one program each operation
begins once. Convolutions gain nothing on TPUs: with kernels of their own for every seed they fill its matrix units worse.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from kd_jax import models
from kd_jax.plan import Run
from kd_jax.studies.prepare import Prepared
from kd_jax.train import engine, hosts

SeedsAtOnce = Literal["auto", "on", "off"]
MOST = 16  # lanes of a program


def obstacle(prepared: Prepared, run: Run, asked: bool, platform: str, in_table: bool = False) -> str:
    """Return, in words, why the seeds of a kind of run are not lanes of one program; empty where they are.

    Where it is not asked for, they are on accelerators, in networks without convolutions. On a CPU the sums of several seeds at
    once are rounded otherwise than those of one, and what was published could not be made again to the bit.

    Args:
        prepared: the study.
        run: one of the runs.
        asked: whether it is asked for.
        platform: `cpu`, `gpu` or `tpu`.
        in_table: whether its teacher's answers are looked up in a table of all of them.
    """
    if hosts.count() > 1:
        return "several processes train together"
    study, plan = prepared.study, prepared.plan
    teacher = engine.Teacher.of(study, plan.given, in_table) if run.taught_by else None
    found = engine.lanes_obstacle(prepared.dataset, run.arm.model, teacher)
    if found or asked:
        return found
    if platform == "cpu":
        return "a CPU rounds several seeds at once otherwise than one"
    networks = [run.arm.model, *([teacher.model] if teacher is not None and teacher.model else [])]
    return "" if all(models.is_dense(name) for name in networks) else "convolutions"


def batches(runs: Sequence[Run], is_lane: Callable[[Run], bool]) -> list[list[Run]]:
    """Return which runs are trained at the same time, in an order in which teachers come before their students.

    Runs that are no lanes come alone. Where there are lanes, all runs without a teacher come before those with one; else runs keep
    their order.

    Args:
        runs: what is to be trained, in an order in which it can be.
        is_lane: whether a run is trained together with the other seeds of its kind.
    """
    found: dict[Any, list[Run]] = {}
    # A teacher is taught by nobody.
    for run in sorted(runs, key=lambda run: bool(run.taught_by)) if any(map(is_lane, runs)) else runs:
        kind = (run.arm.name, run.training, tuple(run.length.checkpoint_steps)) if is_lane(run) else run.name
        found.setdefault(kind, []).append(run)
    return [part for of_kind in found.values() for part in _shared_out(of_kind)]


def _shared_out(runs: list[Run]) -> list[list[Run]]:
    """No more than `MOST` in each part, and about as many in each."""
    parts = -(-len(runs) // MOST)
    return [runs[len(runs) * part // parts : len(runs) * (part + 1) // parts] for part in range(parts)]


def sentence(runs: Sequence[Run], why_not: Callable[[Run], str]) -> str:
    """Return which kinds of runs are trained with all their seeds in one program, and why others are not, as a sentence.

    Empty where none is.

    Args:
        runs: what is to be trained.
        why_not: `obstacle` of a run.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        names = found.setdefault(why_not(run), [])
        if run.arm.name not in names:
            names.append(run.arm.name)
    together = found.pop("", [])
    rest = "; ".join(f"{', '.join(names)} ({why})" for why, names in found.items())
    if not together:
        return f"No seeds in one program: {rest}."
    said = f"The seeds of {', '.join(together)} at once, as one program"
    return f"{said}; one after the other: {rest}." if rest else f"{said}."
