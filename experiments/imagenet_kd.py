"""Distil on photographs: Tiny-ImageNet, and ImageNet itself.

A ResNet-50 teaches a ResNet-50 and a ResNet-18. The recipe `tiny_imagenet`, the default, is 200 epochs of 100,000
images of 64x64 pixels. They are read from the folder that tiny-imagenet-200.zip unpacks to, or from a part of it in
the same layout, which reports then call a part; they are decoded once. The recipe `imagenet` is 90 epochs of
1,281,167 images of 224x224 pixels, streamed from TFDS's imagenet2012, or with --dataset from any TFDS set of images
of many sizes.

    python experiments/imagenet_kd.py --platform=gpu --tiny_imagenet_dir=tiny-imagenet-200
    python experiments/imagenet_kd.py --platform=gpu --recipe=imagenet --workers=16
    python experiments/imagenet_kd.py --platform=cpu --small --tiny_imagenet_dir=tiny-imagenet-200

The full studies are for an accelerator, and none has run them yet. The reduced runs take about a minute on two CPU
cores: 57 seconds for Tiny-ImageNet, and 47 for the streamed recipe. They have too few images and steps for a finding,
and show that the program runs. Intervals and conditions are in experiments/RESULTS.md.
"""

from kd_jax.cli import leave, run_study

if __name__ == "__main__":
    leave(run_study("imagenet_kd", description=__doc__))
