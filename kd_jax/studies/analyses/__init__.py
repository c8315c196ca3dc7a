"""The questions that are asked of every trained study. A further one is a module with an `Analysis`, and its entry here."""

from collections.abc import Sequence

from kd_jax.data import Dataset
from kd_jax.plan import Plan
from kd_jax.studies.analyses import averages, confidence, directions, epochs, functions, learning, trajectories
from kd_jax.studies.analyses.base import Analysed as Analysed
from kd_jax.studies.analyses.base import Analysis as Analysis
from kd_jax.studies.analyses.base import Trained as Trained

# In the order of their estimates, verdicts, tables and figures.
ANALYSES: tuple[Analysis, ...] = (
    confidence.ANALYSIS,
    averages.ANALYSIS,
    learning.ANALYSIS,
    epochs.ANALYSIS,
    trajectories.ANALYSIS,
    directions.ANALYSIS,
    functions.ANALYSIS,
)


def check(plan: Plan, dataset: Dataset, asked: Sequence[Analysis] | None = None) -> None:
    """Check that questions can be asked of a study: all of them, before training, or those that an analysis will ask.

    Raises:
        BadInput: for one that cannot.
    """
    for analysis in ANALYSES if asked is None else asked:
        analysis.check(plan, dataset)
