"""Checkpoints of a run. The only module that knows orbax.

Trees are packed into one flat array per dtype before they are saved; see `kd_jax.workdir` for the layout and the reason.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from kd_jax.errors import BadInput, Damaged
from kd_jax.workdir import remote
from kd_jax.workdir.records import kept_steps, key_of

# Orbax announces every save, and prints with its traceback what it then raises as well.
logging.getLogger("absl").setLevel(logging.CRITICAL)

Tree = Any  # a pytree of arrays
Leaves = list[list[Any]]  # [path, shape, dtype] of every leaf, in order
RESUMED = 2  # whole states of a run that are kept, the newest ones
FILES = 4  # of a checkpoint, besides those of its arrays: metadata and orbax's marks of success, of the step and of its item
FILES_OF_ARRAY = 2  # its description and its bytes, in one chunk
METADATA = "_CHECKPOINT_METADATA"  # orbax's file of what is known of a step
METADATA_BYTES = 700  # of a checkpoint, about, besides what it says about every leaf
METADATA_BYTES_OF_LEAF = 60


class Size(NamedTuple):
    """What checkpoints take on the disk.

    Attributes:
        files: how many files they are.
        bytes: how many bytes, uncompressed; zstd makes random weights about a tenth smaller.
    """

    files: int
    bytes: int


def size(tree: Tree) -> Size:
    """Return what a checkpoint of a tree of arrays, or of their shapes and dtypes, takes on the disk.

    >>> size({"kernel": np.zeros((100, 100), np.float32), "step": np.zeros((), np.int32)})
    Size(files=8, bytes=40824)
    """
    leaves = jax.tree.leaves(tree)
    dtypes = {np.dtype(leaf.dtype) for leaf in leaves}
    contents = sum(int(np.prod(leaf.shape, dtype=np.int64)) * np.dtype(leaf.dtype).itemsize for leaf in leaves)
    return Size(FILES + FILES_OF_ARRAY * len(dtypes), contents + METADATA_BYTES + METADATA_BYTES_OF_LEAF * len(leaves))


def pack(tree: Tree) -> tuple[dict[str, np.ndarray], Leaves]:
    """Return the tree as one flat array per dtype, and the list of [path, shape, dtype] that undoes it."""
    by_dtype, leaves = {}, []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        leaf = np.asarray(leaf)
        dtype = leaf.dtype.name
        by_dtype.setdefault(dtype, []).append(leaf.ravel())
        leaves.append([jax.tree_util.keystr(path, simple=True, separator="/"), list(leaf.shape), dtype])
    return {dtype: np.concatenate(parts) for dtype, parts in by_dtype.items()}, leaves


def unpack(arrays: Mapping[str, np.ndarray], leaves: Leaves) -> dict[str, np.ndarray]:
    """Return {path: array}, undoing `pack`."""
    taken, tree = dict.fromkeys(arrays, 0), {}
    for path, shape, dtype in leaves:
        start, size = taken[dtype], int(np.prod(shape, dtype=np.int64))
        tree[path] = arrays[dtype][start : start + size].reshape(shape)
        taken[dtype] = start + size
    return tree


def digest(arrays: Mapping[str, np.ndarray], leaves: Leaves) -> str:
    """Return the sha256 over paths, shapes, dtypes and bytes, as hex."""
    result = hashlib.sha256(json.dumps(leaves).encode())
    for dtype in sorted(arrays):
        contents: Any = np.ascontiguousarray(arrays[dtype])
        result.update(contents)
    return result.hexdigest()


def tree_digest(tree: Tree) -> str:
    """Return the digest that a checkpoint of this tree carries. It is the identity of a frozen teacher."""
    return digest(*pack(tree))


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dicts of {path: value}.

    >>> nest({"a/b": 1, "a/c": 2})
    {'a': {'b': 1, 'c': 2}}
    """
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


class Checkpoints:
    """The checkpoints of one kind in one run folder.

    It must be used as a context manager: leaving without closing would lose the last save.

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
        self._options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            # Deleting a step in place can be interrupted, and the half would still be listed.
            todelete_subdir="removed" if keep else None,
            cleanup_tmp_directories=write,
            read_only=not write,
            create=write,
        )

    def __enter__(self) -> "Checkpoints":
        if self._options.create:
            self.folder.mkdir(parents=True, exist_ok=True)
        # A file per array instead of a database of its own (OCDBT) for each checkpoint: six files and not nine, and less time. Both
        # layouts are read, also by orbax's other handlers.
        layout = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
        try:
            self._manager = ocp.CheckpointManager(self.folder, options=self._options, item_handlers=layout)
        except Exception as error:  # orbax reads what is said of every step, and raises many types where one is damaged
            damaged = _unreadable(self.folder)
            if not damaged:
                raise
            if not self._options.create:
                where = self.folder / str(damaged[0])
                raise Damaged(f"{where}: cannot be read ({type(error).__name__})") from error
            for step in damaged:
                set_aside(self.folder, step)
            self._manager = ocp.CheckpointManager(self.folder, options=self._options, item_handlers=layout)
        self._written = set(self._manager.all_steps())
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            with _of_the_system(self.folder):
                self._manager.close()
        except Exception:
            if kind is None:  # else it is what ended the block, once more
                raise
        finally:
            if self._options.create:
                for half in self.folder.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):  # of a save that failed
                    shutil.rmtree(half, ignore_errors=True)
        # Steps that orbax renamed on rotation, complete or not, are of no more use.
        shutil.rmtree(self.folder / "removed", ignore_errors=True)

    def steps(self) -> list[int]:
        """Return the steps that are kept, rising, including those that this process is still saving."""
        return sorted(self._written)

    def save(self, step: int, tree: Tree) -> None:
        """Keep a tree as this step, in the background; a step that exists already stays as it is.

        Raises:
            OSError: when orbax did not save, this time or the last.
        """
        if step in self._written:
            return
        arrays, leaves = pack(tree)
        metadata = {"digest": digest(arrays, leaves), "leaves": leaves, "step": step}
        if self._key is not None:
            metadata["key"] = self._key
        with _of_the_system(self.folder):
            saved = self._manager.save(step, args=ocp.args.PyTreeSave(arrays), custom_metadata=metadata, force=True)
        if not saved:
            raise OSError(f"orbax did not save step {step} in {self.folder}")
        self._written.add(step)

    def load(self, step: int) -> dict[str, np.ndarray]:
        """Return {path: array} of a step.

        Raises:
            Damaged: when it cannot be read, its digest does not agree, or it is another step, or of another run.
        """
        remote.fetch(self.folder / str(step))
        try:
            metadata = self._metadata(step)
            sizes: dict[str, int] = {}
            for _, shape, dtype in metadata["leaves"]:
                sizes[dtype] = sizes.get(dtype, 0) + int(np.prod(shape, dtype=np.int64))
            target = {dtype: np.empty(size, np.dtype(dtype)) for dtype, size in sizes.items()}
            how = ocp.checkpoint_utils.construct_restore_args(target)
            arrays = self._manager.restore(step, args=ocp.args.PyTreeRestore(target, restore_args=how))
        except Exception as error:  # what is missing or cut short raises many types
            raise Damaged(f"{self.folder / str(step)}: cannot be read ({type(error).__name__})") from error
        if metadata.get("step", step) != step:  # earlier versions wrote neither step nor key
            raise Damaged(f"{self.folder / str(step)}: holds step {metadata['step']}")
        if self._key is not None and metadata.get("key", self._key) != self._key:
            raise Damaged(
                f"{self.folder / str(step)}: holds another run ({metadata['key'][:12]}, not {self._key[:12]})"
            )
        if digest(arrays, metadata["leaves"]) != metadata["digest"]:
            raise Damaged(f"{self.folder / str(step)}: its bytes are not those that were written")
        return unpack(arrays, metadata["leaves"])

    def _metadata(self, step: int) -> Mapping[str, Any]:
        """What `save` said of a step. Orbax reads all that it knows of it besides, which takes as long as the arrays do."""
        try:
            written = (self.folder / str(step) / METADATA).read_text(encoding="utf-8")
            return json.loads(written)["custom_metadata"]
        except (OSError, ValueError, KeyError, TypeError):
            return self._manager.metadata(step).custom_metadata

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
                self._manager.reload()
        return None


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


def _unreadable(store: Path) -> list[int]:
    """The steps of a store with which orbax does not open it, each tried alone."""
    found = []
    for path in sorted(store.iterdir()):
        if path.name.isdigit():
            with tempfile.TemporaryDirectory() as alone:
                (Path(alone) / path.name).symlink_to(path)
                options = ocp.CheckpointManagerOptions(read_only=True, create=False)
                try:
                    ocp.CheckpointManager(alone, options=options).close()
                except Exception:
                    found.append(int(path.name))
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
            for step in chosen:
                yield step, nest(opened.load(step))
    except Damaged as error:
        fix = "move that step's folder away and run the study's command again, which trains it anew"
        raise BadInput(f"{error}; expected a whole checkpoint; {fix}") from None
