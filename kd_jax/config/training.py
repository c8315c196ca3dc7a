"""How a network is trained on its labels."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from kd_jax.config.allowed import ABOVE_0, BELOW_1, SHARE, Allowed, at_least, check, need
from kd_jax.errors import BadInput

EPOCHS = Allowed(
    lambda epochs: epochs >= 0, "a whole number of at least 1"
)  # 0 is for the teacher alone; `Study` refuses it else
SHARES = Allowed(lambda shares: all(0 <= share <= 1 for share in shares), "shares of the run, each from 0 to 1")
RISING = Allowed(lambda shares: list(shares) == sorted(set(shares)), "shares in rising order")
CHECKPOINTS = Allowed(lambda count: count >= 2, "at least 2 (the first and the last step)")


@dataclass(frozen=True)
class Training:
    """How a network is trained on its labels: views, optimiser, length. Students and teacher can have one each."""

    epochs: Annotated[int, EPOCHS] = 450
    """Length of each training run [epochs]. Warm-up and decay below are shares of it, so they scale with it. 0 is for the teacher
    alone: --teacher_with epochs=0 beside --init_from takes it as it is."""
    batch_size: Annotated[int, at_least(1, "a whole number")] = 1024
    """Examples in a training step, over all devices."""
    augment: Literal["none", "crop", "crop_flip", "resized_crop_flip"] = "none"
    """Random views while training: crops of the image padded by 4 pixels, and left-right flips. For a streamed set
    `resized_crop_flip`: crops of 8 to 100 % of the area, resized, and flips; without it, the centre of the resized image."""
    learning_rate: Annotated[float, ABOVE_0] = 1.0
    """Peak learning rate."""
    warmup: Annotated[float, SHARE] = 0.0
    """Linear warm-up from 0 to the peak [share of all steps]."""
    decay: Literal["step", "linear", "cosine"] = "step"
    """How the learning rate falls after warm-up: at the points of `decay_at`, linearly to 0 at the last step, or along half a
    cosine to 0 at the last step."""
    decay_at: Annotated[tuple[float, ...], SHARES, RISING] = ()
    """When the learning rate is multiplied by `decay_by` [shares of all steps]."""
    decay_by: Annotated[float, at_least(0)] = 0.1
    """Factor of the learning rate at each point of `decay_at`."""
    optimizer: Literal["nesterov", "sgd", "adam", "adamw"] = "nesterov"
    """SGD with Nesterov's momentum, SGD with plain momentum, Adam, whose first-moment decay is `momentum`, or AdamW, which differs
    from Adam in its weight decay."""
    momentum: Annotated[float, BELOW_1] = 0.9
    """Share of the last update that SGD carries into the next [0: none]."""
    weight_decay: Annotated[float, at_least(0)] = 0.0
    """Coefficient of the L2 penalty's gradient, which is added before momentum. For adamw: the share of the weights, times the
    learning rate, that is subtracted beside Adam's step."""
    decay_on: Literal["kernels", "all"] = "all"
    """Which parameters decay: `kernels` leaves out biases and normalisation."""
    gradient_clip: Annotated[float, at_least(0)] = 0.0
    """Largest norm of the whole gradient; a larger one is scaled down to it [0: no limit]."""
    accumulate: Annotated[int, at_least(1, "a whole number of batches")] = 1
    """Batches whose gradients are averaged before the weights are updated once. A step is still a batch: epochs, checkpoints and
    schedules count batches, and the running statistics of normalisation layers move with each [batches; 1: every batch]."""
    ema: Annotated[float, BELOW_1] = 0.0
    """Keep an exponential moving average of the weights beside them, which starts as a copy of the first ones: after every update
    average = ema * average + (1 - ema) * weights. It changes no training; its accuracy is reported beside that of the last weights
    [0: none; else below 1, such as 0.999]."""
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    """Loss on the labels: cross-entropy, or half the squared distance of the logits from the one-hot label, which is what the
    paper's theorem is about. There the effect needs an early-stopped teacher."""
    label_smoothing: Annotated[float, BELOW_1] = 0.0
    """Share of each training label that is spread evenly over all classes [0 to below 1]."""
    mixup: Annotated[float, at_least(0)] = 0.0
    """Blend each training image and its label with another's; the share is drawn from Beta(alpha, alpha) [alpha; 0: off]. Training
    accuracy then counts the label with the larger share."""
    cutmix: Annotated[float, at_least(0)] = 0.0
    """Paste a box of another image into each training image, and share the label by area, drawn from Beta(alpha, alpha) [alpha;
    0: off]."""
    dropout: Annotated[float, BELOW_1] = 0.0
    """Share of features that is dropped while training, in networks for texts, and your own that take it [0 to below 1]."""
    checkpoints: Annotated[int, CHECKPOINTS] = 50
    """Number of checkpoints kept per run, about; half spaced geometrically, half evenly, first and last step included."""

    def __post_init__(self):
        check(self)
        need(self, "decay_at", not self.decay_at or self.decay == "step", f"none beside --decay={self.decay}")
        both = bool(self.mixup and self.cutmix)
        need(self, "cutmix", not both, f"0 beside --mixup={self.mixup}, for one of the two mixes")


def parse_changes(words: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of a `Training` that words such as `epochs=20` set, as {name: value}.

    Raises:
        BadInput: for a word that sets no field, or not to a value of the field's type.
    """
    changes = {}
    known = get_type_hints(Training)
    for word in words:
        name, _, value = word.partition("=")
        try:
            changes[name] = _parsed(known[name], value)
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
