"""The page, the table and the figures of an audit."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.analysis import rescaling, results
from kd_jax.analysis.examples import Beside
from kd_jax.analysis.results import Interval
from kd_jax.plan import Arm
from kd_jax.report import beyond, charts_audit, page, tables
from kd_jax.report.again import Again
from kd_jax.report.tables import Table

CAPTIONS = {
    "confidence": """How sure the teacher is of its top class, and how sure the student is of that same class; of many
        rows their density. On the dashed line they agree. A fitted line steeper than it exaggerates the teacher's
        confidence. The control, where there is one, never met this teacher.""",
    "slopes": "The slopes of those lines, with intervals.",
    "slopes_by_rank": beyond.CAPTION,
    "reliability": """How often a model is right, against how sure it is, in 15 bins; the area of a point is its share of
        the examples. Below the diagonal a model is too sure.""",
}


def write(
    folder: Path,
    contents: Mapping[str, Any],
    first: Beside,
    controlled: Beside | None,
    names: Sequence[str] | None,
    show: Callable[[int], tuple[str, str]] | None,
    labels: np.ndarray | None = None,
) -> None:
    """Write `table.md`, `figures/` and `report.html` of an audit.

    Args:
        folder: where to write.
        contents: those of its `summary.json`.
        first: what the first student and its teacher say of each example.
        controlled: the same of the control; None without.
        names: of the classes; None without.
        show: `show(row)` gives what is shown of an example; None to show nothing.
        labels: int [examples]; None without.
    """
    from kd_jax.report import audit_figures, figures

    found, estimates = contents["audit"], results.read(contents)
    arms = arms_of(contents)
    main = shortened(*tables.main_table(estimates, arms))
    (folder / "table.md").write_text(tables.markdown(*main), encoding="utf-8")
    images = {}
    for name, figure in audit_figures.drawn(found, first, controlled, estimates, arms[1:]).items():
        images[name] = figures.save(figure, folder / "figures" / name)
    listed = [
        Table(*main, tables.what_intervals_are(estimates), title="Accuracy, fidelity, exaggeration", sortable=False),
        *filter(None, [beyond.table(estimates, arms)]),
        _advice(found),
        *_confidences(found),
        *_outside(found),
        _classes(found, names),
        _confusions(found, names),
    ]
    which = ", the first of several seeds" if _first(found) else ""
    rest = [
        page.gallery(f"{title}{which}", [_example(each, names, show) for each in found[key]])
        for key, title in (
            ("less_sure", "Where the student is far less sure than its teacher"),
            ("surer", "Where the student is far surer than its teacher"),
        )
        if found[key]
    ]
    rest.append(page.folded("Every estimate", "All numbers of summary.json", tables.everything(estimates)))
    models = {"student": first} | ({"control": controlled} if controlled else {})
    text = page.render(
        "Audit",
        said(contents),
        contents["verdicts"],
        contents["warnings"],
        listed,
        images,
        CAPTIONS,
        rest,
        answer=contents.get("answer", ()),
        first=tables.first_table(estimates, arms),
        charts=charts_audit.charts(found["given"], models, estimates, labels, names, show),
        again=_again(found["given"]),
        files=page.files_in(folder),
    )
    (folder / "report.html").write_text(text, encoding="utf-8")


def _again(given: Mapping[str, Any]) -> Again:
    """How the audit was made."""
    listed = ", ".join(f"{package} {version}" for package, version in given["versions"].items())
    facts = [("written", given["written"]), ("versions", listed), ("digest of what the models answer", given["digest"])]
    for who in ("teacher", "student", "control"):
        facts += [(who, f"{each['name']} ({each['kind'].replace('_', ' ')})") for each in given[who]]
    return Again([given["command"]] if given["command"] else [], facts)


def arms_of(contents: Mapping[str, Any]) -> list[Arm]:
    """Return teacher, student and control, as far as they were given, with the names of their files."""
    given = contents["audit"]["given"]
    return [Arm(name, _files(given[name])) for name in ("teacher", "student", "control") if given[name]]


def said(contents: Mapping[str, Any]) -> list[str]:
    """Return what was audited, in sentences."""
    given = contents["audit"]["given"]
    lines = [
        f"{given['examples']:,} {given['unit']} of {given['classes']:,} {'tokens' if given['unit'] == 'tokens' else 'classes'},"
        f" {given['split']} split. Teacher {_files(given['teacher'])}, student {_files(given['student'])}"
        + (f", control {_files(given['control'])}." if given["control"] else "; no control was given.")
    ]
    if given["unit"] == "tokens":
        ignored = given["rows"] - given["examples"]
        lines.append(
            (f"{ignored:,} positions are left out, by a mask or their label. " if ignored else "")
            + (
                f"The tokens are of {given['sequences']:,} sequences; intervals draw whole sequences."
                if given["sequences"]
                else "Which sequence a token is of is not known; intervals draw tokens."
            )
        )
    if not given["labels"]:
        lines.append("Without labels nothing can be said about accuracy and calibration.")
    cut = {each["top_k"] for name in ("teacher", "student", "control") for each in given[name]} - {None}
    if cut:
        lines.append(
            f"Only the {', '.join(map(str, sorted(cut)))} most probable were given; the rest of the probability is spread evenly"
            " over all others."
        )
    if (fitted := contents["audit"]["fitted_on"]) < given["examples"]:
        lines.append(f"Temperatures are fitted on {fitted:,} of the {given['unit']}, drawn at random.")
    return lines


def shortened(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return a table without the rows in which there is nothing."""
    return header, [row for row in rows if any(cell != "-" for cell in row[1:])]


def _files(given: Sequence[Mapping[str, Any]]) -> str:
    names = [each["name"] for each in given]
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _interval(values: Mapping[str, Any], digits: int = 3) -> str:
    return tables.shown(Interval(**values), digits)


def _temperature(values: Mapping[str, Any]) -> str:
    """A temperature with its interval, or that there is none."""
    if rescaling.COLDEST < values["estimate"] < rescaling.HOTTEST:
        return _interval(values)
    return f"none from {rescaling.COLDEST:g} to {rescaling.HOTTEST:g}"


def _advice(found: Mapping[str, Any]) -> Table:
    rows = [(each["advice"], each["because"], each["source"]) for each in found["advice"]]
    return Table(("what to do", "because", "source"), rows, title="What the numbers advise", sortable=False)


def _confidences(found: Mapping[str, Any]) -> list[Table]:
    rescaled, of_scale = found["rescaled"], []
    if rescaled:
        of_scale = [
            ("mean KL(teacher || student) [nats]", _interval(rescaled["kl_before"], 4)),
            ("the same, student's logits divided by the best temperature", _interval(rescaled["kl_after"], 4)),
            ("that temperature (above 1: the student is surer)", _temperature(rescaled["temperature"])),
            ("share of the KL that it removes", f"{rescaled['removed']:.1%}"),
        ]
    first = _first(found)
    scale = Table(
        ("", "estimate"),
        [
            *of_scale,
            ("mean entropy, teacher [nats]", f"{found['entropy']['teacher']:.4f}"),
            ("mean entropy, student [nats]", f"{found['entropy']['student']:.4f}"),
        ],
        "One temperature changes no prediction. What it cannot remove is a difference in what the two know, not in how sure they"
        f" are.{first}",
        title="Scale, or something else?",
        sortable=False,
    )
    if not found["calibration"]:
        return [scale]
    names = ("temperature", "ece_before", "ece_after", "nll_before", "nll_after", "nll_gain")
    labels = (
        "best temperature (above 1: too sure)",
        "ECE as it is",
        "ECE with it",
        "NLL as it is [nats]",
        "NLL with it",
        "NLL, as it is less with it",
    )
    models = list(found["calibration"])
    rows = [
        (
            label,
            *(
                (_temperature if name == "temperature" else _interval)(found["calibration"][model][name])
                for model in models
            ),
        )
        for name, label in zip(names, labels, strict=True)
    ]
    note = (
        f"A temperature is fitted on one half of the examples and tried on the other, and the other way round.{first}"
    )
    return [scale, Table(("", *models), rows, note, title="Calibration", sortable=False)]


def _first(found: Mapping[str, Any]) -> str:
    """Of which seed that is of which there is one in a table: a sentence, empty where there is one seed."""
    return "" if len(found["given"]["student"]) == 1 else " Of several seeds it is the first."


def _outside(found: Mapping[str, Any]) -> list[Table]:
    """What files of the most probable classes leave out, and what hangs on it."""
    outside = found.get("outside")
    if not outside:
        return []
    rows = []
    for name in ("teacher", "student"):
        if name in outside:
            rows.append((f"probability outside the {name}'s list, mean", f"{outside[name]['mean']:.4f}"))
            rows.append((f"probability outside the {name}'s list, largest", f"{outside[name]['largest']:.4f}"))
    note = (
        "The rest is spread evenly over all that is not listed, in the entropies and divergences too. The teacher's confidence in"
        " its top class is exact."
    )
    if (assumed := outside.get("assumed")) is not None:
        rows += [
            ("share whose teacher's class the student does not list", f"{assumed['rows']:.2%}"),
            ("slope over all, with an even share of the rest there", _known(assumed["slope"], ".3f")),
            ("slope over all, with the largest share possible there", _known(assumed["slope_highest"], ".3f")),
            ("slope over all, without those", _known(assumed["slope_listed"], ".3f")),
        ]
        note += " The student's confidence in that class is exact where it lists it; where it does not, it is an assumption."
    return [Table(("", "value"), rows, note, title="What the files leave out", sortable=False)]


def _named(index: int, names: Sequence[str] | None) -> str:
    return names[index] if names and index >= 0 else str(index) if index >= 0 else ""


def _known(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _classes(found: Mapping[str, Any], names: Sequence[str] | None, most: int = 20) -> Table:
    rows = [
        (
            _named(each["index"], names),
            f"{each['count']:,}",
            f"{each['agreement']:.3f}",
            _known(each["deviation"], "+.3f"),
            _known(each["teacher_accuracy"], ".3f"),
            _known(each["student_accuracy"], ".3f"),
        )
        for each in found["classes"][:most]
    ]
    header = (
        "teacher's class",
        "examples",
        "agreement",
        "student less teacher [nats]",
        "teacher right",
        "student right",
    )
    of_all = len(found["classes"])
    note = f"The {len(rows)} of {of_all} classes with the largest mean deviation; classes.csv has all.{_first(found)}"
    return Table(header, rows, note, title="Classes")


def _confusions(found: Mapping[str, Any], names: Sequence[str] | None) -> Table:
    rows = [
        (_named(each["teacher"], names), _named(each["student"], names), f"{each['count']:,}")
        for each in found["confusions"]
    ]
    note = _first(found).strip()
    return Table(("teacher says", "student says", "examples"), rows, note, title="Where they name different classes")


def _example(each: Mapping[str, Any], names: Sequence[str] | None, show: Any) -> tuple[tuple[str, str] | None, str]:
    """(view of an example or None, what is said of it)."""
    label = f", label {_named(each['label'], names)}" if each["label"] >= 0 else ""
    where = f"row {each['row']}"
    if "sequence" in each:
        where = f"sequence {each['sequence']}, position {each['position']}"
    text = (
        f"{where}{label}: teacher {_named(each['teacher'], names)} ({each['teacher_confidence']:.3f}), student"
        f" {_named(each['student'], names)} ({each['student_confidence']:.3f}); {each['deviation']:+.2f} nats"
    )
    return (show(each["row"]) if show else None), text
