"""A program: one of several processes that train a study, without its analysis. It reads JSON from its first argument.

Keys: `coordinator`, `processes`, `index` (absent for one process alone), `workdir`, `data_dir`, `flags` (of the study), and for
tests of what goes wrong `raises` (the pause at which this process fails) and `says` (a file to which it adds the step at every
pause).
"""

import itertools
import json
import sys
from pathlib import Path

from kd_jax.cli.guard import guarded
from kd_jax.config import Study
from kd_jax.train import hosts


def main(asked):
    from kd_jax.studies import train
    from kd_jax.studies.arithmetic import set_precision
    from kd_jax.train import devices, loop

    devices.only("cpu")
    if "index" in asked:
        hosts.join(asked["coordinator"], asked["processes"], asked["index"], asked.get("timeout", 60))
    flags = {name: tuple(value) if isinstance(value, list) else value for name, value in asked["flags"].items()}
    study = Study.from_flags(**flags)
    set_precision(study.networks)
    segments, pauses = loop.segments, itertools.count(1)

    def watched(*args):
        for pause in segments(*args):
            if next(pauses) == asked.get("raises"):
                raise ValueError("a fault of this process")
            if "says" in asked:
                with open(asked["says"], "a", encoding="utf-8") as stream:
                    stream.write(f"{pause.step}\n")
            yield pause

    loop.segments = watched
    train.train("study", study, Path(asked["workdir"]), asked["data_dir"], devices.select("cpu"))
    hosts.leave()


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(json.loads(sys.argv[1]))))
