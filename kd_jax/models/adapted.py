"""A flax module of one's own as the functions of a `Model`. Linen is here, NNX in `adapted_nnx`.

What a module is told about training, and how it draws, is found out from its signature and by a trial without arithmetic.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import InvalidRngError

from kd_jax.errors import BadInput
from kd_jax.models import foreign, layers
from kd_jax.models.parts import FEATURES
from kd_jax.models.variables import Outputs, Variables

# {name of an argument of `__call__`, or of an attribute: its value in training}; in evaluation it is the opposite.
SWITCHES = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}
IGNORED = (FEATURES, "intermediates", "perturbations")  # collections that are no state of the network


def switches(names: Any, train: bool) -> dict[str, Any]:
    """Return what those of some arguments that tell training from evaluation are set to."""
    return {name: value == train for name, value in SWITCHES.items() if name in names}


def call_arguments(name: str, kind: type) -> list[str]:
    """Return the arguments of the `__call__` of a module after the batch.

    Raises:
        BadInput: where it takes no batch, or needs more than a batch and the words of `SWITCHES`.
    """
    _, *parameters = inspect.signature(kind.__call__).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if not parameters or (parameters[0].kind not in (*positional, inspect.Parameter.VAR_POSITIONAL)):
        raise BadInput(f"model {name!r}: expected __call__(self, x, ...) with a batch x, found that it takes none")
    rest = [each for each in parameters[1:] if each.kind is not inspect.Parameter.VAR_KEYWORD]
    lacking = [each.name for each in rest if each.default is each.empty and each.name not in SWITCHES]
    if lacking and parameters[0].kind in positional:
        raise BadInput(
            f"model {name!r}: expected a __call__ of a batch and {' or '.join(SWITCHES)}, found that it needs"
            f" {', '.join(lacking)} too; give it a default"
        )
    return [each.name for each in rest]


class Plain:
    """Turns a tree into nested dicts by path, as checkpoints keep it, and back.

    Args:
        tree: a tree of the structure in question.
    """

    def __init__(self, tree: Any):
        leaves, self._structure = jax.tree_util.tree_flatten_with_path(tree)
        self._paths = [tuple(jax.tree_util.keystr((entry,), simple=True) for entry in path) for path, _ in leaves]

    def nested(self, tree: Any) -> dict[str, Any]:
        """Return a tree of this structure as nested dicts."""
        found: dict[str, Any] = {}
        for path, leaf in zip(self._paths, jax.tree.leaves(tree), strict=True):
            node = found
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = leaf
        return found

    def back(self, nested: Mapping[str, Any]) -> Any:
        """Return a tree of this structure from nested dicts."""
        leaves = []
        for path in self._paths:
            node: Any = nested
            for part in path:
                node = node[part]
            leaves.append(node)
        return jax.tree.unflatten(self._structure, leaves)


def floats_to(dtype: Any, tree: Any) -> Any:
    """Return a tree whose arrays of floats have this dtype; others stay as they are."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


class Adapted:
    """What modules of linen and NNX have in common.

    Results are cached by the shape of an example, for a module may be made for that shape.

    Args:
        name: the name of the network.
        given: `given(shape of an example) -> foreign.Given`.
    """

    def __init__(self, name: str, given: Callable[[tuple[int, ...]], foreign.Given]):
        self.name, self._given = name, given
        self._known: dict[Any, Any] = {}
        dtypes = given((1,))
        self.param_dtype, self.axis_name = dtypes.param_dtype, dtypes.axis_name

    def _once(self, what: str, x: Any, compute: Callable[[], Any]) -> Any:
        key = what, tuple(x.shape[1:]), str(x.dtype)
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def draws(self, x: Any) -> bool:
        """Return whether the network draws random numbers in training."""
        raise NotImplementedError

    def has_state(self, x: Any) -> bool:
        """Return whether it keeps anything besides its parameters, such as running statistics."""

        def compute():
            return bool(jax.tree.leaves(jax.eval_shape(self.init, jax.random.key(0), x).model_state))

        return self._once("state", x, compute)

    def init(self, key: jax.Array, x: Any) -> Variables:
        """Return random initial values; see `Model.init`."""
        raise NotImplementedError

    def call(self, variables: Variables, x: Any, train: bool, key: jax.Array | None) -> Outputs:
        """Return what the network makes of a batch, drawing from one key."""
        raise NotImplementedError

    def apply(self, variables: Variables, x: Any, train: bool = False, keys: Any = None) -> Outputs:
        """Return what the network makes of a batch; see `Model.apply`.

        A network without state goes through the examples of a batch one by one (`vmap`) where it draws, each with its own key: what
        is drawn is then a function of (run, step, example). With state, which is of a batch, it draws from the key of the first
        example of the device's part.
        """
        if not train or keys is None or not self.draws(x):
            return self.call(variables, x, train, None)
        if self.has_state(x):
            return self.call(variables, x, train, keys[0])

        def of_example(x, key):
            outputs = self.call(variables, x[None], train, key)
            return jax.tree.map(lambda leaf: leaf[0], (outputs.logits, outputs.features))

        logits, features = jax.vmap(of_example)(x, keys)
        return Outputs(logits, features, variables.model_state)

    def layers(self, x: Any) -> list[str]:
        """Return the layers whose kernel and inputs are understood; see `Model.layers`."""
        return self._once("layers", x, lambda: [layer for layer in self.called(x) if self._understood(x, layer)])

    def called(self, x: Any) -> list[str]:
        """Return the layers that may have a kernel, in the order of their use."""
        raise NotImplementedError

    def layer_inputs(self, variables: Variables, x: Any, layer: str) -> jax.Array:
        """Return the vectors that the kernel of a layer is multiplied with; see `Model.layer_inputs`."""
        raise NotImplementedError

    def fan_in(self, x: Any, layer: str) -> int:
        """Return the length of those vectors."""
        shapes = jax.eval_shape(self.init, jax.random.key(0), x)
        return jax.eval_shape(lambda variables: self.layer_inputs(variables, x[:1], layer), shapes).shape[1]

    def _understood(self, x: Any, layer: str) -> bool:
        """Whether a layer's inputs can be caught and fit its kernel: not, for instance, inside a scan over layers."""
        try:
            shapes = jax.eval_shape(self.init, jax.random.key(0), x)
            vectors = jax.eval_shape(lambda variables: self.layer_inputs(variables, x[:1], layer), shapes)
            node: Any = shapes.params
            for part in layer.split("/"):
                node = node[part]
            # The inputs of a unit come first in a kernel; one that a scan has stacked has another axis before them.
            return vectors.shape[1] in np.cumprod(node["kernel"].shape[:-1])
        except Exception:
            return False


class Linen(Adapted):
    """A linen module of one's own."""

    def _module(self, x: Any, train: bool) -> tuple[nn.Module, dict[str, Any]]:
        """Return the module for a batch, and what its `__call__` is told."""

        def made():
            # What it computes when it is made shall be values, also while its initial values are traced.
            with jax.ensure_compile_time_eval():
                module = foreign.make(self.name, self._given(tuple(x.shape[1:])))
            return module, call_arguments(self.name, type(module))

        module, names = self._once("module", x, made)
        words = switches(names, train)
        if not words:
            fields = [name for name in SWITCHES if name in type(module).__dataclass_fields__]
            module = module.clone(**switches(fields, train)) if fields else module
        return module, words

    def _init(self, key, x):
        module, words = self._module(x, False)
        streams = {"params": key, "dropout": jax.random.fold_in(key, 1)}
        variables = nn.meta.unbox(module.init(streams, x[:1], **words))
        kept = {name: tree for name, tree in variables.items() if name not in (*IGNORED, "params") and not _sown(tree)}
        return floats_to(self.param_dtype, (variables.get("params", {}), kept))

    def _plain(self, x: Any) -> tuple[Plain, Plain]:
        def compute():
            params, state = jax.eval_shape(self._init, jax.random.key(0), x)
            return Plain(params), Plain(state)

        return self._once("plain", x, compute)

    def init(self, key, x):
        params, state = self._init(key, x)
        of_params, of_state = self._plain(x)
        return Variables(of_params.nested(params), of_state.nested(state))

    def draws(self, x):
        def compute():
            def trained(variables, x):
                return self.call(variables, x, True, None).logits

            # Mapped over one part of a batch, so that the axis of the devices has a meaning here too.
            run = jax.vmap(trained, in_axes=(None, 0), axis_name=self.axis_name)
            shapes = jax.eval_shape(self.init, jax.random.key(0), x)
            try:
                jax.eval_shape(lambda variables: run(variables, x[None]), shapes)
            except InvalidRngError:
                return True
            return False

        return self._once("draws", x, compute)

    def call(self, variables, x, train, key):
        module, words = self._module(x, train)
        of_params, of_state = self._plain(x)
        state = of_state.back(variables.model_state)
        collections = {"params": of_params.back(variables.params), **state}
        # Linen falls back to the stream `params` for one that is not there.
        rngs = {} if key is None else {"dropout": key, "params": jax.random.fold_in(key, 1)}
        with nn.intercept_methods(partial(_over_all_devices, self.axis_name if train else None)):
            told: dict[str, Any] = {**words, "rngs": rngs, "mutable": [FEATURES, *(state if train else ())]}
            logits, updated = module.apply(collections, x, **told)
        features = {name: value.astype(self.param_dtype) for name, value in _flat(updated.get(FEATURES) or {}).items()}
        if train and state:
            new = {name: updated.get(name, state[name]) for name in state}
            state = of_state.nested(floats_to(self.param_dtype, nn.meta.unbox(new)))
        else:
            state = variables.model_state
        return Outputs(_logits(logits, self.param_dtype), features, state)

    def called(self, x):
        found = []

        def note(call, args, kwargs, context):
            if layers.understood(context):
                found.append("/".join(context.module.path))
            return call(*args, **kwargs)

        with nn.intercept_methods(note):
            jax.eval_shape(self._init, jax.random.key(0), x)
        return list(dict.fromkeys(found))

    def layer_inputs(self, variables, x, layer):
        self._plain(x)  # found by initialising, whose calls are not to be caught
        return layers.caught(lambda: self.call(variables, x, False, None), layer)


def adapted(name: str, given: Callable[[tuple[int, ...]], foreign.Given], example: tuple[int, ...]) -> Adapted:
    """Return a network of one's own, adapted by its kind.

    Args:
        name: the name of the network.
        given: `given(shape of an example) -> foreign.Given`.
        example: the shape of an example.

    Raises:
        BadInput: as `foreign.make`.
    """
    if not foreign.is_nnx(name, given(example)):
        return Linen(name, given)
    from kd_jax.models.adapted_nnx import NNX

    return NNX(name, given)


def _over_all_devices(axis_name, call, args, kwargs, context):
    """Let a batch normalisation of flax that names no axis take its statistics over all devices."""
    if axis_name is not None and isinstance(context.module, nn.BatchNorm) and context.module.axis_name is None:
        object.__setattr__(context.module, "axis_name", axis_name)  # modules are frozen
    return call(*args, **kwargs)


def _sown(tree: Any) -> bool:
    """Whether a collection holds what `sow` collects, tuples."""
    return any(isinstance(node, tuple) for node in jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, tuple)))


def _flat(tree: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{path: value} of nested dicts."""
    found = {}
    for name, value in tree.items():
        found |= _flat(value, f"{before}{name}/") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found


def _logits(value: Any, dtype: Any) -> Any:
    """Return logits in the dtype of the parameters; what is no array is left to `check`."""
    return value.astype(dtype) if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating) else value
