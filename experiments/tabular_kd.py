"""Distil on a table of numbers: 569 biopsies that are embedded, with 10 % wrong labels, or a table of your own.

python experiments/tabular_kd.py --small     # no download
kd-jax import wine.csv --name wine --label_column=cultivar
python experiments/tabular_kd.py --dataset=wine
"""

import sys

from kd_jax.cli import run_study

if __name__ == "__main__":
    sys.exit(run_study("tabular_kd", description=__doc__))
