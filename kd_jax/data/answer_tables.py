"""Tables of what models say, in CSV, TSV and Parquet: a column of numbers per class; and columns of whole numbers, such as labels.

A table of answers is read as it is meant or not at all: a column of row numbers or of labels would be one more class.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.errors import BadInput

SUFFIXES = (".csv", ".tsv", ".parquet")
TEXTS = (".txt", ".csv", ".tsv")  # that may have a whole number per line
NUMBERED = "write classes as numbers from 0, in the order of the columns"
ROW_NUMBERS = ("", "unnamed: 0", "__index_level_0__", "index", "id", "idx", "row")
LABELS = ("label", "labels", "target", "targets", "y", "class", "true_label", "prediction", "pred")


class Table(NamedTuple):
    """The answers of a model.

    Attributes:
        values: float64 [examples, classes].
        columns: the names of the classes as the file has them; empty where it has no line of names.
    """

    values: np.ndarray
    columns: tuple[str, ...]


def read(path: Path, name: str) -> Table:
    """Return a table with a column per class; of Parquet also one whose single column has lists of numbers.

    Args:
        path: the file.
        name: what messages call it.

    Raises:
        BadInput: in one line, when it cannot be read, or a column has row numbers or labels.
    """
    package, kind = ("pyarrow", "parquet") if path.suffix == ".parquet" else ("pandas", "pandas")
    try:
        values, columns = (_parquet if path.suffix == ".parquet" else _delimited)(path)
    except ImportError:
        raise BadInput(f"{name}: {kind} files are read with {package}; pip install {package}, or pass a .npy") from None
    except FileNotFoundError:
        raise BadInput(f"{name}: expected a file, there is none; check the path") from None
    except Exception as error:  # whatever a parser finds wrong with the file
        said = " ".join(str(error).split())[:200]
        raise BadInput(f"{name}: expected a column of numbers per class: {said}") from None
    _check_columns(values, columns, name)
    return Table(values, columns)


def _parquet(path) -> tuple[np.ndarray, tuple[str, ...]]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    columns = [column.to_numpy() for column in table.columns]
    if len(columns) == 1 and len(columns[0]) and isinstance(columns[0][0], np.ndarray):
        return np.stack([np.asarray(row, np.float64) for row in columns[0]]), ()
    return np.stack([np.asarray(column, np.float64) for column in columns], axis=1), tuple(table.column_names)


def _delimited(path) -> tuple[np.ndarray, tuple[str, ...]]:
    import pandas

    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        line = stream.readline()
    separator = "\t" if path.suffix == ".tsv" else ";" if line.count(";") > line.count(",") else ","
    first = pandas.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False)
    heading = tuple(str(name) for name in first.iloc[0])
    is_data = _is_data(heading)
    frame = pandas.read_csv(path, sep=separator, header=None, skiprows=1 - is_data)
    arrays = [np.asarray(frame[column].to_numpy(), np.float64) for column in frame.columns]
    return np.stack(arrays, axis=1), () if is_data else heading


def _is_data(heading: Sequence[str]) -> bool:
    """Whether the first line of a table is an example rather than a heading: numbers, and not those of the classes."""
    try:
        numbers = [float(name) for name in heading]
    except ValueError:
        return False
    return numbers not in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))


def _check_columns(values, columns, name):
    count = len(values)
    for place in (0, -1):
        column = values[:, place]
        if not count or not np.isfinite(column).all() or (column % 1).any():
            continue
        called = columns[place].strip().lower() if columns else ""
        counts_rows = count > 2 and any((column == np.arange(start, start + count)).all() for start in (0, 1))
        are_distinct = len(np.unique(column)) == count
        is_called_so = bool(columns) and called in ROW_NUMBERS and are_distinct
        if is_called_so or (counts_rows and place == 0):
            which = "first" if place == 0 else "last"
            raise BadInput(
                f"{name}: expected a column per class, the {which} one has row numbers; write it without them (index=False in"
                " pandas)"
            )
        if called in LABELS:
            raise BadInput(
                f"{name}: expected a column per class, found one of whole numbers that is called {columns[place]!r}; write the"
                " table without it, and pass it as --labels"
            )


def check_order(first: tuple[str, ...], other: tuple[str, ...], flag: str, of: str) -> None:
    """Refuse columns of the same names in another order: they would be compared with other classes.

    Args:
        first, other: the names of the columns of two tables, or of the classes; empty where they have none.
        flag: what has the second, in messages.
        of: what has the first.

    Raises:
        BadInput: naming the first column that differs.
    """
    if first != other and sorted(first) == sorted(other):
        place = next(i for i, pair in enumerate(zip(first, other, strict=True)) if pair[0] != pair[1])
        raise BadInput(
            f"{flag}: expected the classes in the order of {of}, found {other[place]!r} as class {place} where that has"
            f" {first[place]!r}; write both in one order"
        )


def whole_numbers(path: Path, name: str, lines: Sequence[str], keys: Iterable[str]) -> np.ndarray:
    """Return one whole number per line of a text, int64 [lines]; the first line may be a heading.

    Args:
        path: the file; of a CSV or TSV with several columns the one that is called as one of the keys is read.
        name: what messages call it.
        lines: the lines of the file.
        keys: names of the column.

    Raises:
        BadInput: naming the line.
    """
    separator = "\t" if path.suffix == ".tsv" else max(",;", key=lines[0].count) if lines else ","
    if path.suffix != ".txt" and lines and separator in lines[0]:
        heading, *rows = list(csv.reader(lines, delimiter=separator))
        called = [word.strip().lower() for word in heading]
        known = [key for key in keys if key in called]
        if not known:
            raise BadInput(
                f"{name}: expected one whole number per line, or a column called {' or '.join(list(keys)[:2])}, found the columns"
                f" {', '.join(heading)[:80]}; write that column alone"
            )
        place = called.index(known[0])
        cells = [heading[place], *(row[place] if len(row) > place else "" for row in rows)]
    else:
        cells = list(lines)
    numbers = []
    for number, cell in enumerate(cells, 1):
        found = _whole(cell.strip().strip('"'))
        if found is not None:
            numbers.append(found)
        elif number > 1:  # the first is a heading
            hint = f"; {NUMBERED}" if any(map(str.isalpha, cell)) else ""
            raise BadInput(f"{name}: line {number}: expected a whole number, found {cell[:40]!r}{hint}")
    try:
        return np.array(numbers, np.int64)
    except OverflowError:
        raise BadInput(f"{name}: expected whole numbers of 64 bits, found {max(numbers, key=abs)}"[:200]) from None


def _whole(cell: str) -> int | None:
    """The whole number of a cell, also where it is written with a point, as `numpy.savetxt` does; else None."""
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        number = float(cell)
    except ValueError:
        return None
    return int(number) if number % 1 == 0 and abs(number) < 2**53 else None


def whole_column(path: Path, name: str, keys: Iterable[str]) -> np.ndarray:
    """Return a column of whole numbers of a Parquet file, by one of some names or, of a single one, by any; as it is stored.

    Raises:
        BadInput: when it cannot be read, or has no such column.
    """
    try:
        import pyarrow.parquet

        table: Any = pyarrow.parquet.read_table(path)
    except ImportError:
        raise BadInput(f"{name}: parquet files are read with pyarrow; pip install pyarrow, or pass a .npy") from None
    except FileNotFoundError:
        raise BadInput(f"{name}: expected a file, there is none; check the path") from None
    except Exception as error:  # whatever Arrow finds wrong with the file
        raise BadInput(f"{name}: expected a whole Parquet file: {' '.join(str(error).split())[:200]}") from None
    names = list(table.column_names)
    known = [key for key in keys if key in names] or (names if len(names) == 1 else [])
    if not known:
        raise BadInput(
            f"{name}: expected one column, or one called {' or '.join(list(keys)[:2])}, found {', '.join(names)[:80]};"
            " write that column alone"
        )
    return table.column(known[0]).to_numpy()
