"""`kd-jax compare`: studies and audits side by side."""

import shlex
import sys
from pathlib import Path

import tyro

from kd_jax.cli.guard import hushed


def compare(
    workdirs: tyro.conf.Positional[tuple[Path, ...]],
    names: tuple[str, ...] = (),
    out: Path | None = None,
    quiet: bool = False,
):
    """Put studies, the variants of sweeps, and audits side by side, with the difference of each from the first.

    Args:
        workdirs: Work folders of analysed studies and sweeps, and folders of audits: two or more, or one of a sweep.
        names: What to call them, one for each [default: as their folders are called].
        out: Folder for the report, a table and summary.json; made if absent [default: nothing is written].
        quiet: Print the answer and errors alone: no tables.
    """
    from kd_jax.cli import terminal
    from kd_jax.studies.compare import compare as run

    with hushed(quiet):
        found = run(workdirs, names or None, out, command=f"kd-jax {shlex.join(sys.argv[1:])}")
    terminal.comparison(found, out, quiet)
