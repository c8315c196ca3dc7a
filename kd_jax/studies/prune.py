"""Take checkpoints away that are not needed any more, and remember which: a pruned run counts as finished."""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kd_jax.config import from_json
from kd_jax.errors import BadInput
from kd_jax.files import remove
from kd_jax.plan import lengths_of, of_record, run_name, seeds_of
from kd_jax.studies.prepare import Prepared
from kd_jax.workdir import records

FEWEST = 3  # steps of a curve, step 0 among them
STATES = ("resume", "repair")  # stores from which a run that was stopped goes on


@dataclass
class Pruned:
    """What pruning took away, or would.

    Attributes:
        steps, states: numbers of checkpoints of trajectories, and of whole states from which finished runs would go on.
        files, bytes: what they were on the disk.
        unfinished: names of runs that were left alone, for they are not finished.
        curves: (fewest, most) steps that the trajectories of pruned runs have left.
        lost: whether weights can no longer be followed along training.
    """

    steps: int = 0
    states: int = 0
    files: int = 0
    bytes: int = 0
    unfinished: tuple[str, ...] = ()
    curves: tuple[int, int] = (0, 0)
    lost: bool = False


def check_keep(keep: str) -> int:
    """Return which steps of a trajectory a word keeps: every so many; 1 for `analysed`, all, and 0 for `last`, the last alone.

    >>> check_keep("every=4")
    4

    Raises:
        BadInput: for another word.
    """
    found = re.fullmatch(r"every=([1-9][0-9]*)", keep)
    if found:
        return int(found[1])
    if keep not in ("last", "analysed"):
        raise BadInput(f"--keep={keep}: expected last, analysed or every=N of at least 1; pass one such as every=4")
    return 1 if keep == "analysed" else 0


def kept(wanted: Iterable[int], every: int, also: Iterable[int]) -> set[int]:
    """Return the steps of a trajectory to keep: every so many of those asked for, both ends, and some others.

    >>> sorted(kept([0, 1, 5, 20, 40, 60], 2, [20]))
    [0, 5, 20, 40, 60]
    >>> sorted(kept([0, 1, 5], 0, []))
    [5]

    Args:
        wanted: the steps that were asked for, rising.
        every: 1 for all of them, 0 for the last alone.
        also: steps to keep besides, as that at which a teacher teaches.
    """
    wanted = list(wanted)
    return {*(wanted[::every] if every else ()), wanted[-1], *also}


def prune(workdir: Path | str, keep: str = "analysed", dry_run: bool = False) -> Pruned:
    """Take away what finished runs of a study or sweep no longer need, and return what that was.

    Gone are the states from which a run goes on after it was stopped, checkpoints that nobody asked for, and of the others those
    that `keep` leaves out. Both ends of a trajectory stay with `every=N`, the last step with `last`, and always the steps at which
    a teacher teaches and a control stands for it. `study.json` says from then on which steps were taken away, so they are not
    trained again.

    Args:
        workdir: the work folder of a study or a sweep.
        keep: `last`, `analysed` (all steps that an analysis reads) or `every=N` (each N-th of those).
        dry_run: whether to leave everything as it is.

    Raises:
        BadInput: for another word; for a folder without a study, or that of a variant of a sweep, whose runs others share; when
            another program works in it.
    """
    every, workdir = check_keep(keep), Path(workdir)
    if (workdir.resolve().parent / "sweep.json").is_file():
        raise BadInput(
            f"{workdir}: expected a study or a whole sweep, this is a variant of a sweep, which shares runs with others; run:"
            f" kd-jax prune {workdir.resolve().parent}"
        )
    is_sweep = (workdir / "sweep.json").is_file()
    folders = sorted(path.parent for path in workdir.glob("*/study.json")) if is_sweep else [workdir]
    studies = {folder: records.read_study(folder) for folder in folders}
    with ExitStack() as stack:
        for folder in dict.fromkeys([workdir, *folders]):
            stack.enter_context(records.locked(folder))
        return _prune(studies, keep, every, dry_run)


def _prune(studies: Mapping[Path, dict[str, Any]], keep: str, every: int, dry_run: bool) -> Pruned:
    needed: dict[Path, set[int]] = {}  # of every folder of a run, which variants of a sweep may share
    names: dict[Path, list[tuple[Path, str, set[int]]]] = {}
    unfinished: dict[str, None] = {}
    for workdir, record in studies.items():
        for name, wanted, also in _runs(record):
            folder = records.run_folder(workdir, name).resolve()
            if not folder.is_dir():
                continue
            if records.missing_steps(folder, set(wanted) - records.pruned_steps(record, name)):
                unfinished[name] = None
                needed.setdefault(folder, set()).update(records.kept_steps(folder))
                continue
            needed.setdefault(folder, set()).update(kept(wanted, every, also))
            names.setdefault(folder, []).append((workdir, name, set(wanted)))
    result = Pruned(unfinished=tuple(unfinished))
    away: list[Path] = []
    left = []
    for folder, uses in names.items():
        there = records.kept_steps(folder)
        gone = [step for step in there if step not in needed[folder]]
        stays = set(there) - set(gone)
        result.steps += len(gone)
        away += [folder / "trajectory" / str(step) for step in gone]
        for store in STATES:
            states = [path for path in (folder / store).glob("*") if path.name.isdigit()]
            result.states += len(states)
            away += [folder / store] if states else []
        left.append(len(stays))
        result.lost |= any(_is_no_curve(stays) and not _is_no_curve(wanted) for *_, wanted in uses)
        for workdir, name, wanted in uses:
            pruned = studies[workdir].setdefault("pruned", {"keep": keep, "steps": {}})
            pruned["keep"] = keep
            if taken := sorted(wanted - stays):
                pruned["steps"][name] = taken
    if left:
        result.curves = min(left), max(left)
    for path in away:
        files, size = _measured(path)
        result.files, result.bytes = result.files + files, result.bytes + size
    if not dry_run and names:
        # First the record: a step that is named there and still there does no harm, but one that is missing would be trained again.
        for workdir, record in studies.items():
            if "pruned" in record:
                records.write_study(workdir, record)
        for folder in names:
            remove(folder / ".pruned")  # of a program that was killed here
        for path in away:
            _remove(path)
    return result


def _runs(record: Mapping[str, Any]) -> Iterable[tuple[str, list[int], set[int]]]:
    """(name, steps asked for, steps to keep in any case) of every run that was trained in a study, rather than copied to it."""
    study, copies = from_json(record["config"]), record.get("teacher_from", {}).get("runs", {})
    design, lengths = of_record(study, record), lengths_of(record)
    for arm in design.arms:
        length = lengths[arm.name]
        also = {each.looked_at(length) for each in design.shown if arm.name in (each.name, each.part_of)}
        for seed in seeds_of(study, record):
            if (name := run_name(arm, seed)) not in copies:
                yield name, length.checkpoint_steps, also


def _measured(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return len(sizes), sum(sizes)


def _remove(path: Path) -> None:
    """Remove a step, or a store: out of its place in one move, so that no half of it is ever found there."""
    run = path.parent if path.name in STATES else path.parent.parent
    aside = run / ".pruned"
    aside.mkdir(exist_ok=True)
    os.rename(path, aside / path.name)
    shutil.rmtree(aside)


def _is_no_curve(steps: Iterable[int]) -> bool:
    return len(set(steps)) < FEWEST or 0 not in steps


def available(prepared: Prepared) -> tuple[Prepared, bool]:
    """Return (the study, as far as it can be analysed; whether its networks can no longer be followed along training).

    In its plan every run has the steps that were not taken away.
    """
    if "pruned" not in prepared.record:
        return prepared, False
    runs, lost = [], False
    for run in prepared.plan.runs:
        gone = records.pruned_steps(prepared.record, run.name)
        gone -= set(records.kept_steps(records.run_folder(prepared.workdir, run.name)))  # trained again since
        steps = [step for step in run.length.checkpoint_steps if step not in gone]
        lost |= _is_no_curve(steps) and not _is_no_curve(run.length.checkpoint_steps)
        runs.append(replace(run, length=run.length._replace(checkpoint_steps=steps)))
    return replace(prepared, plan=replace(prepared.plan, runs=tuple(runs))), lost


def sentences(record: Mapping[str, Any]) -> list[str]:
    """Return what a report says of a study from whose trajectories steps were taken away; nothing of any other.

    Args:
        record: contents of `study.json`.
    """
    gone = record.get("pruned", {}).get("steps", {})
    if not gone:
        return []
    asked = {name: steps for name, steps, _ in _runs(record)}
    left = [set(asked[name]) - set(taken) for name, taken in gone.items() if name in asked]
    if not left:
        return []
    said = f"pruned (--keep={record['pruned']['keep']}): trajectories have {min(map(len, left))} of"
    said += f" {max(map(len, asked.values()))} checkpoints"
    if any(map(_is_no_curve, left)):
        return [
            f"{said}, so weights and functions are not followed along training; what an earlier analysis found of them is in"
            " analysis-before-pruning, if there was one"
        ]
    return [f"{said}; curves along training go through those"]
