"""Distil on small images: CIFAR-10 by default, any TFDS image classification set by --dataset.

A ResNet-56 teaches a ResNet-56 and a ResNet-20. With 450 epochs this is a job for an accelerator.

    python experiments/cifar_kd.py --platform=gpu
    python experiments/cifar_kd.py --platform=cpu --small --dataset=mnist
"""

import sys
from dataclasses import replace

from kd_jax.cli import Preset, study_main
from kd_jax.config import Study

FULL = Study(
    dataset="cifar10",
    augment="crop_flip",
    teacher="resnet56",
    student=("resnet56", "resnet20"),
    epochs=450,
    batch_size=1024,
    learning_rate=1.0,
    warmup=15 / 450,
    decay_at=(200 / 450, 300 / 450, 400 / 450),
    weight_decay=5e-4,
)
SMALL = replace(
    FULL,
    train_examples=2000,
    test_examples=1000,
    augment="none",
    teacher="cnn_32x64",
    student=("cnn_32x64",),
    epochs=5,
    batch_size=64,
    learning_rate=0.01,
    warmup=0.1,
    checkpoints=12,
)

if __name__ == "__main__":
    sys.exit(study_main("cifar_kd", __doc__, Preset(FULL, SMALL)))
