"""Tables in files: CSV and TSV, JSON lines, Parquet; as columns of values, with the place of each row for messages."""

import csv
import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kd_jax.data.importing.contents import PARTS, listed
from kd_jax.errors import BadInput

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
DELIMITERS = ",;\t|"
LONGEST = 2**27  # characters in one field


class Table(NamedTuple):
    """The rows of one part of a source.

    Attributes:
        columns: {name: the value of each row}; of CSV strings, else what the file has, None where a value is missing.
        places: where each row stands, such as `train.csv, line 17`.
    """

    columns: dict[str, list[Any]]
    places: list[str]


def kind_of(path: Path) -> str:
    """Return the suffix of a file of a table, without `.gz`; empty for other files.

    >>> kind_of(Path("train.CSV.gz"))
    '.csv'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ""


def parts_of(source: Path) -> dict[str, list[Path]]:
    """Return {part: files} of a source: a file is the training part; in a folder, files are named for their parts.

    Names are the part alone or before a dash, dot or underscore, such as `train.csv` or `train-00000-of-00002.parquet`.

    Raises:
        BadInput: for a folder without a training part.
    """
    if source.is_file():
        return {"train": [source]}
    parts: dict[str, list[Path]] = {}
    for path in sorted(source.iterdir()):
        word = path.name.lower().replace("-", ".").replace("_", ".").split(".")[0]
        if kind_of(path) and word in PARTS:
            parts.setdefault(PARTS[word], []).append(path)
    if "train" not in parts:
        tables = [path.name for path in sorted(source.iterdir()) if kind_of(path)]
        raise BadInput(
            f"{source}: expected train{SUFFIXES[0]} or such, found {listed(tables)}; pass one file, or rename it"
        )
    return {"train": parts.pop("train"), **parts}


def read(paths: Sequence[Path], names: Sequence[str] = ()) -> Table:
    """Return the rows of files with the same columns, one after the other.

    Args:
        paths: the files.
        names: the names of the columns of a CSV without a line of names.

    Raises:
        BadInput: naming the file and line, when one cannot be read, or columns differ.
    """
    columns: dict[str, list[Any]] = {}
    places: list[str] = []
    for path in paths:
        kind = kind_of(path)
        if names and kind not in (".csv", ".tsv"):
            raise BadInput(
                f"--columns={' '.join(names)}: expected none for {path.name}, which has names of its own; leave it out"
            )
        if kind == ".parquet":
            found = _parquet(path)
        elif kind in (".jsonl", ".ndjson"):
            found = _json_lines(path)
        else:
            found = _delimited(path, "\t" if kind == ".tsv" else "", names)
        if columns and set(found.columns) != set(columns):
            raise BadInput(
                f"{path}: expected the columns of {paths[0].name}, {listed(list(columns), 10)}, found"
                f" {listed(list(found.columns), 10)}; make them alike"
            )
        for name, values in found.columns.items():
            columns.setdefault(name, []).extend(values)
        places += found.places
    if not places:
        raise BadInput(f"{paths[0]}: expected rows, found none; pass another file")
    return Table(columns, places)


def _lines(path) -> Iterator[str]:
    """The lines of a text in UTF-8, with a mark at its start or without one."""
    opened: Any = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong, is_wide = line[error.start], number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff"))
                encoding = "utf-16" if is_wide else "latin1"
                raise BadInput(
                    f"{path}: line {number}: expected UTF-8, found the byte 0x{wrong:02x}; convert the file, with iconv -f"
                    f" {encoding} -t utf-8 or such"
                ) from None


def _delimited(path, delimiter, names) -> Table:
    csv.field_size_limit(LONGEST)
    lines = _lines(path)
    first = next(lines, "")
    # In a TSV quotes are characters like any other, as in GLUE's files.
    quoting = csv.QUOTE_NONE if delimiter else csv.QUOTE_MINIMAL
    delimiter = delimiter or max(
        DELIMITERS, key=lambda character: (_outside_quotes(first, character), character == ",")
    )
    reader = csv.reader(_with_first(first, lines), delimiter=delimiter, quoting=quoting, strict=not quoting)
    rows, places = [], []
    try:
        header = list(names) or next(reader, [])
        if len(set(header)) < len(header) or "" in header[1:]:
            double = next(name for i, name in enumerate(header) if name in header[:i] or (not name and i))
            raise BadInput(
                f"{path}: line 1: expected a different name for every column, found {double!r}; name them, or pass --columns if"
                " the file has no line of names"
            )
        began = reader.line_num + 1
        for row in reader:
            if row:  # csv gives an empty line as no fields
                if len(row) != len(header):
                    raise BadInput(
                        f"{path}: line {began}: expected {len(header)} fields as in line 1, found {len(row)}; quote fields"
                        f" that hold {'a tab' if delimiter == chr(9) else delimiter}"
                    )
                rows.append(row)
                places.append(f"{path.name}, line {began}")
            began = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(
            f"{path}: line {reader.line_num}: expected comma-separated values, found: {error}; mend the line"
        ) from None
    return Table({name: [row[i] for row in rows] for i, name in enumerate(header)}, places)


def _with_first(first, lines):
    yield first
    yield from lines


def _outside_quotes(line, character):
    return sum(part.count(character) for part in line.split('"')[::2])


def _json_lines(path) -> Table:
    rows, places = [], []
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path}: line {number}: expected a JSON object, found: {error}; mend the line") from None
        if not isinstance(row, dict):
            raise BadInput(
                f"{path}: line {number}: expected a JSON object, found {type(row).__name__}; write {{...}} per line"
            )
        rows.append(row)
        places.append(f"{path.name}, line {number}")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table({name: [row.get(name) for row in rows] for name in names}, places)


def _parquet(path) -> Table:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise BadInput(f"{path}: expected the package pyarrow, which reads Parquet; pip install pyarrow") from None
    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise BadInput(
            f"{path}: expected a whole Parquet file, found: {' '.join(str(error).split())}; write it again"
        ) from None
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    return Table(columns, [f"{path.name}, row {row}" for row in range(table.num_rows)])
