"""Does distillation exaggerate the bias toward the top eigendirections of the data? Trajectories in eigenspace, with their nulls.

One-hot and distilled networks from the same initialisation, and one-hot ones in another order, from another initialisation and at
other learning rates. MNIST with a quarter of the labels wrong on random features; MNIST on an MLP; CIFAR-10 on a CNN.

What came out, 5 seeds, two CPU cores shared with other work; ratio of weights' movement to one-hot at equal movement along the top
direction, at the three pairs fixed by rule, and the smallest of the nulls' estimates there:

                                            student               least null            time
    random_features                         0.76, 0.65, 0.52      0.99, 0.79, 0.72      18 min
    mlp, first layer, all of MNIST          0.77, 0.85, 1.05      0.94, 0.95, 0.99      104 min
    mlp, second layer                       0.75, 0.73, 0.75      0.84, 0.84, 0.88
    cnn, 1,000 images of cifar10_jpeg       0.84, 0.76, 1.01      1.01, 1.05, 0.97      30 min

The weights themselves show it only where they start at zero, in random_features. Intervals and conditions are in the README.

`--setting=kernel` goes beyond linear models with the network's own linearisation: does the composed filter a(s) a(T) describe
what a student computes, along the eigenvectors of its tangent kernel at step 0? 128 MNIST digits in full batches, which are
also the probe; one hidden layer that starts at the zero function; squared loss, the teacher stopped at step 300 of 3000. The
learning rate is 0.45 of the bound beyond which descent diverges, 2 over the kernel's largest eigenvalue (about 500 over
examples), fixed before anything was compared. What came out: root mean square errors of progress, 5 seeds (3 for mlp_512); and
the student's progress in groups 5 and 6, the lowest, relative to its one-hot twin's at equal progress in the group above.

                                     a(t), one-hot   a(s) a(T), student   relative to one-hot         by the filters
    balanced_512                     0.001 ± 0.000   0.026 ± 0.004        0.94 ± 0.02, 0.92 ± 0.02    0.95, 0.79
    balanced_64                      0.024 ± 0.007   0.114 ± 0.013        1.02 ± 0.11, 1.11 ± 0.04    0.84, 0.57
    mlp_512, --learning_rate=1.9e-3  0.013 ± 0.001   0.063 ± 0.006        0.99 ± 0.04, 0.98 ± 0.03    0.95, 0.83
    balanced_512, --loss=cross_entropy --learning_rate=3.6e-3             0.82 ± 0.04, 0.85 ± 0.05    none

It holds at width 512. It breaks where networks are narrow: at width 64 kernels move by a fifth, and the teacher's is another
from the start. It breaks where networks do not start at zero: mlp_512 is described by its linearisation, to 0.014, and not
by the filter. Groups that the teacher has learnt fully show no lag. About 35 minutes on two CPU cores with other work.

    python experiments/eigenspace.py --setting=mlp --platform=cpu
    python experiments/eigenspace.py --setting=random_features --platform=cpu
    python experiments/eigenspace.py --setting=cnn --platform=gpu
    python experiments/eigenspace.py --setting=kernel --platform=cpu
"""

import sys

from kd_jax.cli import Preset, study_main
from kd_jax.config import Study

MLP = Study.from_flags(
    dataset="mnist",
    teacher="mlp_1000x1000",
    student=("mlp_1000x1000",),
    nulls=("order", "init", "slower", "faster"),
    epochs=10,
    batch_size=128,
    optimizer="adam",
    learning_rate=1e-4,
    checkpoints=60,
    layers=("Dense_0", "Dense_1"),
    seeds=5,
)
RANDOM_FEATURES = MLP.replaced(
    teacher="features_5000",
    student=("features_5000",),
    train_examples=128,
    test_examples=1000,
    label_noise=0.25,
    epochs=100,
    batch_size=32,
    learning_rate=1e-3,
    nulls=("order", "slower", "faster"),  # its weights start at zero, so there is no other initialisation
    layers=(),
)
CNN = MLP.replaced(
    dataset="cifar10",
    teacher="cnn_100x100",
    student=("cnn_100x100",),
    augment="none",
    epochs=30,
    layers=(),
)
KERNEL = Study.from_flags(
    dataset="mnist",
    train_examples=128,
    test_examples=128,  # an epoch is a step here, so evaluation takes as long as training
    teacher="balanced_512",
    student=("balanced_512",),
    nulls=("slower",),  # a batch is the whole training set: there is no other order, and the teacher is another init
    loss="mse",
    teacher_step=300,
    epochs=3000,
    batch_size=128,
    optimizer="sgd",
    momentum=0.0,
    learning_rate=1.8e-3,
    checkpoints=60,
    kernel_examples=128,
    seeds=5,
)


def _reduced(study, **changes):
    return study.replaced(**{"test_examples": 1000, "checkpoints": 20, "seeds": 2, **changes})


PRESETS = {
    "mlp": Preset(MLP, _reduced(MLP, train_examples=2000, epochs=10, teacher="mlp_200x200", student=("mlp_200x200",))),
    "random_features": Preset(
        RANDOM_FEATURES,
        _reduced(RANDOM_FEATURES, test_examples=500, epochs=50, teacher="features_1000", student=("features_1000",)),
    ),
    "cnn": Preset(
        CNN,
        _reduced(
            CNN,
            train_examples=500,
            epochs=4,
            batch_size=32,
            nulls=("order", "init"),
            teacher="cnn_32x64",
            student=("cnn_32x64",),
        ),
    ),
    "kernel": Preset(
        KERNEL,
        _reduced(
            KERNEL,
            train_examples=48,
            test_examples=100,
            batch_size=48,
            epochs=300,
            teacher_step=100,
            kernel_examples=48,
            nulls=(),
            teacher="balanced_128",
            student=("balanced_128",),
        ),
    ),
}

if __name__ == "__main__":
    sys.exit(study_main("eigenspace", __doc__, PRESETS, flag="setting"))
