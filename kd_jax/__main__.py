"""`python -m kd_jax` is the console script `kd-jax`."""

import sys

from kd_jax.cli import main

sys.exit(main())
