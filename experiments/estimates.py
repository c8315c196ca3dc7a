"""Estimate what the paper's 30 settings take on accelerators, from their compilers; `kd-jax plan --settings` shows the table.

    python experiments/estimates.py --topology v5e-8 --setting 1 --networks resnet8 resnet20 mobilenetv2_small
    python experiments/estimates.py                  # the table anew, from what was compiled before

Each network takes minutes to compile; a TPU's compiler comes with pip install 'kd_jax[plan]', an H100's with 'kd_jax[plan-gpu]'.
What was compiled is kept in kd_jax/recipes/estimates.json, with the table.
"""

import argparse
import sys
from datetime import UTC, datetime

from kd_jax.cli.guard import guarded
from kd_jax.config import versions
from kd_jax.files import holding
from kd_jax.recipes import estimates as file
from kd_jax.recipes.settings import settings

TOPOLOGIES = ("v5e-8", "v4-32", "h100")
SEEDS = 5


def main(argv=None):
    """Compile what is named, and write the table anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", default="", help="accelerators to compile for, as kd-jax plan takes them")
    parser.add_argument("--setting", type=int, default=1, help="number of the setting that gives data and batch size")
    parser.add_argument("--networks", nargs="*", default=[], help="networks to compile")
    given = parser.parse_args(argv)

    def run():
        from kd_jax.studies import estimates
        from kd_jax.train import ahead, devices

        devices.select("cpu")
        made = []
        if given.networks:
            topology, setting = ahead.topology(given.topology), settings()[given.setting - 1]
            for network in given.networks:
                found, _ = estimates.compiled(network, setting, topology)
                made.append(found | {"compiler": topology.compiler, "date": datetime.now(UTC).date().isoformat()})
                print(f"{network}: {found['train_ms']:.2f} ms a step, {found['forward_ms']:.2f} ms a teacher's pass")
        with holding(file.PATH.parent):  # several of these may run, for different compilers
            records = file.read()["compiled"] if file.PATH.is_file() else []
            new = {_of(each) for each in made}
            records = [each for each in records if _of(each) not in new] + made
            file.write(estimates.table(records, TOPOLOGIES, SEEDS) | {"versions": versions()})

    return guarded(run)


def _of(record):
    return record["network"], record["group"], record["topology"]


if __name__ == "__main__":
    sys.exit(main())
