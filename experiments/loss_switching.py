"""Does it matter when a student is distilled? The loss is switched in mid-training.

The study crosses the time of the switch, its direction, and the teacher: one that fits its wrong labels, and the same
one stopped early. It asks which share of the gain of distillation throughout the switched student has. An MLP teaches
itself on 5,000 MNIST images, with a fifth of the labels wrong.

    python experiments/loss_switching.py --platform=cpu
    python experiments/loss_switching.py --platform=cpu --small
    python experiments/loss_switching.py --platform=gpu --dataset=cifar100 --train_examples=0 --augment=crop_flip \
      --teacher=resnet56 --student=resnet56 --epochs=200 --optimizer=nesterov --learning_rate=0.1 --weight_decay=5e-4 \
      --sweep teacher_step=0,7800 switch=none,onehot:kd@50,ramp=1000,kd:onehot@50,ramp=1000

The first command took 18 minutes on two CPU cores shared with other work: 80 networks. The second, on the embedded
digits, takes 21 seconds. The third shows that --sweep takes other variants, where `none` is distillation throughout;
it has not been run.

What came out: with a teacher that fits its labels, a student that starts on labels and switches to it has all of the
gain, and one that returns to the labels loses it. With a teacher that was stopped early it is the other way round.
Intervals and conditions are in experiments/RESULTS.md.
"""

from kd_jax.cli import leave, run_study

if __name__ == "__main__":
    leave(run_study("loss_switching", description=__doc__))
