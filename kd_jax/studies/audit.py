"""An audit: what a student does differently from its teacher, from their answers alone, whoever trained them and with what.

OUT/
  summary.json     estimates, verdicts, warnings; `audit`: what was given, calibration, classes, confusions, examples, advice
  report.html, table.md, table.csv, classes.csv, examples.csv, figures/
"""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.analysis import audit as questions
from kd_jax.analysis import rescaling, summary, verdicts
from kd_jax.analysis.examples import Beside, beside
from kd_jax.analysis.results import Estimate, Verdict
from kd_jax.config import versions
from kd_jax.data import outputs
from kd_jax.data.outputs import Model
from kd_jax.data.views import views
from kd_jax.errors import BadInput
from kd_jax.provenance import now
from kd_jax.report import audits, tables
from kd_jax.studies.progress import Quiet
from kd_jax.studies.results import Findings

FEWEST = 8  # examples: quarters of fewer have a single one
FITTED_ROWS, FITTED_NUMBERS = (
    20_000,
    1 << 25,
)  # of how many examples, and of how many logits, temperatures are fitted at most


class Given(NamedTuple):
    """What an audit is about, after a check.

    Attributes:
        teachers, students, controls: one for each seed; one teacher or one control may stand for all seeds.
        labels: int64 [examples]; None without.
        names: of the classes; None without.
        split: the split that the examples are from.
        unit: what an example is called: `examples` or `tokens`.
    """

    teachers: list[Model]
    students: list[Model]
    controls: list[Model]
    labels: np.ndarray | None
    names: list[str] | None
    split: str
    unit: str


def audit(
    teacher: Any,
    student: Any,
    labels: Any = None,
    *,
    control: Any = None,
    kind: outputs.Kind | None = None,
    classes: int | None = None,
    names: Any = None,
    examples: Any = None,
    split: str = "test",
    tokens: bool = False,
    out: Path | str | None = None,
    progress: Callable[..., Any] = Quiet,
    command: str = "",
) -> "Audit":
    """Judge a student by its answers and its teacher's: fidelity, exaggeration, calibration, where they part, what to do.

    Args:
        teacher, student: logits float [examples, classes] of the same examples in the same order, as arrays or files; or a list of
            them, one for each seed. See `data.outputs.model` for the formats.
        labels: int [examples], an array or a file; without them nothing is said about accuracy and calibration.
        control: logits of a network that has never met the teacher, best one that was trained as the teacher was, from another
            seed. It is what "no exaggeration" looks like. One, or one for each seed.
        kind: `logits`, `log_probabilities` or `probabilities`; by default what a `.npz` says, else logits.
        classes: the number of classes, where only the most probable are given.
        names: names of the classes, a list or a text file.
        examples: what to show of the examples; see `data.views.views`.
        split: `train` where teacher and student were trained on these examples, which decides what is advised; else `test`.
        tokens: whether the rows are next-token distributions of language models.
        out: the folder in which the report is written; None to write nothing.
        progress: `progress(total, done)` returns a context manager that counts blocks of rows.
        command: the command line of this program, for the record.

    Raises:
        BadInput: in one line, for what cannot be judged; nothing is written then.
    """
    out = None if out is None else Path(out).expanduser()
    if out is not None:
        _check_out(out)
    given = _given(teacher, student, labels, control, kind, classes, names, split, tokens)
    show = None if examples is None else views(examples, _flag("examples", examples), len(given.teachers[0]))
    estimates, first, controlled = _measured(given, progress)
    found = _looked_at(given, first, estimates)
    found["given"] = _described(given, first) | {"command": command, "written": now(), "versions": versions()}
    said = _verdicts(given, estimates)
    contents = {
        "estimates": [estimate.to_json() for estimate in estimates],
        "verdicts": [verdict.to_json() for verdict in said],
        "warnings": _warnings(first),
        "audit": found,
    }
    contents = json.loads(json.dumps(contents))
    if out is not None:
        _write(out, contents, given, first, controlled, show)
    return Audit(contents)


class Audit(Findings):
    """What an audit found; `summary["audit"]` has calibration, classes, confusions, examples and advice."""

    @property
    def advice(self) -> list[questions.Advice]:
        """What the numbers advise, each with the number and a source."""
        return [questions.Advice(**each) for each in self.summary["audit"]["advice"]]

    @property
    def _arms(self):
        return audits.arms_of(self.summary)


# ---- what is given


def _flag(name: str, source: Any) -> str:
    return f"--{name}={source}" if isinstance(source, (str, Path)) else name


def _list(source: Any) -> list[Any]:
    if source is None:
        return []
    return list(source) if isinstance(source, (list, tuple)) else [source]


def _given(teacher, student, labels, control, kind, classes, names, split, tokens) -> Given:
    def models(name, sources):
        return [outputs.model(each, _flag(name, each), kind, classes) for each in _list(sources)]

    teachers, students, controls = models("teacher", teacher), models("student", student), models("control", control)
    everyone = [*teachers, *students, *controls]
    if not teachers or not students:
        raise BadInput("audit: expected a teacher and a student; pass --teacher and --student")
    most = max(each.classes for each in everyone)
    everyone = [each._replace(classes=most) if each.indices is not None else each for each in everyone]
    first = everyone[0]
    for each in everyone[1:]:
        if each.shape != first.shape:
            raise BadInput(
                f"{each.name}: expected {list(first.shape)} [examples, classes] as in {first.name}, found {list(each.shape)}"
            )
    count, number = first.shape
    if number < 2:
        raise BadInput(
            f"{first.name}: expected two classes or more, found {number}; for one probability p pass [1-p, p]"
        )
    if count < FEWEST:
        raise BadInput(f"{first.name}: expected at least {FEWEST} examples, found {count}")
    seeds = len(students)
    for name, those in (("teacher", teachers), ("control", controls)):
        if len(those) not in (0, 1, seeds):
            raise BadInput(f"--{name}: expected one file or {seeds}, one for each --student, found {len(those)}")
    y = None if labels is None else outputs.labels(labels, _flag("labels", labels), count, number)
    if isinstance(names, (str, Path)):
        names = outputs.class_names(names, _flag("names", names), number)
    elif names is not None and len(names) != number:
        raise BadInput(f"names: expected {number}, one per class, found {len(names)}")
    cut = len(teachers), len(teachers) + seeds
    return Given(
        everyone[: cut[0]],
        everyone[cut[0] : cut[1]],
        everyone[cut[1] :],
        y,
        names,
        split,
        "tokens" if tokens else "examples",
    )


def _described(given: Given, first: Beside) -> dict[str, Any]:
    def of(models):
        return [{"name": _short(model.name), "kind": model.kind, "top_k": _top_k(model)} for model in models]

    digest = hashlib.sha256()
    for array in (*first.teacher[:3], *first.student[:3], *first.pair):
        digest.update(np.ascontiguousarray(array).tobytes())
    count, classes = given.teachers[0].shape
    return {
        "teacher": of(given.teachers),
        "student": of(given.students),
        "control": of(given.controls),
        "unit": given.unit,
        "examples": count,
        "classes": classes,
        "labels": given.labels is not None,
        "split": given.split,
        "digest": digest.hexdigest(),
    }


def _short(name: str) -> str:
    """The file's name alone, of a flag and a path."""
    _, equals, path = name.partition("=")
    return Path(path).name if equals else name


def _top_k(model: Model) -> int | None:
    return None if model.indices is None else model.values.shape[1]


# ---- what is measured


def _measured(given: Given, progress_of: Callable[..., Any]) -> tuple[list[Estimate], Beside, Beside | None]:
    """(estimates, the first seed's student beside its teacher, its control beside that teacher)."""
    seeds = range(len(given.students))
    count = len(given.teachers[0])
    kept: dict[str, Beside] = {}

    def pairs():
        for seed in seeds:
            teacher = given.teachers[min(seed, len(given.teachers) - 1)]
            for arm, models in (("control", given.controls), ("student", given.students)):
                if not models:
                    continue
                model = models[min(seed, len(models) - 1)]
                numbers = beside(
                    teacher,
                    model,
                    given.labels,
                    lambda rows: bar.advance(rows, "auditing", _short(model.name)),  # noqa: B023, called at once
                )
                if seed == 0:
                    kept[arm] = numbers
                yield summary.Compared(arm, seed, given.split, numbers, given.labels, given.labels)

    total = count * (len(given.students) + (len(seeds) if given.controls else 0))
    with progress_of(total) as bar:
        is_one_teacher = len(given.teachers) == 1 and len(seeds) > 1
        estimates = summary.estimates(pairs(), {"student": "control"}, is_one_teacher)
    first = kept["student"]
    return estimates, first, kept.get("control")


def _verdicts(given: Given, estimates: Sequence[Estimate]) -> list[Verdict]:
    if given.controls:
        return verdicts.exaggeration_verdicts(estimates, {"student": "control"}, against="the control")
    return questions.verdicts(estimates, given.split)


def _warnings(first: Beside) -> list[str]:
    infinite = int((~np.isfinite(first.pair.x) | ~np.isfinite(first.pair.y)).sum())
    said = []
    if infinite:
        said.append(
            f"{infinite} of {len(first.pair.x)} rows have a probability of exactly 0 or 1, whose confidence is infinite: slopes"
            " leave them out; pass logits instead of probabilities"
        )
    finite = first.pair.x[np.isfinite(first.pair.x)]
    if not len(finite) or finite.min() == finite.max():
        said.append("the teacher is equally sure of every example: there is no slope of the student's confidence on it")
    return said


def _looked_at(given: Given, first: Beside, estimates: Sequence[Estimate]) -> dict[str, Any]:
    count, classes = given.teachers[0].shape
    rng = np.random.default_rng(0)
    most = min(count, FITTED_ROWS, max(FITTED_NUMBERS // classes, 1000))
    rows = np.arange(count) if most == count else np.sort(rng.choice(count, most, replace=False))
    teacher, student = given.teachers[0][rows], given.students[0][rows]
    rescaled = rescaling.rescaled(teacher, student)
    calibrations = {}
    if given.labels is not None:
        y = given.labels[rows]
        calibrations = {
            name: rescaling.calibrated(logits, y, rng) for name, logits in (("teacher", teacher), ("student", student))
        }
    below, above = questions.extremes(first, given.labels)
    advice = questions.advice(estimates, given.split, calibrations, rescaled)
    return {
        "fitted_on": most,
        "rescaled": _plain(rescaled) | {"removed": rescaled.removed},
        "calibration": {name: each.to_json() for name, each in calibrations.items()},
        "entropy": {
            "teacher": float(first.teacher.entropy.mean()),
            "student": float(first.student.entropy.mean()),
        },
        "classes": [_known(each) for each in questions.classes(first, classes)],
        "confusions": [each._asdict() for each in questions.confusions(first, classes)],
        "less_sure": [each._asdict() for each in below],
        "surer": [each._asdict() for each in above],
        "advice": [each._asdict() for each in advice],
    }


def _known(values: Any) -> dict[str, Any]:
    """A named tuple as a dict; what is not known, a NaN, is None, for JSON has no NaN."""
    return {name: None if value != value else value for name, value in values._asdict().items()}


def _plain(intervals: Any) -> dict[str, Any]:
    return {name: asdict(each) for name, each in intervals._asdict().items()}


# ---- what is written


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out={out}: expected a folder, this is a file; pass another")
    if out.is_dir() and any(out.iterdir()) and not _is_audit(out):
        raise BadInput(f"--out={out}: expected a new or empty folder, or that of an audit; pass another")


def _is_audit(folder: Path) -> bool:
    try:
        return "audit" in json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _write(
    out: Path, contents: dict[str, Any], given: Given, first: Beside, controlled: Beside | None, show: Any
) -> None:
    """Write all files beside the old ones, which the whole of the new then replaces."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        (folder / "summary.json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        found = Findings(contents)
        with open(folder / "table.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(tables.CSV_COLUMNS)
            writer.writerows(tables.csv_rows(found.estimates))
        for name, keys in (("classes", ("classes",)), ("examples", ("less_sure", "surer"))):
            rows = [row for key in keys for row in contents["audit"][key]]
            with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(rows[0]) if rows else ["row"])
                writer.writeheader()
                writer.writerows(rows)
        audits.write(folder, contents, first, controlled, given.names, show, given.labels)
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
