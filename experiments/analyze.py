"""The analysis stage alone: reload a work folder's checkpoints and compute every number and figure again, on one CPU.

python experiments/analyze.py runs/digits_kd
"""

import sys

from kd_jax.cli import analyze_main

if __name__ == "__main__":
    sys.exit(analyze_main())
