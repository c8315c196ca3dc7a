"""What did the student do differently from its teacher, and was it good?

Train a teacher, distil students, keep every trajectory as orbax checkpoints, and measure afterwards. BUILD.md maps the rooms.

The public names are loaded when they are first used, so that `import kd_jax` itself stays light:

    Study        the configuration of a study (kd_jax.config)
    analyze      recompute every number and figure of a work folder (kd_jax.studies.analyse)
    open_study   the configuration, plan and data of a work folder (kd_jax.studies.prepare)
    BadInput     what is raised for input that cannot be used (kd_jax.errors)
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "BadInput": "errors",
    "Study": "config",
    "analyze": "studies.analyse",
    "open_study": "studies.prepare",
}
__all__ = ["BadInput", "Study", "analyze", "open_study"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"kd_jax.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
