"""What a study is: frozen dataclasses that refuse a bad value at once, by name.

A `Study` is everything that decides the numbers that come out. Where it runs (platform, folders) is not part of it; see
`kd_jax.cli.Session`. The comments below the fields are the program's `--help`.
"""

import math
import platform
import re
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from typing import Literal, NamedTuple

PACKAGES = (
    "kd_jax",
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


def versions():
    """{package: version} of Python and of what decides a number."""
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


class BadInput(Exception):
    """Something the user asked for cannot be done; the message is one line: the value, what was expected, the fix."""


LOOKED_AT = (
    "layers",
    "pairs",
    "kernel_examples",
)  # fields of a `Study` that change what analysis looks at, and no training


@dataclass(frozen=True)
class Study:
    """A teacher, the students distilled from it, and the same students without it, over several seeds."""

    dataset: str = "cifar10"
    """Data: `digits` (embedded, no download), `tiny_imagenet` (from --tiny_imagenet_dir), any TFDS set of classified images or
    texts by name (cifar10, mnist, emnist/letters, glue/sst2, imdb_reviews, ...), or the folder of a prepared one. One whose images
    have many sizes (imagenet2012, food101, ...) is streamed from disk."""
    train_examples: int = 0
    """Size of the fixed random part of the training split that is used [examples; 0: all]."""
    test_examples: int = 0
    """Size of the fixed random part of the test split that is used [examples; 0: all]."""
    label_noise: float = 0.0
    """Share of training labels replaced by another class, drawn uniformly [0 to 1]."""
    noise_seed: int = 0
    """Which draw of the label noise; the same for every seed of the study."""
    augment: Literal["none", "crop", "crop_flip", "resized_crop_flip"] = "none"
    """Random views while training: 4-pixel-padded crops, and left-right flips. For a streamed set: crops of 8 to 100 % of the area,
    resized, and flips; its other views are the centre of the resized image."""
    image_size: int = 0
    """Side of the views of a streamed set [pixels; 0: 224]."""
    mixup: float = 0.0
    """Blend each training image and its label with another's; its share is drawn from Beta(alpha, alpha) [alpha; 0: off]. Training
    accuracy then counts the label with the larger share."""
    cutmix: float = 0.0
    """Paste a box of another image into each training image, and share the label by area, drawn from Beta(alpha, alpha) [alpha;
    0: off]."""
    label_smoothing: float = 0.0
    """Share of each training label that is spread evenly over all classes [0 to below 1]."""
    max_length: int = 128
    """Length of a text that is read [tokens, those that RoBERTa puts around it included]; longer ones are cut and counted."""
    vocabulary: int = 8000
    """Size of the byte-level BPE that is trained on the training texts where no other tokenizer is given [tokens, at most]."""
    tokenizer: str = ""
    """A tokenizer.json to use instead [empty: that of the pre-trained weights, or else one is trained]."""

    teacher: str = "resnet56"
    """Network of the teacher: linear, features (features_5000: linear on fixed random ones), mlp (mlp_256x256 sets the widths),
    balanced (balanced_512: an mlp_512 that starts at the zero function), cnn (cnn_32x64), resnet8, 20, 32, 44, 56, 110;
    resnet18, resnet50, mobilenetv2, and for small images resnet18_small, resnet50_small, mobilenetv2_small. For texts
    roberta_base, roberta_medium, roberta_small, roberta_tiny, or roberta_2x128 (layers x width)."""
    student: tuple[str, ...] = ("resnet56",)
    """Networks of the students, one or more; each is trained with the teacher and, as arm `onehot`, without."""
    init_from: tuple[str, ...] = ()
    """Folders of pre-trained RoBERTa weights (config.json, model.safetensors, tokenizer.json). Each is for the networks of its
    layers and width; others, and the new head of all, start at random [none: all do]."""
    dropout: float = 0.0
    """Share of features that is dropped while training, in networks for texts [0 to below 1]."""
    nulls: tuple[Literal["order", "init", "slower", "faster"], ...] = ()
    """Further one-hot runs of the first student's network, to hold its eigendirections against: in another data order, from
    another initialisation, at a quarter and at four times the learning rate."""
    temperature: float = 4.0
    """Softmax temperature of the distillation loss [> 0]."""
    weight: float = 1.0
    """Weight of the distillation loss; the one-hot loss has the rest [0 to 1]."""
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    """What labels and teacher are matched by: cross-entropy, or half the squared distance of the logits from the one-hot label
    and from the teacher's logits, without a temperature: what the paper's theorem is about. There the effect needs an
    early-stopped teacher."""
    teacher_with: tuple[str, ...] = ()
    """What the teacher's training does otherwise than the students', such as epochs=20 weight_decay=0.01; takes epochs, batch_size,
    learning_rate, warmup, weight_decay, momentum, label_smoothing, mixup, cutmix [none]."""
    teacher_step: int = 0
    """Step of the teacher's training at which it teaches, to stop it early [0: its last]."""
    switch: str = ""
    """Change of the students' loss in mid-training: onehot:kd@50 after 50 epochs, at once; kd:onehot@100,ramp=1000 over the 1000
    steps that follow. `kd` is the mix that `weight` sets [empty: none]."""

    epochs: int = 450
    """Length of each training run [epochs]. Warm-up and decay below are shares of it, so they scale."""
    batch_size: int = 1024
    """Examples in a training step, over all devices."""
    learning_rate: float = 1.0
    """Peak learning rate."""
    warmup: float = 0.0
    """Linear warm-up from 0 to the peak [share of all steps]."""
    decay: Literal["step", "linear"] = "step"
    """What the learning rate does after warm-up: falls at the points of `decay_at`, or linearly to 0 at the last step."""
    decay_at: tuple[float, ...] = ()
    """When the learning rate is multiplied by `decay_by` [shares of all steps]."""
    decay_by: float = 0.1
    """Factor of the learning rate at each point of `decay_at`."""
    momentum: float = 0.9
    """Share of the last update that SGD carries into the next [0: none]."""
    optimizer: Literal["nesterov", "sgd", "adam", "adamw"] = "nesterov"
    """SGD with Nesterov's momentum or with plain momentum, or Adam, whose first-moment decay is `momentum`, or AdamW, which is
    Adam but for its weight decay."""
    gradient_clip: float = 0.0
    """Largest norm of the whole gradient; a larger one is scaled down to it [0: any]."""
    weight_decay: float = 0.0
    """Coefficient of the L2 penalty's gradient, added before momentum; for adamw of the weights, taken off them beside
    Adam's step, both times the learning rate."""
    decay_on: Literal["kernels", "all"] = "all"
    """Which parameters decay: `kernels` leaves out biases and normalisation."""
    precision: Literal["float32", "bfloat16", "float64"] = "float32"
    """Arithmetic of the networks. bfloat16 keeps float32 parameters, losses and statistics; float64 is for comparing
    topologies."""
    checkpoints: int = 50
    """Checkpoints kept per run, about; half spaced geometrically, half evenly, first and last step included."""
    layers: tuple[str, ...] = ()
    """Layers whose weights are followed along the eigendirections of their inputs [none: the first of each network]."""
    pairs: tuple[tuple[int, int], ...] = ()
    """Pairs of eigendirections to compare beside those fixed by rule, such as 0 8 0 32; 0 is the top. Equal progress is along
    the first of a pair."""
    kernel_examples: int = 0
    """Size of the random part of the training set on which the functions that networks compute are followed along the
    eigenvectors of their tangent kernel [examples; 0: none]."""

    seeds: int = 1
    """Runs of every arm; with two or more, intervals are over seeds."""
    seed: int = 0
    """The first seed; the others follow."""

    def __post_init__(self):
        _need(self, "student", bool(self.student), "at least one network")
        _need(self, "student", len(set(self.student)) == len(self.student), "each network once")
        _need(self, "nulls", len(set(self.nulls)) == len(self.nulls), "each null once")
        _need(self, "temperature", 0 < self.temperature < math.inf, "a number above 0")
        for name in ("weight", "label_noise", "warmup"):
            _need(self, name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        _need(self, "decay_at", all(0 <= share <= 1 for share in self.decay_at), "shares of the run, each from 0 to 1")
        _need(self, "decay_at", list(self.decay_at) == sorted(set(self.decay_at)), "shares in rising order")
        for name in ("epochs", "batch_size", "seeds"):
            _need(self, name, getattr(self, name) >= 1, "a whole number of at least 1")
        _need(self, "checkpoints", self.checkpoints >= 2, "at least 2 (the first and the last step)")
        _need(self, "teacher_step", self.teacher_step >= 0, "0 for the last step, or a step of the teacher's training")
        _need(self, "teacher_with", not self.teacher_with or not self.kernel_examples, "none beside --kernel_examples")
        if self.teacher_with:
            try:
                replace(self, teacher_with=(), switch="", **parse_changes(self.teacher_with))
            except BadInput as error:
                raise BadInput(f"--teacher_with={shown(self.teacher_with)}: {error}") from None
        switch = parse_switch(self.switch)
        if switch is not None:
            _need(self, "switch", switch.epoch <= self.epochs, f"an epoch up to {self.epochs}, the last")
        _need(self, "layers", len(set(self.layers)) == len(self.layers), "each layer once")
        _need(self, "pairs", all(0 <= a != b >= 0 for a, b in self.pairs), "two different directions each, 0 the top")
        _need(
            self, "kernel_examples", self.kernel_examples == 0 or self.kernel_examples >= 2, "0 for none, or at least 2"
        )
        _need(self, "image_size", self.image_size == 0 or self.image_size >= 8, "0 for 224, or at least 8")
        for name in ("train_examples", "test_examples"):
            _need(self, name, getattr(self, name) == 0 or getattr(self, name) >= 2, "0 for all, or at least 2")
        for name in ("seed", "noise_seed"):
            _need(self, name, getattr(self, name) >= 0, "a whole number of at least 0")
        _need(self, "learning_rate", 0 < self.learning_rate < math.inf, "a number above 0")
        _need(self, "decay_at", not (self.decay_at and self.decay == "linear"), "none beside --decay=linear")
        _need(self, "max_length", 8 <= self.max_length <= 512, "a whole number of tokens from 8 to 512")
        _need(self, "vocabulary", self.vocabulary >= 300, "at least 300, for the bytes, special tokens and some pieces")
        _need(self, "init_from", len(set(self.init_from)) == len(self.init_from), "each folder once")
        for name in ("decay_by", "weight_decay", "gradient_clip", "mixup", "cutmix"):
            _need(self, name, 0 <= getattr(self, name) < math.inf, "a number of at least 0")
        _need(
            self, "cutmix", not (self.mixup and self.cutmix), f"0 beside --mixup={self.mixup}, for one of the two mixes"
        )
        for name in ("momentum", "label_smoothing", "dropout"):
            _need(self, name, 0 <= getattr(self, name) < 1, "a number from 0 to below 1")

    def seed_range(self):
        """The seeds of this study."""
        return range(self.seed, self.seed + self.seeds)

    def identity(self):
        """What must agree for two studies to share a work folder: all but which seeds, and what only analysis looks at."""
        return {name: value for name, value in to_json(self).items() if name not in ("seeds", "seed", *LOOKED_AT)}


def _need(study, name, holds, expected):
    if not holds:
        value = getattr(study, name)
        raise BadInput(f"--{name}={shown(value)}: expected {expected}; see --help")


def shown(value):
    """A flag's value as it is typed."""
    return " ".join(map(shown, value)) if isinstance(value, tuple) else str(value)


class Switch(NamedTuple):
    """A change of loss in mid-training.

    Attributes:
        to_kd: whether from one-hot labels to distillation; else the other way.
        epoch: epochs completed when it begins.
        ramp: steps that it takes; the last of them is the first with the new loss alone, so 1 is a hard switch.
    """

    to_kd: bool
    epoch: float
    ramp: int


def parse_switch(text):
    """The `Switch` that `--switch` describes; None where it is empty.

    Raises:
        BadInput: when it describes none.
    """
    if not text:
        return None
    found = re.fullmatch(r"(onehot:kd|kd:onehot)@([0-9]+(?:\.[0-9]+)?)(?:,ramp=([1-9][0-9]*))?", text)
    if not found:
        raise BadInput(
            f"--switch={text}: expected onehot:kd@EPOCH or kd:onehot@EPOCH, and possibly ,ramp=STEPS of at least 1;"
            " pass one such as --switch=onehot:kd@50,ramp=1000"
        )
    direction, epoch, ramp = found.groups()
    return Switch(direction == "onehot:kd", float(epoch), int(ramp or 1))


CHANGES = {
    "epochs": int,
    "batch_size": int,
    **dict.fromkeys(
        ("learning_rate", "warmup", "weight_decay", "momentum", "label_smoothing", "mixup", "cutmix"), float
    ),
}


def parse_changes(words):
    """The fields of a `Study` that words such as `epochs=20` set, as {name: value}.

    Raises:
        BadInput: when one sets none of `CHANGES`.
    """
    changes = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            changes[name] = CHANGES[name](value)
        except (KeyError, ValueError):
            raise BadInput(
                f"{word}: expected one of {', '.join(CHANGES)} and its value; pass epochs=20 or such"
            ) from None
    return changes


def to_json(study):
    """The study as plain JSON values."""
    return {name: _lists(value) for name, value in asdict(study).items()}


def _lists(value):
    return [_lists(part) for part in value] if isinstance(value, tuple) else value


def _tuples(value):
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def from_json(values):
    """The `Study` that `to_json` wrote; keys it does not know are ignored, so newer folders open too."""
    known = {field.name for field in fields(Study)}
    return Study(**{name: _tuples(value) for name, value in values.items() if name in known})


@dataclass(frozen=True)
class Arm:
    """One kind of run in a study; with a seed it is a run.

    Attributes:
        name: the `ARM` of the run folder.
        model: name of the network.
        teacher: name of the arm it is distilled from; None for a run on one-hot labels.
        baseline: the arm that differs from this one only by having no teacher; None where there is none.
        init, order: which random stream of the seed gives the initialisation, and which batches and views. A student and
            its one-hot twin share theirs, so they start equal and see the same; the teacher has its own, so a one-hot twin
            of the teacher's architecture is what another seed of the teacher would be.
        rate: factor of the study's learning rate.
        null_of: the one-hot arm that this one repeats with a difference that is not a teacher; None for all others.
    """

    name: str
    model: str
    teacher: str | None = None
    baseline: str | None = None
    init: int = 1
    order: int = 1
    rate: float = 1.0
    null_of: str | None = None


NULLS = {"order": {"order": 2}, "init": {"init": 2}, "slower": {"rate": 0.25}, "faster": {"rate": 4.0}}


def arms(study):
    """The arms of a study in the order in which they can run: the teacher, then each student's one-hot twin and it.

    The first student's arms are `onehot` and `student`; a further student's carry its network's name. Nulls repeat the first.
    """
    listed = [Arm("teacher", study.teacher, init=0, order=0)]
    for index, model in enumerate(study.student):
        suffix = f"_{model}" if index else ""
        onehot, student = f"onehot{suffix}", f"student{suffix}"
        listed += [Arm(onehot, model), Arm(student, model, teacher="teacher", baseline=onehot)]
    for null in study.nulls:
        listed.append(Arm(f"onehot_{null}", study.student[0], null_of="onehot", **NULLS[null]))
    return tuple(listed)


def as_trained(study, arm):
    """The `Study` whose optimiser, batches and epochs are those of one of its arms."""
    changes = parse_changes(study.teacher_with) if arm.name == "teacher" else {}
    # A switch is the students': the epochs of a teacher may be fewer.
    own = replace(study, teacher_with=(), switch="", **changes) if changes else study
    return replace(own, learning_rate=arm.rate * own.learning_rate)


class Length(NamedTuple):
    """How long a run is, in steps.

    Attributes:
        steps_per_epoch, total_steps: of its training.
        checkpoint_steps: steps of its trajectory, rising.
    """

    steps_per_epoch: int
    total_steps: int
    checkpoint_steps: list


def length(study, arm, train_examples, also=()):
    """The `Length` of the runs of an arm.

    Where a loss is switched there is a checkpoint before and one after, and one where an early-stopped teacher teaches.

    Args:
        study: a `Study`.
        arm: one of its arms.
        train_examples: size of the training set.
        also: steps for further checkpoints; those beyond the end are left out.
    """
    own = as_trained(study, arm)
    steps_per_epoch = train_examples // own.batch_size
    total = steps_per_epoch * own.epochs
    also = {*also, study.teacher_step} if arm.name == "teacher" else set(also)
    switch = parse_switch(study.switch)
    if switch is not None and arm.teacher:
        begins = round(switch.epoch * steps_per_epoch)
        also |= {begins, begins + switch.ramp}
    also = {step for step in also if step <= total}
    return Length(steps_per_epoch, total, checkpoint_steps(total, study.checkpoints, also))


def run_name(arm, seed):
    """The folder name of a run."""
    return f"{arm.name}-seed{seed}"


def checkpoint_steps(total_steps, count, also=()):
    """Steps at which the trajectory is kept: 0, `total_steps`, about `count` - 2 between, and `also`.

    Half are spaced geometrically, where a network changes fast, and half evenly. Near step 0 the geometric ones coincide on
    whole numbers, so fewer than `count` may come out.
    """
    geometric = {round(total_steps ** (i / (count // 2))) for i in range(count // 2 + 1)}
    even_count = count - count // 2
    even = {round(total_steps * i / even_count) for i in range(even_count + 1)}
    return sorted({0, total_steps, *also} | geometric | even)
