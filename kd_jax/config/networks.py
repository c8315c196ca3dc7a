"""Which networks a study trains, where they start, and in which arithmetic."""

from dataclasses import dataclass
from typing import Annotated, Literal

from kd_jax.config.allowed import Allowed, check, once

ONE_OR_MORE = Allowed(bool, "at least one network")


@dataclass(frozen=True)
class Networks:
    """Which networks are trained, where they start, and in which arithmetic."""

    teacher: str = "resnet56"
    """Network of the teacher: linear, features (features_5000: linear on fixed random ones), mlp (mlp_256x256 sets the widths),
    balanced (balanced_512: an mlp_512 that starts at the zero function), cnn (cnn_32x64), resnet8, 20, 32, 44, 56, 110;
    resnet18, resnet50, mobilenetv2, and for small images resnet18_small, resnet50_small, mobilenetv2_small. For texts
    roberta_base, roberta_medium, roberta_small, roberta_tiny, or roberta_2x128 (layers x width). Or your own:
    package.module:Net, of flax linen or NNX."""
    student: Annotated[tuple[str, ...], ONE_OR_MORE, once("network")] = ("resnet56",)
    """Networks of the students, one or more; each is trained with the teacher and, as arm `onehot`, without."""
    nulls: Annotated[tuple[Literal["order", "init", "slower", "faster"], ...], once("null")] = ()
    """Further one-hot runs of the first student's network, with which its eigendirections are compared: in another data order, from
    another initialisation, at a quarter and at four times the learning rate."""
    init_from: Annotated[tuple[str, ...], once("folder")] = ()
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
        check(self)
