"""What somebody's models say, from files: logits or probabilities [examples, classes] of any framework, labels, names of classes.

Arrays stay on disk where the format allows it (`.npy`): what is returned is indexed like an array and reads the rows asked for.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kd_jax.data import next_tokens, stored
from kd_jax.data.teacher_logits import KINDS, LEAST_REST
from kd_jax.errors import BadInput

Kind = Literal["logits", "log_probabilities", "probabilities"]
TABLES = (".csv", ".tsv", ".parquet")
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
    """

    name: str
    values: Any
    kind: Kind
    indices: Any
    classes: int
    rows: Any = None
    layout: tuple[int, int] | None = None

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
    indices = None
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
        values = found
    else:
        values = _array(source, name)
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
    if indices is not None:
        classes = _top_k(name, values, indices, kind, classes)
    elif classes not in (None, values.shape[1]):
        raise BadInput(
            f"{name}: --classes={classes}: expected {values.shape[1]}, as the rows have; it is for rows of the most probable alone"
        )
    return Model(name, values, kind, indices, classes or values.shape[1], layout=layout)


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
            line.
        name: what messages call it.
        keys: the keys of a `.npz` to look for.

    Raises:
        BadInput: in one line, when it cannot be read or has other numbers.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        found = _lines_of_numbers(path, name) if path.suffix in (".txt", ".csv", ".tsv") else _read(path, name)
        if isinstance(found, dict):
            known = [key for key in keys if key in found] or list(found)
            if not known:
                raise BadInput(f"{name}: expected an array, the file has none; write it with numpy.save")
            found = found[known[0]]
    else:
        found = _array(source, name)
    if not (np.issubdtype(found.dtype, np.integer) or found.dtype == bool):
        raise BadInput(f"{name}: expected integers, found {found.dtype} {list(found.shape)}")
    if found.dtype == np.uint64 and found.size and found.max() > np.iinfo(np.int64).max:
        raise BadInput(f"{name}: expected integers of 64 bits with a sign, found {found.max()}")
    return np.asarray(found)


def labels(source: Any, name: str, count: int, classes: int) -> np.ndarray:
    """Return labels, int64 [examples].

    Args:
        source: an array, or a file: `.npy`, `.npz` (key `labels`, `y` or any single array), `.csv` or `.txt` with one per line.
        name: what messages call it.
        count, classes: the numbers of examples and of classes that they must fit.

    Raises:
        BadInput: in one line, when they do not.
    """
    found = integers(source, name, ("labels", "y"))
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


def _lines_of_numbers(path, name):
    lines = text_lines(path, name)
    numbers = []
    for number, line in enumerate(lines, 1):
        try:
            numbers.append(int(line.strip().strip('"')))
        except ValueError:
            if number > 1:  # the first is a heading
                raise BadInput(f"{name}: line {number}: expected a whole number, found {line[:40]!r}") from None
    try:
        return np.array(numbers, np.int64)
    except OverflowError:
        raise BadInput(f"{name}: expected whole numbers of 64 bits, found {max(numbers, key=abs)}"[:200]) from None


def _read(path: Path, name: str) -> Any:
    """An array, or of a `.npz` {key: array}."""
    if path.suffix in TABLES:
        return _read_table(path, name)
    try:
        return stored.read(path)
    except FileNotFoundError:
        raise BadInput(f"{name}: expected a file, there is none; check the path") from None
    except ValueError as error:
        raise BadInput(
            f"{name}: expected a .npy or .npz of plain arrays, or {', '.join(TABLES)}: {error}; {stored.fix(error, 'save')}"
        ) from None


def _read_table(path: Path, name: str) -> np.ndarray:
    package, extra = ("pyarrow", "parquet") if path.suffix == ".parquet" else ("pandas", "pandas")
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path)
            heading, columns = table.column_names, [column.to_numpy() for column in table.columns]
        else:
            import pandas

            separator = "\t" if path.suffix == ".tsv" else ","
            first = pandas.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False)
            heading = [str(name) for name in first.iloc[0]]
            frame = pandas.read_csv(path, sep=separator, header=None, skiprows=1 - _is_data(heading))
            columns = [frame[column].to_numpy() for column in frame.columns]
        arrays = [np.asarray(column, np.float64) for column in columns]
        values = np.stack(arrays, axis=1)
    except ImportError:
        raise BadInput(
            f"{name}: {extra} files are read with {package}; pip install {package}, or pass a .npy"
        ) from None
    except FileNotFoundError:
        raise BadInput(f"{name}: expected a file, there is none; check the path") from None
    except Exception as error:  # whatever a parser finds wrong with the file
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{name}: expected a column of numbers per class: {said}") from None
    if heading[0] in ROW_NUMBERS and (values[:, 0] == np.arange(len(values))).all():
        raise BadInput(f"{name}: expected a column per class, the first one has row numbers; write it with index=False")
    return values


ROW_NUMBERS = ("", "index", "__index_level_0__")  # as pandas names its row numbers in files


def _is_data(heading: Sequence[str]) -> bool:
    """Whether the first line of a table is an example rather than a heading: numbers, and not those of the classes."""
    try:
        numbers = [float(name) for name in heading]
    except ValueError:
        return False
    return numbers not in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
