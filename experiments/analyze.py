"""Analyse a finished work folder again: reload its checkpoints, and compute every number and figure anew.

    python experiments/analyze.py runs/digits_kd

One CPU suffices, whatever hardware trained the networks. `kd-jax analyze` is the same command.
"""

from kd_jax.cli import analyze_main, leave

if __name__ == "__main__":
    leave(analyze_main())
