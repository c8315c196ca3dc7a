"""What came out of a study, in Python: estimates, verdicts, tables, and figures that can be drawn on axes of one's own."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_jax.analysis import eigen, results
from kd_jax.analysis.results import Estimate, Verdict
from kd_jax.config import Study
from kd_jax.errors import BadInput
from kd_jax.plan import Arm
from kd_jax.report import tables
from kd_jax.report.audits import shortened
from kd_jax.studies import analyses
from kd_jax.studies.analyses import confidence
from kd_jax.studies.analyses.base import read_runs
from kd_jax.studies.analyses.learning import read_metrics
from kd_jax.workdir import records

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, repr=False)
class Findings:
    """Estimates, each with its interval, and what is concluded from them.

    Attributes:
        summary: the contents of a `summary.json`.
    """

    summary: dict[str, Any]

    @property
    def estimates(self) -> list[Estimate]:
        """Every estimate, each with its interval and its value per seed."""
        return results.read(self.summary)

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on the claims that the numbers bear on."""
        return [Verdict(**each) for each in self.summary["verdicts"]]

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the numbers, in sentences; empty where nothing is."""
        return self.summary["warnings"]

    def estimate(self, name: str, arm: str = "student", **about: Any) -> Estimate:
        """Return one estimate, such as `estimate("exaggeration_slope", split="train", subset="lowest_25")`.

        Args:
            name: the name of the quantity; see `analysis.results.Estimate`.
            arm: the arm whose runs were measured.
            about: further attributes that the estimate must have. Where it could be about several subsets, `all` is meant.

        Raises:
            BadInput: when there is none, or several.
        """
        found = [
            each
            for each in self.estimates
            if (each.name, each.arm) == (name, arm) and all(getattr(each, key) == value for key, value in about.items())
        ]
        if len(found) > 1 and "subset" not in about:
            found = [each for each in found if each.subset == "all"] or found
        if len(found) == 1:
            return found[0]
        asked = ", ".join(map(str, [name, arm, *about.values()]))
        if found:
            keys = [
                key
                for key in ("split", "subset", "layer", "directions", "rank")
                if len({getattr(e, key) for e in found}) > 1
            ]
            raise BadInput(f"{asked}: expected one estimate, found {len(found)}; say also which {' and '.join(keys)}")
        names = ", ".join(sorted({each.name for each in self.estimates if each.arm == arm}))
        arms = ", ".join(dict.fromkeys(each.arm for each in self.estimates))
        raise BadInput(f"{asked}: expected an estimate of this study; of {arm} it has {names or 'none'}; arms: {arms}")

    def to_pandas(self) -> Any:
        """Return all estimates as a pandas `DataFrame`, a row each, under the names of `summary.json`; `values` are tuples.

        Raises:
            BadInput: when pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            raise BadInput("to_pandas: expected pandas, which is not installed; pip install pandas") from None
        rows = [each.to_json() | {"values": each.values} for each in self.estimates]
        used = [column for column in tables.CSV_COLUMNS if any(column in row for row in rows)]
        return pandas.DataFrame(rows, columns=used)

    def table(self) -> tables.Table:
        """Return what one looks at first: a quantity per row, an arm per column."""
        estimates = self.estimates
        header, rows = shortened(*tables.main_table(estimates, self._arms))
        return tables.Table(header, rows, tables.what_intervals_are(estimates))

    @property
    def _arms(self) -> Sequence[Arm]:
        return [Arm(name, "given") for name in dict.fromkeys(each.arm for each in self.estimates)]

    def __repr__(self) -> str:
        counts = f"{len(self.estimates)} estimates, {len(self.verdicts)} verdicts"
        return f"<{type(self).__name__} of {counts}; print it to see them>"

    def __str__(self) -> str:
        table = self.table()
        lines = [tables.text(table.header, table.rows), table.note, ""]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"{verdict.verdict}: {verdict.claim}\n    {verdict.because}" for verdict in self.verdicts]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.table()
        cells = ["".join(f"<th>{escape(cell)}</th>" for cell in table.header)]
        cells += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows]
        said = [f"<p>{escape(table.note)}</p>"]
        said += [f"<p><b>warning</b> {escape(warning)}</p>" for warning in self.warnings]
        said += [f"<p><b>{escape(each.verdict)}</b> {escape(each.claim)}</p>" for each in self.verdicts]
        return "<table><tr>" + "</tr><tr>".join(cells) + "</tr></table>" + "".join(said)


@dataclass(frozen=True, repr=False)
class Results(Findings):
    """What came out of a study. In a notebook it shows its main table; printed, table, warnings and verdicts.

    Attributes:
        workdir: its work folder.
    """

    workdir: Path

    @classmethod
    def of(cls, workdir: Path | str) -> "Results":
        """Return the results that lie in a work folder; nothing is computed.

        Raises:
            BadInput: when there is no analysis in it.
        """
        return cls(records.read_summary(workdir), Path(workdir))

    # ---- numbers

    @property
    def study(self) -> Study:
        """The configuration of the study."""
        return self._analysed.study

    # ---- figures

    def plot_confidence(
        self, arm: str = "student", split: str = "test", seed: int | None = None, ax: "Axes | None" = None
    ):
        """Draw a run's confidence against its teacher's and return the axes; see `report.figures.confidence_panel`.

        Args:
            arm: the arm of the run.
            split: `train`, `test` or another split of the data.
            seed: its seed; the first of the study by default.
            ax: where to draw; pyplot's current axes by default.

        Raises:
            BadInput: when there is no such run or split.
        """
        seeds = self._analysed.seeds
        seed = seeds[0] if seed is None else seed
        pair = next(confidence.read_pairs(self.workdir / "analysis", [arm], [seed], split), None)
        if pair is None or pair.teacher is None:
            arms = ", ".join(each.name for each in self._compared)
            raise BadInput(
                f"{arm}, {split}, seed {seed}: expected a run that was compared with its teacher; arms: {arms}; seeds"
                f" {', '.join(map(str, seeds))}"
            )
        from kd_jax.report import figures

        axes = figures.confidence_panel(pair.teacher, pair.student, ax=ax)
        axes.set(xlabel="teacher: log p/(1-p) of its top class [nats]", ylabel=f"{arm}, same class [nats]")
        return axes

    def plot_slopes(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the slopes of every arm with their intervals and return the axes; see `report.figures.slopes_panel`."""
        from kd_jax.report import figures

        return figures.slopes_panel(self.estimates, self._compared, ax)

    def plot_learning(self, key: str = "test_accuracy", ax: "Axes | None" = None) -> "Axes":
        """Draw a quantity of `metrics.jsonl` along training and return the axes; see `report.figures.learning_panel`."""
        from kd_jax.report import figures

        axes = figures.learning_panel(read_metrics(self._analysed), key, ax)
        axes.legend(fontsize=8)
        return axes

    def plot_growth(
        self, pair: tuple[int, int], layer: str = "", of: str = "components", ax: "Axes | None" = None
    ) -> "Axes":
        """Draw the growth of weights along two eigendirections and return the axes; see `report.eigen_figures.growth_panel`.

        Args:
            pair: the two directions, 0 the top.
            layer: the layer, where the first student's network was looked at in several.
            of: `components`, of the weights, or `moved`, of their movement since step 0.
            ax: where to draw; pyplot's current axes by default.

        Raises:
            BadInput: when there is no such layer, or no such direction.
        """
        growths = eigen.by_layer(read_runs(self.workdir / "analysis" / "eigen", eigen.Growth))
        layers = {each: runs for (model, each), runs in growths.items() if model == self.study.networks.student[0]}
        runs = layers.get(layer) if layer else next(iter(layers.values()), None)
        if runs is None:
            raise BadInput(f"layer {layer!r}: expected one that was looked at: {', '.join(layers) or 'none was'}")
        directions = len(runs[0].values)
        if not all(0 <= k < directions for k in pair):
            raise BadInput(f"pair {pair}: expected two of the {directions} directions, from 0 to {directions - 1}")
        from kd_jax.report import eigen_figures

        axes = eigen_figures.growth_panel(runs, eigen.references(self._analysed.arms), pair, of, ax)
        axes.legend(fontsize=8)
        return axes

    # ---- what these are made of

    @property
    def _analysed(self) -> analyses.Analysed:
        return analyses.Analysed.of(self.workdir, self.workdir / "analysis", self.summary)

    @property
    def _compared(self):
        return tables.beside_teacher(self._analysed.shown)

    @property
    def _arms(self) -> Sequence[Arm]:
        return self._analysed.shown
