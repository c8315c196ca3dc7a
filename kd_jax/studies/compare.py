"""Studies and audits side by side: their numbers in one table, and the differences between them, each with its interval.

OUT/
  summary.json     studies, estimates of each (`variant`: its name), differences, verdicts, fields in which configurations differ
  report.html, table.md, table.csv (all estimates and differences), figures/
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd_jax.analysis import results
from kd_jax.analysis.differences import difference
from kd_jax.analysis.results import Estimate
from kd_jax.config import to_json, versions
from kd_jax.errors import BadInput
from kd_jax.plan import TEACHER, seeds_of
from kd_jax.provenance import now
from kd_jax.report import about, comparisons, tables
from kd_jax.studies import conclusions, folders, sweep, sweep_summary
from kd_jax.studies.folders import AUDIT, STUDY, Opened
from kd_jax.studies.sweep_summary import told_apart

# (name, split, subset) of what is subtracted
COMPARED = (
    ("accuracy", "test", "all"),
    ("accuracy", "train", "all"),
    ("accuracy_gain", "test", "all"),
    ("agreement", "test", "all"),
    ("ece", "test", "all"),
    ("exaggeration_slope", "test", "lowest_25"),
    ("exaggeration_slope", "train", "lowest_25"),
)
FEWEST = 2  # folders


class Column(NamedTuple):
    """A student of a study or an audit.

    Attributes:
        name: of the column.
        opened: the study or the audit.
        arm: the record of the student's arm.
    """

    name: str
    opened: Opened
    arm: Mapping[str, Any]


class Comparison:
    """Studies and audits side by side. Printed, and in a notebook, it shows its table and what differs.

    Attributes:
        summary: the contents of `summary.json`.
    """

    def __init__(self, summary: dict[str, Any]):
        self.summary = summary

    @property
    def estimates(self) -> list[Estimate]:
        """All estimates of all studies; `variant` is the name of the study."""
        return results.read(self.summary)

    @property
    def differences(self) -> list[Estimate]:
        """What `variant` has more than `against`, each with its interval over seeds. Where there is none, it is not here."""
        return [Estimate.from_json(each) for each in self.summary["differences"] if "estimate" in each]

    @property
    def warnings(self) -> list[str]:
        """What is not compared and why, in sentences."""
        return self.summary["warnings"]

    @property
    def answer(self) -> list[str]:
        """What came out, in sentences."""
        return self.summary["answer"]

    def table(self) -> tables.Table:
        """Return what one looks at first: a quantity per row, a student per column."""
        return comparisons.table(self.summary)

    def __repr__(self) -> str:
        return f"<Comparison of {', '.join(each['name'] for each in self.summary['columns'])}; print it to see them>"

    def __str__(self) -> str:
        parts = [*self.answer, ""]
        for table in comparisons.listed(self.summary):
            parts += [table.title, tables.text(table.header, table.rows), table.note, ""]
        return "\n".join([*parts, *(f"warning: {warning}" for warning in self.warnings)]).strip()

    def _repr_html_(self) -> str:
        return comparisons.fragment(self.summary)


def compare(
    workdirs: Sequence[Path | str],
    names: Sequence[str] | None = None,
    out: Path | str | None = None,
    command: str = "",
) -> Comparison:
    """Put studies, the variants of sweeps, and audits side by side; every difference is from the first and has its interval.

    Args:
        workdirs: work folders of studies and sweeps, and folders of audits; two or more, or one of a sweep.
        names: what to call them, one for each; by default as their folders are called.
        out: the folder in which the report is written; None to write nothing.
        command: the command line of this program, for the record.

    Raises:
        BadInput: in one line, for a folder without an analysis, a damaged one, the same one twice, or only one study.
    """
    out = None if out is None else Path(out).expanduser()
    if out is not None:
        folders.check_out(out, "differing", "a comparison")
    columns = _columns([Path(each).expanduser() for each in workdirs], names)
    sweeps = [place for place in map(Path, workdirs) if sweep.is_sweep(place)]
    diverged = [
        f"{place / name} is left out: {why}" for place in sweeps for name, why in sweep_summary.left_out(place).items()
    ]
    summary = json.loads(
        json.dumps(_summary(columns, diverged) | {"made": {"command": command, "at": now(), "versions": versions()}})
    )
    if out is not None:
        _write(out, summary, {each.name: each.opened for each in columns})
    return Comparison(summary)


# ---- what is compared


def _columns(workdirs: Sequence[Path], names: Sequence[str] | None) -> list[Column]:
    if names is not None and len(names) != len(workdirs):
        raise BadInput(f"--names={' '.join(names)}: expected {len(workdirs)}, one per folder, found {len(names)}")
    if names is not None and len(set(names)) < len(names):
        raise BadInput(f"--names={' '.join(names)}: expected a name of its own for each folder; change one")
    names = _names(workdirs) if names is None else names
    columns, seen = [], {}
    for workdir, name in zip(workdirs, names, strict=True):
        found = folders.opened(workdir)
        for opened in found:
            place = opened.folder.resolve()
            if place in seen:
                raise BadInput(f"{opened.folder}: expected different folders, it is also {seen[place]}; leave one out")
            seen[place] = opened.folder
            of_one = (
                name
                if len(found) == 1
                else opened.folder.name
                if len(workdirs) == 1
                else f"{name}/{opened.folder.name}"
            )
            students = [arm for arm in opened.arms if arm["baseline"]]
            several = len(students) > 1
            columns += [Column(f"{of_one}, {arm['name']}" if several else of_one, opened, arm) for arm in students]
    if len(seen) < FEWEST:
        listed = " ".join(map(str, workdirs)) or "no folder"
        raise BadInput(f"{listed}: expected two studies or more; pass another folder, or that of a sweep")
    return columns


def _names(workdirs: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell the folders apart."""
    parts = [path.resolve().parts for path in workdirs]
    names: list[str] = []
    for own in parts:
        length = next((n for n in range(1, len(own)) if sum(own[-n:] == other[-n:] for other in parts) == 1), len(own))
        names.append("/".join(own[-length:]) if length < len(own) else own[-1])
    return names


def _summary(columns: Sequence[Column], diverged: Sequence[str]) -> dict[str, Any]:
    listed = [_described(column) for column in columns]
    estimates, said = [], []
    for opened in {id(each.opened): each.opened for each in columns}.values():
        own = [column for column in columns if column.opened is opened]
        for column in own:
            arms = {_teacher(column), column.arm["name"], column.arm["baseline"], _control(column)}
            estimates += [{"variant": column.name, **e} for e in opened.summary["estimates"] if e["arm"] in arms]
        said += [f"{own[0].name}: {warning}" for warning in opened.summary["warnings"]]
    differences = [each for column in columns[1:] for each in _differences(columns[0], column)]
    summary = {
        "columns": listed,
        "estimates": estimates,
        "differences": differences,
        "differing": _differing(columns),
        "warnings": [*_left_out(columns), *diverged, *said],
    }
    return {"answer": comparisons.answer(summary), **summary}


def _described(column: Column) -> dict[str, Any]:
    """What the table says of a student, but for the numbers."""
    opened, arm = column.opened, column.arm
    found = {"name": column.name, "kind": opened.kind, "folder": str(opened.folder), "arm": arm["name"]}
    found |= {"taught_by": _teacher(column), "baseline": arm["baseline"], "control": _control(column)}
    found |= {"student": arm["model"]}
    found["verdicts"] = {
        f"{name}, {split}": verdict.to_json()
        for name, split in (("exaggeration_slope", "test"), ("exaggeration_slope", "train"), ("accuracy_gain", "test"))
        if (verdict := conclusions.on(opened.summary, name, arm["name"], split))
    }
    if opened.kind == AUDIT:
        given = opened.summary["audit"]["given"]
        teacher = next(each["model"] for each in opened.arms if each["name"] == "teacher")
        return found | {
            "data": f"{given['examples']:,} {given['unit']}, {given['split']}",
            "teacher": teacher,
            "loss": "",
            "training": "",
            "seeds": f"{len(given['student'])}",
        }
    study, record = opened.study, opened.summary["study"]
    assert study is not None
    data, seeds = record["data"], seeds_of(study, record)
    wrong = f", {data['wrong_labels']} of them wrong" if data["wrong_labels"] else ""
    training = study.training
    own = f"; teacher {' '.join(study.distillation.teacher_with)}" if study.distillation.teacher_with else ""
    return found | {
        "data": f"{data['name']}, {data['train_examples']} labels{wrong}",
        "teacher": "a file of logits" if record.get("teacher_logits") else study.networks.teacher,
        "loss": f"{study.distillation_loss}, temperature {study.distillation.temperature:g}, weight {study.distillation.weight:g}",
        "training": f"{training.epochs} epochs of batch {training.batch_size}, rate {training.learning_rate:g}{own}",
        "seeds": f"{len(seeds)} ({about.seeds(record)})",
    }


def _control(column: Column) -> str:
    """The arm that shows what no exaggeration looks like: exchangeable with the teacher; in earlier versions the one-hot twin."""
    return column.arm.get("control", column.arm["baseline"]) or ""


def _teacher(column: Column) -> str:
    return column.arm.get("teacher") or TEACHER


def data_of(opened: Opened) -> str:
    """Return what tells the data of studies apart; equal for two studies whose numbers are of the same examples and labels.

    An audit knows no data, only answers; there it is that of the teacher's answers and the labels.
    """
    if opened.kind == STUDY:
        return opened.summary["study"]["data"]["fingerprint"]
    return opened.summary["audit"]["given"].get("data") or hashlib.sha256(bytes(opened.folder.resolve())).hexdigest()


def _values(column: Column, name: str, split: str, subset: str) -> dict[Any, float]:
    """{seed: value} of the student; of an audit, whose seeds are not known, {(folder, number): value}."""
    known = results.index(results.read(column.opened.summary), "name", "arm", "split", "subset")
    found = known.get((name, column.arm["name"], split, subset))
    if found is None:
        return {}
    study = column.opened.study
    if study is None:
        return {(str(column.opened.folder), number): value for number, value in enumerate(found.values)}
    seeds = seeds_of(study, column.opened.summary["study"])
    return dict(zip((seeds[at] for at in found.kept) if found.kept else seeds, found.values, strict=False))


def _differences(first: Column, column: Column) -> Iterator[dict[str, Any]]:
    same = data_of(first.opened) == data_of(column.opened)
    if first.opened is column.opened:
        return  # two students of one study: its own report has them
    for name, split, subset in COMPARED:
        own, other = _values(column, name, split, subset), _values(first, name, split, subset)
        if not own or not other:
            continue
        key: dict[str, Any] = {"variant": column.name, "against": first.name, "split": split, "subset": subset}
        found = difference(own, other, same)
        if found.interval is None:
            yield {"name": f"{name}_difference", "arm": column.arm["name"], **key, "reason": found.method}
        else:
            estimate = Estimate(f"{name}_difference", column.arm["name"], found.interval, found.values, **key)
            yield estimate.to_json() | {"method": found.method}


def _left_out(columns: Sequence[Column]) -> list[str]:
    """Sentences on what is shown and not subtracted."""
    first, said = columns[0], []
    for column in columns[1:]:
        if column.opened is first.opened:
            continue
        if data_of(first.opened) != data_of(column.opened):
            audits = {first.opened.kind, column.opened.kind}
            other = {
                frozenset({STUDY}): "other data or labels than",
                frozenset({AUDIT}): "other answers of a teacher, or other labels, than",
            }.get(frozenset(audits), "not known to be the data of")
            verb = "is on" if audits == {STUDY} else "is of" if audits == {AUDIT} else "is"
            said.append(f"{column.name} {verb} {other} {first.name}: both are shown, and nothing is subtracted.")
        elif min(len(_values(each, "accuracy", "test", "all")) for each in (first, column)) == 1:
            said.append(
                f"{column.name} or {first.name} has one seed: how others would differ is not known, so nothing is subtracted."
            )
    return said


def _differing(columns: Sequence[Column]) -> dict[str, dict[str, Any]]:
    """{field: {name of a column: value}} of the fields in which the configurations of the studies differ."""
    configs = {}
    for column in columns:
        if column.opened.study is not None:
            configs[column.name] = told_apart(to_json(column.opened.study))
    if not configs:
        return {}
    fields = dict.fromkeys(name for config in configs.values() for name in config)
    values = {field: {name: config.get(field) for name, config in configs.items()} for field in fields}
    return {field: of for field, of in values.items() if len({json.dumps(each) for each in of.values()}) > 1}


# ---- what is written


def _write(out: Path, summary: dict[str, Any], opened: Mapping[str, Opened]) -> None:
    reports = {
        name: os.path.relpath(of.report.resolve(), out.resolve()) for name, of in opened.items() if of.report.is_file()
    }
    with folders.replacing_folder(out) as folder:
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        with open(folder / "table.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(("study", "against", "method", *tables.CSV_COLUMNS))
            found = [*summary["estimates"], *(each for each in summary["differences"] if "estimate" in each)]
            rows = tables.csv_rows(Estimate.from_json(each) for each in found)
            for each, row in zip(found, rows, strict=True):
                writer.writerow((each["variant"], each.get("against", ""), each.get("method", ""), *row))
        comparisons.write(folder, summary, reports)
