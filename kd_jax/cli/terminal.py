"""What came out, on standard output."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_jax.report import about, costs, sweeps, tables
from kd_jax.report.tables import Table
from kd_jax.studies import analyses


def sweep(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Print what came out of a sweep.

    Args:
        workdir: its work folder.
        summary: contents of its `summary.json`.
    """
    print()
    _print(sweeps.table(summary))
    _conclusions(workdir, summary)


def study(workdir: Path, summary: Mapping[str, Any]) -> None:
    """Print what came out of a study.

    Args:
        workdir: its work folder.
        summary: contents of its `summary.json`.
    """
    analysed = analyses.Analysed.of(workdir, workdir / "analysis", summary)
    print()
    for analysis in analyses.ANALYSES:
        for table in analysis.tables(analysed):
            _print(table)
    cost(workdir)
    record = summary["study"]
    for line in [*about.teacher(record), *about.controls(record), *about.data(record), about.memory(record)]:
        if line:
            print(line)
    _conclusions(workdir, summary)


def cost(workdir: Path) -> None:
    """Print what the networks of a study cost to run, where that was measured.

    Args:
        workdir: its work folder.
    """
    found = costs.read(workdir / "analysis")
    if found is not None:
        _print(costs.table(found))


def _print(table: Table) -> None:
    print(tables.text(table.header, table.rows))
    print(f"{table.note}\n" if table.note else "")


def _conclusions(workdir: Path, summary: Mapping[str, Any]) -> None:
    for warning in summary["warnings"]:
        print(f"warning: {warning}")
    for verdict in summary["verdicts"]:
        print(f"{verdict['verdict']}: {verdict['claim']}\n    {verdict['because']}")
    print(f"\nreport: {workdir / 'analysis' / 'report.html'}")
