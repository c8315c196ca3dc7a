"""`kd-jax export`: a network of a study for other programs."""

from pathlib import Path
from typing import Literal

import tyro


def export(
    workdir: tyro.conf.Positional[Path],
    run: str,
    format: Literal["safetensors", "hf", "stablehlo"] = "safetensors",
    step: int | None = None,
    out: Path | None = None,
    data_dir: Path | None = None,
    tiny_imagenet_dir: Path | None = None,
    workers: int = 0,
):
    """Write a network of a study for other programs, with a card that says how good it is and where it is from.

    Args:
        workdir: Work folder of a study.
        run: Which run, such as student-seed0.
        format: safetensors, the weights under their own names; hf, a RoBERTa that Hugging Face's transformers opens; stablehlo, a
            program from stored examples to logits that JAX runs without kd_jax.
        step: Step of its trajectory [default: the last].
        out: Folder to write; it must not be there yet [default: WORKDIR/export/RUN-FORMAT].
        data_dir: Folder of prepared TFDS sets; the card is measured on the test split [default: where the study found its data].
        tiny_imagenet_dir: Folder of Tiny-ImageNet, for a study of it [default: where the study found it].
        workers: Processes that read and decode a streamed set [0: threads of this process].
    """
    from kd_jax.errors import BadInput
    from kd_jax.studies import export as exporting
    from kd_jax.studies import sweep
    from kd_jax.train import devices

    devices.select("cpu")
    if sweep.is_sweep(workdir):
        variants = ", ".join(variant["folder"] for variant in sweep.read(workdir)["variants"])
        raise BadInput(f"{workdir}: expected a single study, this is a sweep; name one of its folders: {variants}")
    made = exporting.export(
        workdir, run, format, step, out and out.expanduser(), tiny_imagenet_dir or data_dir, workers
    )
    print(f"{format}: {made}")
    print(f"card: {made / 'README.md'}")
