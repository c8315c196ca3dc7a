"""Arrays that others wrote: a `.npy` stays on disk, a `.npz` is unpacked if it holds about what its size lets one expect."""

import zipfile
from pathlib import Path

import numpy as np

EXPANDS, ALWAYS = (
    100,
    1 << 28,
)  # logits, labels and masks unpack to less than so many times their size, or to fewer bytes


def read(path: Path | str) -> np.ndarray | dict[str, np.ndarray]:
    """Return the array of a `.npy`, mapped into memory, or {key: array} of a `.npz`. Nothing that is read is ever executed.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: when there is none.
        ValueError: whatever else is wrong with it, in one line.
    """
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            _check_sizes(found.zip)
            arrays = {key: found[key] for key in found.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # whatever NumPy, the zip file or its compression find wrong with the file
        raise ValueError(" ".join(str(error).split())[:300] or type(error).__name__) from None
    if plain := [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"{plain[0][:60]} is no array")
    return arrays


def fix(error: Exception, writer: str) -> str:
    """Return what to do about an error of NumPy's when a file was read; `writer` is `save` or `savez`.

    >>> fix(ValueError("Object arrays cannot be loaded when allow_pickle=False"), "save")
    'convert arrays of objects first: names with astype(str), numbers with astype(float)'
    """
    if "allow_pickle" in str(error):
        return "convert arrays of objects first: names with astype(str), numbers with astype(float)"
    return f"write it again with numpy.{writer}"


def are_probabilities(rows: np.ndarray) -> bool:
    """Return whether numbers are probabilities, which logits are only by mistake: none is negative, and each row adds up to 1.

    >>> are_probabilities(np.array([[0.2, 0.8], [1.0, 0.0]])), are_probabilities(np.array([[0.2, 0.8], [1.0, 0.1]]))
    (True, False)

    Args:
        rows: float [examples, classes].
    """
    if not rows.size or not np.isfinite(rows).all() or (rows < 0).any():
        return False
    few_digits = rows.dtype == np.float16
    return bool((np.abs(rows.astype(np.float64).sum(axis=1) - 1) < (2e-3 if few_digits else 1e-5)).all())


def _check_sizes(archive: zipfile.ZipFile | None) -> None:
    """Refuse an archive that unpacks to far more than its size. NumPy reads at most the size that the archive says."""
    members = [] if archive is None else archive.infolist()
    packed, unpacked = (sum(getattr(each, size) for each in members) for size in ("compress_size", "file_size"))
    if unpacked > max(ALWAYS, EXPANDS * packed):
        raise ValueError(f"{packed:,} bytes unpack to {unpacked:,}, which no logits do")
