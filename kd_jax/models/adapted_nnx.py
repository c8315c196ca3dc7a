"""An NNX module of one's own as the functions of a `Model`. Loaded when there is one, for importing NNX takes most of a second."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from kd_jax.models import foreign, layers, parts
from kd_jax.models.adapted import Adapted, Plain, _logits, call_arguments, floats_to, switches
from kd_jax.models.variables import Outputs, Variables

LAYERS: tuple[Any, ...] = (nnx.Linear, nnx.LinearGeneral, nnx.Conv)
KINDS = (nnx.Param, nnx.RngState, nnx.Intermediate, ...)  # in this order: a variable belongs to the first that it is


class NNX(Adapted):
    """An NNX module of one's own. Its parameters are its `nnx.Param`; its state is what else it holds but for random numbers."""

    def _made(self, key, x):
        return foreign.make(self.name, self._given(tuple(x.shape[1:])), rngs=nnx.Rngs(key))

    def _parts(self, x: Any) -> Any:
        """(graph, states of each kind as shapes, `Plain` of parameters and state, arguments of `__call__`)."""

        def compute():
            module = nnx.eval_shape(lambda: self._made(jax.random.key(0), x))
            graph, *states = nnx.split(module, *KINDS)
            params, _, _, rest = (nnx.to_pure_dict(state) for state in states)
            return graph, states, (Plain(params), Plain(rest)), call_arguments(self.name, type(module))

        return self._once("parts", x, compute)

    def init(self, key, x):
        _, params, _, _, rest = nnx.split(self._made(key, x), *KINDS)
        _, _, (of_params, of_rest), _ = self._parts(x)
        return Variables(*self._nested((of_params, params), (of_rest, rest)))

    def _nested(self, *pairs):
        return [plain.nested(floats_to(self.param_dtype, nnx.to_pure_dict(state))) for plain, state in pairs]

    def draws(self, x):
        _, (_, rngs, *_), _, _ = self._parts(x)
        return bool(jax.tree.leaves(rngs))

    def _merged(self, variables: Variables, x: Any, key: jax.Array | None) -> nnx.Module:
        graph, (params, rngs, intermediate, rest), (of_params, of_rest), _ = self._parts(x)
        key = jax.random.key(0) if key is None else key  # in evaluation nothing draws from it

        def fresh(number, leaf):
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jnp.broadcast_to(jax.random.fold_in(key, number), leaf.shape)
            return jnp.zeros(leaf.shape, leaf.dtype)  # counts of what was drawn

        leaves, structure = jax.tree.flatten(nnx.to_pure_dict(rngs))
        drawn = jax.tree.unflatten(structure, [fresh(number, leaf) for number, leaf in enumerate(leaves)])
        filled = [
            _filled(params, of_params.back(variables.params)),
            _filled(rngs, drawn),
            _filled(intermediate, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), _pure(intermediate))),
            _filled(rest, of_rest.back(variables.model_state)),
        ]
        return nnx.merge(graph, *filled)

    def _run(self, module: nnx.Module, x: Any, train: bool) -> Any:
        module.train() if train else module.eval()
        *_, names = self._parts(x)
        return module(x, **switches(names, train))

    def call(self, variables, x, train, key):
        module = self._merged(variables, x, key)
        if train and self.axis_name is not None:
            for _, part in nnx.iter_modules(module):
                if isinstance(part, nnx.BatchNorm) and part.axis_name is None:
                    part.axis_name = self.axis_name  # statistics over all devices
        with parts.collected() as features:
            logits = self._run(module, x, train)
        state = variables.model_state
        if train and jax.tree.leaves(state):
            (*_, (_, of_rest), _), (*_, rest) = self._parts(x), nnx.split(module, *KINDS)
            (state,) = self._nested((of_rest, rest))
        features = {name: value.astype(self.param_dtype) for name, value in features.items()}
        return Outputs(_logits(logits, self.param_dtype), features, state)

    def called(self, x):
        found = []

        def run(variables):
            module = self._merged(variables, x, None)
            names = {id(part): "/".join(map(str, path)) for path, part in nnx.iter_modules(module)}
            with _calls(lambda layer, value: found.append(names.get(id(layer), "")) if _known(layer) else None):
                self._run(module, x, False)

        jax.eval_shape(run, jax.eval_shape(self.init, jax.random.key(0), x))
        return [name for name in dict.fromkeys(found) if name]

    def layer_inputs(self, variables, x, layer):
        module = self._merged(variables, x, None)
        (wanted,) = (part for path, part in nnx.iter_modules(module) if "/".join(map(str, path)) == layer)
        caught = []
        with _calls(lambda called, value: caught.append(_vectors(called, value)) if called is wanted else None):
            self._run(module, x, False)
        return jnp.concatenate(caught)


def _pure(state: Any) -> Any:
    return nnx.to_pure_dict(state)


def _filled(state: Any, pure: Any) -> Any:
    """Return a copy of a state with the values of nested dicts."""
    copied = jax.tree.map(lambda leaf: leaf, state)
    nnx.replace_by_pure_dict(copied, pure)
    return copied


def _known(layer: Any) -> bool:
    return not isinstance(layer, nnx.Conv) or layers.is_plain(layer)


def _vectors(layer: Any, value: Any) -> jax.Array:
    """Return the vectors [vectors, fan-in] of a layer that is called with `value`."""
    if isinstance(layer, nnx.Conv):
        value = layers.patches(layer, value)
    elif isinstance(layer, nnx.LinearGeneral):
        value = layers.contracted(layer.axis, value)
    return value.reshape(-1, value.shape[-1])


@contextmanager
def _calls(note: Callable[[Any, Any], None]) -> Iterator[None]:
    """Call `note(layer, value)` for every call of a layer with a kernel.

    NNX has no hook for that, so its classes get one for a while.
    """
    originals = {kind: kind.__call__ for kind in LAYERS}

    def noted(original):
        @wraps(original)
        def call(self, value, *args, **kwargs):
            note(self, value)
            return original(self, value, *args, **kwargs)

        return call

    for kind, original in originals.items():
        kind.__call__ = noted(original)
    try:
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original
