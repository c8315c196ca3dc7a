"""Time and peak memory of following a layer's weights over a trajectory, by its length: memory must not grow with it.

    python tests/long_extraction.py DATA_DIR [CHECKPOINTS ...]

Trains MNIST's MLP of two 1000-wide layers for an epoch, keeping about so many checkpoints (fewer, near 50 and 200 by default), and
extracts both hidden layers of the teacher, the one-hot twin and the student, each in a process of its own. Prints a line for each.
"""

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MEASURED = "--measured"


def measure(workdir, layer):
    """Print how long it takes to find a layer's directions and to follow it in all runs, and the peak memory."""
    from kd_jax.extract import weights
    from kd_jax.studies import prepare

    opened = prepare.open_study(workdir)
    plan, dataset = opened.plan, opened.dataset
    (onehot, _), *_ = weights.chosen_layers(plan, dataset)
    before = peak_memory()
    began = time.monotonic()
    found = list(weights.growths(workdir, plan, dataset, [(onehot, layer)]))
    seconds = time.monotonic() - began
    print(
        f"{layer}: {len(found)} runs of {len(found[0].steps)} checkpoints, {found[0].components.shape[1]} directions:"
        f" {seconds:.1f} s, peak {peak_memory():.2f} GiB, {before:.2f} GiB before it began",
        flush=True,
    )


def peak_memory():
    """Largest resident memory of this process so far [GiB]; `getrusage` would count its parent's as well. Linux."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**20


def main(data_dir, lengths):
    """Train and measure for each number of checkpoints."""
    import jax

    from kd_jax.config import Study
    from kd_jax.studies import train as train_stage

    for length in lengths:
        with tempfile.TemporaryDirectory() as workdir:
            study = Study.from_flags(
                dataset="mnist",
                teacher="mlp_1000x1000",
                student=("mlp_1000x1000",),
                epochs=1,
                batch_size=128,
                optimizer="adam",
                learning_rate=1e-4,
                checkpoints=length,
            )
            train_stage.train("extraction", study, workdir, data_dir, jax.devices()[:1])
            for layer in ("Dense_0", "Dense_1"):
                subprocess.run([sys.executable, __file__, MEASURED, workdir, layer], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [MEASURED]:
        measure(Path(sys.argv[2]), sys.argv[3])
    elif len(sys.argv) < 2:
        sys.exit(__doc__)
    else:
        main(sys.argv[1], [int(word) for word in sys.argv[2:]] or [50, 272])
