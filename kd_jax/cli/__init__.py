"""The command line: parsing, messages, progress. Only `experiments/` and the console script import it."""

from kd_jax.cli.commands import Preset, analyze_main, main, study_main

__all__ = ["Preset", "analyze_main", "main", "study_main"]
