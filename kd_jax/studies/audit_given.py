"""What an audit is about, read and checked: answers, labels, names, what to show of examples, and of tokens their sequences."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.analysis.examples import Beside
from kd_jax.data import answer_tables, next_tokens, outputs
from kd_jax.data.outputs import Model
from kd_jax.data.views import View, views
from kd_jax.errors import BadInput

FEWEST = 8  # examples: quarters of fewer have a single one; and sequences


class Tokens(NamedTuple):
    """What is known of rows that are next-token distributions, as `studies.audit.audit` takes it."""

    sequences: Any = None
    mask: Any = None
    shift_labels: bool = False


class Given(NamedTuple):
    """What an audit is about, after a check.

    Attributes:
        teachers, students, controls: one for each seed; one teacher or one control may stand for all seeds.
        labels: int64 [examples]; None without.
        names: of the classes; None without.
        split: the split that the examples are from.
        unit: what an example is called: `examples` or `tokens`.
        view: `view(row)` gives what is shown of a row of the arrays; None to show nothing.
        rows: which rows of the arrays are judged, int64 [examples]; None for all.
        sequences: the sequence of each token, int64 [examples]; None for examples, and where it is not known.
    """

    teachers: list[Model]
    students: list[Model]
    controls: list[Model]
    labels: np.ndarray | None
    names: list[str] | None
    split: str
    unit: str
    view: Callable[[int], View] | None
    rows: np.ndarray | None = None
    sequences: np.ndarray | None = None


def read(
    teacher: Any,
    student: Any,
    labels: Any = None,
    control: Any = None,
    kind: outputs.Kind | None = None,
    classes: int | None = None,
    names: Any = None,
    examples: Any = None,
    split: str = "test",
    tokens: Tokens | None = None,
) -> Given:
    """Return what an audit is about, after a check of all that can be checked without reading every number.

    Args:
        teacher, student, labels, control, kind, classes, names, examples, split: as for `studies.audit.audit`.
        tokens: what is known of rows that are tokens; None for examples.

    Raises:
        BadInput: in one line, for what cannot be judged.
    """

    def models(name, sources):
        return [outputs.model(each, _flag(name, each), kind, classes, tokens is not None) for each in _list(sources)]

    if kind not in (None, *outputs.KINDS):
        raise BadInput(f"kind={kind}: expected one of {', '.join(outputs.KINDS)}")
    teachers, students, controls = models("teacher", teacher), models("student", student), models("control", control)
    everyone = [*teachers, *students, *controls]
    if not teachers or not students:
        raise BadInput("audit: expected a teacher and a student; pass --teacher and --student")
    most = max(each.classes for each in everyone)
    everyone = [replace(each, classes=most) if each.indices is not None else each for each in everyone]
    first = everyone[0]
    for each in everyone[1:]:
        if (each.shape, each.layout) != (first.shape, first.layout):
            raise BadInput(
                f"{each.name}: expected {_shape(first)} [examples, classes] as in {first.name}, found {_shape(each)}"
            )
    count, number = first.shape
    if number < 2:
        raise BadInput(
            f"{first.name}: expected two classes or more, found {number}; for one probability p pass [1-p, p]"
        )
    seeds = len(students)
    for name, those in (("teacher", teachers), ("control", controls)):
        if len(those) not in (0, 1, seeds):
            raise BadInput(f"--{name}: expected one file or {seeds}, one for each --student, found {len(those)}")
    names = _class_names(everyone, names, number)
    if tokens is not None:
        y, shown, rows, groups = _positions(first, number, labels, names, examples, tokens)
        everyone = [replace(each, rows=rows) for each in everyone] if len(rows) < count else everyone
        count = len(rows)
        names = names and [next_tokens.visible(name) for name in names]
        if groups is not None and (found := len(np.unique(groups))) < FEWEST:
            raise BadInput(
                f"{first.name}: expected at least {FEWEST} sequences, found {found}; cut long texts into several sequences"
            )
    else:
        y = None if labels is None else outputs.labels(labels, _flag("labels", labels), count, number)
        shown = None if examples is None else views(examples, _flag("examples", examples), count)
        rows = groups = None
    unit = "examples" if tokens is None else "tokens"
    if count < FEWEST:
        raise BadInput(f"{first.name}: expected at least {FEWEST} {unit}, found {count}")
    cut = len(teachers), len(teachers) + seeds
    return Given(
        everyone[: cut[0]], everyone[cut[0] : cut[1]], everyone[cut[1] :], y, names, split, unit, shown, rows, groups
    )


def _class_names(everyone: list[Model], names: Any, number: int) -> list[str] | None:
    """The names of the classes, those given or else those of the columns of a table, which must agree where several name them."""
    named = [each for each in everyone if each.columns]
    for each in named[1:]:
        answer_tables.check_order(named[0].columns, each.columns, each.name, named[0].name)
    if names is not None:
        flag = _flag("names", names)
        found = outputs.class_names(names, flag, number)
        if named:
            answer_tables.check_order(named[0].columns, tuple(found), flag, named[0].name)
        return found
    columns = named[0].columns if named else ()
    are_names = all(name.strip() and not name.strip().isdigit() for name in columns) and len(set(columns)) == number
    return list(columns) if columns and are_names else None


def _shape(model: Model) -> list[int]:
    return [*(model.layout or [len(model)]), model.classes]


def _positions(first: Model, classes, labels, names, examples, tokens: Tokens):
    """(labels, view of a row, rows, sequences) of the tokens that are judged."""

    def read(name, source):
        keys = (*outputs.LABELS, "input_ids") if name == "labels" else (name, f"attention_{name}")
        return None if source is None else outputs.integers(source, _flag(name, source), keys)

    count, layout = len(first), first.layout
    y, sequences = read("labels", labels), read("sequences", tokens.sequences)
    mask = read("mask", tokens.mask)
    found = next_tokens.positions(count, layout, classes, y, mask, sequences, tokens.shift_labels)
    # A view is of any row of the arrays, its context has those that are not judged too.
    of_rows = None if layout is None else np.repeat(np.arange(layout[0]), layout[1])
    if of_rows is None and sequences is not None:
        of_rows = sequences.reshape(-1)
    targets = None
    if found.labels is not None:
        targets = np.full(count, -1, np.int64)
        targets[found.rows] = found.labels
    inputs = None
    if examples is not None:
        try:
            inputs = outputs.integers(examples, _flag("examples", examples), ("input_ids",))
        except BadInput:  # then they are texts
            inputs = None
        if inputs is None or inputs.ndim > 2:
            return found.labels, views(examples, _flag("examples", examples), count), found.rows, found.sequences
        inputs = inputs.reshape(-1)
        if len(inputs) != count:
            raise BadInput(
                f"{_flag('examples', examples)}: expected {count} token ids, one per row, found {len(inputs)}"
            )
    elif tokens.shift_labels and y is not None:
        inputs = y.reshape(-1)
    spoken = names or [f" {number}" for number in range(classes)]
    view = None if inputs is None and targets is None else next_tokens.context(spoken, of_rows, inputs, targets)
    return found.labels, view, found.rows, found.sequences


def described(given: Given, first: Beside) -> dict[str, Any]:
    """Return what an audit was about, for its `summary.json`; `first` is what the first student and its teacher say."""

    def of(models):
        return [{"name": short(model.name), "kind": model.kind, "top_k": top_k(model)} for model in models]

    digest, data = hashlib.sha256(), hashlib.sha256()
    for array in (*first.teacher[:3], *first.student[:3], *first.pair[:4]):
        digest.update(np.ascontiguousarray(array).tobytes())
    for array in first.teacher[:3] if given.labels is None else (*first.teacher[:3], given.labels):
        data.update(np.ascontiguousarray(array).tobytes())
    count, classes = given.teachers[0].shape
    return {
        "teacher": of(given.teachers),
        "student": of(given.students),
        "control": of(given.controls),
        "unit": given.unit,
        "examples": count,
        "classes": classes,
        "labels": given.labels is not None,
        "rows": len(given.teachers[0].values),
        "sequences": None if given.sequences is None else int(given.sequences.max()) + 1,
        "split": given.split,
        "digest": digest.hexdigest(),
        "data": data.hexdigest(),  # of what the teacher says, and the labels: equal for audits of several students
    }


def short(name: str) -> str:
    """Return the file's name alone, of a flag and a path."""
    _, equals, path = name.partition("=")
    return Path(path).name if equals else name


def top_k(model: Model) -> int | None:
    """How many of the most probable classes a model's answers are limited to; None for all."""
    return None if model.indices is None else model.values.shape[1]


def _flag(name: str, source: Any) -> str:
    return f"--{name}={source}" if isinstance(source, (str, Path)) else name


def _list(source: Any) -> list[Any]:
    if source is None:
        return []
    return list(source) if isinstance(source, (list, tuple)) else [source]
