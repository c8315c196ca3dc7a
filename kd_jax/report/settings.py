"""The settings of a study in words: no number or empty text that stands for something else is shown as a value."""

from collections.abc import Mapping
from typing import Any

from kd_jax.config import shown

# {field: {value that stands for something: what it stands for}}; an empty text or list that is not here stands for "none".
MEANINGS: Mapping[str, Mapping[Any, str]] = {
    "train_examples": {0: "all"},
    "test_examples": {0: "all"},
    "image_size": {0: "as they are (224 for a streamed set)"},
    "tokenizer": {"": "that of the weights, or one trained here"},
    "label": {"": "the supervised one, or label"},
    "text": {(): "by their names"},
    "label_noise": {0: "none"},
    "init_from": {(): "none: all start at random"},
    "warmup": {0: "none"},
    "momentum": {0: "none"},
    "weight_decay": {0: "none"},
    "gradient_clip": {0: "no limit"},
    "accumulate": {1: "none: an update after every batch"},
    "ema": {0: "none"},
    "label_smoothing": {0: "none"},
    "mixup": {0: "off"},
    "cutmix": {0: "off"},
    "dropout": {0: "none"},
    "distillation": {"auto": "that of the loss on the labels: kd, or mse beside mse"},
    "features": {(): "those that the loss takes by default"},
    "crd_negatives": {0: "the authors' 16384, or as many as there are training examples"},
    "teacher_with": {(): "none: as the students"},
    "teacher_step": {0: "its last"},
    "early_epoch": {0: "none"},
    "control": {
        "auto": "a run like the teacher; where there is none, one is trained",
        "free": "a run like the teacher; where there is none, the teacher of the next seed",
    },
    "teacher_from": {"": "none: it is trained here"},
    "layers": {(): "the first of each network"},
    "pairs": {(): "none beside those fixed by rule"},
    "kernel_examples": {0: "none"},
    "trajectory_examples": {0: "none"},
}


def said(name: str, value: Any) -> str:
    """Return the value of a field in words.

    >>> said("teacher_step", 0), said("teacher_step", 200), said("switch", ""), said("nulls", ["order", "init"])
    ('its last', '200', 'none', 'order init')

    Args:
        name: the field, under its flat name.
        value: its value, also as JSON has it.
    """
    if isinstance(value, list):
        value = tuple(tuple(each) if isinstance(each, list) else each for each in value)
    meanings = MEANINGS.get(name, {})
    if not isinstance(value, bool) and value in meanings:
        return meanings[value]
    if value is None or value in ("", ()):
        return "none"
    return f"{value:g}" if isinstance(value, float) else shown(value)
