"""Distil on small images: CIFAR-10, or any TFDS set of classified images of one size by --dataset.

A ResNet-56 teaches a ResNet-56 and a ResNet-20. `--recipe` chooses all settings at once: `cifar_v1`, the default, and
`cifar100_v2` are our reconstruction of the paper's. `repdistiller` is the schedule of the project of that name, whose
accuracies on CIFAR-100 are published; its old name `crd` still works. `kd-jax settings` lists the paper's image
settings and their commands.

    python experiments/cifar_kd.py --platform=gpu
    python experiments/cifar_kd.py --recipe=repdistiller --platform=gpu
    python experiments/cifar_kd.py --switch=onehot:kd@200,ramp=1000 --platform=gpu
    python experiments/cifar_kd.py --distillation=dkd --dkd_beta=2 --weight=0.5 --recipe=repdistiller --platform=gpu
    python experiments/cifar_kd.py --platform=cpu --small --dataset=mnist

The full studies are for an accelerator, and none has run them at full length. With --small, a CNN on 1,000 images, it takes 54
seconds on two CPU cores. What came out of ResNet-20 on a fifth of `cifar10_jpeg`, one seed, 55 minutes on two CPU
cores: test accuracy 0.741 for the teacher, 0.733 on labels alone and 0.731 for the student. Intervals and conditions
are in experiments/RESULTS.md.
"""

from kd_jax.cli import leave, run_study

if __name__ == "__main__":
    leave(run_study("cifar_kd", description=__doc__))
