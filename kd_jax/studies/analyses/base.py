"""What an analysis is: a question about trained networks, from what it needs to what it shows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_jax.analysis import results
from kd_jax.analysis.claims import Claim
from kd_jax.analysis.results import Estimate, Unlearned, Verdict
from kd_jax.config import Study, from_json
from kd_jax.data import Dataset, stored
from kd_jax.errors import BadInput
from kd_jax.plan import TEACHER, Arm, Plan, of_record, run_name, seeds_of
from kd_jax.report.charts import Chart
from kd_jax.report.tables import Table
from kd_jax.workdir import records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Advance = Callable[[str], None]
Conclusion = Claim | Verdict


@dataclass(frozen=True)
class Trained:
    """A study whose runs are finished.

    Attributes:
        workdir: its work folder.
        plan: its configuration and runs.
        dataset: the data on which they were trained.
    """

    workdir: Path
    plan: Plan
    dataset: Dataset

    @property
    def study(self) -> Study:
        """The configuration of the study."""
        return self.plan.study

    @property
    def seeds(self) -> list[int]:
        """The seeds that were trained to their end in every arm."""
        return list(self.plan.seeds)

    @property
    def single(self) -> tuple[str, ...]:
        """The arms of which one network stands for all of several seeds: the teacher, where it exists already and is one."""
        if len(self.seeds) < 2:
            return ()
        if self.plan.given is not None:
            return (TEACHER,) if self.plan.given.is_one else ()
        if self.study.teacher_training.epochs:
            return ()
        teacher = next(arm for arm in self.plan.arms if arm.name == TEACHER)
        # Taken as it is, such as from a file of weights; but a network of one's own may start otherwise in each seed.
        known = records.read_study(self.workdir)["teacher_hash"]
        return (TEACHER,) if len({known.get(run_name(teacher, seed), seed) for seed in self.seeds}) == 1 else ()


@dataclass(frozen=True)
class Analysed:
    """A study that was analysed, as tables and figures are made of it: without its networks and its data.

    Attributes:
        workdir: its work folder.
        folder: where the analysis lies.
        summary: contents of `summary.json`.
        study: its configuration.
        arms: its arms.
        shown: its arms and what else is compared by logits, in the order of tables and figures; see `plan.Design`.
        estimates: those of the summary.
    """

    workdir: Path
    folder: Path
    summary: Mapping[str, Any]
    study: Study
    arms: tuple[Arm, ...]
    shown: tuple[Arm, ...]
    estimates: list[Estimate]

    @classmethod
    def of(cls, workdir: str | Path, folder: str | Path, summary: Mapping[str, Any]) -> "Analysed":
        """Return the study of a work folder, given where its analysis lies and what its `summary.json` contains."""
        study = from_json(summary["study"]["config"])
        design = of_record(study, summary["study"])
        return cls(Path(workdir), Path(folder), summary, study, design.arms, design.shown, results.read(summary))

    @property
    def seeds(self) -> list[int]:
        """The seeds that were analysed."""
        return seeds_of(self.study, self.summary["study"])


def _no_check(plan: Plan, dataset: Dataset) -> None:
    return None


def _no_passes(trained: Trained) -> int:
    return 0


def _nothing_measured(trained: Trained, folder: Path, advance: Advance) -> list[Estimate]:
    return []


def _no_claims(trained: Trained, estimates: Sequence[Estimate], unlearned: Sequence[Unlearned]) -> Sequence[Conclusion]:
    return []


def _no_warnings(trained: Trained, folder: Path) -> list[str]:
    return []


def _no_tables(analysed: Analysed) -> list[Table]:
    return []


def _no_figures(analysed: Analysed) -> dict[str, "Figure"]:
    return {}


def _no_charts(analysed: Analysed) -> dict[str, Chart]:
    return {}


@dataclass(frozen=True)
class Analysis:
    """A question about trained networks. What it leaves out, it does not do.

    Attributes:
        name: the name of the question.
        needs_curves: whether it follows networks along their training: from step 0, at two further steps at least.
        check: `check(plan, dataset)` raises `BadInput` where the question cannot be asked; called before training.
        passes: `passes(trained)` says how often `measure` will call `advance`.
        measure: `measure(trained, folder, advance)` runs networks over checkpoints, writes what it takes from them as files below
            `folder`, the folder of the analysis, and returns the estimates. It calls `advance(name of a run)` as it goes.
        conclude: `conclude(trained, estimates, unlearned)` returns claims with the estimates that bear on them, which are decided
            together with those of all other analyses, or verdicts that are drawn without a test; nothing may be concluded from arms
            of the runs in `unlearned`, for which there is `verdicts.withheld`.
        warn: `warn(trained, folder)` returns sentences about what is wrong with the study, from the files that were written.
        tables: `tables(analysed)` returns the tables for page and terminal.
        figures: `figures(analysed)` returns {name: figure}.
        charts: `charts(analysed)` returns {name: interactive chart} for the page.
        captions: {beginning of a figure's name, up to the first dash: its caption}.
    """

    name: str
    needs_curves: bool = False
    check: Callable[[Plan, Dataset], None] = _no_check
    passes: Callable[[Trained], int] = _no_passes
    measure: Callable[[Trained, Path, Advance], list[Estimate]] = _nothing_measured
    conclude: Callable[[Trained, Sequence[Estimate], Sequence[Unlearned]], Sequence[Conclusion]] = _no_claims
    warn: Callable[[Trained, Path], list[str]] = _no_warnings
    tables: Callable[[Analysed], list[Table]] = _no_tables
    figures: Callable[[Analysed], dict[str, "Figure"]] = _no_figures
    charts: Callable[[Analysed], dict[str, Chart]] = _no_charts
    captions: Mapping[str, str] = field(default_factory=dict)


def read_runs(folder: Path, kind: Any) -> list[Any]:
    """Return what the files of a folder hold of a named tuple, in the order of networks, layers, arms and seeds.

    Args:
        folder: with a `.npz` file per run; it need not exist.
        kind: the named tuple; a file that lacks one of its fields is passed over.
    """
    found = []
    for path in folder.glob("*.npz"):
        arrays = read_arrays(path)
        if set(kind._fields) <= set(arrays):
            found.append(kind(**{name: _plain(arrays[name]) for name in kind._fields}))
    return sorted(found, key=lambda run: (run.model, getattr(run, "layer", ""), run.arm, run.seed))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a `.npz` of an analysis.

    Raises:
        BadInput: when it is damaged, or holds what no analysis writes.
    """
    fix = "run kd-jax analyze on its work folder"
    try:
        found = stored.read(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: expected the arrays of an analysis, found: {error}; {fix}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{path}: expected several arrays, found one; {fix}")
    return found


def _plain(array: np.ndarray) -> Any:
    return array if array.ndim else array.item()


def students(arms: Iterable[Arm]) -> list[Arm]:
    """Return the arms that have a teacher and a one-hot twin."""
    return [arm for arm in arms if arm.baseline]
