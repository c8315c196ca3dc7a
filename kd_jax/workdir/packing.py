"""Trees of arrays as a checkpoint keeps them: one flat array per dtype, beside what each leaf was; and their digests."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

Tree = Any  # a pytree of arrays
Leaves = list[list[Any]]  # [path, shape, dtype] of every leaf, in order


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
