"""The studies that come with the program: what each asks, and the configurations that its flags change. Data, not code."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from kd_jax.config import Study
from kd_jax.recipes import images, texts


class Preset(NamedTuple):
    """What a study's flags change.

    Attributes:
        full: the study.
        small: its reduced form, for `--small`.
        sweep, small_sweep: what it sweeps, as the words of `--sweep`, for studies that are sweeps.
        combine: how the sweep combines its fields.
        pretrained: the study beside `--init_from`, where it differs.
    """

    full: Study
    small: Study
    sweep: tuple[str, ...] = ()
    small_sweep: tuple[str, ...] = ()
    combine: Literal["all", "one_by_one"] = "all"
    pretrained: Study | None = None


class Shipped(NamedTuple):
    """A study that comes with the program.

    Attributes:
        question: what it asks, in a sentence.
        presets: a `Preset`; or, with a flag, {value of that flag: Preset}, the first being the default.
        flag: the flag that chooses among presets; empty where there is one.
    """

    question: str
    presets: Preset | Mapping[str, Preset]
    flag: str = ""


_DIGITS = Study.from_flags(
    dataset="digits",
    label_noise=0.2,
    teacher="mlp_256x256",
    student=("mlp_256x256",),
    epochs=100,
    batch_size=128,
    learning_rate=0.05,
    optimizer="sgd",
    early_epoch=10,  # chosen before the seeds that are reported
    nulls=("slower", "faster"),  # the teacher is another initialisation and order
    checkpoints=40,
    seeds=5,
)

_TABLE = Study.from_flags(
    dataset="breast_cancer",
    label_noise=0.1,
    teacher="mlp_64x64",
    student=("mlp_16", "linear"),
    epochs=100,
    batch_size=32,
    learning_rate=0.05,
    optimizer="sgd",
    nulls=("order", "init"),
    checkpoints=40,
    seeds=5,
)

_MLP = Study.from_flags(
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
_RANDOM_FEATURES = _MLP.replaced(
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
_CNN = _MLP.replaced(
    dataset="cifar10",
    teacher="cnn_100x100",
    student=("cnn_100x100",),
    augment="none",
    epochs=30,
    layers=(),
)
_KERNEL = Study.from_flags(
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


_EIGENSPACE = {
    "mlp": Preset(
        _MLP, _reduced(_MLP, train_examples=2000, epochs=10, teacher="mlp_200x200", student=("mlp_200x200",))
    ),
    "random_features": Preset(
        _RANDOM_FEATURES,
        _reduced(_RANDOM_FEATURES, test_examples=500, epochs=50, teacher="features_1000", student=("features_1000",)),
    ),
    "cnn": Preset(
        _CNN,
        _reduced(
            _CNN,
            train_examples=500,
            epochs=4,
            batch_size=32,
            nulls=("order", "init"),
            teacher="cnn_32x64",
            student=("cnn_32x64",),
        ),
    ),
    "kernel": Preset(
        _KERNEL,
        _reduced(
            _KERNEL,
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

# 195 steps are 5 of the 40 epochs of the teacher.
_SWITCHES = (
    "teacher_step=0,195",
    "switch=none,onehot:kd@10,onehot:kd@20,onehot:kd@30,kd:onehot@10,kd:onehot@20,kd:onehot@30",
)
_TEACHERS = (
    "teacher_with=epochs=2,epochs=5,epochs=10,epochs=20,weight_decay=0.001,weight_decay=0.003,weight_decay=0.01",
    "teacher=mlp_16,mlp_64,mlp_512x512",
    "label_noise=0,0.1,0.4",
)

STUDIES = {
    "digits_kd": Shipped(
        "Does a student copy its teacher, and does it gain by it? Two teachers of 1,797 embedded digits, in two minutes on a CPU.",
        Preset(_DIGITS, _DIGITS.replaced(epochs=30, seeds=2, checkpoints=20)),
    ),
    "cifar_kd": Shipped(
        "Distil on small images: CIFAR-10, or by --dataset any TFDS set of classified images of one size.",
        {name: Preset(images.study(name), images.reduced(images.study(name))) for name in images.RECIPES},
        flag="recipe",
    ),
    "imagenet_kd": Shipped(
        "Distil on photographs: Tiny-ImageNet, or ImageNet and other sets of many sizes, streamed.",
        {
            name: Preset(images.study(name), images.reduced(images.study(name)))
            for name in ("tiny_imagenet", "imagenet")
        },
        flag="recipe",
    ),
    "tabular_kd": Shipped(
        "Distil on tables of numbers: embedded biopsies, or by --dataset a table that kd-jax import took.",
        {
            # The biopsies have wrong labels by design; nobody's own table gets any that were not asked for.
            name: Preset(study, study.replaced(epochs=30, student=("mlp_16",), checkpoints=20, seeds=2))
            for name, study in {"breast_cancer": _TABLE, "": _TABLE.replaced(label_noise=0.0)}.items()
        },
        flag="dataset",
    ),
    "text_kd": Shipped(
        "Distil on texts, with RoBERTa encoders: SST-2, or by --dataset any TFDS set of classified texts.",
        {
            name: Preset(
                texts.study(name), texts.reduced(texts.study(name)), pretrained=texts.study(name, pretrained=True)
            )
            for name in texts.DATASETS
        },
        flag="dataset",
    ),
    "eigenspace": Shipped(
        "Does distillation exaggerate the bias toward the top eigendirections of the data?", _EIGENSPACE, flag="setting"
    ),
    "loss_switching": Shipped(
        "Does it matter when a student is distilled? The loss is switched in mid-training.",
        Preset(images.NOISY, images.NOISY_SMALL, _SWITCHES, ("switch=none,onehot:kd@20,kd:onehot@20",)),
    ),
    "generalization": Shipped(
        "When does distillation help? Teachers of graded accuracy, and what their students gain.",
        Preset(
            images.NOISY,
            images.NOISY_SMALL,
            _TEACHERS,
            ("teacher_with=epochs=2,epochs=10", "label_noise=0"),
            combine="one_by_one",
        ),
    ),
}
