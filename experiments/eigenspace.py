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

from kd_jax.cli import leave, run_study

if __name__ == "__main__":
    leave(run_study("eigenspace", description=__doc__))
