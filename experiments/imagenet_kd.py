"""Distil on Tiny-ImageNet, and on ImageNet: what do the students of the smaller data sets' study do on photographs?

A ResNet-50 teaches a ResNet-50 and a ResNet-18. With 200 epochs of 100,000 images of 64x64 pixels this is a job for an
accelerator, and none has run it yet. The data is the folder that tiny-imagenet-200.zip unpacks to, or a part of it in the
same layout, which reports call a part; it is decoded once. The recipe `imagenet`, 90 epochs of 1,281,167 images of 224x224,
is streamed from TFDS's imagenet2012, or with --dataset from any TFDS set of images of many sizes.

    python experiments/imagenet_kd.py --platform=gpu --tiny_imagenet_dir=tiny-imagenet-200
    python experiments/imagenet_kd.py --platform=gpu --recipe=imagenet --workers=16
    python experiments/imagenet_kd.py --platform=cpu --small --tiny_imagenet_dir=tiny-imagenet-200

The reduced run, a CNN on 500 images, takes 57 s on two cores. On the first 20 classes, 24 November 2026, it had too few
images and steps for a finding: test accuracy 0.13 for the teacher, 0.15 for the one-hot twin and 0.10 for the student, the
intervals of two seeds wider than all of that. It shows that all of it runs. So does the reduced run of the recipe `imagenet`,
on 320 images in views of 32x32: 47 s, other work on one of the cores, on 2,000 photographs of those classes in several sizes and
encodings, laid out as TFDS lays out ImageNet; test accuracy 0.085, 0.095 and 0.095.
"""

import sys

from kd_jax.cli import Preset, study_main
from kd_jax.recipes import images as recipes

# The first is the default.
PRESETS = {
    name: Preset(recipes.study(name), recipes.reduced(recipes.study(name))) for name in ("tiny_imagenet", "imagenet")
}

if __name__ == "__main__":
    sys.exit(study_main("imagenet_kd", __doc__, PRESETS, flag="recipe"))
