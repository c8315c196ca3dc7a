"""Checkpoints of a run, alone in knowing orbax."""

import hashlib
import json
import logging
import os
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from kd_jax.config import BadInput
from kd_jax.workdir.records import kept_steps

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax announces every save


class Damaged(Exception):
    """A checkpoint that cannot be read, or whose bytes are not those that were written."""


def pack(tree):
    """Return (arrays, leaves): the tree as one flat array per dtype, and the list of [path, shape, dtype] to undo it."""
    by_dtype, leaves = {}, []
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        leaf = np.asarray(leaf)
        dtype = leaf.dtype.name
        by_dtype.setdefault(dtype, []).append(leaf.ravel())
        leaves.append([jax.tree_util.keystr(path, simple=True, separator="/"), list(leaf.shape), dtype])
    return {dtype: np.concatenate(parts) for dtype, parts in by_dtype.items()}, leaves


def unpack(arrays, leaves):
    """Return {path: array}, undoing `pack`."""
    taken, tree = dict.fromkeys(arrays, 0), {}
    for path, shape, dtype in leaves:
        start, size = taken[dtype], int(np.prod(shape, dtype=np.int64))
        tree[path] = arrays[dtype][start : start + size].reshape(shape)
        taken[dtype] = start + size
    return tree


def digest(arrays, leaves):
    """sha256 over paths, shapes, dtypes and bytes, as hex."""
    result = hashlib.sha256(json.dumps(leaves).encode())
    for dtype in sorted(arrays):
        result.update(np.ascontiguousarray(arrays[dtype]))
    return result.hexdigest()


def tree_digest(tree):
    """The digest that a checkpoint of this tree carries: the identity of a frozen teacher."""
    return digest(*pack(tree))


def nest(flat):
    """{"a/b": x} to {"a": {"b": x}}."""
    tree = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = leaf
    return tree


class Checkpoints:
    """The checkpoints of one kind in one run folder; a context manager, for leaving without closing loses the last save.

    Args:
        folder: holds a folder per step.
        write: open for writing; else nothing in it is touched.
        keep: how many of the newest to keep; None for all.
    """

    def __init__(self, folder, write=False, keep=None):
        self.folder = Path(folder).absolute()
        self._options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            # Deleting a step in place can be interrupted, and the half would still be listed.
            todelete_subdir="removed" if keep else None,
            cleanup_tmp_directories=write,
            read_only=not write,
            create=write,
        )

    def __enter__(self):
        if self._options.create:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(self.folder, options=self._options)
        self._written = set(self._manager.all_steps())
        return self

    def __exit__(self, *_):
        self._manager.close()
        # Steps that orbax renamed on rotation, complete or not, are of no more use.
        shutil.rmtree(self.folder / "removed", ignore_errors=True)

    def steps(self):
        """Steps that are kept, rising, those of this process's unfinished saves included."""
        return sorted(self._written)

    def save(self, step, tree):
        """Keep a tree as this step, in the background; a step that is there already stays as it is.

        Raises:
            OSError: when orbax did not save, now or the last time.
        """
        if step in self._written:
            return
        arrays, leaves = pack(tree)
        metadata = {"digest": digest(arrays, leaves), "leaves": leaves}
        saved = self._manager.save(step, args=ocp.args.StandardSave(arrays), custom_metadata=metadata, force=True)
        if not saved:
            raise OSError(f"orbax did not save step {step} in {self.folder}")
        self._written.add(step)

    def load(self, step):
        """Return {path: array} of a step.

        Raises:
            Damaged: when it cannot be read or its digest does not agree.
        """
        try:
            metadata = self._manager.metadata(step).custom_metadata
            sizes = {}
            for _, shape, dtype in metadata["leaves"]:
                sizes[dtype] = sizes.get(dtype, 0) + int(np.prod(shape, dtype=np.int64))
            target = {dtype: np.empty(size, np.dtype(dtype)) for dtype, size in sizes.items()}
            arrays = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        except Exception as error:  # what is missing or cut short raises many types
            raise Damaged(f"{self.folder / str(step)}: cannot be read ({type(error).__name__})") from error
        if digest(arrays, metadata["leaves"]) != metadata["digest"]:
            raise Damaged(f"{self.folder / str(step)}: its bytes are not those that were written")
        return unpack(arrays, metadata["leaves"])

    def load_like(self, step, tree):
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

    def load_newest_like(self, tree):
        """Return the newest step that is whole, as `tree`, or None; damaged ones are moved aside, never deleted."""
        for step in sorted(self._written, reverse=True):
            try:
                return self.load_like(step, tree)
            except Damaged:
                aside = self.folder.parent / "damaged" / f"{self.folder.name}-{step}-{time.time_ns()}"
                aside.parent.mkdir(exist_ok=True)
                os.rename(self.folder / str(step), aside)
                self._written.discard(step)
                self._manager.reload()
        return None


def trajectory(folder, write=False):
    """The trajectory of a run folder."""
    return Checkpoints(Path(folder) / "trajectory", write=write)


def resume(folder):
    """The resume store of a run folder, for writing."""
    return Checkpoints(Path(folder) / "resume", write=True, keep=2)


def load_variables(folder, step):
    """Return {"params": ..., "model_state": ...} of a run at a step, nested dicts of NumPy arrays.

    Raises:
        BadInput: when the step is not there, or damaged.
    """
    ((_, variables),) = stream_variables(folder, [step])
    return variables


def stream_variables(folder, steps=None):
    """Yield (step, variables as `load_variables`) one at a time, of all steps by default.

    Raises:
        BadInput: when a step is not there, or damaged.
    """
    kept = kept_steps(folder)
    for step in kept if steps is None else steps:
        if step not in kept:
            raise BadInput(f"{folder}: expected step {step} in its trajectory; run the study again to finish it")
    with trajectory(folder) as checkpoints:
        for step in kept if steps is None else steps:
            try:
                tree = nest(checkpoints.load(step))
            except Damaged as error:
                fix = "move that step's folder away and run the study again"
                raise BadInput(f"{error}; expected a whole checkpoint; {fix}") from None
            yield step, {"params": tree["params"], "model_state": tree.get("model_state", {})}
