"""The paper's scoreboard as tables, sentences and a page, from the contents of its `summary.json`."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kd_jax.recipes import reported
from kd_jax.report import again, page, tables
from kd_jax.report.tables import Table

NAME = "The paper's settings"
COUNTS = "Counts"
CSV_COLUMNS = (
    "number",
    "kind",
    "name",
    "recipe",
    "status",
    "folder",
    "seeds",
    "reported_teacher_accuracy",
    "reported_student_accuracy",
    *(
        f"{name}{end}"
        for name in ("gain", "over_teacher", "slope_test", "slope_train")
        for end in ("", "_low", "_high")
    ),
    "verdict_test",
    "verdict_train",
    "steps",
    "examples",
    "flops",
    "hours",
    "command",
)


def answer(summary: Mapping[str, Any]) -> list[str]:
    """Return how many settings were run and what came out of them beside what was reported, in sentences."""
    rows = summary["settings"]
    run = [row for row in rows if row["status"] == "run"]
    said = [f"{len(run)} of the paper's {len(rows)} settings have been run here."]
    for count in summary["counts"]:
        came = "none of them run here."
        if count["run"]:
            came = (
                f"here supported in {count['supported']}, inconclusive in {count['inconclusive']}, contradicted in"
                f" {count['contradicted']}, not run in {count['settings'] - count['run']} (slope above 1 in {count['above_1']})."
            )
        said.append(
            f"{count['kind'].capitalize()}, {count['split']}: reported {count['what']} in {count['found']} of"
            f" {count['settings']} settings; {came}"
        )
    return said


def table(summary: Mapping[str, Any]) -> Table:
    """Return a setting per row: what was reported, what was run, and what came out."""
    header = (
        "setting",
        "recipe",
        "reported",
        "here",
        "student less teacher",
        "gain over its twin",
        "slope, test, lowest 25 %",
        "slope, train, lowest 25 %",
    )
    rows = []
    for row in summary["settings"]:
        cells = [_named(row), row["recipe"] or "-", _reported(row["reported"])]
        if row["status"] != "run":
            cells += [row["status"], *["-"] * 4]
        else:
            seeds = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
            cells += [seeds, _points(row["over_teacher"]), _points(row["gain"])]
            for split in ("test", "train"):
                verdict = row["verdicts"].get(split, {}).get("verdict", "no verdict")
                cells.append(f"{_shown(row['slopes'][split])}, {verdict}" if row["slopes"][split] else "-")
        rows.append(cells)
    note = (
        "Reported: student less teacher, a single run each, without an interval [R]; that it belongs to this recipe is recollected"
        " [?]. Accuracies in points; in self-distillation, student less teacher is the gain. Twin: the student's network without"
        " distillation. Which network teaches which, and the recipes, are our reconstruction [?]."
    )
    return Table(header, rows, note, title="All settings")


def _named(row: Mapping[str, Any]) -> str:
    return f"{row['number']}. {row['name']}"


def _reported(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{found['gain']:+.2f} ({found['teacher_accuracy']:g} to {found['student_accuracy']:g})"


def _points(interval: Mapping[str, Any] | None) -> str:
    if interval is None:
        return "-"
    estimate, low, high = (100 * interval[name] for name in ("estimate", "low", "high"))
    return f"{estimate:+.2f} [{low:+.2f}, {high:+.2f}]"


def _shown(interval: Mapping[str, Any] | None) -> str:
    return "-" if interval is None else f"{interval['estimate']:.2f} [{interval['low']:.2f}, {interval['high']:.2f}]"


def counts(summary: Mapping[str, Any]) -> Table:
    """Return what was reported of how many settings, and what was found here."""
    header = ("settings", "split", "reported", "run", "supported", "inconclusive", "contradicted", "slope above 1")
    rows = [
        (
            count["kind"],
            count["split"],
            f"{count['found']} of {count['settings']} ({count['what']})",
            *(str(count[name]) for name in ("run", "supported", "inconclusive", "contradicted", "above_1")),
        )
        for count in summary["counts"]
    ]
    note = (
        "Supported here needs an interval above 1 and above the control's, which is more than was reported: single runs without"
        " intervals or controls. The last column counts slopes above 1 whatever their interval."
    )
    return Table(header, rows, note, title=COUNTS, sortable=False)


def costs(summary: Mapping[str, Any]) -> Table | None:
    """Return what one seed of each setting that was not run costs; None where all were run."""
    rows = [[_named(row), *_cost(row["cost"])] for row in summary["settings"] if row["status"] != "run"]
    if not rows:
        return None
    header = ("setting", "steps", "examples", "operations", "hours")
    note = (
        "Estimates for one seed: a teacher, a student and its twin. Operations: those of one example forward as XLA counts them in"
        " the program, three times as many for a step of training, and the teacher's forward beside the student's; texts at full"
        " length, an upper bound. Hours: only where the same networks were trained here on examples of that shape, at the speed"
        " measured there; not known otherwise."
    )
    return Table(header, rows, note, title="Not run yet")


def cost_line(cost: Mapping[str, Any]) -> str:
    """Return the estimated cost of one seed of a setting, as part of a sentence."""
    steps, examples, flops, hours = _cost(cost)
    of_time = f"{hours} h" if cost["hours"] is not None else f"hours {hours}"
    return f"about {steps} steps, {examples} examples, {flops} a seed; {of_time}"


def _cost(cost: Mapping[str, Any]) -> list[str]:
    hours = "not known" if cost["hours"] is None else f"{cost['hours']:.3g} (as {cost['measured_in']})"
    return [f"{cost['steps']:,}", f"{cost['examples'] / 1e6:.3g} M", _flops(cost["flops"]), hours]


def _flops(count: float) -> str:
    """
    >>> _flops(1.5e18), _flops(2.04e16)
    ('1.5 EFLOP', '20.4 PFLOP')
    """
    return f"{count / 1e18:.3g} EFLOP" if count >= 1e18 else f"{count / 1e15:.3g} PFLOP"


def others(summary: Mapping[str, Any]) -> Table | None:
    """Return the studies that were found and are none of the settings, and why; None where there is none."""
    rows = []
    for each in summary["others"]:
        gain = _points(each.get("gain")) if each["analysed"] else "not analysed"
        slopes = each.get("slopes", {})
        rows.append(
            [
                each["folder"],
                f"{each['name']}{', recipe ' + each['recipe'] if each['recipe'] else ''}",
                _why(each),
                str(each["seeds"]),
                gain,
                *(_shown(slopes.get(split)) for split in ("test", "train")),
            ]
        )
    if not rows:
        return None
    header = (
        "work folder",
        "what it is",
        "why it is none of the settings",
        "seeds",
        "gain over its twin",
        "slope, test, lowest 25 %",
        "slope, train, lowest 25 %",
    )
    return Table(header, rows, "They count for nothing above.", title="Other studies that were found")


def _why(each: Mapping[str, Any]) -> str:
    if each["nearest"] is None:
        return "no setting has these networks on this data"
    told = [f"{field} {_value(own)}, not {_value(theirs)}" for field, (own, theirs) in each["differs"].items()]
    return f"not setting {each['nearest']}: {'; '.join(told)}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return " ".join(map(_value, value)) or "none"
    return "none" if value == "" else str(value)


def listed(summary: Mapping[str, Any]) -> list[Table]:
    """Return all tables of a scoreboard."""
    found = [table(summary), counts(summary), costs(summary), others(summary)]
    return [each for each in found if each is not None]


def csv_rows(summary: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Yield every setting as a row of `CSV_COLUMNS`, unrounded."""
    for row in summary["settings"]:
        values: dict[str, Any] = {name: row[name] for name in ("number", "kind", "name", "recipe", "status")}
        values["command"] = shlex.join(row["command"])
        values["folder"] = next(iter(row["folders"]), "")
        if row["reported"]:
            values |= {f"reported_{who}_accuracy": row["reported"][f"{who}_accuracy"] for who in ("teacher", "student")}
        if row["status"] == "run":
            values["seeds"] = row["seeds"]
            measured = {"gain": row["gain"], "over_teacher": row["over_teacher"]}
            measured |= {f"slope_{split}": row["slopes"][split] for split in ("test", "train")}
            for name, interval in measured.items():
                if interval:
                    values |= {
                        name: interval["estimate"],
                        f"{name}_low": interval["low"],
                        f"{name}_high": interval["high"],
                    }
            values |= {f"verdict_{split}": of["verdict"] for split, of in row["verdicts"].items()}
        else:
            values |= {name: row["cost"][name] for name in ("steps", "examples", "flops", "hours")}
        yield ["" if (value := values.get(column)) is None else value for column in CSV_COLUMNS]


def _commands(summary: Mapping[str, Any]) -> Table:
    rows = [(_named(row), shlex.join(row["command"])) for row in summary["settings"]]
    return Table(("setting", "command"), rows, sortable=False)


def elsewhere() -> Table:
    """Return what other projects report of the same networks."""
    rows = [
        (each.dataset, each.network, each.teacher or "-", f"{each.accuracy:g}", each.source)
        for each in reported.ELSEWHERE
    ]
    note = "Reported by others, under recipes of their own; none of it was measured here."
    return Table(
        ("data", "network", "taught by", "test accuracy [%]", "source"), rows, note, title="The same networks elsewhere"
    )


def write(folder: Path, summary: Mapping[str, Any], reports: Mapping[str, str]) -> None:
    """Write `table.md` and `report.html` of a scoreboard.

    Args:
        folder: where to write.
        summary: contents of its `summary.json`.
        reports: {what it is: path of a study's page, relative to this one}.
    """
    main = table(summary)
    (folder / "table.md").write_text(tables.markdown(main.header, main.rows), encoding="utf-8")
    rest = [page.folded("How to run them", "The command of each setting", _commands(summary))]
    if reports:
        rest.append(page.links("Each by itself", reports))
    text = page.render(
        NAME,
        [f"Source of what is reported: {reported.PAPER}."],
        [],
        [each["why"] for each in summary["unread"]],
        [each for each in (*listed(summary), elsewhere()) if each.title != COUNTS],
        {},
        {},
        rest,
        answer=answer(summary),
        first=counts(summary),
        again=again.command(summary["made"]),
        files=page.files_in(folder),
    )
    (folder / "report.html").write_text(text, encoding="utf-8")
