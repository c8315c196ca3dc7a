"""`--config`: the settings of a study from a file, under the names of the flags. JSON, YAML, or a work folder's `study.json`."""

import difflib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from kd_jax.config import FLAGS
from kd_jax.config.allowed import described
from kd_jax.errors import BadInput


def read(path: Path, also: Iterable[str] = ()) -> tuple[dict[str, Any], str]:
    """Return ({name: value} of the settings that a file gives, name of the study that it is of or empty).

    The file holds a mapping from names of flags to values, such as `epochs: 20` and `student: [mlp_64, mlp_32]`. In a `study.json`
    of a work folder, the settings are those of the study on record.

    Args:
        path: the file; one that ends in `.yaml` or `.yml` is YAML, any other is JSON.
        also: names besides those of a study's fields that the file may give, such as `recipe`.

    Raises:
        BadInput: when it cannot be read, or for a name or a value that does not fit.
    """
    given = f"--config={path}"
    values, study = _contents(path, given), ""
    if not isinstance(values, dict):
        raise BadInput(f"{given}: expected names and values, such as epochs: 20, found {type(values).__name__}")
    if isinstance(values.get("config"), dict):  # a study.json
        values, study = values["config"], str(values.get("study", ""))
    known = {**FLAGS, **dict.fromkeys(also, str)}
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {close[0]}?" if close else "--help lists them"
            raise BadInput(f"{given}: expected the name of a flag that describes a study, found {name}; {hint}")
    return {name: _value(given, name, known[name], value) for name, value in values.items()}, study


def _contents(path: Path, given: str) -> Any:
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{given}: expected a file of settings, found: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{given}: expected UTF-8, found: {error}; save it as UTF-8") from None
    if path.suffix in (".yaml", ".yml"):
        import yaml

        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # of a date that there is not
            raise BadInput(f"{given}: expected YAML, found: {' '.join(str(error).split())}; mend the file") from None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(
            f"{given}: expected JSON (or a name that ends in .yaml), found: {error}; mend the file"
        ) from None


def _value(given: str, name: str, kind: Any, value: Any) -> Any:
    """The value as a field of this type has it; lists become tuples, whole numbers stand for floats."""
    try:
        return _fitted(kind, value)
    except TypeError:
        raise BadInput(f"{given}: {name}: expected {described(kind)}, found {json.dumps(value, default=str)}") from None


NUMBER = re.compile(
    r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+"
)  # YAML takes 1e-3 for a word, and on and off for true and false


def _fitted(kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal and isinstance(value, bool):
        value = "on" if value else "off"
    if kind is float and isinstance(value, str) and NUMBER.fullmatch(value):
        return float(value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise TypeError
        return value
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        if not isinstance(value, list):
            raise TypeError
        if parts[-1] is Ellipsis:
            return tuple(_fitted(parts[0], part) for part in value)
        if len(parts) != len(value):
            raise TypeError
        return tuple(map(_fitted, parts, value))
    if isinstance(value, bool) and kind is not bool:
        raise TypeError
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError
    return value
