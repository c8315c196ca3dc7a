"""Checkpoints of a run. The only module that knows orbax.

Trees are packed into one flat array per dtype before they are saved; see `kd_jax.workdir` for the layout and the reason.
"""

import json
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from kd_jax.errors import BadInput, Damaged
from kd_jax.workdir import remote
from kd_jax.workdir.packing import Leaves, Tree, digest, nest, pack, unpack
from kd_jax.workdir.records import kept_steps, key_of

# Orbax announces every save, and prints with its traceback what it then raises as well.
logging.getLogger("absl").setLevel(logging.CRITICAL)

RESUMED = 2  # whole states of a run that are kept, the newest ones
FILES = 4  # of a checkpoint, besides those of its arrays: metadata and orbax's marks of success, of the step and of its item
FILES_OF_ARRAY = 2  # its description and its bytes, in one chunk
METADATA = "_CHECKPOINT_METADATA"  # orbax's file of what is known of a step
METADATA_BYTES = 1100  # of a checkpoint, about, besides what it says about every array and every leaf
METADATA_BYTES_OF_ARRAY = 300
METADATA_BYTES_OF_LEAF = 60
ITEM = "default"  # orbax's name of what a step holds
WAITING_BYTES = 1 << 28  # of saves that wait for the disk while training goes on; one more waits whatever its size
# Orbax numbers its saves for the whole process as they begin; two threads that save at once would wait for each other's signals.
_SAVING = threading.Lock()


class Size(NamedTuple):
    """What checkpoints take on the disk.

    Attributes:
        files: how many files they are.
        bytes: how many bytes.
    """

    files: int
    bytes: int


def size(tree: Tree) -> Size:
    """Return what a checkpoint of a tree of arrays, or of their shapes and dtypes, takes on the disk.

    >>> size({"kernel": np.zeros((100, 100), np.float32), "step": np.zeros((), np.int32)})
    Size(files=8, bytes=41824)
    """
    leaves = jax.tree.leaves(tree)
    dtypes = {np.dtype(leaf.dtype) for leaf in leaves}
    contents = sum(int(np.prod(leaf.shape, dtype=np.int64)) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
    described = METADATA_BYTES + METADATA_BYTES_OF_ARRAY * len(dtypes) + METADATA_BYTES_OF_LEAF * len(leaves)
    return Size(FILES + FILES_OF_ARRAY * len(dtypes), contents + described)


class Checkpoints:
    """The checkpoints of one kind in one run folder.

    It must be used as a context manager: leaving without closing would lose the last save. What is saved is written in the order in
    which it was given, by a thread of its own.

    Args:
        folder: the folder that holds a folder per step.
        write: whether to open it for writing; otherwise nothing in it is touched.
        keep: number of the newest checkpoints to keep; None for all.
        key: of the run whose checkpoints they are, as `plan.Run.key`; None where it is not on record. What is saved carries it, and
            what carries another is taken for damaged.
    """

    def __init__(self, folder: Path | str, write: bool = False, keep: int | None = None, key: str | None = None):
        self.folder = Path(folder).absolute()
        self._key = key
        self._write, self._keep = write, keep
        self._saves: deque[tuple[int, Future[None]]] = deque()  # (bytes, what became of it)

    def __enter__(self) -> "Checkpoints":
        if not self._write:
            self._written = set(_steps(self.folder))
            return self
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._manager = self._open()
        except Exception:  # orbax reads what is said of every step, and raises many types where one is damaged
            damaged = _unreadable(self.folder)
            if not damaged:
                raise
            for step in damaged:
                set_aside(self.folder, step)
            self._manager = self._open()
        self._written = set(self._manager.all_steps())
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        return self

    def _open(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self._keep,
            # Deleting a step in place can be interrupted, and the half would still be listed.
            todelete_subdir="removed" if self._keep else None,
            cleanup_tmp_directories=True,
            create=False,
            enable_async_checkpointing=False,  # the thread is ours
            multiprocessing_options=_alone(),
        )
        # A file per array instead of a database of its own (OCDBT) for each checkpoint: six files and not nine, and less time. Its
        # bytes are as they are: zstd makes weights 8 % smaller, and reading them takes six times as long. All layouts are read, by
        # orbax's other handlers too.
        layout = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=False)
        return ocp.CheckpointManager(self.folder, options=options, item_handlers=layout)

    def __exit__(self, kind: object, *_: object) -> None:
        if not self._write:
            return
        try:
            try:
                self.wait()
            finally:
                self._writer.shutdown(cancel_futures=True)  # what waits behind a save that failed
                with _of_the_system(self.folder):
                    self._manager.close()
        except Exception:
            if kind is None:  # else it is what ended the block, once more
                raise
        finally:
            for half in self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):  # of a save that failed
                shutil.rmtree(half, ignore_errors=True)
            # Steps that orbax renamed on rotation, complete or not, are of no more use.
            shutil.rmtree(self.folder / "removed", ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps that are kept, rising, including those that this process is still saving."""
        return sorted(self._written)

    def save(self, step: int, tree: Tree) -> None:
        """Keep a tree as this step, in the background; a step that exists already stays as it is.

        The tree is copied first, so its arrays may be changed afterwards. Where much waits for the disk already, this waits too.

        Raises:
            OSError: when an earlier save failed.
        """
        if step in self._written:
            return
        arrays, leaves = pack(tree)
        self._settle(WAITING_BYTES)
        self._written.add(step)
        size = sum(array.nbytes for array in arrays.values())
        self._saves.append((size, self._writer.submit(self._save, step, arrays, leaves)))

    def wait(self) -> None:
        """Wait until everything that was saved is on the disk.

        Raises:
            OSError: when it could not be saved.
        """
        self._settle(0)

    def _settle(self, most: int) -> None:
        """Wait until no more than so many bytes wait to be saved, and raise what the saves that have ended raised."""
        while self._saves and (self._saves[0][1].done() or sum(size for size, _ in self._saves) > most):
            self._saves.popleft()[1].result()

    def _save(self, step: int, arrays: dict[str, np.ndarray], leaves: Leaves) -> None:
        metadata = {"digest": digest(arrays, leaves), "leaves": leaves, "step": step}
        if self._key is not None:
            metadata["key"] = self._key
        with _of_the_system(self.folder), _SAVING:
            saved = self._manager.save(step, args=ocp.args.PyTreeSave(arrays), custom_metadata=metadata, force=True)
        if not saved:
            raise OSError(f"orbax did not save step {step} in {self.folder}")

    def load(self, step: int) -> dict[str, np.ndarray]:
        """Return {path: array} of a step.

        Raises:
            Damaged: when it cannot be read, its digest does not agree, or it is another step, or of another run.
        """
        self.wait()
        folder = self.folder / str(step)
        remote.fetch(folder)
        try:
            metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))["custom_metadata"]
            arrays = _read(folder / ITEM, _sizes(metadata["leaves"]))
            found = digest(arrays, metadata["leaves"])
            written, of_step, of_run = metadata["digest"], metadata.get("step", step), metadata.get("key", self._key)
        except Exception as error:  # what is missing or cut short raises many types
            raise Damaged(f"{folder}: cannot be read ({type(error).__name__})") from error
        if of_step != step:  # earlier versions wrote neither step nor key
            raise Damaged(f"{folder}: holds step {of_step}")
        if self._key is not None and of_run != self._key:
            raise Damaged(f"{folder}: holds another run ({of_run[:12]}, not {self._key[:12]})")
        if found != written:
            raise Damaged(f"{folder}: its bytes are not those that were written")
        return unpack(arrays, metadata["leaves"])

    def load_like(self, step: int, tree: Tree) -> Tree:
        """Return a tree of the structure of `tree` with the arrays of a step.

        Raises:
            Damaged: as `load`, or when paths or shapes differ.
        """
        flat = self.load(step)
        paths, structure = jax.tree_util.tree_flatten_with_path(tree)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
        if names != list(flat) or any(
            np.shape(leaf) != flat[name].shape for name, (_, leaf) in zip(names, paths, strict=True)
        ):
            raise Damaged(f"{self.folder / str(step)}: holds another network or optimiser")
        return jax.tree_util.tree_unflatten(structure, [flat[name] for name in names])

    def load_newest_like(self, tree: Tree, at_most: int | None = None) -> Tree | None:
        """Return the newest step that is whole, as a tree of the structure of `tree`, or None where there is none.

        Damaged checkpoints are moved aside, never deleted.

        Args:
            tree: has the structure and shapes of what is expected.
            at_most: the last step to look at; None for no limit.
        """
        for step in sorted(self._written, reverse=True):
            if at_most is not None and step > at_most:
                continue
            try:
                return self.load_like(step, tree)
            except Damaged:
                set_aside(self.folder, step)
                self._written.discard(step)
                if self._write:
                    self._manager.reload()
        return None


def _steps(store: Path) -> list[int]:
    """The steps in a store, rising: orbax renames a folder to its step when it is whole."""
    return sorted(int(path.name) for path in store.iterdir() if path.name.isdigit()) if store.is_dir() else []


def _sizes(leaves: Leaves) -> dict[str, int]:
    """{dtype: how many numbers of it a checkpoint holds}."""
    sizes: dict[str, int] = {}
    for _, shape, dtype in leaves:
        sizes[dtype] = sizes.get(dtype, 0) + int(np.prod(shape, dtype=np.int64))
    return sizes


def _read(folder: Path, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Read the flat arrays of a checkpoint.

    Orbax reads what it knows of a checkpoint besides, which takes longer than the arrays do, so files of arrays are given to
    TensorStore. Folders of earlier versions may hold databases (OCDBT), which are left to orbax.

    Args:
        folder: orbax's folder of the item.
        sizes: {dtype: how many numbers}.
    """
    if all((folder / dtype / ".zarray").is_file() for dtype in sizes):
        plain = {dtype: _plain(folder / dtype, dtype, size) for dtype, size in sizes.items()}
        arrays = {dtype: array for dtype, array in plain.items() if array is not None}
        specs = {
            dtype: {"driver": "zarr", "kvstore": {"driver": "file", "path": str(folder / dtype)}}
            for dtype in sizes
            if dtype not in arrays
        }
        opened = {dtype: tensorstore.open(spec, open=True) for dtype, spec in specs.items()}
        coming = {dtype: store.result().read() for dtype, store in opened.items()}
        arrays |= {dtype: read.result() for dtype, read in coming.items()}
    else:
        target = {dtype: np.empty(size, np.dtype(dtype)) for dtype, size in sizes.items()}
        how = ocp.checkpoint_utils.construct_restore_args(target)
        handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone())
        with ocp.Checkpointer(handler, multiprocessing_options=_alone()) as opened:
            arrays = opened.restore(folder, args=ocp.args.PyTreeRestore(target, restore_args=how))
    for dtype, size in sizes.items():
        if arrays[dtype].dtype != np.dtype(dtype) or arrays[dtype].shape != (size,):
            raise ValueError(f"{dtype}[{size}] is {arrays[dtype].dtype}{list(arrays[dtype].shape)}")
    return arrays


def _plain(folder: Path, dtype: str, size: int) -> np.ndarray | None:
    """Read an array whose file is its bytes alone, as `Checkpoints` writes them, in a third of TensorStore's time; else None."""
    said, file = json.loads((folder / ".zarray").read_text(encoding="utf-8")), folder / "0"
    expected = {"zarr_format": 2, "shape": [size], "chunks": [size], "compressor": None, "filters": None, "order": "C"}
    expected["dtype"] = np.dtype(dtype).str
    # An array of zeros alone has no file.
    if any(said.get(name, "") != value for name, value in expected.items()) or not file.is_file():
        return None
    return np.fromfile(file, dtype)


@contextmanager
def _of_the_system(folder: Path) -> Iterator[None]:
    """Raise an `OSError` for what orbax and TensorStore say in other types and many lines, such as that the disk is full."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))
        if code is None:
            raise
        number = int(code[1])
        raise OSError(number, os.strerror(number), str(folder)) from None


def _alone() -> ocp.options.MultiprocessingOptions:
    """Where several processes train together, one of them keeps what all have alike, and waits for no other."""
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=here, active_processes={here})


def _unreadable(store: Path) -> list[int]:
    """The steps of a store with which orbax does not open it, each tried alone."""
    found = []
    for step in _steps(store):
        with tempfile.TemporaryDirectory() as alone:
            (Path(alone) / str(step)).symlink_to(store / str(step))
            options = ocp.CheckpointManagerOptions(read_only=True, create=False, multiprocessing_options=_alone())
            try:
                ocp.CheckpointManager(alone, options=options).close()
            except Exception:
                found.append(step)
    return found


def set_aside(store: Path | str, step: int) -> Path:
    """Move a damaged checkpoint from its store to `damaged/` of the run folder, and return where it is now."""
    store = Path(store)
    aside = store.parent / "damaged" / f"{store.name}-{step}-{time.time_ns()}"
    aside.parent.mkdir(exist_ok=True)
    os.rename(store / str(step), aside)
    return aside


def trajectory(folder: Path | str, write: bool = False) -> Checkpoints:
    """Return the trajectory of a run folder."""
    return Checkpoints(Path(folder) / "trajectory", write=write, key=key_of(folder))


def resume(folder: Path | str) -> Checkpoints:
    """Return the store of full training states of a run folder, for writing; it keeps the newest two."""
    return Checkpoints(Path(folder) / "resume", write=True, keep=RESUMED, key=key_of(folder))


def repair(folder: Path | str) -> Checkpoints:
    """Return the store of full training states of a run whose trajectory lacks steps before its end, for writing.

    It is apart from `resume`, whose states are further on.
    """
    return Checkpoints(Path(folder) / "repair", write=True, keep=RESUMED, key=key_of(folder))


def load_variables(folder: Path | str, step: int) -> dict[str, Any]:
    """Return {"params": ..., "model_state": ...} of a run at a step, nested dicts of NumPy arrays.

    Raises:
        BadInput: when the step is not there, or damaged.
    """
    ((_, variables),) = stream_variables(folder, [step])
    return variables


def load_average(folder: Path | str, step: int) -> dict[str, Any]:
    """Return the moving average of the weights of a run at a step, as `load_variables` returns the weights.

    Raises:
        BadInput: when the step is not there, or damaged, or the run keeps no average.
    """
    ((_, tree),) = _trees(folder, [step])
    if "average" not in tree:
        raise BadInput(
            f"{folder}: expected an average of the weights at step {step}; the run was trained without --ema"
        )
    return _variables(tree["average"])


def stream_variables(folder: Path | str, steps: Iterable[int] | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (step, variables as `load_variables` returns them) one at a time.

    Args:
        folder: the folder of the run.
        steps: the steps to read; None for all that are there.

    Raises:
        BadInput: when a step is not there, or damaged.
    """
    for step, tree in _trees(folder, steps):
        yield step, _variables(tree)


def _variables(tree: dict[str, Any]) -> dict[str, Any]:
    return {"params": tree["params"], "model_state": tree.get("model_state", {})}


def _trees(folder: Path | str, steps: Iterable[int] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (step, everything that is kept of a run at that step, as nested dicts)."""
    kept = kept_steps(folder)
    chosen = kept if steps is None else [int(step) for step in steps]
    for step in chosen:
        if step not in kept:
            raise BadInput(
                f"{folder}: expected step {step} in its trajectory; run the study's command again to train it"
            )
    try:
        with trajectory(folder) as opened:
            yield from _ahead(opened, chosen)
    except Damaged as error:
        fix = "move that step's folder away and run the study's command again, which trains it anew"
        raise BadInput(f"{error}; expected a whole checkpoint; {fix}") from None


def _ahead(opened: Checkpoints, steps: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (step, what is kept of it), each read while the one before it is used: two are in memory at a time."""
    with ThreadPoolExecutor(1, "checkpoints") as reader:
        coming = [reader.submit(opened.load, step) for step in steps[:1]]
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            tree = nest(coming.pop().result())
            if following is not None:
                coming.append(reader.submit(opened.load, following))
            yield step, tree
            del tree
