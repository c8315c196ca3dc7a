"""When does distillation help? Teachers of graded accuracy on their training labels, and what their students gain.

A base study (an MLP teaches itself on 5,000 MNIST images, a fifth of the labels wrong) and variants that change one thing:
the teacher's epochs, its weight decay, its network, the share of wrong labels. What is equal is trained once.

    python experiments/generalization.py --platform=cpu
    python experiments/generalization.py --platform=cpu --small
    python experiments/generalization.py --platform=gpu --dataset=cifar100 --train_examples=0 --augment=crop_flip \
      --teacher=resnet56 --student=resnet56 --epochs=200 --optimizer=nesterov --learning_rate=0.1 --weight_decay=5e-4 \
      --sweep teacher_with=epochs=20,epochs=50,weight_decay=2e-3 teacher=resnet20,resnet110 label_noise=0,0.2,0.4

Other variants can be given. The reduced run is on the embedded digits.
"""

import sys

from kd_jax.cli import Preset, study_main
from kd_jax.recipes import images as recipes

SWEEP = (
    "teacher_with=epochs=2,epochs=5,epochs=10,epochs=20,weight_decay=0.001,weight_decay=0.003,weight_decay=0.01",
    "teacher=mlp_16,mlp_64,mlp_512x512",
    "label_noise=0,0.1,0.4",
)
SMALL_SWEEP = ("teacher_with=epochs=2,epochs=10", "label_noise=0")
PRESET = Preset(recipes.NOISY, recipes.NOISY_SMALL, SWEEP, SMALL_SWEEP, combine="one_by_one")

if __name__ == "__main__":
    sys.exit(study_main("generalization", __doc__, PRESET))
