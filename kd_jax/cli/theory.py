"""The command line of the study of the theorem, which has flags of its own."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import tyro

from kd_jax.cli.guard import guarded
from kd_jax.cli.study import Session, command_line, parse
from kd_jax.theory import study as linear_study
from kd_jax.theory.study import Theory

NAME = "linear_theory"
QUESTION = "The theorem: equally far along the top direction, a distilled student is behind along every lower one."
FULL = Theory()
SMALL = replace(FULL, learning_rate=0.05, rounds=3, hilbert_examples=50, seeds=1)


@dataclass(frozen=True)
class _Command:
    session: Session
    study: Theory


def theory_main(argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None) -> int:
    """Parse a command line, run the study of the theorem, print what matters, and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    command = command_line(argv, prog)

    def run():
        default = _Command(Session(), SMALL if "--small" in argv else FULL)
        parsed = parse(tyro.conf.OmitArgPrefixes[_Command], argv, description or QUESTION, default, prog)
        _run_and_print(parsed.session, parsed.study, command)

    return guarded(run)


def _run_and_print(session, study, command):
    from kd_jax.train import devices

    workdir = (session.workdir or Path("runs") / NAME).expanduser()
    chosen = devices.select(session.platform)
    print_findings(linear_study.run(NAME, study, workdir, chosen, partial(print, flush=True), command))
    print(f"\nreport: {workdir / 'analysis' / 'report.html'}")


def print_findings(summary):
    """Print the reference table, how well gradient descent obeys it, and the verdicts."""
    from kd_jax.report import tables
    from kd_jax.theory.report import reference_table

    table = reference_table(summary)
    print(table.note)
    print(tables.text(table.header, table.rows, right=range(len(table.header))))
    print("\nLargest difference between closed form and simulation")
    for name, value in summary["theory"]["differences"].items():
        print(f"  {name:<10} {value:.1e}")
    print()
    for verdict in summary["verdicts"]:
        print(f"{verdict['verdict']}: {verdict['claim']}\n    {verdict['because']}")
