"""Images that a table lists: a column of their names and one of labels, as competitions and annotation tools write them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from kd_jax.data.importing import columns, folders
from kd_jax.data.importing.contents import PARTS, Contents, Options, listed
from kd_jax.data.importing.pictures import UNREADABLE, Pictures
from kd_jax.data.importing.pictures import contents as of_pictures
from kd_jax.data.importing.tables import Table
from kd_jax.errors import BadInput

Place = tuple[str, ...]  # where an image lies: the parts of its path below the folder of all images


def contents(found: Mapping[str, Table], options: Options, source: Path) -> Contents:
    """Return the images of `options.image_column` as the contents of a set; see `Contents`.

    A name may lack folders in front of it and the suffix, as long as one image alone answers to it; of several, that of a folder
    called as the part counts, such as `train`. Rows without an image are left out and counted, up to `UNREADABLE` of them.

    Args:
        found: {part: its rows}.
        options: how the table is to be read.
        source: the table, or the folder of tables. Images are looked for in `options.image_dir`, else around the table.

    Raises:
        BadInput: naming the row, where an image is listed twice, several answer to a name, or a label is missing; and where more
            images are absent.
    """
    folder = Path(options.image_dir).expanduser() if options.image_dir else source if source.is_dir() else source.parent
    if not folder.is_dir():
        raise BadInput(f"--image_dir={folder}: expected the folder of the images, found none; check the path")
    by_name = _by_name(folder)
    files: dict[str, list[Path]] = {}
    kept: dict[str, Table] = {}
    notes: list[str] = []
    for part, table in found.items():
        places, rows = _places(table, part, options.image_column, by_name, folder)
        files[part] = [folder.joinpath(*place) for place in places]
        kept[part] = Table(
            {options.label_column: [table.columns[options.label_column][row] for row in rows]},
            [table.places[row] for row in rows],
        )
        if lacking := len(table.places) - len(rows):
            notes.append(f"left out {lacking:,} rows of the {part} part whose image is not below {folder}")
    others = {path for part, paths in files.items() if part != "train" for path in paths}
    if again := len(others.intersection(files["train"])):
        notes.append(f"{again:,} images are in the training part and in another")
    labels, names, more = columns.labels(kept, options.label_column, str(source))
    shown = {part: [folders.shown(path.relative_to(folder)) for path in paths] for part, paths in files.items()}
    pictures = Pictures(shown, labels, names, lambda part, row: files[part][row].open("rb"))
    return of_pictures(pictures, options, [*notes, *more])


def _by_name(folder: Path) -> dict[str, list[Place]]:
    """{the last part of a path, with its suffix and without: all images of that name}."""
    found: dict[str, list[Place]] = {}
    for path in folders.images(folder):
        place = path.relative_to(folder).parts
        for name in dict.fromkeys((path.name, path.stem)):
            found.setdefault(name, []).append(place)
    return found


def _places(table: Table, part: str, column: str, by_name, folder) -> tuple[list[Place], list[int]]:
    """(Where the images of a part lie, the rows that have one)."""
    places: list[Place] = []
    rows: list[int] = []
    seen: dict[Place, str] = {}
    first_lacking = ""
    for row, (value, at) in enumerate(zip(table.columns[column], table.places, strict=True)):
        place = _place(value, at, part, column, by_name, folder)
        if place is None:
            first_lacking = first_lacking or f"{str(value)[:80]!r} ({at})"
            continue
        if place in seen:
            raise BadInput(
                f"{at}: expected each image once, found {os.sep.join(place)} in {seen[place]} too; keep one of these rows"
            )
        seen[place] = at
        places.append(place)
        rows.append(row)
    lacking = len(table.places) - len(rows)
    if lacking > max(1, UNREADABLE * len(table.places)) or not rows:
        raise BadInput(
            f"{folder}: expected images named as in column {column}, found none of {lacking:,} of {len(table.places):,} rows,"
            f" the first {first_lacking}; pass --image_dir, the folder around the images"
        )
    return places, rows


def _place(value: Any, at: str, part: str, column: str, by_name, folder) -> Place | None:
    """Where the image of a row lies; None where there is none."""
    name = "" if value is None else str(value).strip().replace("\\", "/")
    asked = tuple(each for each in PurePosixPath(name).parts if each != ".")
    if not asked:
        raise BadInput(
            f"{at}: expected the name of an image in {column}, found nothing; fill it in, or leave out the row"
        )
    if ".." in asked or asked[0] == "/":
        raise BadInput(
            f"{at}: expected names below {folder} in {column}, found {name[:80]}; pass --image_dir, and names relative to it"
        )
    found = [place for place in by_name.get(asked[-1], ()) if place[-len(asked) : -1] == asked[:-1]]
    if len(found) > 1:
        found = _preferred(found, len(asked), part)
    if len(found) > 1:
        raise BadInput(
            f"{at}: expected one image called {name[:80]} below {folder}, found {listed([os.sep.join(place) for place in found])};"
            " write more of its path, or its suffix"
        )
    return found[0] if found else None


def _preferred(found: Sequence[Place], length: int, part: str) -> list[Place]:
    """Those whose whole path is asked for; else those in a folder of the part; else all."""
    whole = [place for place in found if len(place) == length]
    of_part = [place for place in found if any(PARTS.get(name.lower()) == part for name in place[:-1])]
    return whole or of_part or list(found)
