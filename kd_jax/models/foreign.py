"""Networks of one's own: where a name that is none of ours leads, and where its source lies.

Such a name is `package.module:Net`, or one that `register` was given. It leads to a flax module of linen or NNX, as a class or as a
function that returns one; `adapted` makes a `Model` of it.
"""

import hashlib
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn

from kd_jax.config import BadInput

REGISTERED: dict[str, Any] = {}
_SEEN: dict[str, str] = {}  # {source file: its sha256 when this process first looked at it}


class Origin(NamedTuple):
    """Where the source of a network lies.

    Attributes:
        target: `package.module:Net`, with which another process finds it; empty where there is none, as for a class of a notebook.
        folder: the folder in which that module is found by Python's import; empty without a target.
        file: the file that defines it; empty where there is none.
        sha256: of that file as hex; of a class or function of the running script or a notebook: of its own source, so that other
            lines there may change; empty where Python knows no source.
    """

    target: str
    folder: str
    file: str
    sha256: str


def is_path(name: str) -> bool:
    """Return whether a name of a network has the form `package.module:Net`."""
    return ":" in name


def is_foreign(name: str) -> bool:
    """Return whether a name stands for a network that does not come with the program."""
    return is_path(name) or name in REGISTERED


def register(name: str, network: Any) -> None:
    """Make a network of your own known under a name, for `Study` and `build` in this process.

    >>> from flax import linen as nn
    >>> register("one_layer", lambda classes: nn.Dense(classes))

    What the network may be, and which arguments it is given, is in `kd_jax.models`. A name that is registered again stands for
    the new network. A study that uses it can be opened by another process if the network is a class or a function of a module that
    can be imported; else it has to be registered there first.

    Args:
        name: letters, digits, `_` and `-`, beginning with a letter; none of the names that come with the program.
        network: a class of flax linen or NNX, a function that returns a module, or a linen module.

    Raises:
        BadInput: for another name, or something that is no network.
    """
    from kd_jax.models.names import NETWORKS, SIZED

    if not re.fullmatch(r"[A-Za-z][\w-]*", name, re.ASCII):
        raise BadInput(
            f"register({name!r}): expected letters, digits, _ and - after a first letter; choose another name"
        )
    if name in NETWORKS or name.partition("_")[0] in SIZED:
        raise BadInput(f"register({name!r}): expected a name that is free, this one comes with kd_jax; choose another")
    REGISTERED[name] = _valid(name, network)


def find(name: str) -> Any:
    """Return what the name of a network of one's own stands for: a class, a function or a linen module.

    The current directory is looked in first, as by `python -m`.

    Raises:
        BadInput: for a module that cannot be imported, or has no such network.
    """
    if name in REGISTERED:
        network = REGISTERED[name]
        return find(network.target) if isinstance(network, _Later) else network
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), *attribute.split(".")]):
        hint = re.sub(r"\.py$", "", module_name).strip("./").replace("/", ".")
        raise BadInput(
            f"model {name!r}: expected package.module:Net, names of Python separated by dots and one colon;"
            f" write {hint or 'module'}:{attribute or 'Net'} or such"
        )
    here = _import_from(Path.cwd())
    importlib.invalidate_caches()
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise BadInput(
            f"model {name!r}: expected a module {module_name} that can be imported from {here} or the Python path, found"
            f" {said(error)}; correct it or the name"
        ) from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [each for each in vars(found) if not each.startswith("_") and callable(getattr(found, each))]
            there = ", ".join(public[:12]) or "nothing that could be called"
            raise BadInput(f"model {name!r}: expected {attribute} in {module_name}, found {there}; correct the name")
        found = getattr(found, part)
    return _valid(name, found)


def _import_from(folder: Path) -> str:
    """Let Python import modules from a folder, before others that it does not import from yet; returns the folder."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return str(folder)


def _valid(name: str, network: Any) -> Any:
    if isinstance(network, nn.Module) or (callable(network) and not isinstance(network, type)):
        if _is_nnx(network):
            raise BadInput(
                f"model {name!r}: expected a class or a function of rngs, found an NNX module with values of its own, which"
                " all seeds would share; name its class"
            )
        return network
    if isinstance(network, type) and (issubclass(network, nn.Module) or _is_nnx_class(network)):
        return network
    what = f"the class {network.__name__}" if isinstance(network, type) else f"{type(network).__name__}"
    raise BadInput(
        f"model {name!r}: expected a flax module (linen or NNX), its class or a function that returns one, found {what}"
    )


def _is_nnx_class(kind: type) -> bool:
    # Importing NNX takes most of a second; whoever has such a class has imported it.
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and issubclass(kind, nnx.Module)


def _is_nnx(value: Any) -> bool:
    return _is_nnx_class(type(value))


def said(error: BaseException) -> str:
    """Return the kind of an error and the first line of what it says, in brackets."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}" + (f" ({lines[0]})" if lines else "")


# ---- construction


class Given(NamedTuple):
    """What a network can be given when it is made. A network takes of it what its arguments are named after.

    Attributes:
        classes: the number of classes.
        example: the shape of an example: [height, width, channels] of an image, [features] of a vector; of a text its length,
            which is not handed on.
        vocabulary, positions: the number of token ids and the length of the longest text; None for images and vectors.
        dropout: the share of features that is dropped in training; 0 or None to leave the network its own.
        dtype, param_dtype, axis_name: as for `build`.
    """

    classes: int
    example: tuple[int, ...]
    vocabulary: int | None
    positions: int
    dropout: float | None
    dtype: Any
    param_dtype: Any
    axis_name: str | None


CLASSES = ("classes", "num_classes", "n_classes", "num_labels", "num_outputs", "n_outputs", "out_features", "dout")
DROPOUT = ("dropout", "dropout_rate")
TEXTS = {"vocabulary": "vocabulary", "vocab_size": "vocabulary", "positions": "positions", "max_length": "positions"}


def arguments(network: Any) -> dict[str, inspect.Parameter]:
    """Return the arguments of a class or function that can be given by name and are not bound already; none for a linen module."""
    if isinstance(network, nn.Module):
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    bound = dict(network.keywords) if isinstance(network, partial) else {}
    function = network.func if isinstance(network, partial) else network
    skipped = len(network.args) if isinstance(network, partial) else 0
    if isinstance(function, type):  # of NNX classes the signature says nothing, for their metaclass has a __call__
        function, skipped = function.__init__, skipped + 1
    try:
        parameters = list(inspect.signature(function).parameters.items())[skipped:]
    except ValueError:
        return {}
    return {name: each for name, each in parameters if each.kind in named and name not in bound}


def takes_dropout(name: str) -> bool:
    """Return whether `--dropout` applies to a network of one's own: whether it has an argument `dropout` or `dropout_rate`."""
    return any(each in arguments(find(name)) for each in DROPOUT)


def make(name: str, given: Given, **rngs: Any) -> Any:
    """Return the module that a name stands for, made with those of the `Given` values that it takes.

    Args:
        name: the name of a network of one's own.
        given: what it can be given.
        rngs: `rngs`, NNX's source of random numbers.

    Raises:
        BadInput: for a network that needs an argument which cannot be given, that raises, or that is no flax module.
    """
    network = find(name)
    if isinstance(network, nn.Module):
        return network
    parameters = arguments(network)
    needed = [key for key, each in parameters.items() if each.default is inspect.Parameter.empty]
    values = _values(given, parameters, needed)
    if "rngs" in parameters:
        values |= rngs
    lacking = [key for key in needed if key not in values]
    if lacking:
        of_texts = [key for key in lacking if key in TEXTS]
        fix = (
            "texts have it"
            if of_texts
            else f"give it a default, or name a function that sets it; it can have {_offer()}"
        )
        raise BadInput(f"model {name!r}: expected no argument {', '.join(of_texts or lacking)} for these data; {fix}")
    try:
        module = network(**values)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(
            f"model {name!r}: expected a flax module when called with {', '.join(values) or 'nothing'}, it raised {said(error)}"
        ) from None
    if not isinstance(module, nn.Module) and not _is_nnx(module):
        raise BadInput(
            f"model {name!r}: expected a flax module (linen or NNX), found that it returns {type(module).__name__}"
        )
    if _is_nnx(module) and "rngs" not in parameters:
        raise BadInput(
            f"model {name!r}: expected an argument rngs, from which an NNX module draws its initial values; without it all"
            " seeds would share them"
        )
    return module


def is_nnx(name: str, given: Given) -> bool:
    """Return whether a name stands for an NNX module rather than one of linen."""
    network = find(name)
    if isinstance(network, type):
        return not issubclass(network, nn.Module)
    if "rngs" not in arguments(network):
        return _is_nnx(make(name, given))
    return True


def _offer() -> str:
    return (
        f"{CLASSES[0]} (or {CLASSES[1]}), in_features, in_channels, input_shape, vocabulary, positions, dropout, rngs"
    )


def _values(given: Given, parameters: Mapping[str, Any], needed: list[str]) -> dict[str, Any]:
    """The values for the arguments of a network."""
    offered: dict[str, Any] = {key: getattr(given, key) for key in ("dtype", "param_dtype", "axis_name")}
    own = next((key for key in CLASSES if key in parameters), "features" if "features" in needed else None)
    if own:
        offered[own] = given.classes
    if given.vocabulary is not None:
        offered |= {key: getattr(given, field) for key, field in TEXTS.items()}
    else:
        size = 1
        for side in given.example:
            size *= side
        offered |= dict.fromkeys(("in_features", "din"), size)
        offered |= {"input_shape": tuple(given.example), "in_channels": given.example[-1] if given.example else 1}
    if given.dropout:
        offered |= dict.fromkeys(DROPOUT, given.dropout)
    return {key: value for key, value in offered.items() if key in parameters}


# ---- origin


def origin(name: str) -> Origin:
    """Return where the source of a network of one's own lies.

    Raises:
        BadInput: as `find`; or for a file that was changed after this process had read it.
    """
    network = find(name)
    defined: Any = network if isinstance(network, type) or inspect.isroutine(network) else None
    if isinstance(network, partial):
        defined = network.func
    defined = type(network) if defined is None else defined
    target = name if is_path(name) else _target(network)
    folder = _folder(target.partition(":")[0]) if target else ""
    file = _file(defined)
    if getattr(defined, "__module__", None) == "__main__" or not file:
        return Origin(target, folder, file, _sha256(_source(defined).encode()) if _source(defined) else "")
    found = _sha256(Path(file).read_bytes())
    if _SEEN.setdefault(file, found) != found:
        raise BadInput(
            f"model {name!r}: expected {file} as this process read it, it was changed since; start the program anew"
        )
    return Origin(target, folder, file, found)


def _target(network: Any) -> str:
    """`package.module:Net` of a registered network, if it leads to it."""
    module, path = getattr(network, "__module__", None), getattr(network, "__qualname__", "")
    if not path or module in (None, "__main__") or "<" in path:
        return ""
    found: Any = sys.modules.get(str(module))
    for part in path.split("."):
        found = getattr(found, part, None)
    return f"{module}:{path}" if found is network else ""


def _folder(module: str) -> str:
    """The folder from which Python has imported a module."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return ""
    path = Path(file).absolute()
    depth = module.count(".") + (path.name == "__init__.py")
    return str(path.parents[depth])


def _file(defined: Any) -> str:
    try:
        file = inspect.getsourcefile(inspect.unwrap(defined))
    except (TypeError, OSError):
        return ""
    return str(Path(file).absolute()) if file and Path(file).is_file() else ""


def _source(defined: Any) -> str:
    """The source of a class or function. Of a class in a notebook Python knows that of its functions alone."""
    try:
        return inspect.getsource(defined)
    except (TypeError, OSError):
        pass
    parts = []
    for key, value in sorted(vars(defined).items()) if isinstance(defined, type) else []:
        try:
            parts.append(f"{key}\n{inspect.getsource(value)}")
        except (TypeError, OSError):
            continue
    return "\n".join(parts)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def remember(name: str, target: str, folder: str) -> None:
    """Let this process find a network as the process did that trained it; nothing is imported yet.

    Args:
        name: the name of the network.
        target, folder: of its `Origin`.
    """
    _import_from(Path.cwd())
    if folder:
        _import_from(Path(folder))
    if target and not is_path(name) and name not in REGISTERED:
        REGISTERED[name] = _Later(target)


class _Later:
    """Stands in `REGISTERED` for a network that is imported when it is asked for."""

    def __init__(self, target: str):
        self.target = target
