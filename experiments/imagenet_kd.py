"""Distil on Tiny-ImageNet: what do the students of the smaller data sets' study do on 64x64 photographs of 200 classes?

A ResNet-50 teaches a ResNet-50 and a ResNet-18. With 200 epochs of 100,000 images this is a job for an accelerator, and
none has run it yet. The data is the folder that tiny-imagenet-200.zip unpacks to, or a part of it in the same layout,
which reports call a part; it is decoded once. The recipe `imagenet` is listed too, but its data set, to be read in a
stream, is not supported yet and refused.

    python experiments/imagenet_kd.py --platform=gpu --tiny_imagenet_dir=tiny-imagenet-200
    python experiments/imagenet_kd.py --platform=cpu --small --tiny_imagenet_dir=tiny-imagenet-200

The reduced run, a CNN on 500 images, takes 107 s of processor time: about a minute on two idle cores. On the first 20
classes, 24 November 2026, it had too few images for a finding: test accuracy 0.17 for the teacher, 0.18 for the student
and for its one-hot twin, every verdict inconclusive. It shows that all of it runs.
"""

import sys

from kd_jax import recipes
from kd_jax.cli import Preset, study_main

# The first is the default.
PRESETS = {
    name: Preset(recipes.study(name), recipes.reduced(recipes.study(name))) for name in ("tiny_imagenet", "imagenet")
}

if __name__ == "__main__":
    sys.exit(study_main("imagenet_kd", __doc__, PRESETS, flag="recipe"))
