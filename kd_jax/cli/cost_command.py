"""`kd-jax cost`: what the networks of a study cost to run on this machine."""

from pathlib import Path
from typing import Literal

import tyro


def cost(
    workdir: tyro.conf.Positional[Path],
    platform: Literal["auto", "cpu", "gpu", "tpu"] = "auto",
    data_dir: Path | None = None,
    tiny_imagenet_dir: Path | None = None,
    workers: int = 0,
):
    """Measure what teacher and students cost to run here: parameters, operations, bytes, latency, throughput.

    Args:
        workdir: Work folder of an analysed study, or of a sweep.
        platform: Kind of device to run on.
        data_dir: Folder of prepared TFDS sets [default: where the study found its data].
        tiny_imagenet_dir: Folder of Tiny-ImageNet, for a study of it [default: where the study found it].
        workers: Processes that read and decode a streamed set [0: threads of this process].
    """
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import cost as costs
    from kd_jax.studies import sweep
    from kd_jax.train import devices

    device, folder = devices.select(platform)[0], tiny_imagenet_dir or data_dir
    load = data.Loader().load
    folders = [workdir]
    if sweep.is_sweep(workdir):
        folders = [workdir / variant["folder"] for variant in sweep.read(workdir)["variants"]]
    for each in folders:
        if len(folders) > 1:
            print(f"{each.name}:")
        costs.cost(each, device, folder, workers, load)
        terminal.cost(each)
    print(f"report: {workdir / 'analysis' / 'report.html'}")
