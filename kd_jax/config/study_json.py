"""A study from what `study.json` has of it, also that of earlier versions."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from kd_jax.config.allowed import fits
from kd_jax.config.study import FLAGS, Study
from kd_jax.errors import BadInput

SCHEMA = 2  # of `study.json`; 1, which has no such number, is that of versions whose studies had no sections


def _tuples(value):
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def from_json(values: Mapping[str, Any]) -> Study:
    """Return the `Study` that `to_json` wrote, also an earlier version of it.

    Raises:
        BadInput: for keys that this version does not know: a newer one wrote them, and leaving them out would be another study; and
            for values of another type than the field's, which no version wrote.
    """
    fix = "restore the file, or start in another --workdir"
    if not isinstance(values, Mapping):
        raise BadInput(f"study.json: expected the settings of a study, found {type(values).__name__}; {fix}")
    unknown = sorted(set(values) - set(FLAGS))
    if unknown:
        raise BadInput(
            f"study.json: expected the settings of kd_jax {version('kd_jax')}, found also {', '.join(unknown)}; a newer version"
            " wrote it, install that one"
        )
    flat = {name: _tuples(value) for name, value in values.items()}
    for name, value in flat.items():
        if not fits(FLAGS[name], value):
            kind = getattr(FLAGS[name], "__name__", str(FLAGS[name]))
            found = repr(values[name])[:60]
            raise BadInput(f"study.json: {name}: expected {kind}, found {found}; {fix}")
    return Study.from_flags(**flat)
