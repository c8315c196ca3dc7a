"""The command line: parsing, messages, progress. Only `experiments/` and the console script import it."""

from kd_jax.cli.commands import analyze_main, main
from kd_jax.cli.study import Preset, Session, parse, study_main

__all__ = ["Preset", "Session", "analyze_main", "main", "parse", "study_main"]
