"""`python -m kd_jax` is the console script `kd-jax`."""

from kd_jax.cli import script

script()
