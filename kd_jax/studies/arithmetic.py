"""The arithmetic of a study: its precision, and JAX's options that decide numbers beside its configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from kd_jax import config
from kd_jax.config import Networks, Study
from kd_jax.errors import BadInput
from kd_jax.studies import teachers
from kd_jax.workdir import records

# {name in the record: option of JAX} of what decides numbers beside a study's configuration, and can be set outside of it.
OPTIONS = {
    "prng": "jax_default_prng_impl",
    "threefry_partitionable": "jax_threefry_partitionable",
    "matmul_precision": "jax_default_matmul_precision",
}
_OWN: dict[str, Any] = {}  # options of this program that a study on record has otherwise
# Of JAX_DEFAULT_MATMUL_PRECISION; None where it is not set.
GIVEN_PRODUCTS = getattr(jax.config, OPTIONS["matmul_precision"])


def precision_on(platform: str) -> str:
    """Return what `Networks.precision="auto"` comes to on a platform, in a study that begins there."""
    return "float32" if platform == "cpu" else "bfloat16"


def with_precision(study: Study, workdir: Path | str, devices: Sequence[Any]) -> Study:
    """Return a study with `precision="auto"` settled: as its work folder has it, else as its teacher that exists, else by platform.

    Args:
        study: the configuration.
        workdir: its work folder, which may be absent.
        devices: the devices that it is trained on.

    Raises:
        BadInput: for a record that cannot be read.
    """
    if study.networks.precision != "auto":
        return study
    if (Path(workdir) / "study.json").is_file():
        found = config.from_json(records.read_study(workdir)["config"]).networks.precision
    else:
        found = teachers.precision_of(study.distillation.teacher_from) or precision_on(devices[0].platform)
    return study.replaced(precision=found)


def set_precision(networks: Networks) -> None:
    """Switch JAX to the arithmetic of a study: 64 bits for float64, and its products. Call it before the first array is made."""
    jax.config.update("jax_enable_x64", networks.precision == "float64")
    asked = networks.matmul_precision
    jax.config.update("jax_default_matmul_precision", GIVEN_PRODUCTS if asked == "default" else asked)
    _OWN.pop("matmul_precision", None)  # what was there before is not wanted back


def described() -> dict[str, Any]:
    """Return what `study.json` says of JAX's options that decide numbers: those of `OPTIONS`, and `x64`."""
    return {name: getattr(jax.config, option) for name, option in (*OPTIONS.items(), ("x64", "jax_enable_x64"))}


def use(record: Mapping[str, Any] | None) -> None:
    """Set JAX's options to those with which a study was begun, so that it goes on to the same bits whatever the environment says.

    A new study has those of this program, and so has one of an earlier version, which did not write them down.

    Args:
        record: contents of its `study.json`; None of a new study.

    Raises:
        BadInput: for a value that JAX does not know.
    """
    for name in list(_OWN):
        jax.config.update(OPTIONS[name], _OWN.pop(name))
    recorded = (record or {}).get("arithmetic")
    for name, value in recorded.items() if isinstance(recorded, dict) else ():
        own = getattr(jax.config, OPTIONS[name]) if name in OPTIONS else value
        if own == value:
            continue
        try:
            jax.config.update(OPTIONS[name], value)
        except (ValueError, TypeError):
            raise BadInput(
                f"study.json: arithmetic: expected a value of {OPTIONS[name]} that jax {jax.__version__} knows, found {value!r};"
                " install the jax that the record names"
            ) from None
        _OWN[name] = own
