"""Where a study runs and what is done with it: the flags that change no number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from kd_jax.workdir import records

Platform = Literal["auto", "cpu", "gpu", "tpu"]
# A path as it was typed: `Path` makes the current folder of an empty text, and a folder of `gs://bucket`.
Folder = Annotated[str, tyro.conf.arg(metavar="PATH")]


@dataclass(frozen=True)
class Session:
    """Where a study runs; none of it changes the numbers."""

    platform: Platform = "auto"
    """Kind of device to train on; auto takes the best there is. All local devices of that kind share each batch."""
    workdir: Folder | None = None
    """Work folder, made if absent [default: runs/NAME of the study]. The same command again resumes it."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets [default: $TFDS_DATA_DIR, else ~/tensorflow_datasets]."""
    small: bool = False
    """A reduced run, within a minute on two CPU cores; flags given beside it still count."""
    quiet: bool = False
    """Print the answer and errors alone: no progress, no tables."""


@dataclass(frozen=True)
class TrainingSession(Session):
    """Where a study runs, and in which variants; none of it changes the numbers of one variant."""

    config: Path | None = None
    """Settings to start from: a file of flag names and values, JSON or YAML, or the study.json of a work folder. Flags given beside
    it still count."""
    log: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Trackers to report every epoch to, besides metrics.jsonl; tensorboard writes to WORKDIR/tensorboard [none]."""
    on_nan: Literal["stop", "skip_seed"] = "stop"
    """What to do where a loss or a weight becomes NaN or infinite: stop, or give up that seed in every arm, say so, and go on
    with the others."""
    tiny_imagenet_dir: Path | None = None
    """Folder of Tiny-ImageNet as its makers publish it [default: $TINY_IMAGENET_DIR, else DATA_DIR/tiny-imagenet-200]."""
    workers: int = 0
    """Processes that read and decode a streamed set, as many as there are cores to spare [0: threads of this process]."""
    list: bool = False
    """Print the names of the runs that are still to do, one a line, those that wait for a teacher last, and do nothing else."""
    ready: bool = False
    """Beside --list, leave out the runs that wait for a teacher."""
    only: str = ""
    """Train this run of those that --list prints, such as student-seed0, and analyse nothing. Several programs may do so at once in
    one work folder, on one machine or many; when all are done, the same command without --only analyses them [all runs]."""
    sweep: tuple[str, ...] = ()
    """Run the study for every combination of values, such as temperature=1,2,4 weight=0.5,1: one work folder with a study for
    each, one table. A value is what one would type after the flag; none is nothing. What is equal is trained once."""
    distributed: bool = False
    """Train together with the other processes of this job, each started with this command; on a TPU pod, under SLURM, GKE and Open
    MPI they find each other."""
    coordinator: str = ""
    """HOST:PORT of process 0, where nobody else says which processes there are; beside --distributed."""
    num_processes: int | None = None
    """How many processes train together; beside --coordinator."""
    process_id: int | None = None
    """The number of this process, from 0; beside --coordinator. Process 0 alone writes the work folder and prints."""
    coordinator_timeout: int = 300
    """Seconds within which all processes must have come."""
    seeds_at_once: Literal["auto", "on", "off"] = "auto"
    """Whether seeds are trained at the same time. auto: where there are several devices, each on devices of its own; several on
    the same GPU or TPU as one program, for networks without convolutions. on: as one program on a CPU and for convolutions too.
    off: one after the other, each on all devices. With --log always so."""
    combine: Literal["all", "one_by_one"] = "all"
    """How --sweep combines its fields: all values of each with all of the others, or one changed at a time, from the study that
    the other flags describe."""
    variant_figures: bool = False
    """Draw the figures of every variant of a sweep too. Otherwise kd-jax report WORKDIR/VARIANT draws those of one; its numbers,
    tables and charts are there in any case."""


def workdir_of(session: Session, name: str) -> Path:
    """Return the work folder of a study; see `records.check_folder` for what is refused."""
    workdir = (Path("runs") / name if session.workdir is None else Path(session.workdir)).expanduser()
    records.check_folder("workdir", str(session.workdir), workdir)
    return workdir
