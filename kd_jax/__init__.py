"""What did the student do differently from its teacher, and was it good?

Train a teacher, distil students, keep every trajectory as orbax checkpoints, and measure afterwards. BUILD.md maps the rooms.

The public names are loaded when they are first used, so that `import kd_jax` itself stays light:

    Study        the configuration of a study (kd_jax.config)
    run          train and analyse a study, and return its results (kd_jax.studies.api)
    analyze      recompute every number and figure of a work folder (kd_jax.studies.api)
    open_study   the configuration, plan and data of a work folder (kd_jax.studies.api)
    Results      what came out of a study: estimates, verdicts, tables, figures (kd_jax.studies.results)
    BadInput     what is raised for input that cannot be used (kd_jax.errors)

`kd_jax.data.from_arrays` makes a data set of arrays in memory.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "BadInput": "errors",
    "Results": "studies.results",
    "Study": "config",
    "analyze": "studies.api",
    "open_study": "studies.api",
    "run": "studies.api",
}
__all__ = ["BadInput", "Results", "Study", "analyze", "open_study", "run"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"kd_jax.{_WHERE[name]}"), name)
    if name in ("data", "models"):  # as `import kd_jax.data` would
        return import_module(f"kd_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
