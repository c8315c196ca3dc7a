"""What an analysis keeps of single examples, so that its report can show them without the data.

File: `views.npz`. Of each split SPLIT `SPLIT_ids`, positions in the published split, and `SPLIT_images`, uint8 thumbnails of at
most 32 pixels on a side [examples, height, width, 1 or 3], or `SPLIT_texts`, their beginnings, str [examples].
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.analysis import gallery
from kd_jax.data import Dataset
from kd_jax.report import thumbnails
from kd_jax.report.thumbnails import Views
from kd_jax.studies.analyses.base import read_arrays

MOST_BYTES = 2 << 20  # of the thumbnails of a split; of a text four bytes for each of its characters
MOST = 20_000  # examples of a split: more are not drawn


def keep(dataset: Dataset, noteworthy: Mapping[str, Iterable[int]], folder: Path) -> None:
    """Write `views.npz` to the folder of an analysis: of each split the noteworthy examples, and others as there is room.

    The others are the first of the order in which `gallery.drawn` draws. Where nobody can look at the examples nothing is written.

    Args:
        dataset: the data.
        noteworthy: {split: rows that must be there}.
        folder: the folder of the analysis.
    """
    arrays: dict[str, Any] = {}
    for name, split in dataset.examined.items():
        first = np.unique(np.array([*noteworthy.get(name, ())], np.int64))
        sample = first if len(first) else np.arange(min(len(split.y), 1))
        one = dataset.shown(split.x, sample[:1])
        if one is None:
            return
        room = min(MOST, MOST_BYTES // max(one[0].nbytes if one.dtype == np.uint8 else 1200, 1))
        rows = np.union1d(first, gallery.drawn(len(split.y), max(room - len(first), 0)))
        shown = dataset.shown(split.x, rows)
        if shown is None:
            return
        arrays[f"{name}_ids"] = split.ids[rows]
        arrays[f"{name}_{'images' if shown.dtype == np.uint8 else 'texts'}"] = shown
    np.savez_compressed(folder / "views.npz", **arrays)


def read(folder: Path) -> dict[str, Views]:
    """Return {split: what is shown of its examples} of an analysis; empty where it has kept nothing, as older ones have not."""
    path = folder / "views.npz"
    if not path.is_file():
        return {}
    found = {}
    arrays = read_arrays(path)
    for name in arrays:
        split, _, kind = name.rpartition("_")
        shown = arrays.get(f"{split}_images", arrays.get(f"{split}_texts"))
        if kind == "ids" and shown is not None:
            found[split] = thumbnails.views(arrays[name], shown)
    return found
