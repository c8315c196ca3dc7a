"""Distil on small images: CIFAR-10 by default, any TFDS image classification set by --dataset, the paper's recipes by --recipe.

A ResNet-56 teaches a ResNet-56 and a ResNet-20. With 450 epochs this is a job for an accelerator. `kd-jax settings` lists the
paper's image settings and their commands. The recipe `crd` is RepDistiller's, whose accuracies on CIFAR-100 are published.

    python experiments/cifar_kd.py --platform=gpu
    python experiments/cifar_kd.py --recipe=crd --platform=gpu
    python experiments/cifar_kd.py --switch=onehot:kd@200,ramp=1000 --platform=gpu
    python experiments/cifar_kd.py --platform=cpu --small --dataset=mnist
"""

import sys

from kd_jax.cli import Preset, study_main
from kd_jax.recipes import images as recipes

# The first is the default.
PRESETS = {name: Preset(recipes.study(name), recipes.reduced(recipes.study(name))) for name in recipes.RECIPES}

if __name__ == "__main__":
    sys.exit(study_main("cifar_kd", __doc__, PRESETS, flag="recipe"))
