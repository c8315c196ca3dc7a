"""Does distillation exaggerate the bias of gradient descent toward the top eigendirections of the data?

Networks are trained on labels and distilled from the same initialisation, and their weights are followed along the
eigendirections of the data. Nulls show how much two ordinary runs differ: on labels in another order, from another
initialisation, and at other learning rates. There are four settings:

    python experiments/eigenspace.py --setting=mlp --platform=cpu               # an MLP on MNIST, 104 minutes
    python experiments/eigenspace.py --setting=random_features --platform=cpu   # 128 MNIST digits, 18 minutes
    python experiments/eigenspace.py --setting=cnn --platform=gpu               # a CNN on CIFAR-10; not run in full yet
    python experiments/eigenspace.py --setting=kernel --platform=cpu            # 128 MNIST digits, 35 minutes

Times are on two CPU cores shared with other work, for five seeds.

What came out of the first three: how far the weights move along a lower direction relative to the run on labels, at
equal movement along the top direction, at three pairs of directions that a rule fixes. Below 1 and below every null
is the exaggerated bias.

                                              student               smallest of the nulls
    random_features                           0.76, 0.65, 0.52      0.99, 0.79, 0.72
    mlp, first layer, all of MNIST            0.77, 0.85, 1.05      0.94, 0.95, 0.99
    mlp, second layer                         0.75, 0.73, 0.75      0.84, 0.84, 0.88
    cnn, 1,000 images of cifar10_jpeg         0.84, 0.76, 1.01      1.01, 1.05, 0.97

The weights themselves show it only in random_features, where they start at zero.

The setting `kernel` goes beyond linear models. It follows the function that a network computes along the eigenvectors
of its tangent kernel at step 0, and asks whether the filter of its linearisation, a(s) a(T), describes the student.
What came out: it does at width 512, where networks start at the zero function and the loss is squared. It does not at
width 64, nor where networks start elsewhere. Groups of eigenvectors that the teacher has learnt fully show no lag.
Intervals and conditions are in experiments/RESULTS.md.
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
