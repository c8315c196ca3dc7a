"""The command line: parsing, messages, progress. Only `experiments/` and the console script import it."""

from kd_jax.cli.commands import analyze_main, main
from kd_jax.cli.study import Preset, Session, parse, run_study, study_main
from kd_jax.cli.theory import theory_main

__all__ = ["Preset", "Session", "analyze_main", "main", "parse", "run_study", "study_main", "theory_main"]
