"""What a study will take, in words and tables: for `kd-jax plan`."""

from collections.abc import Mapping
from typing import Any

from kd_jax.report.tables import Table

# libtpu 0.0.50.1, 26 November 2026, a step of training in ms, compiled and scaled from v5e-8: 1.447 and 0.503; 2.082 and 1.152.
# roberta_base on v5e-8, compiled and scaled from one v5e chip: 13.47 and 6.62.
HELD = (
    "Scaled figures that were held against compiled ones were too low, probably because the fewer examples a chip has, the less"
    " of it they fill: a step on v4-32 takes 2.9 times (resnet20) and 1.8 times (resnet18_small) what is scaled from v5e-8, and of"
    " roberta_base on v5e-8 2.0 times what is scaled from one chip."
)


def table(found: Mapping[str, Any]) -> Table:
    """Return a row per compiled program: training steps, then evaluations.

    Args:
        found: what `studies.forecast.forecast` returned.
    """
    rows = []
    for step in found["steps"]:
        who = f"{step['teacher']} -> {step['network']}" if step["teacher"] else step["network"]
        looked_up = ", answers looked up" if step["teacher_table"] else ""
        rows.append(_row(who, f"step of {', '.join(step['arms'])}{looked_up}{_seeds(step)}", step))
    rows += [_row(each["network"], f"evaluation{_seeds(each)}", each) for each in found["evaluations"].values()]
    header = (
        "network",
        "program",
        "batch",
        "FLOPs ms",
        "memory ms",
        "cycles, launches ms",
        "limited by",
        "peak GB",
        "compiled in",
    )
    return Table(header, rows)


def _row(who: str, what: str, of: Mapping[str, Any]) -> tuple[str, ...]:
    if not of["fits"]:
        return (who, what, str(of["batch_size"]), "", "", "", "does not fit", "", _seconds(of["compile_seconds"]))
    times = of["milliseconds"]
    last = times.get("cycles", times.get("launches"))
    return (
        who,
        what,
        str(of["batch_size"]),
        *("" if value is None else f"{value:.3g}" for value in (times["FLOPs"], times["memory"], last)),
        of["binds"],
        f"{of['peak_bytes'] / 1e9:.2f}",
        _seconds(of["compile_seconds"]),
    )


def _seeds(program: Mapping[str, Any]) -> str:
    """Of how many seeds a program is, where it is of several."""
    return f", {program['seeds_at_once']} seeds at once" if program["seeds_at_once"] > 1 else ""


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s"


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return what else is to be said of a plan, a sentence or two a line.

    Args:
        found: what `studies.forecast.forecast` returned.
    """
    kept = found["footprint"]
    said = [
        f"{found['runs']} runs of {found['total_steps']:,} steps in all keep {kept['checkpoints']:,} checkpoints, and up to"
        f" {kept['states']:,} states to resume from: {kept['files']:,} files, {kept['bytes'] / 1e6:,.1f} MB.",
        f"Compiling took {found['compile_seconds']:.0f} s here; a run's first steps wait as long on a host as fast as this one.",
    ]
    reduced = [each for each in found["steps"] if each["all_reduces"]]
    if reduced:
        most = max(reduced, key=lambda each: each["all_reduces"])
        said.append(
            f"A step of {most['network']} has {most['all_reduces']} all-reduces, {most['all_reduce_bytes'] / 1e6:.2f} MB together."
        )
    return [*said, *found["notes"], found["cannot_know"]]


def sentence(found: Mapping[str, Any]) -> str:
    """Return the sum of it in one line: fits or not, milliseconds a step, what binds, hours.

    Args:
        found: what `studies.forecast.forecast` returned.
    """
    where = f"{found['chips']} x {found['chip']}" + (f" on {found['hosts']} hosts" if found["hosts"] > 1 else "")
    memory = f"{found['peak_bytes'] / 1e9:.1f} of {found['memory_bytes'] / 1e9:.1f} GB a chip"
    if not found["fits"]:
        problems = [each["problem"] for each in (*found["steps"], *found["evaluations"].values()) if each["problem"]]
        said = f"the compiler says: {problems[0][:160]}" if problems else memory
        return f"does not fit: {where}; {said}; lower --batch_size or take more chips"
    step = max(found["steps"], key=lambda each: (each["teacher"] is not None, each["estimated_ms"]))
    who = f"{step['teacher']} -> {step['network']}" if step["teacher"] else step["network"]
    who += _seeds(step)
    return (
        f"fits: {where}, {memory}; estimated {step['estimated_ms']:.3g} ms a step of {who} ({step['examples_per_second']:,.0f}"
        f" examples/s), limited by {step['binds']}; {_hours(found['hours'])} hours for all {found['runs']} runs,"
        f" {_hours(found['chip_hours'])} chip hours"
    )


def settings(found: Mapping[str, Any]) -> Table:
    """Return the paper's settings with the hours that each would take, as it was estimated before.

    Args:
        found: the contents of `recipes/estimates.json`.
    """
    names = found["topologies"]
    header = ("", "setting", *(f"{name} [h]" for name in names))
    rows = [
        (str(row["number"]), row["name"], *(_marked(row["hours"][name], row["how"][name]) for name in names))
        for row in found["settings"]
    ]
    rows.append(("", "all of them", *(_marked(found["total"][name]) for name in names)))
    rows.append(("", "the same, equal runs once", *(_marked(found["total_once"][name]) for name in names)))
    chips = {name: found["chips"][name] for name in names}
    rows.append(
        (
            "",
            "the same, in chip hours",
            *(_marked(_times(found["total_once"][name], chips[name])) for name in names),
        )
    )
    compiled = "; ".join(f"{name}: {_compiled(found, name)}" for name in names)
    note = (
        f"Hours for {found['seeds']} seeds of every arm in {found['precision']}, one run after the other on all chips."
        f" Compiled steps: {compiled}. Without a mark: from those, deeper networks by their equal blocks; ~: scaled by operations"
        f" from the nearest; >: a lower bound, for of a GPU there is no estimate; of images such a bound is multiplied by what was"
        f" measured over it. {HELD} {found['cannot_know']}"
    )
    return Table(header, rows, note)


def _compiled(found: Mapping[str, Any], topology: str) -> str:
    there = [each for each in found["compiled"] if each["topology"] == topology]
    return ", ".join(f"{each['network']} ({each['group']})" for each in there) or "none"


def _marked(hours: float | None, how: str = "") -> str:
    if hours is None:
        return "?"
    marks = (">" if "lower bound" in how else "") + ("~" if "FLOPs of" in how else "")
    return f"{marks}{_hours(hours)}"


def _times(hours: float | None, chips: int) -> float | None:
    return None if hours is None else hours * chips
