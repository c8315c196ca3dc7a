"""The command line of the study of the theorem, which has flags of its own."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import tyro

from kd_jax.cli.guard import guarded, hushed
from kd_jax.cli.session import Session, workdir_of
from kd_jax.cli.study import brought_here, command_line, parse
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
        with brought_here(argv) as words:
            parsed = parse(tyro.conf.OmitArgPrefixes[_Command], words, description or QUESTION, default, prog)
            _run_and_print(parsed.session, parsed.study, command)

    return guarded(run)


def _run_and_print(session, study, command):
    from kd_jax.train import compiled, devices

    workdir = workdir_of(session, NAME)
    chosen = devices.select(session.platform)
    compiled.keep()
    warn = (lambda line: None) if session.quiet else partial(print, flush=True)
    with hushed(session.quiet):
        summary = linear_study.run(NAME, study, workdir, chosen, warn, command)
    print_findings(summary, workdir / "analysis" / "report.html", session.quiet)


def print_findings(summary, report, quiet=False):
    """Print the verdicts, the reference table, how well gradient descent obeys it, and where the report is."""
    from kd_jax.cli import terminal
    from kd_jax.theory.report import reference_table

    screen = terminal.Screen(quiet)
    screen.answer(summary)
    table = reference_table(summary)
    screen.line(table.note)
    screen.table(table._replace(note=""), right=range(len(table.header)))
    screen.line()
    screen.line("Largest difference between closed form and simulation")
    for name, value in summary["theory"]["differences"].items():
        screen.line(f"  {name:<10} {value:.1e}")
    screen.verdicts(summary)
    screen.last(report, [("kd-jax run digits_kd", "the same questions about networks")])
