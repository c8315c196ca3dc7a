"""`kd-jax paper`: the paper's settings, what was reported of them, and what has been run here."""

import shlex
import sys
from pathlib import Path

import tyro

from kd_jax.cli.guard import hushed


def paper(
    places: tyro.conf.Positional[tuple[Path, ...]] = (Path("."),),
    out: Path | None = None,
    quiet: bool = False,
):
    """List the paper's 30 settings: what was reported, what has been run here, what came out, and what the others would cost.

    Args:
        places: Folders below which to look for work folders.
        out: Folder for the page, a table and summary.json; made if absent [default: nothing is written].
        quiet: Print the counts and errors alone.
    """
    from kd_jax.cli import terminal
    from kd_jax.studies.scoreboard import paper as run

    with hushed(quiet):
        found = run(places, out, command=f"kd-jax {shlex.join(sys.argv[1:])}")
    terminal.scoreboard(found.summary, out, quiet)
