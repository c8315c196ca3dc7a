"""What somebody's models say, from files: logits or probabilities [examples, classes] of any framework, labels, names of classes.

Arrays stay on disk where the format allows it (`.npy`): what is returned is indexed like an array and reads the rows asked for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kd_jax.data import answer_tables, next_tokens, stored
from kd_jax.data.teacher_logits import KINDS, LEAST_REST
from kd_jax.errors import BadInput

Kind = Literal["logits", "log_probabilities", "probabilities"]
TABLES = answer_tables.SUFFIXES
LABELS = ("labels", "label", "y", "targets", "target", "class")  # what labels are called in files
LOOKED_AT = 1000  # rows in which logits are told from probabilities
TOLERANCE = (
    1e-2  # how far a row of probabilities may be from adding up to 1: float16 and tables of text are rounded so far
)


@dataclass(frozen=True)
class Model:
    """A model's answers to a number of examples. Indexing it with a slice or rows gives logits, or log-probabilities, as float64.

    Attributes:
        name: what messages call it.
        values: float [examples, classes], or of the most probable classes [examples, k].
        kind: what the values are.
        indices: those classes, int [examples, k]; None where `values` has all.
        classes: the number of classes.
        rows: which rows of the arrays are examples, int [examples]; None where all are.
        layout: (sequences, length), where the rows are positions of sequences that came as an array of three dimensions.
        columns: the names of the classes as a table has them; empty where it has none.
    """

    name: str
    values: Any
    kind: Kind
    indices: Any
    classes: int
    rows: Any = None
    layout: tuple[int, int] | None = None
    columns: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(examples, classes)."""
        return len(self), self.classes

    def __len__(self) -> int:
        return len(self.values if self.rows is None else self.rows)

    def top(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return (probabilities, classes) of some examples, [examples, k] each, where only the most probable are given."""
        rows = rows if self.rows is None else self.rows[rows]
        values = np.asarray(self.values[rows], np.float64)
        return values if self.kind == "probabilities" else np.exp(values), np.asarray(self.indices[rows])

    def __getitem__(self, rows: Any) -> np.ndarray:
        rows = rows if self.rows is None else self.rows[rows]
        values = np.asarray(self.values[rows], np.float64)
        if self.kind == "probabilities":
            self._check(rows, values, values.sum(axis=1))
            with np.errstate(divide="ignore"):
                values = np.log(values)
        elif self.kind == "log_probabilities":
            with np.errstate(over="ignore"):
                p = np.exp(values)
            self._check(rows, p, p.sum(axis=1))
        if self.indices is None:
            return values
        rest = np.maximum(1 - np.exp(values).sum(axis=1), LEAST_REST)
        others = max(self.classes - values.shape[1], 1)
        dense = np.repeat(np.log(rest / others)[:, None], self.classes, axis=1)
        np.put_along_axis(dense, np.asarray(self.indices[rows]), values, axis=1)
        return dense

    def _check(self, rows, p, total):
        wrong = (p < 0).any(axis=1) | (total > 1 + TOLERANCE)
        if self.indices is None:
            wrong |= total < 1 - TOLERANCE
        if wrong.any() and not np.isnan(p).any():
            first = int(np.arange(len(self.values))[rows][wrong.argmax()])
            raise BadInput(
                f"{self.name}: row {first}: expected {self.kind} that add up to 1, found a sum of {total[wrong.argmax()]:.4g};"
                " pass logits as they are, or say what they are (--probabilities, --log_probabilities)"
            )


def model(source: Any, name: str, kind: Kind | None = None, classes: int | None = None, tokens: bool = False) -> Model:
    """Return a model's answers.

    Args:
        source: an array [examples, classes]; or a file: `.npy`; `.npz` with one of the keys `logits`, `log_probabilities` and
            `probabilities`, or any single array, and for the most probable classes alone also `indices` [examples, k] of integers;
            `.csv`, `.tsv` (pandas) or `.parquet` (pyarrow) with a column per class.
        name: what messages call it, such as `--teacher=t.npy`.
        kind: what the numbers are; by default what the key of a `.npz` says, else logits.
        classes: the number of classes, where `indices` are given; by default one more than the largest.
        tokens: whether an array [sequences, length, vocabulary] is allowed, whose positions are then the examples.

    Raises:
        BadInput: in one line, when it cannot be read or is no such array.
    """
    indices, columns = None, ()
    if isinstance(source, (str, Path)):
        found = _read(Path(source).expanduser(), name)
        if isinstance(found, dict):
            indices = found.pop("indices", None)
            of_kind = [key for key in KINDS if key in found]
            keys = of_kind or list(found)
            if len(keys) != 1:
                raise BadInput(
                    f"{name}: expected one of the keys {', '.join(KINDS)}, found {', '.join(found) or 'none'}"
                )
            kind = kind or (keys[0] if of_kind else None)  # type: ignore[assignment]
            found = found[keys[0]]
        if isinstance(found, answer_tables.Table):
            found, columns = found
        values = found
    else:
        values = _array(source, name)
        columns = tuple(map(str, getattr(source, "columns", ())))  # of a table of pandas
    kind = kind or "logits"
    if values.dtype.name == "bfloat16":
        values = values.astype(np.float32)
    layout = (values.shape[0], values.shape[1]) if values.ndim == 3 and tokens else None
    if values.ndim != (3 if layout else 2) or not np.issubdtype(values.dtype, np.floating):
        fix = "; pass --tokens for [sequences, length, vocabulary]" if values.ndim == 3 and not tokens else ""
        fix = "; bfloat16 is saved as float32" if values.dtype.str == "|V2" else fix
        raise BadInput(f"{name}: expected floats [examples, classes], found {values.dtype} {list(values.shape)}{fix}")
    if indices is not None and indices.shape == values.shape:
        indices = indices.reshape(-1, values.shape[-1])
    values = values.reshape(-1, values.shape[-1]) if layout else values
    if kind == "logits" and indices is None and stored.are_probabilities(np.asarray(values[:LOOKED_AT])):
        raise BadInput(
            f"{name}: expected logits, found numbers from 0 to 1 that add up to 1 in every row; pass --probabilities, or logits as"
            " they are"
        )
    if indices is not None:
        classes = _top_k(name, values, indices, kind, classes)
    elif classes not in (None, values.shape[1]):
        raise BadInput(
            f"{name}: --classes={classes}: expected {values.shape[1]}, as the rows have; it is for rows of the most probable alone"
        )
    return Model(name, values, kind, indices, classes or values.shape[1], None, layout, columns)


def _array(source: Any, name: str) -> np.ndarray:
    try:
        return np.asanyarray(source)
    except Exception as error:  # a tensor that has a gradient or lies on a device, lists of several lengths
        raise BadInput(f"{name}: expected an array: {' '.join(str(error).split())[:200]}") from None


def _top_k(name, values, indices, kind, classes) -> int:
    """The number of classes, after a check of the indices."""
    if indices.shape != values.shape or not np.issubdtype(indices.dtype, np.integer):
        raise BadInput(
            f"{name}: indices: expected integers {list(values.shape)}, found {indices.dtype} {list(indices.shape)}"
        )
    if kind == "logits":
        raise BadInput(
            f"{name}: expected probabilities or log_probabilities beside indices: of logits the rest is not known"
        )
    if not indices.size:
        raise BadInput(f"{name}: indices: expected at least one class in each row, found {list(indices.shape)}")
    classes = classes or int(indices.max()) + 1
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or high >= classes:
        raise BadInput(f"{name}: indices: expected classes from 0 to {classes - 1}, found {low if low < 0 else high}")
    ordered = np.sort(indices, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if twice.any():
        raise BadInput(f"{name}: indices: expected each class once in a row, row {int(twice.argmax())} has one twice")
    return classes


def integers(source: Any, name: str, keys: Iterable[str] = ()) -> np.ndarray:
    """Return integers or booleans of any shape.

    Args:
        source: an array, or a file: `.npy`; `.npz` (one of the keys, or any single array); `.csv`, `.tsv` or `.txt` with one per
            line, or a column of such a table or of a `.parquet`.
        name: what messages call it.
        keys: the keys of a `.npz`, and the columns of a table, to look for.

    Raises:
        BadInput: in one line, when it cannot be read or has other numbers.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        keys = tuple(keys)
        if path.suffix in answer_tables.TEXTS:
            found = answer_tables.whole_numbers(path, name, text_lines(path, name), keys)
        elif path.suffix == ".parquet":
            found = answer_tables.whole_column(path, name, keys)
        else:
            found = _read(path, name)
        if isinstance(found, dict):
            known = [key for key in keys if key in found] or list(found)
            if not known:
                raise BadInput(f"{name}: expected an array, the file has none; write it with numpy.save")
            if len(known) > 1 and known[0] not in keys:
                raise BadInput(f"{name}: expected one of the keys {', '.join(keys)}, found {', '.join(known)[:80]}")
            found = found[known[0]]
    else:
        found = _array(source, name)
    if not (np.issubdtype(found.dtype, np.integer) or found.dtype == bool):
        hint = f"; {answer_tables.NUMBERED}" if found.dtype.kind in "OUST" else ""
        raise BadInput(f"{name}: expected integers, found {found.dtype} {list(found.shape)}{hint}")
    if found.dtype == np.uint64 and found.size and found.max() > np.iinfo(np.int64).max:
        raise BadInput(f"{name}: expected integers of 64 bits with a sign, found {found.max()}")
    return np.asarray(found)


def labels(source: Any, name: str, count: int, classes: int) -> np.ndarray:
    """Return labels, int64 [examples].

    Args:
        source: an array, or a file: `.npy`, `.npz` (one of the keys `LABELS`, or any single array), `.csv` or `.txt` with one per
            line, or a table (`.csv`, `.tsv`, `.parquet`) with a column of such a name.
        name: what messages call it.
        count, classes: the numbers of examples and of classes that they must fit.

    Raises:
        BadInput: in one line, when they do not.
    """
    found = integers(source, name, LABELS)
    if found.ndim != 1:
        raise BadInput(f"{name}: expected integers [examples], found {found.dtype} {list(found.shape)}")
    if len(found) != count:
        raise BadInput(f"{name}: expected {count} labels, one per row of the teacher, found {len(found)}")
    wrong = (found < 0) | (found >= classes)
    if wrong.any():
        row = int(wrong.argmax())
        from_one = "; they seem to begin at 1: subtract 1" if found.min() == 1 and found.max() == classes else ""
        raise BadInput(f"{name}: row {row}: expected a class from 0 to {classes - 1}, found {found[row]}{from_one}")
    return found.astype(np.int64)


def class_names(source: Any, flag: str, classes: int) -> list[str]:
    """Return the names of classes.

    Args:
        source: a list; a text file with one per line; or the `tokenizer.json` of a language model.
        flag: what messages call it.
        classes: how many there must be.

    Raises:
        BadInput: when it cannot be read, has not as many as there are classes, or names two alike or one not at all.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.suffix == ".json":
            return next_tokens.vocabulary(path, flag, classes)
        names = text_lines(path, flag)
    else:
        names = [str(name) for name in source]
    if len(names) != classes:
        raise BadInput(f"{flag}: expected {classes} names, one per class, found {len(names)}")
    seen: dict[str, int] = {}
    for number, name in enumerate(names):
        if not name.strip():
            raise BadInput(f"{flag}: class {number}: expected a name, found none")
        if name in seen:
            raise BadInput(
                f"{flag}: class {number}: expected a name of its own, {name[:40]!r} is class {seen[name]} too"
            )
        seen[name] = number
    return names


def text_lines(path: Path, name: str) -> list[str]:
    """Return the lines of a UTF-8 file, without an empty one at the end."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: expected UTF-8, found {error}") from None
    except OSError as error:
        raise BadInput(f"{name}: expected a file that can be read: {error.strerror}; check the path") from None


def _read(path: Path, name: str) -> Any:
    """An array, of a `.npz` {key: array}, or of a table an `answer_tables.Table`."""
    if path.suffix in TABLES:
        return answer_tables.read(path, name)
    try:
        return stored.read(path)
    except FileNotFoundError:
        raise BadInput(f"{name}: expected a file, there is none; check the path") from None
    except ValueError as error:
        raise BadInput(
            f"{name}: expected a .npy or .npz of plain arrays, or {', '.join(TABLES)}: {error}; {stored.fix(error, 'save')}"
        ) from None
