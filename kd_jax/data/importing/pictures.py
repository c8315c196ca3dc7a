"""Encoded images of any kind as the contents of a set: of one size, decoded; or of many sizes, to be streamed.

They are looked through twice: their heads, which decide about sizes and colours, then their pixels, one image at a time.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from tqdm import tqdm

from kd_jax.data import pixels
from kd_jax.data.importing.contents import Contents, Options, listed
from kd_jax.data.loader import THREADS
from kd_jax.data.prepared import Image, Text
from kd_jax.errors import BadInput

IN_MEMORY = 2e9  # bytes; images of one size that take more when decoded are streamed
UNREADABLE = 0.01  # the share of files that may be unreadable; one always may
NAMED = 3  # unreadable files that are named


@dataclass(frozen=True)
class Pictures:
    """Images of a source, by part and position.

    Attributes:
        names: {part: what each image is called, such as its path}.
        labels: {part: the class of each, int32 [images]}.
        class_names: the names of the classes.
        opened: `opened(part, position)` opens an image file.
    """

    names: Mapping[str, Sequence[str]]
    labels: Mapping[str, np.ndarray]
    class_names: Sequence[str]
    opened: Callable[[str, int], BinaryIO]


@dataclass
class Trouble:
    """The images that cannot be read.

    Attributes:
        total: the number of all images.
        found: {(part, position): what is wrong, in words}.
    """

    total: int
    found: dict[tuple[str, int], str] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a source of which more than `UNREADABLE` cannot be read, and more than one image.

        Raises:
            BadInput: naming the first few.
        """
        if len(self.found) > max(1, UNREADABLE * self.total):
            raise BadInput(
                f"expected at most {UNREADABLE:.0%} unreadable images, found {len(self.found):,} of {self.total:,}:"
                f" {self.said()}; repair or remove them"
            )

    def said(self) -> str:
        """Return the first few and how many there are besides."""
        return listed(list(self.found.values()), NAMED)


def contents(pictures: Pictures, options: Options, notes: Sequence[str] = ()) -> Contents:
    """Return images as the contents of a set; see `Contents`.

    Args:
        pictures: the images.
        options: of which `image_size` is used.
        notes: sentences about the source, which come first.

    Raises:
        BadInput: when too many images cannot be read.
    """
    trouble = Trouble(sum(map(len, pictures.names.values())))
    heads = {part: _heads(pictures, part, trouble) for part in pictures.names}
    trouble.check()
    readable = [head for of_part in heads.values() for head in of_part if head]
    channels = 1 if all(head.grey for head in readable) else 3
    sizes = {(head.width, head.height) for head in readable}
    size = options.image_size
    if size:
        shape = (size, size, channels)
    else:
        width, height = next(iter(sizes))
        shape = (height, width, channels)
    streamed = not size and (len(sizes) > 1 or len(readable) * np.prod(shape, dtype=float) > IN_MEMORY)
    notes = [*notes, *_notes(readable, sizes, size)]

    def whole(part, row):
        """Return the bytes of a PNG, or of the file itself."""
        with pictures.opened(part, row) as file:
            if not streamed:
                return pixels.png(pixels.pixels(file, channels, size))
            encoded = file.read()
        if heads[part][row].plain:
            pixels.check(io.BytesIO(encoded))
            return encoded
        return pixels.png(pixels.pixels(io.BytesIO(encoded), 3))

    def read(part, row):
        name = pictures.names[part][row]
        if heads[part][row] is None:
            return None
        try:
            return {"image": whole(part, row), "file_name": name}
        except (pixels.Unreadable, OSError) as error:
            trouble.found[part, row] = f"{name} ({error})"
            return None

    def finish():
        trouble.check()
        if trouble.found:
            found.notes.append(f"left out {len(trouble.found):,} unreadable images: {trouble.said()}")

    found = Contents(
        features={
            "image": Image((None, None, 3)) if streamed else Image(shape, "png"),
            "file_name": Text(),
        },
        parts={part: lambda rows, part=part: _ahead(lambda row: read(part, row), rows) for part in pictures.names},
        labels=pictures.labels,
        class_names=pictures.class_names,
        kind="streamed" if streamed else "images",
        about=_about(sizes, size, channels, streamed),
        notes=notes,
        finish=finish,
    )
    return found


def _heads(pictures, part, trouble) -> list[Any]:
    names = pictures.names[part]

    def head(row):
        try:
            with pictures.opened(part, row) as file:
                return pixels.head(file)
        except (pixels.Unreadable, OSError) as error:
            trouble.found[part, row] = f"{names[row]} ({error})"
            return None

    rows = tqdm(range(len(names)), desc=f"looking at images of {part}", unit="image", disable=None)
    return [head(row) for row in rows]


def _notes(heads, sizes, size):
    notes = []
    for what, count in (
        ("of 16 bits became 8", sum(head.deep for head in heads)),
        ("transparent: laid on white", sum(head.clear for head in heads)),
        ("turned as EXIF says", sum(head.turned for head in heads)),
    ):
        if count:
            notes.append(f"{count:,} images {what}")
    if size and sizes != {(size, size)}:
        notes.append(f"images brought to {size}x{size}: the largest square in the centre of each, resized (bicubic)")
    return notes


def _about(sizes, size, channels, streamed):
    colours = "grey" if channels == 1 else "colour"
    if size:
        return f"{size}x{size} {colours}"
    if not streamed:
        width, height = next(iter(sizes))
        return f"{width}x{height} {colours}"
    (lowest, _), (highest, _) = min(sizes), max(sizes)
    low, high = min(height for _, height in sizes), max(height for _, height in sizes)
    if len(sizes) == 1:
        return f"{lowest}x{low} {colours}, too large to lie in memory, so they are streamed"
    return (
        f"{colours}, of {len(sizes)} sizes, {lowest} to {highest} wide and {low} to {high} high, so they are streamed"
    )


def _ahead(read: Callable[[int], Any], rows: np.ndarray) -> Iterator[Any]:
    """Yield (row, `read(row)`) in order, read ahead by threads; Pillow releases Python's lock while it decodes."""
    waiting = iter(rows.tolist())
    with ThreadPoolExecutor(THREADS) as threads:
        coming = [(row, threads.submit(read, row)) for row in islice(waiting, 4 * THREADS)]
        while coming:
            row, result = coming.pop(0)
            yield row, result.result()
            coming += [(row, threads.submit(read, row)) for row in islice(waiting, 1)]
