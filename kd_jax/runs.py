"""The work folder. Alone in knowing where things lie and how a checkpoint is laid out.

    WORKDIR/
      tokenizer.json           of a study of texts: what its tokens were made with
      study.json               what was asked for, versions, platform, data fingerprint, hashes of the teachers
      runs/ARM-seedK/          a run
        metrics.jsonl          a line per epoch
        trajectory/STEP/       orbax, append-only: parameters and normalisation statistics, all that analysis reads
        resume/STEP/           orbax, the newest two: the full training state
      analysis/                what `stages.analyze` derives from the above; may be deleted

A checkpoint is a dict of one-dimensional arrays, one per dtype ("float32": [n]): orbax's cost is per leaf, not per byte. Its custom
metadata holds `leaves`, a list of [path, shape, dtype] in the order in which they lie in those arrays, and `digest`, a sha256 over
leaves and bytes, since neither orbax nor TensorStore notices a flipped bit.
"""

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp

from kd_jax.config import BadInput

logging.getLogger("absl").setLevel(logging.ERROR)  # orbax announces every save


class Damaged(Exception):
    """A checkpoint that cannot be read, or whose bytes are not those that were written."""


# ---- study.json, metrics.jsonl


def write_json(path, value):
    """Replace a JSON file in one step: a reader, or a crash, sees the old or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def read_study(workdir):
    """Return the contents of `study.json`.

    Raises:
        BadInput: when the folder holds no study.
    """
    path = Path(workdir) / "study.json"
    if not path.is_file():
        raise BadInput(
            f"{workdir}: expected a work folder with a study.json; name the --workdir of a study that was run"
        )
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}: expected JSON, found {error}; restore the file or start in another --workdir"
        ) from None


def check_workdir(workdir, name, identity, identity_of=lambda values: values):
    """Return the record of the study that a folder holds, or None for a new folder.

    Args:
        workdir: the work folder; not made.
        name: of the study that is to use it.
        identity: what must agree, as JSON values.
        identity_of: `identity_of(config of the record) -> identity` of the study in the folder.

    Raises:
        BadInput: when it is no folder, or holds a study of another name or identity.
    """
    path = Path(workdir)
    if path.exists() and not path.is_dir():
        raise BadInput(f"--workdir={workdir}: expected a folder, this is a file; pass another")
    if (path / "sweep.json").exists():
        raise BadInput(
            f"--workdir={workdir}: holds a sweep, expected a single study or nothing; pass another --workdir"
        )
    if not (path / "study.json").exists():
        return None
    record = read_study(workdir)
    there = {"study": record["study"], **identity_of(record["config"])}
    for key, value in {"study": name, **identity}.items():
        if there.get(key) != value:
            raise BadInput(
                f"--workdir={workdir}: holds a study with {key}={there.get(key)}, expected {key}={value};"
                " pass another --workdir or the flags of that study"
            )
    return record


def write_study(workdir, record):
    """Write `study.json`."""
    write_json(Path(workdir) / "study.json", record)


def write_tokenizer(workdir, text):
    """Write `tokenizer.json`, as Hugging Face's tokenizers has it."""
    path = Path(workdir) / "tokenizer.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def read_tokenizer(workdir):
    """Return the contents of `tokenizer.json`, or None where there is none."""
    path = Path(workdir) / "tokenizer.json"
    return path.read_text() if path.is_file() else None


def run_folder(workdir, name):
    """The folder of a run, absolute, as orbax wants it."""
    return (Path(workdir) / "runs" / name).absolute()


def read_metrics(folder):
    """Return the lines of `metrics.jsonl`, oldest first; a line cut short by a crash is left out."""
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def append_metrics(folder, line):
    """Add a line to `metrics.jsonl`."""
    with open(Path(folder) / "metrics.jsonl", "a") as stream:
        stream.write(json.dumps(line) + "\n")


def rewind_metrics(folder, step):
    """Drop the lines of `metrics.jsonl` after `step`: training goes on from there and writes them again."""
    path = Path(folder) / "metrics.jsonl"
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    if path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, path)


@contextmanager
def locked(workdir):
    """Hold the work folder, so that two programs do not write into it; released when the process ends, however it ends.

    Raises:
        BadInput: when another program holds it, or it cannot be written.
    """
    workdir = Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        stream = open(workdir / ".lock", "w")  # noqa: SIM115, closed below
    except OSError as error:
        raise BadInput(
            f"--workdir={workdir}: expected a folder that can be written ({error.strerror}); pass another"
        ) from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"--workdir={workdir}: expected a free folder, another program is writing it; wait for it"
            ) from None
        yield


# ---- checkpoints


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


def kept_steps(folder):
    """Steps of a run's trajectory, rising, from the folder names alone: fast, for asking what is done."""
    path = Path(folder) / "trajectory"
    return sorted(int(entry.name) for entry in path.iterdir() if entry.name.isdigit()) if path.is_dir() else []


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
