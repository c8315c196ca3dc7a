"""Tables as contents of a set: a column of texts, or two, and one of labels; numbers in every column but the labels'; or a column
of names of images, see `listed_images`.
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.data.importing import tables
from kd_jax.data.importing.contents import Contents, Options, classified, listed
from kd_jax.data.importing.folders import SUFFIXES
from kd_jax.data.importing.tables import Table
from kd_jax.data.prepared import Tensor, Text
from kd_jax.errors import BadInput

ROW_NUMBERS = (
    "",
    "Unnamed: 0",
    "__index_level_0__",
)  # what pandas' row numbers are called in CSV, read again, and in Parquet
IDS = ("id", "index", "idx", "row", "row_id")
TRUTHS = {"false": 0.0, "true": 1.0}  # as a Parquet file has them
PAIR = ("first", "second")  # what the texts of a pair are called, in the order in which they are read


def read(source: Path, options: Options) -> Contents:
    """Return the rows of a table as texts, as images, or as numbers where no column of either is named.

    Raises:
        BadInput: when a column is absent, a label is missing, or a feature is no finite number, naming the row.
    """
    used = ("image_size",) if options.image_column else ("text_column", "pair_column", "ignore_columns")
    what = "a table of images" if options.image_column else "a table"
    options.only(what, "label_column", "columns", "image_column", "image_dir", *used)
    if options.image_dir and not options.image_column:
        raise BadInput(
            f"--image_dir={options.image_dir}: expected --image_column beside it, the column of the names of images; add it"
        )
    found = {part: tables.read(paths, options.columns) for part, paths in tables.parts_of(source).items()}
    if not options.image_column:
        return contents(found, options, str(source))
    from kd_jax.data.importing import listed_images

    _check_columns(found, options, str(source))
    return listed_images.contents(found, options, source)


def contents(found: dict[str, Table], options: Options, where: str) -> Contents:
    """Return tables as the contents of a set; see `Contents`.

    Args:
        found: {part: its rows}.
        options: which columns are what.
        where: what the tables are called in messages.

    Raises:
        BadInput: as `read` does.
    """
    texts = [name for name in (options.text_column, options.pair_column) if name]
    if options.pair_column and not options.text_column:
        raise BadInput(
            f"--pair_column={options.pair_column}: expected --text_column beside it, the first text of the pair; add it"
        )
    _check_columns(found, options, where)
    if texts:
        return _texts(found, texts, options, where)
    return _numbers(found, options, where)


def _check_columns(found, options, where):
    """Refuse columns that are asked for and absent, and a table without a column of labels."""
    names = list(found["train"].columns)
    if not options.label_column:
        guess = next((name for name in names if name.lower() in ("label", "class", "target", "y")), "COLUMN")
        raise BadInput(
            f"{where}: expected --label_column, the column of the classes, one of {listed(names, 20)}; pass --label_column={guess}"
        )
    for part, table in found.items():
        for flag in ("label_column", "text_column", "pair_column", "image_column"):
            _check_column(flag, getattr(options, flag), table, part, where)
        for name in options.ignore_columns:
            _check_column("ignore_columns", name, table, part, where)


def _check_column(flag, name, table, part, where):
    if name and name not in table.columns:
        fix = "pass one of them"
        if part != "train":
            fix = "add it to that part, or pass the file of the training part alone, of which a share is then held out"
        raise BadInput(
            f"--{flag}={name}: expected a column of the {part} part of {where}, which are"
            f" {listed(list(table.columns), 20)}; {fix}"
        )


def labels(found: Mapping[str, Table], column: str, where: str) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """Return what `classified` makes of a column of labels.

    Args:
        found: {part: its rows}.
        column: the column.
        where: what the tables are called in messages.

    Raises:
        BadInput: as `classified`, and for a row without a label.
    """
    values: dict[str, list[Any]] = {}
    for part, table in found.items():
        values[part] = table.columns[column]
        for value, place in zip(values[part], table.places, strict=True):
            if value is None or value != value or (isinstance(value, str) and not value.strip()):
                raise BadInput(
                    f"{where}: {place}: expected a label in {column}, found none; fill it in, or leave out the row"
                )
    return classified(values, f"{where}: column {column}")


def _texts(found, columns, options, where):
    if options.ignore_columns:
        said = " ".join(options.ignore_columns)
        raise BadInput(
            f"--ignore_columns={said}: expected none beside --text_column, which is read alone; leave it out"
        )
    notes, kept = [], {}
    for part, table in found.items():
        rows = list(zip(*([_string(value) for value in table.columns[name]] for name in columns), strict=True))
        full = [row for row, texts in enumerate(rows) if any(text.strip() for text in texts)]
        if len(full) < len(rows):
            notes.append(
                f"left out {len(rows) - len(full):,} rows of the {part} part without text in {' and '.join(columns)}"
            )
        if not full:
            raise BadInput(
                f"{where}: expected texts in {columns[0]}, found none in the {part} part; name another column"
            )
        kept[part] = [rows[row] for row in full], table.places
        found[part] = Table(
            {options.label_column: [table.columns[options.label_column][row] for row in full]},
            [table.places[row] for row in full],
        )
    of_rows, names, more = labels(found, options.label_column, where)
    keys = ("text",) if len(columns) == 1 else PAIR

    def rows_of(texts) -> Any:
        return lambda rows: ((row, dict(zip(keys, texts[row], strict=True))) for row in rows.tolist())

    return Contents(
        features={key: Text() for key in keys},
        parts={part: rows_of(texts) for part, (texts, _) in kept.items()},
        labels=of_rows,
        class_names=names,
        kind="texts",
        about="texts" if len(columns) == 1 else f"pairs of texts, {columns[0]} first",
        notes=[*notes, *more],
        description=f"Columns: {', '.join([*columns, options.label_column])}.",
    )


def _string(value):
    return "" if value is None else str(value)


def _numbers(found, options, where):
    left = {options.label_column, *options.ignore_columns}
    unnamed = [name for name in found["train"].columns if name in ROW_NUMBERS and name not in left]
    unnamed = [
        name for name in unnamed if all(_are_row_numbers(table.columns.get(name, ())) for table in found.values())
    ]
    columns = [name for name in found["train"].columns if name not in {*left, *unnamed}]
    if not columns:
        raise BadInput(
            f"{where}: expected columns of numbers beside {options.label_column}, found none; pass --text_column for texts"
        )
    of_rows, names, notes = labels(found, options.label_column, where)
    notes += [f"left out the column {name!r}, row numbers as pandas writes them" for name in unnamed]
    notes += [
        f"column {name} has another whole number in each row; if it numbers the examples, pass --ignore_columns {_quoted(name)}"
        for name in columns
        if name.lower() in IDS and all(_are_row_numbers(table.columns.get(name, ())) for table in found.values())
    ]
    arrays = {part: _matrix(table, columns, where) for part, table in found.items()}

    def rows_of(x) -> Any:
        return lambda rows: ((row, {"features": x[row]}) for row in rows.tolist())

    return Contents(
        features={"features": Tensor((len(columns),))},
        parts={part: rows_of(x) for part, x in arrays.items()},
        labels=of_rows,
        class_names=names,
        kind="numbers",
        about=f"{len(columns)} numbers: {listed(columns)}",
        notes=notes,
        description=f"Features: {', '.join(columns)}.",
    )


def _matrix(table: Table, columns, where) -> np.ndarray:
    """The values of some columns, float32 [rows, columns]."""
    x = np.empty((len(table.places), len(columns)), np.float32)
    for i, name in enumerate(columns):
        if name not in table.columns:
            raise BadInput(
                f"{where}: expected a column {name} in every part, found {listed(list(table.columns), 20)}; add it"
            )
        for row, value in enumerate(table.columns[name]):
            with np.errstate(over="ignore"):
                x[row, i] = _number(value)
            if not np.isfinite(x[row, i]):
                shown = "nothing" if value is None or value == "" else repr(value)
                raise BadInput(
                    f"{where}: {table.places[row]}, column {name}: expected a finite number, found {shown}; fill it in, leave"
                    f" out the row, or the column with --ignore_columns {_quoted(name)}{_hint(name, value)}"
                )
    return x


def _are_row_numbers(values):
    """Whether each row has a whole number of its own."""
    numbers = [_number(value) for value in values]
    return len(set(numbers)) == len(numbers) and all(number == number and number % 1 == 0 for number in numbers)


def _quoted(name):
    return shlex.quote(str(name))


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return TRUTHS.get(str(value).strip().lower(), float("nan"))


def _hint(name, value):
    """What else a column with this value may be."""
    if isinstance(value, str) and value.lower().endswith(SUFFIXES):
        return f"; or pass --image_column {_quoted(name)} if it names images"
    is_word = isinstance(value, str) and any(character.isalpha() for character in value.lower().replace("nan", ""))
    return "; or pass --text_column if it is a text, --image_column if it names an image" if is_word else ""
