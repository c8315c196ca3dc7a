"""Report of a comparison: studies and audits side by side, from the contents of its `summary.json`."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from kd_jax import config
from kd_jax.analysis import results
from kd_jax.analysis.differences import EQUAL
from kd_jax.analysis.results import Estimate
from kd_jax.report import again, page, sweeps, tables
from kd_jax.report.tables import Table

# (label of the row, name, whose: the key of the column's record that names the arm, split, subset, digits)
ROWS = (
    ("teacher, test accuracy", "accuracy", "taught_by", "test", "all", 3),
    ("teacher, train accuracy", "accuracy", "taught_by", "train", "all", 3),
    ("without distillation, test accuracy", "accuracy", "baseline", "test", "all", 3),
    ("student, test accuracy", "accuracy", "arm", "test", "all", 3),
    ("student, train accuracy", "accuracy", "arm", "train", "all", 3),
    ("gain in test accuracy", "accuracy_gain", "arm", "test", "all", 3),
    ("student less teacher, test accuracy", "accuracy_over_teacher", "arm", "test", "all", 3),
    ("agreement with the teacher, test", "agreement", "arm", "test", "all", 3),
    ("agreement with the teacher, train", "agreement", "arm", "train", "all", 3),
    ("ECE, teacher, test", "ece", "taught_by", "test", "all", 3),
    ("ECE, student, test", "ece", "arm", "test", "all", 3),
    ("slope, test, lowest 25 %", "exaggeration_slope", "arm", "test", "lowest_25", 2),
    ("control of it", "exaggeration_slope", "control", "test", "lowest_25", 2),
    ("slope, train, lowest 25 %", "exaggeration_slope", "arm", "train", "lowest_25", 2),
    ("control of it ", "exaggeration_slope", "control", "train", "lowest_25", 2),
)
VERDICTS = (
    ("exaggerates low confidence, test", "exaggeration_slope, test"),
    ("exaggerates low confidence, train", "exaggeration_slope, train"),
    ("better for being distilled", "accuracy_gain, test"),
)
ABOUT = ("data", "teacher", "student", "loss", "training", "seeds")
QUANTITIES = {  # of differences, as their sentences and rows have them: (name, split) -> (words, digits)
    ("accuracy_difference", "test"): ("test accuracy", 3),
    ("accuracy_difference", "train"): ("train accuracy", 3),
    ("accuracy_gain_difference", "test"): ("gain in test accuracy", 3),
    ("agreement_difference", "test"): ("agreement with the teacher (test)", 3),
    ("ece_difference", "test"): ("ECE (test)", 3),
    ("exaggeration_slope_difference", "test"): ("slope (test, lowest 25 %)", 2),
    ("exaggeration_slope_difference", "train"): ("slope (train, lowest 25 %)", 2),
}
ANSWERED = (
    "accuracy_difference",
    "accuracy_gain_difference",
    "exaggeration_slope_difference",
)  # among the first sentences
CAPTIONS = sweeps.CAPTIONS


def table(summary: Mapping[str, Any]) -> Table:
    """Return the table of a comparison: a quantity per row, a student per column; what does not apply is a dash.

    Args:
        summary: contents of its `summary.json`.
    """
    estimates = results.read(summary)
    known = results.index(estimates, "variant", "name", "arm", "split", "subset")
    columns = summary["columns"]
    rows = [[label, *(column[label] or "-" for column in columns)] for label in ABOUT]
    for label, name, whose, split, subset, digits in ROWS:
        cells = []
        for column in columns:
            found = known.get((column["name"], name, column[whose], split, subset))
            cells.append("-" if found is None else tables.shown(found.interval, digits))
        rows.append([label, *cells])
    for label, key in VERDICTS:
        rows.append([label, *(column["verdicts"].get(key, {}).get("verdict", "-") for column in columns)])
    kept = [row for row in rows if any(cell != "-" for cell in row[1:])]
    over = {each.interval.resampled for each in estimates}
    note = "Intervals are over seeds; of one seed or one teacher, over examples." if over > {"seeds"} else ""
    note = note or f"Intervals are over {next(iter(over), 'seeds')}."
    note += " The control is the slope of a network that never met the teacher; gain is over the same network without distillation."
    return Table(["", *(column["name"] for column in columns)], kept, note, title="Side by side", sortable=False)


def differences(summary: Mapping[str, Any]) -> Table | None:
    """Return the table of differences from the first study, a study per row; None where nothing is subtracted."""
    found = [each for each in summary["differences"] if "estimate" in each]
    if not found:
        return None
    used = [key for key in QUANTITIES if any((each["name"], each["split"]) == key for each in found)]
    rows = []
    for name in dict.fromkeys(each["variant"] for each in found):
        own = {(each["name"], each["split"]): each for each in found if each["variant"] == name}
        cells = [
            _signed(Estimate.from_json(own[key]).interval, QUANTITIES[key][1]) if key in own else "-" for key in used
        ]
        rows.append([name, *cells, next(iter(own.values()))["method"]])
    note = (
        "95 % intervals over seeds, each for itself: of twenty differences that are none, one is expected to have an interval"
        " without zero. Paired: the same seeds on the same data, subtracted seed by seed. Welch's t: other seeds."
    )
    if any(cell == "-" for row in rows for cell in row):
        note += (
            " A dash: equal in every seed, the same difference in every seed by chance, or not known of one of the two."
        )
    header = [f"less {found[0]['against']}", *(QUANTITIES[key][0] for key in used), "method"]
    return Table(*tables.turned(header, rows), note, title="Differences", sortable=False)


def differing(summary: Mapping[str, Any]) -> Table | None:
    """Return the table of the fields in which configurations differ, a field per row; None where there is none."""
    columns = [column["name"] for column in summary["columns"]]
    rows = [[field, *(_value(of, name) for name in columns)] for field, of in summary["differing"].items()]
    if not rows:
        return None
    return Table(
        ["field", *columns], rows, "All other settings are the same.", title="What was done differently", sortable=False
    )


def _value(of: Mapping[str, Any], name: str) -> str:
    if name not in of:
        return "-"  # an audit, which has no configuration
    value = of[name]
    value = tuple(value) if isinstance(value, list) else value
    return "none" if value in ((), "", None) else config.shown(value)


def listed(summary: Mapping[str, Any]) -> list[Table]:
    """Return all tables of a comparison."""
    found = [table(summary), differences(summary), differing(summary)]
    return [each for each in found if each is not None]


def answer(summary: Mapping[str, Any]) -> list[str]:
    """Return what came out, in sentences: which differences from the first are larger than chance, as intervals tell.

    Args:
        summary: contents of `summary.json`, without the answer.
    """
    said = []
    for column in summary["columns"][1:]:
        own = [each for each in summary["differences"] if each["variant"] == column["name"]]
        known = [each for each in own if "estimate" in each]
        if own and all(each.get("reason") == EQUAL for each in own):
            said.append(f"{column['name']} has the same numbers as {own[0]['against']}, seed by seed.")
        if not known:
            continue
        against = known[0]["against"]
        told = [
            f"{words} {'higher' if each['low'] > 0 else 'lower'}, {_signed(Estimate.from_json(each).interval, digits)}"
            for each in known
            if (each["low"] > 0 or each["high"] < 0) and each["name"] in ANSWERED
            for words, digits in [QUANTITIES[each["name"], each["split"]]]
        ]
        if told:
            said.append(f"{column['name']} against {against}: {'; '.join(told)}.")
        else:
            said.append(f"{column['name']} does not measurably differ from {against} in accuracy, gain or slopes.")
    return said or ["Nothing is subtracted here."]


def _signed(interval: results.Interval, digits: int) -> str:
    return f"{interval.estimate:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def write(folder: Path, summary: Mapping[str, Any], reports: Mapping[str, str]) -> None:
    """Write `table.md`, `figures/` and `report.html` of a comparison.

    Args:
        folder: where to write.
        summary: contents of its `summary.json`.
        reports: {name of a column: path of its own page, relative to this one}.
    """
    from kd_jax.report import figures, sweep_figures

    main = table(summary)
    (folder / "table.md").write_text(tables.markdown(main.header, main.rows), encoding="utf-8")
    figure = sweep_figures.variants(_as_sweep(summary))
    images = {"variants": figures.save(figure, folder / "figures" / "variants")}
    text = page.render(
        f"{' and '.join(_short(summary))}, side by side",
        [],
        _verdicts(summary),
        summary["warnings"],
        listed(summary)[1:],
        images,
        CAPTIONS,
        [page.links("Each by itself", reports)] if reports else [],
        answer=summary["answer"],
        first=main,
        again=again.command(summary["made"]),
        files=page.files_in(folder),
    )
    (folder / "report.html").write_text(text, encoding="utf-8")


def _short(summary: Mapping[str, Any]) -> Sequence[str]:
    names = [column["name"] for column in summary["columns"]]
    return names if len(names) < 4 else [names[0], f"{len(names) - 1} more"]


def _verdicts(summary: Mapping[str, Any]) -> list[Mapping[str, str]]:
    found = []
    for column in summary["columns"]:
        for verdict in column["verdicts"].values():
            said = {"claim": f"in {column['name']}, {verdict['claim']}"}
            if verdict.get("sentence"):
                said["sentence"] = f"In {column['name']}: {verdict['sentence']}"
            found.append({**verdict, **said})
    return found


def _as_sweep(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The same estimates as those of a sweep, whose variants are the columns."""
    arms = {column["name"]: [{"name": column["arm"], "baseline": column["baseline"]}] for column in summary["columns"]}
    return {"study": {"arms": arms}, "estimates": summary["estimates"]}


def fragment(summary: Mapping[str, Any]) -> str:
    """Return the answer and the tables as HTML, for a notebook."""
    parts = [f"<p>{escape(sentence)}</p>" for sentence in summary["answer"]]
    for each in listed(summary):
        head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in each.header)
        rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in each.rows]
        parts.append(
            f"<table><caption>{escape(each.title)}</caption><tr>{'</tr><tr>'.join([head, *rows])}</tr></table>"
        )
    return "".join(parts)
