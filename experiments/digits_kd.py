"""The whole story on embedded real data: train, distil, keep checkpoints, analyse, report.

1,797 handwritten 8x8 digits, 20 % of the training labels wrong; an MLP teaches itself at temperature 4.

    python experiments/digits_kd.py --platform=cpu
"""

import sys

from kd_jax.cli import Preset, study_main
from kd_jax.config import Study

FULL = Study.from_flags(
    dataset="digits",
    label_noise=0.2,
    teacher="mlp_256x256",
    student=("mlp_256x256",),
    epochs=100,
    batch_size=128,
    learning_rate=0.05,
    optimizer="sgd",
    nulls=("order", "init", "slower", "faster"),
    checkpoints=40,
    seeds=5,
)
SMALL = FULL.replaced(epochs=30, seeds=2, checkpoints=20)
PRESET = Preset(FULL, SMALL)

if __name__ == "__main__":
    sys.exit(study_main("digits_kd", __doc__, PRESET))
