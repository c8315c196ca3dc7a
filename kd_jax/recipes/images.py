"""Training recipes for images by name, and the settings of the paper that they are for. This is data, not code.

How sure each number is: [R] reported, in the paper or in the published code of the project that is named; [?] recollected, seen in
no source. The latter are defaults to try first, and never to be quoted as the paper's.
"""

from typing import NamedTuple

from kd_jax.config import Study

# What the paper's image recipes share [?].
_PAPER = Study.from_flags(
    precision="auto",  # bfloat16 on accelerators; nothing is reported of it
    augment="crop_flip",
    optimizer="nesterov",
    momentum=0.9,
    weight_decay=5e-4,
    temperature=4.0,
    weight=1.0,
)

# Warm-up and decay are shares of all epochs.
RECIPES: dict[str, Study] = {
    "cifar_v1": _PAPER.replaced(  # [?] all
        dataset="cifar10",
        teacher="resnet56",
        student=("resnet56", "resnet20"),
        epochs=450,
        batch_size=1024,
        learning_rate=1.0,
        warmup=15 / 450,
        decay_at=(200 / 450, 300 / 450, 400 / 450),
        decay_by=0.1,
    ),
    "cifar100_v2": _PAPER.replaced(  # [?] all
        dataset="cifar100",
        teacher="resnet56",
        student=("resnet56", "resnet20"),
        epochs=200,
        batch_size=128,
        learning_rate=0.1,
        warmup=1 / 200,
        decay_at=(60 / 200, 120 / 200, 160 / 200),
        decay_by=0.2,
    ),
    "tiny_imagenet": _PAPER.replaced(  # [?] all
        dataset="tiny_imagenet",
        teacher="resnet50_small",
        student=("resnet50_small", "resnet18_small"),
        epochs=200,
        batch_size=128,
        learning_rate=0.1,
        warmup=5 / 200,
        decay_at=(75 / 200, 135 / 200),
        decay_by=0.1,
    ),
    "imagenet": _PAPER.replaced(  # [?] all
        dataset="imagenet2012",
        augment="resized_crop_flip",
        teacher="resnet50",
        student=("resnet50", "resnet18"),
        epochs=90,
        batch_size=1024,
        learning_rate=0.4,
        warmup=5 / 90,
        decay_at=(30 / 90, 60 / 90, 80 / 90),
        decay_by=0.1,
        weight=0.1,
    ),
    # [R] The schedule of RepDistiller, the code of "Contrastive Representation Distillation" (Tian et al. 2020), to compare with
    # the accuracies that it publishes for ordinary distillation. It is not that paper's loss. The numbers are the defaults of its
    # train_teacher.py and train_student.py, and `-r 0.1 -a 0.9` of scripts/run_cifar_distill.sh: the weights of the labels and of
    # the teacher. What differs here: its ResNets are not pre-activation; its epochs keep the last batch, which is smaller; its loss
    # is a KL divergence, whose gradient is the same; and there the students MobileNet and ShuffleNet take a learning rate of 0.01.
    "repdistiller": Study.from_flags(
        precision="auto",
        dataset="cifar100",
        teacher="resnet56",
        student=("resnet20",),
        augment="crop_flip",
        optimizer="sgd",
        momentum=0.9,
        weight_decay=5e-4,
        epochs=240,
        batch_size=64,
        learning_rate=0.05,
        decay_at=(150 / 240, 180 / 240, 210 / 240),
        decay_by=0.1,
        temperature=4.0,
        weight=0.9,
    ),
}
RECIPES["crd"] = RECIPES["repdistiller"]  # its name in earlier versions

LARGE = ("tiny_imagenet", "imagenet2012")  # data sets whose images have four times the pixels of CIFAR's, or more


def study(name: str) -> Study:
    """Return the `Study` of a recipe.

    >>> study("repdistiller").training.epochs
    240
    """
    return RECIPES[name]


def reduced(full: Study) -> Study:
    """Return a study on 1,000 images or fewer with a small network, which takes a minute on two CPU cores.

    It keeps the shape of the recipe, at another learning rate. It has two seeds, so that there are intervals over them, and one
    null beside the teacher, which is a null itself.
    """
    small = full.replaced(
        train_examples=1000,
        test_examples=500,
        augment="none",
        teacher="cnn_32x64",
        student=("cnn_32x64",),
        nulls=("slower",),
        epochs=4,
        batch_size=32,
        learning_rate=0.01,
        warmup=0.1,
        checkpoints=12,
        seeds=2,
    )
    if full.data.dataset not in LARGE:
        return small
    # Smaller batches too, so that there are as many steps.
    small = small.replaced(
        train_examples=500, test_examples=250, teacher="cnn_16x32", student=("cnn_16x32",), batch_size=16
    )
    if full.training.augment != "resized_crop_flip":
        return small
    # Smaller still, for streamed images are decoded anew in every epoch.
    return small.replaced(augment=full.training.augment, image_size=32, train_examples=320, test_examples=100)


# Our own study, of which sweeps vary one thing or two: small enough for two CPU cores, and with wrong labels, so that distillation
# can gain something.
NOISY = Study.from_flags(
    dataset="mnist",
    train_examples=5000,
    label_noise=0.2,
    teacher="mlp_256x256",
    student=("mlp_256x256",),
    epochs=40,
    batch_size=128,
    learning_rate=0.05,
    warmup=0.05,
    decay_at=(0.5, 0.75),
    optimizer="sgd",
    checkpoints=20,
    seeds=5,
)
NOISY_SMALL = NOISY.replaced(
    dataset="digits", train_examples=0, teacher="mlp_64", student=("mlp_64",), checkpoints=10, seeds=2
)


class Setting(NamedTuple):
    """One of the paper's settings for images.

    Attributes:
        dataset: the data set, as `--dataset` takes it.
        label_noise: the share of training labels that are wrong.
        teacher, student: the names of the networks.
        recipe: a key of `RECIPES`.
        experiment: the name of the file in `experiments/` that runs it.
    """

    dataset: str
    label_noise: float
    teacher: str
    student: str
    recipe: str
    experiment: str = "cifar_kd"

    @property
    def study(self) -> Study:
        """The study that its command runs."""
        return study(self.recipe).replaced(
            dataset=self.dataset, label_noise=self.label_noise, teacher=self.teacher, student=(self.student,)
        )

    @property
    def command(self) -> list[str]:
        """The words of the command that runs this setting, in a work folder of its own."""
        noise = [f"--label_noise={self.label_noise:g}"] if self.label_noise else []
        name = f"{self.dataset}{'_noisy' if noise else ''}-{self.teacher}-{self.student}"
        return [
            "kd-jax",
            "run",
            self.experiment,
            f"--recipe={self.recipe}",
            f"--dataset={self.dataset}",
            *noise,
            f"--teacher={self.teacher}",
            f"--student={self.student}",
            f"--workdir=runs/{name}",
        ]


# [R]: that there are 18 settings, on these data sets with these networks; that some are self-distillation and some go across
# architectures; that some have noisy labels on CIFAR-100. [?]: which network teaches which on which data, the recipe of each, and
# that 20 % of the noisy labels are wrong. CIFAR-100 has the recipe whose teacher interpolates, to which the reported accuracies
# most likely belong; `cifar100_v2` is an ablation of it.
SETTINGS = (
    Setting("cifar10", 0.0, "resnet56", "resnet56", "cifar_v1"),
    Setting("cifar10", 0.0, "resnet56", "resnet20", "cifar_v1"),
    Setting("cifar10", 0.0, "resnet20", "resnet20", "cifar_v1"),
    Setting("cifar10", 0.0, "mobilenetv2_small", "mobilenetv2_small", "cifar_v1"),
    Setting("cifar100", 0.0, "resnet56", "resnet56", "cifar_v1"),
    Setting("cifar100", 0.0, "resnet56", "resnet20", "cifar_v1"),
    Setting("cifar100", 0.0, "resnet20", "resnet20", "cifar_v1"),
    Setting("cifar100", 0.0, "mobilenetv2_small", "mobilenetv2_small", "cifar_v1"),
    Setting("cifar100", 0.2, "resnet56", "resnet56", "cifar_v1"),
    Setting("cifar100", 0.2, "resnet56", "resnet20", "cifar_v1"),
    Setting("cifar100", 0.2, "resnet20", "resnet20", "cifar_v1"),
    Setting("cifar100", 0.2, "resnet56", "mobilenetv2_small", "cifar_v1"),
    Setting("tiny_imagenet", 0.0, "resnet50_small", "resnet50_small", "tiny_imagenet", "imagenet_kd"),
    Setting("tiny_imagenet", 0.0, "resnet50_small", "resnet18_small", "tiny_imagenet", "imagenet_kd"),
    Setting("tiny_imagenet", 0.0, "resnet18_small", "resnet18_small", "tiny_imagenet", "imagenet_kd"),
    Setting("tiny_imagenet", 0.0, "resnet50_small", "mobilenetv2_small", "tiny_imagenet", "imagenet_kd"),
    Setting("imagenet2012", 0.0, "resnet18", "resnet18", "imagenet", "imagenet_kd"),
    Setting("imagenet2012", 0.0, "resnet50", "resnet18", "imagenet", "imagenet_kd"),
)
NOTE = (
    "The paper reports 18 image settings on these data sets and networks, self-distillation and across architectures. Which"
    " network teaches which, the recipes and the share of wrong labels are our reconstruction, not the paper's list. Each command"
    " trains the teacher, the student and the student's one-hot twin in a work folder of its own; add other flags to it, such as"
    " --platform=gpu, --seeds=3, or --small for a reduced run."
)
