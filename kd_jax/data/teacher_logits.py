"""What a teacher answers to each example, from a file: logits or probabilities from any framework, in a `.npz`.

Keys of the file, for the training split:

- `logits` or `log_probabilities` or `probabilities`, float [examples, classes]; or of the k most probable classes `indices`,
  integers [examples, k], with `log_probabilities` or `probabilities` [examples, k]. The rest of the mass is then spread evenly
  over the other classes, and taken to be at least `LEAST_REST`, so that its logarithm is finite.
- `ids`, integers [examples]: the position of each row's example in the training split as published. Without it the rows are all of
  that split, in its order.

The same keys with `test_` before them are for the test split, and with the name of a further split for that one. They are optional:
training does not need them. Whole numbers may have any integer type, the others float16, float32 or float64. Log-probabilities are
logits, so temperatures apply to both.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.data import stored
from kd_jax.data.arrays import hashed
from kd_jax.data.dataset import Dataset
from kd_jax.errors import BadInput
from kd_jax.files import replacing

KINDS = ("logits", "log_probabilities", "probabilities")
LEAST_REST = 1e-8
# How far probabilities may be from adding up to 1: rounding of the logarithm of a probability, which has few digits in float16.
TOLERANCE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-4}


class Table(NamedTuple):
    """A teacher's answers to some examples of a split.

    Attributes:
        ids: positions in the published split, rising, int64 [examples].
        kind: `logits` or `log_probabilities`.
        values: logits or log-probabilities, float [examples, classes], or of the most probable classes [examples, k].
        indices: those classes, int32 [examples, k]; None where `values` has all.
        rest: the log-probability of each of the other classes, float [examples]; None where `values` has all.
    """

    ids: np.ndarray
    kind: str
    values: np.ndarray
    indices: np.ndarray | None = None
    rest: np.ndarray | None = None

    def logits(self, ids: np.ndarray, classes: int, dtype: Any) -> np.ndarray:
        """Return the logits of examples, [examples, classes] of a dtype.

        Args:
            ids: their positions in the published split; all must be among `self.ids`.
            classes: the number of classes.
            dtype: a floating-point type.
        """
        rows = np.searchsorted(self.ids, ids)
        values = self.values[rows].astype(dtype)
        if self.indices is None or self.rest is None:
            return values
        answers = np.repeat(self.rest[rows].astype(dtype)[:, None], classes, axis=1)
        np.put_along_axis(answers, self.indices[rows], values, axis=1)
        return answers


def read(path: Path | str, dataset: Dataset) -> dict[str, Table]:
    """Return {name of a split: its `Table`} of a file, for the examples that a study uses, after a check.

    Args:
        path: the file.
        dataset: the data of the study.

    Raises:
        BadInput: in one line, for a file that cannot be read or lacks a key, has another number of examples or classes, an example
            twice or not at all, numbers that are not finite, classes out of range, or probabilities that do not add up.
    """
    arrays = _arrays(path)
    known = {f"{prefix}{key}" for prefix in map(_prefix, dataset.splits) for key in (*KINDS, "indices", "ids")}
    if unknown := sorted(set(arrays) - known):
        fix = "rename or remove it"
        raise _bad(path, f"{unknown[0]}: expected keys among {', '.join(sorted(known))}; {fix}")
    tables = {}
    for name, split in dataset.splits.items():
        prefix = _prefix(name)
        of_split = {key: arrays[f"{prefix}{key}"] for key in (*KINDS, "indices", "ids") if f"{prefix}{key}" in arrays}
        kinds = [kind for kind in KINDS if kind in of_split]
        if not of_split and name != "train":
            continue
        if len(kinds) != 1:
            found = ", ".join(arrays) or "none"
            raise _bad(path, f"expected one of the keys {', '.join(prefix + kind for kind in KINDS)}, found {found}")
        tables[name] = _table(path, prefix, kinds[0], of_split, name, split, dataset.classes)
    return tables


def write(path: Path | str, tables: Mapping[str, Table]) -> None:
    """Write tables as a file that `read` reads, in one step."""
    arrays = {}
    for name, table in tables.items():
        prefix = _prefix(name)
        arrays |= {f"{prefix}ids": table.ids, f"{prefix}{table.kind}": table.values}
        if table.indices is not None:
            arrays[f"{prefix}indices"] = table.indices
    with (
        replacing(path) as temporary,
        open(temporary, "wb") as stream,
    ):  # a stream, for `savez` adds an ending to a name
        np.savez(stream, **arrays)


def digest(tables: Mapping[str, Table]) -> str:
    """Return the sha256, as hex, over the answers that a study uses; the order of the file's rows and other rows are not in it."""
    total = hashlib.sha256()
    for name, table in sorted(tables.items()):
        total.update(f"{name} {table.kind}".encode())
        hashed(total, table.ids, table.values, *([] if table.indices is None else [table.indices]))
    return total.hexdigest()


def _prefix(split: str) -> str:
    return "" if split == "train" else f"{split}_"


def _bad(path: Path | str, said: str) -> BadInput:
    return BadInput(f"--teacher_logits={path}: {said}")


def _arrays(path: Path | str) -> dict[str, np.ndarray]:
    try:
        found = stored.read(path)
    except FileNotFoundError:
        raise _bad(path, "expected a .npz file, there is none; see --help") from None
    except ValueError as error:
        raise _bad(
            path, f"expected a .npz file of arrays, which cannot be read ({error}); {stored.fix(error, 'savez')}"
        ) from None
    if not isinstance(found, dict):
        raise _bad(path, "expected a .npz file of arrays, which cannot be read (one array); write it with numpy.savez")
    return found


def _table(
    path: Path | str, prefix: str, kind: str, arrays: Mapping[str, np.ndarray], name: str, split: Any, classes: int
) -> Table:
    """The table of one split, from its arrays under their keys without the prefix."""
    values, indices, key = arrays[kind], arrays.get("indices"), f"{prefix}{kind}"
    if values.dtype.name not in TOLERANCE or values.ndim != 2:
        raise _bad(path, f"{key}: expected floats [examples, classes], found {values.dtype} {list(values.shape)}")
    rows = _rows(path, prefix, key, len(values), arrays.get("ids"), name, split)
    if kind == "logits" and stored.are_probabilities(values):
        raise _bad(
            path,
            f"{key}: expected logits, found numbers from 0 to 1 that add up to 1 in every row; rename it {prefix}probabilities",
        )
    values = values[rows]
    if indices is None:
        if values.shape[1] != classes:
            raise _bad(
                path,
                f"{key}: expected {classes} classes, found {values.shape[1]}; for the top k pass {prefix}indices too",
            )
    else:
        indices = _checked_indices(path, prefix, kind, indices, arrays[kind].shape, rows, classes)
    tolerance = TOLERANCE[values.dtype.name]
    if kind == "probabilities":
        with np.errstate(divide="ignore", invalid="ignore"):
            values, kind = np.log(values.astype(np.promote_types(values.dtype, np.float32))), "log_probabilities"
        why = "a number that is no positive probability"
    else:
        why = "a number that is not finite"
    if not (finite := np.isfinite(values).all(axis=1)).all():
        what = "numbers" if kind == "logits" else "logarithms"
        raise _bad(path, f"{key}: expected finite {what}, row {rows[np.argmin(finite)]} has {why}; mend the row")
    if kind == "log_probabilities":
        values = _checked_sums(path, key, values, rows, tolerance, whole=indices is None)
    table = Table(np.asarray(split.ids, np.int64), kind, np.ascontiguousarray(values), indices)
    return table if indices is None else table._replace(rest=_rest(values, classes))


def _rows(
    path: Path | str, prefix: str, key: str, count: int, ids: np.ndarray | None, name: str, split: Any
) -> np.ndarray:
    """The rows of the file for the examples of a split, in their order."""
    what, published = f"{name} split", split.published
    if ids is None:
        if (published and count != published) or count <= split.ids[-1]:
            expected = f"the {published}" if published else f"all, at least {split.ids[-1] + 1},"
            fix = f"pass all of it in its order, or {prefix}ids"
            raise _bad(path, f"{key}: expected {expected} examples of the {what} as published, found {count}; {fix}")
        return np.asarray(split.ids)
    if ids.shape != (count,) or ids.dtype.kind not in "iu":
        raise _bad(path, f"{prefix}ids: expected whole numbers [{count}], found {ids.dtype} {list(ids.shape)}")
    order = np.argsort(ids, kind="stable")
    rising = ids[order].astype(np.int64)
    if (same := rising[1:] == rising[:-1]).any():
        raise _bad(
            path, f"{prefix}ids: expected each example once, {rising[1:][same][0]} is there twice; remove one row"
        )
    if count and (rising[0] < 0 or (published and rising[-1] >= published)):
        wrong = rising[0] if rising[0] < 0 else rising[-1]
        raise _bad(
            path,
            f"{prefix}ids: expected positions in the {what} of {published or 'at least 1'} examples, found {wrong}",
        )
    at = np.minimum(np.searchsorted(rising, split.ids), max(count - 1, 0))
    there = rising[at] == split.ids if count else np.zeros(len(split.ids), bool)
    if not there.all():
        lacking = f"{(~there).sum()} of {len(there)}, the first is {split.ids[np.argmin(there)]}"
        raise _bad(
            path, f"{prefix}ids: expected every example of the {what} that is used, lacks {lacking}; add its row"
        )
    return order[at]


def _checked_indices(
    path: Path | str,
    prefix: str,
    kind: str,
    indices: np.ndarray,
    shape: tuple[int, ...],
    rows: np.ndarray,
    classes: int,
) -> np.ndarray:
    """The classes of the top k of each row, int32, after a check."""
    key = f"{prefix}indices"
    if kind == "logits":
        raise _bad(
            path, f"{key}: expected probabilities or log_probabilities beside them: of logits the rest is not known"
        )
    if indices.shape != shape or indices.dtype.kind not in "iu":
        expected = f"whole numbers {list(shape)}, as {prefix}{kind} has"
        raise _bad(path, f"{key}: expected {expected}, found {indices.dtype} {list(indices.shape)}")
    if not 1 <= shape[1] <= classes:
        raise _bad(path, f"{key}: expected 1 to {classes} classes in a row, found {shape[1]}")
    indices = indices[rows]
    if (wrong := (indices < 0) | (indices >= classes)).any():
        row = int(np.argmax(wrong.any(axis=1)))
        found = indices[row][wrong[row]][0]
        raise _bad(path, f"{key}: expected classes from 0 to {classes - 1}, row {rows[row]} has {found}")
    rising = np.sort(indices, axis=1)
    if (twice := (rising[:, 1:] == rising[:, :-1]).any(axis=1)).any():
        raise _bad(path, f"{key}: expected each class once in a row, row {rows[np.argmax(twice)]} has one twice")
    return indices.astype(np.int32)


def _checked_sums(
    path: Path | str, key: str, values: np.ndarray, rows: np.ndarray, tolerance: float, whole: bool
) -> np.ndarray:
    """The log-probabilities, after a check that none adds up to more than 1, nor where all classes are there to less."""
    sums = np.exp(values.astype(np.float64)).sum(axis=1)
    wrong = (np.abs(sums - 1) if whole else sums - 1) > tolerance
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = "1" if whole else "at most 1"
        fix = "pass logits under the key logits" if whole else "pass probabilities at temperature 1"
        raise _bad(
            path,
            f"{key}: expected probabilities that add up to {expected}, those of row {rows[row]} to {sums[row]:.6g}; {fix}",
        )
    return values


def _rest(values: np.ndarray, classes: int) -> np.ndarray:
    """The log-probability of each class that is not among the top k, in the dtype of `values` but at least float32."""
    left = np.maximum(1 - np.exp(values.astype(np.float64)).sum(axis=1), LEAST_REST)
    return np.log(left / max(classes - values.shape[1], 1)).astype(np.promote_types(values.dtype, np.float32))
