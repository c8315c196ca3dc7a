"""The configuration of a study, in sections. Every section is a frozen dataclass that refuses a bad value at once, by name.

A `Study` is everything that decides the numbers that come out. Where it runs (platform, folders) is not part of it; see
`kd_jax.cli.commands.Session`. The docstrings below the fields are the text of `--help`.

On the command line and in `study.json` the fields of all sections stand side by side, under their own names, which are unique:
`Study.from_flags`, `Study.replaced` and `to_json` use these flat names.
"""

import math
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, get_args, get_origin

from kd_jax import __version__
from kd_jax.errors import BadInput as BadInput

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "tensorflow-datasets",
    "pillow",
    "numpy",
    "scipy",
)
MOST_SEEDS = 10_000  # a study lists all of its runs; more seeds are several studies
SCHEMA = 2  # of `study.json`; 1, which has no such number, is that of versions whose studies had no sections


def versions() -> dict[str, str]:
    """Return {package: version} of Python and of the packages that can change a number."""
    own = {"python": platform.python_version(), "kd_jax": __version__}
    return own | {package: version(package) for package in PACKAGES}


@dataclass(frozen=True)
class Data:
    """Which examples a study trains and tests on, with which labels, and how texts become tokens."""

    dataset: str = "cifar10"
    """Data: `digits` or `breast_cancer` (embedded, no download), `tiny_imagenet` (from --tiny_imagenet_dir), the name of a set that
    `kd-jax import` took, any TFDS set of classified images or texts by name (cifar10, mnist, emnist/letters, glue/sst2,
    imdb_reviews, ...), or the folder of a prepared one. A set whose images have many sizes (imagenet2012, food101, ...) is
    streamed from disk."""
    train_examples: int = 0
    """Size of the fixed random part of the training split that is used [examples; 0: all]."""
    test_examples: int = 0
    """Size of the fixed random part of the test split that is used [examples; 0: all]."""
    label_noise: float = 0.0
    """Share of training labels that are replaced by another class, drawn uniformly [0 to 1]."""
    noise_seed: int = 0
    """Seed of the label noise; it is the same for every seed of the study."""
    image_size: int = 0
    """Side of the views of a streamed set [pixels; 0: 224]."""
    max_length: int = 128
    """Length up to which a text is read [tokens, RoBERTa's special ones included]; longer texts are cut, and counted."""
    vocabulary: int = 8000
    """Largest size of the byte-level BPE that is trained on the training texts where no other tokenizer is given [tokens]."""
    tokenizer: str = ""
    """A tokenizer.json to use instead [empty: that of the pre-trained weights, or else one is trained]."""
    label: str = ""
    """Name of the class label among the features of a prepared set that has several [empty: the supervised one, or `label`]."""
    text: tuple[str, ...] = ()
    """Names of the text, or of the two texts of a pair, in their order, among the features of a prepared set [none: by their names
    and the set's supervised keys]."""

    def __post_init__(self):
        _need(self, "dataset", bool(self.dataset.strip()), "the name of a set, or the folder of a prepared one")
        _need(self, "label_noise", 0 <= self.label_noise <= 1, "a number from 0 to 1")
        _need(self, "noise_seed", self.noise_seed >= 0, "a whole number of at least 0")
        _need(self, "image_size", self.image_size == 0 or self.image_size >= 8, "0 for 224, or at least 8")
        for name in ("train_examples", "test_examples"):
            _need(self, name, getattr(self, name) == 0 or getattr(self, name) >= 2, "0 for all, or at least 2")
        _need(self, "max_length", 8 <= self.max_length <= 512, "a whole number of tokens from 8 to 512")
        _need(
            self,
            "text",
            len(self.text) < 3 and len(set(self.text)) == len(self.text),
            "one name, or two different ones",
        )
        _need(self, "vocabulary", self.vocabulary >= 300, "at least 300, for the bytes, special tokens and some pieces")


@dataclass(frozen=True)
class Networks:
    """Which networks are trained, where they start, and in which arithmetic."""

    teacher: str = "resnet56"
    """Network of the teacher: linear, features (features_5000: linear on fixed random ones), mlp (mlp_256x256 sets the widths),
    balanced (balanced_512: an mlp_512 that starts at the zero function), cnn (cnn_32x64), resnet8, 20, 32, 44, 56, 110;
    resnet18, resnet50, mobilenetv2, and for small images resnet18_small, resnet50_small, mobilenetv2_small. For texts
    roberta_base, roberta_medium, roberta_small, roberta_tiny, or roberta_2x128 (layers x width). Or your own:
    package.module:Net, of flax linen or NNX."""
    student: tuple[str, ...] = ("resnet56",)
    """Networks of the students, one or more; each is trained with the teacher and, as arm `onehot`, without."""
    nulls: tuple[Literal["order", "init", "slower", "faster"], ...] = ()
    """Further one-hot runs of the first student's network, with which its eigendirections are compared: in another data order, from
    another initialisation, at a quarter and at four times the learning rate."""
    init_from: tuple[str, ...] = ()
    """Pre-trained weights: folders of RoBERTa (config.json, model.safetensors, tokenizer.json), each for the networks of its layers
    and width; or files of resnet18, resnet50 or mobilenetv2 as torchvision and timm save them (.safetensors), each for the networks
    whose tensors it has. Others, and heads of other classes, start at random [none: all do]."""
    precision: Literal["auto", "float32", "bfloat16", "float64"] = "float32"
    """Arithmetic of the networks. bfloat16 keeps parameters, losses and statistics in float32; float64 is for comparing
    topologies. In float32, TPUs multiply in bfloat16 and NVIDIA's GPUs in TF32; see --matmul_precision. auto: bfloat16 on an
    accelerator, float32 on CPU, and what a teacher of another study has; it is settled when a study begins, and recorded as what
    it came to, so a work folder goes on as it was begun."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Digits with which products of float32 arrays are taken: by `default`, JAX's, 8 bits on a TPU (one pass of bfloat16) and 11 on
    an NVIDIA GPU (TF32), sums in float32; `high` takes about 16 bits on a TPU (three passes), `highest` all 24 on any device. On
    CPU all three are the same."""
    batch_norm: Literal["global", "local"] = "global"
    """Over which examples batch normalisation takes its statistics in training: `global`, the whole batch, which makes results
    independent of the number of devices; `local`, each device's own part of it, as PyTorch's DistributedDataParallel does, which
    spares two exchanges between devices for each of these layers."""

    def __post_init__(self):
        _need(self, "student", bool(self.student), "at least one network")
        _need(self, "student", len(set(self.student)) == len(self.student), "each network once")
        _need(self, "nulls", len(set(self.nulls)) == len(self.nulls), "each null once")
        _need(self, "init_from", len(set(self.init_from)) == len(self.init_from), "each folder once")


@dataclass(frozen=True)
class Training:
    """How a network is trained on its labels: views, optimiser, length. Students and teacher can have one each."""

    epochs: int = 450
    """Length of each training run [epochs]. Warm-up and decay below are shares of it, so they scale with it. 0 is for the teacher
    alone: --teacher_with epochs=0 beside --init_from takes it as it is."""
    batch_size: int = 1024
    """Examples in a training step, over all devices."""
    augment: Literal["none", "crop", "crop_flip", "resized_crop_flip"] = "none"
    """Random views while training: crops of the image padded by 4 pixels, and left-right flips. For a streamed set
    `resized_crop_flip`: crops of 8 to 100 % of the area, resized, and flips; without it, the centre of the resized image."""
    learning_rate: float = 1.0
    """Peak learning rate."""
    warmup: float = 0.0
    """Linear warm-up from 0 to the peak [share of all steps]."""
    decay: Literal["step", "linear", "cosine"] = "step"
    """How the learning rate falls after warm-up: at the points of `decay_at`, linearly to 0 at the last step, or along half a
    cosine to 0 at the last step."""
    decay_at: tuple[float, ...] = ()
    """When the learning rate is multiplied by `decay_by` [shares of all steps]."""
    decay_by: float = 0.1
    """Factor of the learning rate at each point of `decay_at`."""
    optimizer: Literal["nesterov", "sgd", "adam", "adamw"] = "nesterov"
    """SGD with Nesterov's momentum, SGD with plain momentum, Adam, whose first-moment decay is `momentum`, or AdamW, which differs
    from Adam in its weight decay."""
    momentum: float = 0.9
    """Share of the last update that SGD carries into the next [0: none]."""
    weight_decay: float = 0.0
    """Coefficient of the L2 penalty's gradient, which is added before momentum. For adamw: the share of the weights, times the
    learning rate, that is subtracted beside Adam's step."""
    decay_on: Literal["kernels", "all"] = "all"
    """Which parameters decay: `kernels` leaves out biases and normalisation."""
    gradient_clip: float = 0.0
    """Largest norm of the whole gradient; a larger one is scaled down to it [0: no limit]."""
    accumulate: int = 1
    """Batches whose gradients are averaged before the weights are updated once. A step is still a batch: epochs, checkpoints and
    schedules count batches, and the running statistics of normalisation layers move with each [batches; 1: every batch]."""
    ema: float = 0.0
    """Keep an exponential moving average of the weights beside them, which starts as a copy of the first ones: after every update
    average = ema * average + (1 - ema) * weights. It changes no training; its accuracy is reported beside that of the last weights
    [0: none; else below 1, such as 0.999]."""
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    """Loss on the labels: cross-entropy, or half the squared distance of the logits from the one-hot label, which is what the
    paper's theorem is about. There the effect needs an early-stopped teacher."""
    label_smoothing: float = 0.0
    """Share of each training label that is spread evenly over all classes [0 to below 1]."""
    mixup: float = 0.0
    """Blend each training image and its label with another's; the share is drawn from Beta(alpha, alpha) [alpha; 0: off]. Training
    accuracy then counts the label with the larger share."""
    cutmix: float = 0.0
    """Paste a box of another image into each training image, and share the label by area, drawn from Beta(alpha, alpha) [alpha;
    0: off]."""
    dropout: float = 0.0
    """Share of features that is dropped while training, in networks for texts, and your own that take it [0 to below 1]."""
    checkpoints: int = 50
    """Number of checkpoints kept per run, about; half spaced geometrically, half evenly, first and last step included."""

    def __post_init__(self):
        _need(self, "epochs", self.epochs >= 0, "a whole number of at least 1")
        _need(self, "batch_size", self.batch_size >= 1, "a whole number of at least 1")
        _need(self, "learning_rate", 0 < self.learning_rate < math.inf, "a number above 0")
        _need(self, "warmup", 0 <= self.warmup <= 1, "a number from 0 to 1")
        _need(self, "decay_at", all(0 <= share <= 1 for share in self.decay_at), "shares of the run, each from 0 to 1")
        _need(self, "decay_at", list(self.decay_at) == sorted(set(self.decay_at)), "shares in rising order")
        _need(self, "decay_at", not self.decay_at or self.decay == "step", f"none beside --decay={self.decay}")
        _need(self, "accumulate", self.accumulate >= 1, "a whole number of batches of at least 1")
        for name in ("decay_by", "weight_decay", "gradient_clip", "mixup", "cutmix"):
            _need(self, name, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        for name in ("momentum", "label_smoothing", "dropout", "ema"):
            _need(self, name, 0 <= getattr(self, name) < 1, "a number from 0 to below 1")
        both = bool(self.mixup and self.cutmix)
        _need(self, "cutmix", not both, f"0 beside --mixup={self.mixup}, for one of the two mixes")
        _need(self, "checkpoints", self.checkpoints >= 2, "at least 2 (the first and the last step)")


DistillationLoss = Literal[  # all but `auto` are the keys of `losses.DISTILLATION`
    "auto", "kd", "mse", "dkd", "kd_standardised", "dkd_standardised", "dist", "fitnets", "at", "rkd", "crd"
]
# They compare features, so they need a teacher that is a network, and something else must train the student's last layer.
FEATURE_LOSSES: tuple[str, ...] = ("fitnets", "at", "rkd", "crd")


FOLDER = "a folder"  # in place of its path, which another machine does not have


def is_folder(dataset: str) -> bool:
    """Whether `--dataset` names a prepared set by its folder, and not by its name, which may have a configuration.

    >>> is_folder("/data/mine/1.0.0"), is_folder("~/mine/1.0.0"), is_folder("glue/sst2")
    (True, True, False)
    """
    return dataset.startswith(("/", "~", "./", "../"))


def loss_names(text: str) -> list[str]:
    """Return the names of the distillation losses that `--distillation` adds.

    >>> loss_names("kd+crd")
    ['kd', 'crd']
    """
    return text.split("+")


@dataclass(frozen=True)
class Distillation:
    """What students take from their teacher, and what the teacher's own training does otherwise.

    A setting that one loss alone reads has a name that begins with that of the loss; see `settings_of`.
    """

    distillation: str = "auto"
    """Loss that draws a student to its teacher. On logits: `kd`, cross-entropy with the teacher's softened probabilities; `mse`,
    half the squared distance from the teacher's logits; `dkd`, Decoupled Knowledge Distillation, which weighs the target class and
    the others apart; `kd_standardised` and `dkd_standardised`, those two on logits that are standardised per example; `dist`,
    correlations of probabilities. On features: `fitnets`, hints through a trained projector; `at`, attention transfer; `rkd`,
    distances and angles in a batch; `crd`, contrastive. Several joined by + are added, such as kd+crd [auto: kd, or mse where
    the loss on the labels is]."""
    features: tuple[str, ...] = ()
    """Features that fitnets, at, rkd and crd compare: names that both networks have, such as stage2, or STUDENT:TEACHER [none: the
    middle stage for fitnets, all stages for at, the penultimate layer for rkd and crd]."""
    temperature: float = 4.0
    """Softmax temperature of the distillation loss; `mse` and the losses on features have none [> 0]."""
    dkd_alpha: float = 1.0
    """Weight of the target class in `dkd`: how probable the teacher finds the label [at least 0]."""
    dkd_beta: float = 8.0
    """Weight of the other classes in `dkd`: how probable the teacher finds each of them. The authors take 8 on CIFAR-100, and 2
    where a ResNet-56 teaches a ResNet-20 [at least 0]."""
    dist_beta: float = 2.0
    """Weight in `dist` of the correlation over the classes of an example [at least 0]."""
    dist_gamma: float = 2.0
    """Weight in `dist` of the correlation over the examples of a batch [at least 0]."""
    fitnets_weight: float = 100.0
    """Factor of `fitnets`, RepDistiller's. Its factors are beside 1 on the labels, which --weight=0.5 is [at least 0]."""
    at_weight: float = 1000.0
    """Factor of `at`, RepDistiller's [at least 0]."""
    at_power: float = 2.0
    """Power of the features in the attention maps of `at` [at least 1]."""
    rkd_distance: float = 25.0
    """Weight of the distances in `rkd` [at least 0]."""
    rkd_angle: float = 50.0
    """Weight of the angles in `rkd` [at least 0]."""
    crd_weight: float = 0.8
    """Factor of `crd`, the authors' [at least 0]."""
    crd_negatives: int = 0
    """Negatives of an example in `crd` [0: the authors' 16384, or as many as there are training examples if those are fewer]."""
    crd_width: int = 128
    """Numbers in an embedding of `crd` [at least 2]."""
    crd_momentum: float = 0.5
    """Share of its old value that an example's memory keeps in `crd` [0 to below 1]."""
    crd_temperature: float = 0.07
    """Temperature of the contrast in `crd` [> 0]."""
    weight: float = 1.0
    """Weight of the distillation loss; the loss on the labels has the rest [0 to 1]."""
    switch: str = ""
    """Change of the students' loss in mid-training: onehot:kd@50 after 50 epochs, at once; kd:onehot@100,ramp=1000 over the 1000
    steps that follow. `kd` is the mix that `weight` sets [empty: none]."""
    teacher_with: tuple[str, ...] = ()
    """Where the teacher's training differs from the students', such as epochs=20 weight_decay=0.01; takes the fields of the group
    "training" [none]."""
    teacher_step: int = 0
    """Step of the teacher's training at which it teaches, to stop it early [0: its last]."""
    early_epoch: int = 0
    """Epoch of the teacher's training after which it also teaches, as arm `student_early`, a further student of each network: what
    depends on how well the teacher fits its labels is then seen side by side [0: none; nor is there one where the teacher's
    training is no longer]."""
    control: Literal["auto", "free"] = "auto"
    """What shows how much a network that knows nothing of the teacher seems to exaggerate it: one like the teacher, from another
    seed. Where no one-hot run is like it, `auto` trains one, arm `teacher_twin`, and `free` takes the teacher of the next seed."""
    teacher_from: str = ""
    """Work folder of a finished study whose teachers teach here too, seed by seed, or one for all seeds where it has one; or a run
    in it, such as runs/old/runs/student-seed0, which teaches all seeds. It is copied here, and not trained [empty: none]."""
    teacher_table: Literal["auto", "on", "off"] = "auto"
    """Ask a frozen teacher once for its logits of every view of every training image, of which crops and flips have 162, and look
    them up afterwards: students then cost no more than one-hot training. The same within rounding. auto: on an accelerator, where
    the students take more epochs than there are views and the table fits; not for losses on features, mixed or streamed images."""
    teacher_logits: str = ""
    """A .npz with what a teacher, from any framework, answers to the training examples: logits or log_probabilities [examples,
    classes], or for the top k indices and log_probabilities or probabilities [examples, k]; with ids [examples], or for all of the
    training split in its order; and the same for test_logits, test_ids, ... It needs views that are not random [empty: none]."""

    def __post_init__(self):
        _need(self, "temperature", 0 < self.temperature < math.inf, "a number above 0")
        _need(self, "weight", 0 <= self.weight <= 1, "a number from 0 to 1")
        for name in (
            *self._of("dkd_"),
            *self._of("dist_"),
            *self._of("rkd_"),
            "fitnets_weight",
            "at_weight",
            "crd_weight",
        ):
            _need(self, name, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        _need(self, "at_power", 1 <= self.at_power < math.inf, "a number of at least 1")
        _need(self, "crd_negatives", self.crd_negatives >= 0, "a whole number, 0 for the authors'")
        _need(self, "crd_width", self.crd_width >= 2, "a whole number of at least 2")
        _need(self, "crd_momentum", 0 <= self.crd_momentum < 1, "a number from 0 to below 1")
        _need(self, "crd_temperature", 0 < self.crd_temperature < math.inf, "a number above 0")
        _need(self, "teacher_step", self.teacher_step >= 0, "0 for the last step, or a step of the teacher's training")
        _need(self, "early_epoch", self.early_epoch >= 0, "0 for none, or an epoch of the teacher's training")
        both = bool(self.teacher_from and self.teacher_logits)
        _need(self, "teacher_logits", not both, "none beside --teacher_from, for one teacher")
        given = "teacher_from" if self.teacher_from else "teacher_logits" if self.teacher_logits else ""
        _need(
            self, "teacher_with", not (self.teacher_with and given), f"none beside --{given}, which is not trained here"
        )
        _need(self, "early_epoch", not (self.early_epoch and given), f"0 beside --{given}, which is not trained here")
        _need(self, "early_epoch", not (self.early_epoch and self.teacher_step), "0 beside --teacher_step")
        both = bool(self.teacher_step and self.teacher_logits)
        _need(self, "teacher_step", not both, "0 beside --teacher_logits, which are of one network")
        both = bool(set(loss_names(self.distillation)) & set(FEATURE_LOSSES) and self.teacher_logits)
        _need(self, "distillation", not both, "a loss on logits beside --teacher_logits, which have no features")
        parse_switch(self.switch)
        self._check_losses()

    def _check_losses(self):
        chosen, known = loss_names(self.distillation), get_args(DistillationLoss)
        listed = "one of " + ", ".join(known) + ", or several but auto joined by +, such as kd+crd"
        _need(self, "distillation", set(chosen) <= set(known) and len(set(chosen)) == len(chosen), listed)
        _need(self, "distillation", len(chosen) == 1 or "auto" not in chosen, listed)
        read = {name for loss in chosen for name in self.settings_of(loss)}
        for loss in known:
            for name in self.settings_of(loss):
                default = type(self).__dataclass_fields__[name].default
                meant = name in read or getattr(self, name) == default
                fix = f"--distillation={loss} beside it, for no other loss reads it"
                _need(self, name, meant, fix)
        by_features = [loss for loss in chosen if loss in FEATURE_LOSSES]
        fix = f"one of --distillation={'|'.join(FEATURE_LOSSES)} beside it, for no other loss compares features"
        _need(self, "features", not self.features or bool(by_features), fix)
        whole = all(word.partition(":")[0] and not word.endswith(":") for word in self.features)
        _need(
            self,
            "features",
            whole and len(set(self.features)) == len(self.features),
            "names, or STUDENT:TEACHER, each once",
        )
        trains_head = by_features != chosen or self.weight < 1 or bool(self.switch)
        below = f"less than 1 beside --distillation={self.distillation}, which leaves the student's last layer as it is; pass 0.5"
        _need(self, "weight", trains_head, below)

    def _of(self, prefix):
        return [each.name for each in fields(self) if each.name.startswith(prefix)]

    @property
    def is_teacher_given(self) -> bool:
        """Whether the teacher exists already, so that none is trained."""
        return bool(self.teacher_from or self.teacher_logits)

    def settings_of(self, loss: str) -> dict[str, Any]:
        """Return {name: value} of the settings that one distillation loss alone reads, in the order of the fields.

        A loss on standardised logits reads those of the loss itself; of several joined by `+`, all are returned.
        """
        prefixes = [name.removesuffix("_standardised") + "_" for name in loss_names(loss)]
        return {name: getattr(self, name) for prefix in prefixes for name in self._of(prefix)}


@dataclass(frozen=True)
class Look:
    """What analysis looks at. None of it changes training, so it may be asked for after a study is finished."""

    layers: tuple[str, ...] = ()
    """Layers whose weights are followed along the eigendirections of their inputs [none: the first of each network]."""
    pairs: tuple[tuple[int, int], ...] = ()
    """Pairs of eigendirections to compare beside those fixed by rule, such as 0 8 0 32; 0 is the top. Equal progress is along
    the first of a pair."""
    kernel_examples: int = 0
    """Size of the random part of the training set on which the functions that networks compute are followed along the
    eigenvectors of their tangent kernel [examples; 0: none]."""
    trajectory_examples: int = 1000
    """How many random training examples are followed along training, to see when each is learnt, forgotten and exaggerated
    [examples; 0: none]."""

    def __post_init__(self):
        _need(self, "layers", len(set(self.layers)) == len(self.layers), "each layer once")
        _need(self, "pairs", all(0 <= a != b >= 0 for a, b in self.pairs), "two different directions each, 0 the top")
        enough = self.kernel_examples == 0 or self.kernel_examples >= 2
        _need(self, "kernel_examples", enough, "0 for none, or at least 2")
        enough = self.trajectory_examples == 0 or self.trajectory_examples >= 2
        _need(self, "trajectory_examples", enough, "0 for none, or at least 2")


@dataclass(frozen=True)
class Study:
    """A teacher, the students distilled from it, and the same students without it, over several seeds.

    Attributes:
        data, networks, training, distillation, look: the sections. `training` is that of the students.
    """

    data: Data = field(default_factory=Data)
    networks: Networks = field(default_factory=Networks)
    training: Training = field(default_factory=Training)
    distillation: Distillation = field(default_factory=Distillation)
    look: Look = field(default_factory=Look)
    seeds: int = 1
    """Number of runs of every arm; with two or more, intervals are over seeds."""
    seed: int = 0
    """The first seed; the others follow."""

    def __post_init__(self):
        _need(self, "seeds", 1 <= self.seeds <= MOST_SEEDS, f"a whole number from 1 to {MOST_SEEDS}")
        _need(
            self, "seed", 0 <= self.seed <= 2**32 - self.seeds, "a whole number from 0 to below 2^32, the last seed too"
        )
        both = bool(self.distillation.teacher_with and self.look.kernel_examples)
        _need(self.distillation, "teacher_with", not both, "none beside --kernel_examples")
        _need(self.training, "epochs", self.training.epochs >= 1, "a whole number of at least 1")
        both = bool(self.training.accumulate > 1 and self.look.kernel_examples)
        _need(self.training, "accumulate", not both, "1 beside --kernel_examples, whose theory updates at every step")
        both = bool(self.look.kernel_examples and self.distillation.is_teacher_given)
        _need(
            self.look, "kernel_examples", not both, "0 beside a teacher that was not trained here as the students are"
        )
        both = bool(self.look.kernel_examples and self.distillation.early_epoch)
        _need(self.distillation, "early_epoch", not both, "0 beside --kernel_examples, whose theory knows one teacher")
        if self.distillation.teacher_logits:
            why = "beside --teacher_logits, which have one answer for each example as it is"
            _need(self.training, "augment", self.training.augment == "none", f"none {why}")
            for name in ("mixup", "cutmix"):
                _need(self.training, name, not getattr(self.training, name), f"0 {why}")
        _ = self.teacher_training
        switch, epochs = parse_switch(self.distillation.switch), self.training.epochs
        within = switch is None or switch.epoch <= epochs
        _need(self.distillation, "switch", within, f"an epoch up to {epochs}, the last")

    @classmethod
    def from_flags(cls, **values: Any) -> "Study":
        """Return the study that has these values under their flat names, and defaults elsewhere.

        >>> Study.from_flags(dataset="digits", epochs=3, seeds=2).training.epochs
        3
        """
        return cls().replaced(**values)

    def replaced(self, **values: Any) -> "Study":
        """Return the study with some fields changed, under their flat names.

        >>> Study().replaced(temperature=2.0).distillation.temperature
        2.0

        Raises:
            TypeError: for a name that is no field.
        """
        by_section: dict[str, dict[str, Any]] = {}
        own = {}
        for name, value in values.items():
            if name in SECTION_OF:
                by_section.setdefault(SECTION_OF[name], {})[name] = value
            else:
                own[name] = value
        sections = {name: replace(getattr(self, name), **changes) for name, changes in by_section.items()}
        return replace(self, **sections, **own)

    @cached_property
    def teacher_training(self) -> Training:
        """The teacher's `Training`: the students' with the changes of `teacher_with`.

        Raises:
            BadInput: for a word of `teacher_with` that sets no field of `Training`, or sets it to a bad value.
        """
        words = self.distillation.teacher_with
        try:
            return replace(self.training, **parse_changes(words))
        except BadInput as error:
            raise BadInput(f"--teacher_with={shown(words)}: {error}") from None

    @property
    def distillation_loss(self) -> str:
        """Name of the distillation loss, a key of `losses.DISTILLATION` or several joined by `+`, with `auto` resolved."""
        chosen = self.distillation.distillation
        return chosen if chosen != "auto" else "mse" if self.training.loss == "mse" else "kd"

    def seed_range(self) -> range:
        """The seeds of this study."""
        return range(self.seed, self.seed + self.seeds)

    def identity(self) -> dict[str, Any]:
        """What must agree for two studies to share a work folder: all but the seeds, the control, and what only analysis looks at.

        Data named by its folder is told by its contents, whose fingerprint is on record, wherever it lies now. Of a teacher that
        exists already it is whether there is one; `studies.teachers` sees to it that it is the same, wherever
        it lies now.
        """
        own = {name: value for name, value in to_json(self).items() if SECTION_OF.get(name) != "look"}
        own |= {name: bool(own[name]) for name in ("teacher_from", "teacher_logits")}
        if is_folder(self.data.dataset):
            own["dataset"] = FOLDER
        return {name: value for name, value in own.items() if name not in ("seeds", "seed", "control")}


SECTIONS = {"data": Data, "networks": Networks, "training": Training, "distillation": Distillation, "look": Look}
SECTION_OF = {each.name: section for section, kind in SECTIONS.items() for each in fields(kind)}
FLAGS = {each.name: each for kind in SECTIONS.values() for each in fields(kind)} | {
    each.name: each for each in fields(Study) if each.name not in SECTIONS
}


def _need(section, name, holds, expected):
    if not holds:
        raise BadInput(f"--{name}={shown(getattr(section, name))}: expected {expected}; see --help")


def shown(value: Any) -> str:
    """Return a flag's value as it is typed."""
    return " ".join(map(shown, value)) if isinstance(value, tuple) else str(value)


class Switch(NamedTuple):
    """A change of loss in mid-training.

    Attributes:
        to_kd: True from one-hot labels to distillation; False the other way.
        epoch: epochs completed when it begins.
        ramp: steps that it takes; the last of them is the first with the new loss alone, so 1 is a hard switch.
    """

    to_kd: bool
    epoch: float
    ramp: int


def parse_switch(text: str) -> Switch | None:
    """Return the `Switch` that `--switch` describes, or None where it is empty.

    >>> parse_switch("onehot:kd@50,ramp=1000")
    Switch(to_kd=True, epoch=50.0, ramp=1000)

    Raises:
        BadInput: when it describes none.
    """
    if not text:
        return None
    match = re.fullmatch(r"(onehot:kd|kd:onehot)@([0-9]+(?:\.[0-9]+)?)(?:,ramp=([1-9][0-9]*))?", text)
    if not match:
        raise BadInput(
            f"--switch={text}: expected onehot:kd@EPOCH or kd:onehot@EPOCH, and possibly ,ramp=STEPS of at least 1;"
            " pass one such as --switch=onehot:kd@50,ramp=1000"
        )
    direction, epoch, ramp = match.groups()
    return Switch(direction == "onehot:kd", float(epoch), int(ramp or 1))


def parse_changes(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a `Training` that words such as `epochs=20` set, as {name: value}.

    Raises:
        BadInput: for a word that sets no field, or not to a value of the field's type.
    """
    changes = {}
    known = {each.name: each for each in fields(Training)}
    for word in words:
        name, _, value = word.partition("=")
        try:
            changes[name] = _parsed(known[name].type, value)
        except (KeyError, ValueError):
            expected = f"one of {', '.join(known)} and its value"
            raise BadInput(f"{word}: expected {expected}; pass epochs=20 or such") from None
    return changes


def _parsed(kind: Any, text: str) -> Any:
    """The value of a field's type that a word spells out; a tuple's parts are separated by spaces or colons."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(text)
        return text
    if get_origin(kind) is tuple:
        return tuple(_parsed(get_args(kind)[0], part) for part in text.replace(":", " ").split())
    return kind(text)


def to_json(study: Study) -> dict[str, Any]:
    """Return the study as plain JSON values under their flat names, as `study.json` has it."""
    flat = {}
    for section in SECTIONS:
        part = getattr(study, section)
        flat |= {each.name: _lists(getattr(part, each.name)) for each in fields(part)}
    return flat | {"seeds": study.seeds, "seed": study.seed}


def _lists(value):
    return [_lists(part) for part in value] if isinstance(value, tuple) else value


def _tuples(value):
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def from_json(values: Mapping[str, Any]) -> Study:
    """Return the `Study` that `to_json` wrote, also an earlier version of it.

    Raises:
        BadInput: for keys that this version does not know: a newer one wrote them, and leaving them out would be another study; and
            for values of another type than the field's, which no version wrote.
    """
    fix = "restore the file, or start in another --workdir"
    if not isinstance(values, Mapping):
        raise BadInput(f"study.json: expected the settings of a study, found {type(values).__name__}; {fix}")
    unknown = sorted(set(values) - set(FLAGS))
    if unknown:
        raise BadInput(
            f"study.json: expected the settings of kd_jax {version('kd_jax')}, found also {', '.join(unknown)}; a newer version"
            " wrote it, install that one"
        )
    flat = {name: _tuples(value) for name, value in values.items()}
    for name, value in flat.items():
        if not _fits(FLAGS[name].type, value):
            kind = getattr(FLAGS[name].type, "__name__", str(FLAGS[name].type))
            found = repr(values[name])[:60]
            raise BadInput(f"study.json: {name}: expected {kind}, found {found}; {fix}")
    return Study.from_flags(**flat)


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value is of a field's type; a whole number is a float too."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if rest == [...]:
            return all(_fits(first, part) for part in value)
        return len(value) == 1 + len(rest) and all(map(_fits, (first, *rest), value))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
