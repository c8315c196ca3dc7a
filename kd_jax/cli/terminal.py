"""What came out, on standard output."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_jax.report import about, sweeps, tables
from kd_jax.report.tables import Table
from kd_jax.studies import analyses


def sweep(workdir: Path, found: Mapping[str, Any]) -> None:
    """Print what a sweep found.

    Args:
        workdir: its work folder.
        found: contents of its `summary.json`.
    """
    print()
    _print(sweeps.table(found))
    _conclusions(workdir, found)


def study(workdir: Path, found: Mapping[str, Any]) -> None:
    """Print what a study found.

    Args:
        workdir: its work folder.
        found: contents of its `summary.json`.
    """
    analysed = analyses.Analysed.of(workdir, workdir / "analysis", found)
    print()
    for analysis in analyses.ANALYSES:
        for table in analysis.tables(analysed):
            _print(table)
    for line in [*about.data(found["study"]), about.memory(found["study"])]:
        if line:
            print(line)
    _conclusions(workdir, found)


def _print(table: Table) -> None:
    print(tables.text(table.header, table.rows))
    print(f"{table.note}\n" if table.note else "")


def _conclusions(workdir: Path, found: Mapping[str, Any]) -> None:
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    for verdict in found["verdicts"]:
        print(f"{verdict['verdict']}: {verdict['claim']}\n    {verdict['because']}")
    print(f"\nreport: {workdir / 'analysis' / 'report.html'}")
