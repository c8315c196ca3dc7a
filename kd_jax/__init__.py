"""What did the student do differently from its teacher, and was it good?

Train a teacher, distil students, keep every trajectory as orbax checkpoints, and measure afterwards. BUILD.md maps the rooms.

The public names are loaded when they are first used, so that `import kd_jax` itself stays light:

- `Study`: the configuration of a study (`kd_jax.config`)
- `run`: train and analyse a study, and return its results (`kd_jax.studies.api`)
- `analyze`: recompute every number and figure of a work folder
- `audit`: judge any student by its answers and its teacher's, whoever trained them (`kd_jax.studies.audit`)
- `compare`: studies and audits side by side, with the differences between them (`kd_jax.studies.compare`)
- `paper`: the paper's settings, what was reported of them, and what has been run here (`kd_jax.studies.scoreboard`)
- `open_study`: the configuration, plan and data of a work folder
- `export_run`: a network of a study for other programs
- `Results`: what came out of a study: estimates, verdicts, tables, figures (`kd_jax.studies.results`)
- `BadInput`: what is raised for input that cannot be used

Data sets are in `kd_jax.data`, networks in `kd_jax.models`, losses in `kd_jax.losses`, training in `kd_jax.train`, files of a work
folder in `kd_jax.workdir`, the mathematics in `kd_jax.analysis`, and what joins them in `kd_jax.studies`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd_jax.config import Study as Study
    from kd_jax.errors import BadInput as BadInput
    from kd_jax.studies.api import analyze as analyze
    from kd_jax.studies.api import export_run as export_run
    from kd_jax.studies.api import open_study as open_study
    from kd_jax.studies.api import run as run
    from kd_jax.studies.audit import audit as audit
    from kd_jax.studies.compare import compare as compare
    from kd_jax.studies.results import Results as Results
    from kd_jax.studies.scoreboard import paper as paper

__version__ = "0.1.0"

_WHERE = {
    "BadInput": "errors",
    "Results": "studies.results",
    "Study": "config",
    "analyze": "studies.api",
    "audit": "studies.audit",
    "compare": "studies.compare",
    "export_run": "studies.api",
    "open_study": "studies.api",
    "paper": "studies.scoreboard",
    "run": "studies.api",
}
__all__ = ["BadInput", "Results", "Study", "analyze", "audit", "compare", "export_run", "open_study", "paper", "run"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(import_module(f"kd_jax.{_WHERE[name]}"), name)
        globals()[name] = value
        return value
    if name in ("data", "models"):  # as `import kd_jax.data` would
        return import_module(f"kd_jax.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
