"""A trial of a network of one's own on a few examples, before anything is trained or written."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax.errors import BadInput
from kd_jax.models.foreign import said
from kd_jax.models.variables import Variables

T = TypeVar("T")


def trial(name: str, model: Any, classes: int, x: Any, seed: int = 0) -> None:
    """Check that a network does what training needs, at random initial values.

    Args:
        name: its name, for messages.
        model: the `Model` of it.
        classes: the number of classes.
        x: a few examples as the network is given them, at least two.
        seed: the seed of its initial values.

    Raises:
        BadInput: for a network that raises, whose output is no finite logits [batch, classes], which has no parameters, which draws
            its initial values from something else than its key, or which changes the form of its state in training.
    """
    key, x = jax.random.key(seed), jnp.asarray(x)
    batch = jax.ShapeDtypeStruct(x.shape, x.dtype)

    def tried(what: str, run: Callable[[], T]) -> T:
        try:
            return run()
        except BadInput:
            raise
        except Exception as error:
            shown = f"{x.dtype} [{', '.join(map(str, x.shape))}]"
            raise BadInput(
                f"model {name!r}: expected it to {what} for a batch {shown}, it raised {said(error)}; correct it"
            ) from None

    shapes = tried("initialise", lambda: jax.eval_shape(model.init, key, batch))
    if not jax.tree.leaves(shapes.params):
        raise BadInput(f"model {name!r}: expected parameters to train, found none; in NNX they are nnx.Param")
    _check_state(name, shapes)

    def evaluated(variables, x):
        return model.apply(variables, x, train=False)

    def trained(variables, x):
        keys = jax.random.split(key, x.shape[0]) if model.draws(x) else None
        return model.apply(variables, x, train=True, keys=keys)

    outputs = tried("evaluate", lambda: jax.eval_shape(evaluated, shapes, batch))
    _check_logits(name, outputs.logits, (len(x), classes))
    _check_features(name, outputs.features, len(x))
    outputs = tried("take a training step", lambda: jax.eval_shape(trained, shapes, batch))
    _check_logits(name, outputs.logits, (len(x), classes))
    if _form(outputs.state) != _form(shapes.model_state):
        raise BadInput(
            f"model {name!r}: expected its state to keep its form in training, it had {_form(shapes.model_state)}, found"
            f" {_form(outputs.state)}"
        )
    if jnp.issubdtype(x.dtype, jnp.integer) and x.shape[1] > 1:
        shorter = jax.ShapeDtypeStruct((len(x), x.shape[1] // 2), x.dtype)
        outputs = tried(
            f"evaluate texts of other lengths, such as {shorter.shape[1]},",
            lambda: jax.eval_shape(evaluated, shapes, shorter),
        )
        _check_logits(name, outputs.logits, (len(x), classes))
    start = tried("initialise", lambda: jax.jit(model.init)(key, x))
    if _program(model.init, key, batch) != _program(model.init, key, batch):
        again = tried("initialise", lambda: jax.jit(lambda key: model.init(key, x))(key))
        if not all(map(np.array_equal, jax.tree.leaves(start), jax.tree.leaves(again))):
            raise BadInput(
                f"model {name!r}: expected equal initial values for equal keys, found others the second time; draw them from the"
                " key that flax hands out, not from another source"
            )
    logits = np.asarray(tried("evaluate", lambda: jax.jit(evaluated)(start, x)).logits)
    if not np.isfinite(logits).all():
        raise BadInput(
            f"model {name!r}: expected finite logits at random initial values, found {logits[~np.isfinite(logits)][0]};"
            " correct it or its initial values"
        )
    if (logits >= 0).all() and np.abs(logits.sum(axis=1) - 1).max() < (1e-5 if logits.dtype != jnp.bfloat16 else 1e-2):
        raise BadInput(
            f"model {name!r}: expected logits, found numbers from 0 to 1 that add up to 1 for every example; return what is before"
            " the softmax"
        )


def _check_logits(name: str, logits: Any, expected: tuple[int, int]) -> None:
    if not hasattr(logits, "shape"):
        raise BadInput(
            f"model {name!r}: expected it to return logits [batch, {expected[1]}] alone, found {type(logits).__name__}; name"
            " what else is wanted with kd_jax.models.feature"
        )
    if logits.shape != expected:
        found = ", ".join(
            ["batch" if i == 0 and side == expected[0] else str(side) for i, side in enumerate(logits.shape)]
        )
        raise BadInput(
            f"model {name!r}: expected logits [batch, {expected[1]}], found [{found}]; let it take an argument classes, the number"
            " of its outputs"
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise BadInput(f"model {name!r}: expected logits as floats, found {logits.dtype}; return them before argmax")


def _check_features(name: str, features: Any, batch: int) -> None:
    for key, value in features.items():
        if not value.shape or value.shape[0] != batch:
            raise BadInput(f"model {name!r}: expected the feature {key} as [batch, ...], found {value.shape}")


def _check_state(name: str, shapes: Variables) -> None:
    for path, leaf in jax.tree.leaves_with_path(shapes):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            where = jax.tree_util.keystr(path[1:], simple=True, separator="/")
            raise BadInput(f"model {name!r}: expected numbers as parameters and state, found a random key, {where}")


def _form(tree: Any) -> str:
    """Paths, shapes and dtypes of a tree, in a line."""
    leaves = jax.tree.leaves_with_path(tree)
    return ", ".join(
        f"{jax.tree_util.keystr(path, simple=True, separator='/')} {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in leaves
    )


def _program(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function computes, without addresses; equal if it does the same each time that it is traced."""
    traced = jax.make_jaxpr(lambda *arguments: function(*arguments))(*arguments)
    constants = [
        np.asarray(each).tobytes() if isinstance(each, np.ndarray | jax.Array) else "" for each in traced.consts
    ]
    return re.sub(r"0x[0-9a-f]+", "", str(traced)), constants
