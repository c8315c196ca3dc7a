"""`kd-jax plan`: what a study will take on accelerators that are not here."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from kd_jax.cli.guard import guarded, one_line_errors
from kd_jax.cli.session import TrainingSession
from kd_jax.cli.study import study_of, value_of
from kd_jax.config import Study
from kd_jax.errors import BadInput
from kd_jax.recipes.studies import STUDIES

PROG = "kd-jax plan"
IMAGES, PHOTOGRAPHS, TEXTS = "cifar_kd", "imagenet_kd", "text_kd"  # the study that is meant where none is named


def plan():
    """Say what a study will take on accelerators that are not here: kd-jax plan [STUDY] [flags of the study] --topology=T."""


@dataclass(frozen=True)
class Asked:
    """What a study will take on accelerators that are not here: kd-jax plan [STUDY] [flags of the study] --topology=T.

    Memory, the time of a step and what limits it, hours for all runs, checkpoints; from the compiler of the accelerator, which runs
    without it. Nothing is trained, and of a known data set nothing is read. kd-jax run STUDY --help lists the flags of a study.
    """

    topology: str = ""
    """Accelerators: h100, h100:8, v5e:1x1, v5e:2x4, v4:2x2x1, v5p:2x2x1, v6e:2x4, or a slice such as v5e-8 or v4-32."""
    settings: bool = False
    """Show instead what the paper's 30 settings would take, as it was estimated before."""
    examples: tuple[int, int] | None = None
    """Sizes of the training and the test set, for a set that is neither known nor there."""
    classes: int | None = None
    """Its number of classes."""
    shape: tuple[int, ...] | None = None
    """The shape of an example of it, such as 32 32 3."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets, for a set that is not known [default: $TFDS_DATA_DIR, else ~/tensorflow_datasets]."""
    json: bool = False
    """Print everything as JSON."""


def plan_main(argv: Sequence[str]) -> int:
    """Run `kd-jax plan`, and return the exit status."""
    words, name = list(argv), ""
    if words and not words[0].startswith("-"):
        name, *words = words

    def run():
        with one_line_errors():
            asked, rest = tyro.cli(
                Asked,
                prog=PROG,
                args=words,
                return_unknown_args=True,
                use_underscores=True,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
        _show_settings(asked) if asked.settings else _plan(asked, *_study(name, rest))

    return guarded(run)


def _study(name: str, words: Sequence[str]) -> tuple[TrainingSession, Study, list[str]]:
    """(where it would run, the study that is meant, what is to be said of that)."""
    if not name:
        dataset, teacher = value_of("dataset", words) or "", value_of("teacher", words) or ""
        is_text = dataset in STUDIES[TEXTS].presets or teacher.startswith("roberta")
        name = TEXTS if is_text else PHOTOGRAPHS if "imagenet" in dataset else IMAGES
        if name == PHOTOGRAPHS and value_of("recipe", words) is None:
            words = [f"--recipe={'imagenet' if dataset == 'imagenet2012' else 'tiny_imagenet'}", *words]
    if name not in STUDIES:
        raise BadInput(f"{PROG} {name}: expected one of {', '.join(STUDIES)}; kd-jax run lists what they ask")
    session, study = study_of(name, words, f"{PROG} {name}")
    of_sweep = [f"This is one variant of a sweep over {' '.join(session.sweep)}."] if session.sweep else []
    return session, study, [f"{name} {shlex.join(words)}".strip(), *of_sweep]


def _plan(asked: Asked, session: TrainingSession, study: Study, said: Sequence[str]) -> None:
    if not asked.topology:
        raise BadInput(f"{PROG}: expected --topology=T, such as v5e:2x4, v4-32 or h100; kd-jax plan --help lists them")
    from kd_jax import data
    from kd_jax.recipes.settings import Size
    from kd_jax.studies import forecast
    from kd_jax.studies.arithmetic import set_precision
    from kd_jax.studies.progress import Progress
    from kd_jax.train import ahead, devices

    size = None
    if asked.examples or asked.classes or asked.shape:
        if asked.examples is None or asked.classes is None or not asked.shape:
            raise BadInput(f"{PROG}: expected --examples, --classes and --shape together; pass all three")
        if min(*asked.examples, *asked.shape) < 1 or asked.classes < 2 or len(asked.shape) not in (1, 3):
            shown = " ".join(map(str, asked.shape))
            raise BadInput(
                f"{PROG} --examples {asked.examples[0]} {asked.examples[1]} --classes {asked.classes} --shape {shown}: expected"
                " sizes of at least 1, two classes, and a shape such as 32 32 3, or 100 for numbers and texts"
            )
        size = Size(*asked.examples, asked.classes, asked.shape)
    devices.select("cpu")
    set_precision(study.networks)
    topology = ahead.topology(asked.topology)
    dataset = forecast.dataset_of(study, size, data.folder_of(study.data.dataset, asked.data_dir))
    found = forecast.forecast(study, dataset, topology, Progress, seeds_at_once=session.seeds_at_once)
    found["notes"] = [*said[1:], *found["notes"]]
    print(json.dumps({"study": said[0], **found}, indent=1)) if asked.json else _show(said[0], found)


def _show(study: str, found: Mapping[str, Any]) -> None:
    from kd_jax.cli.terminal import Screen
    from kd_jax.report import plans

    screen = Screen()
    screen.line(f"{study}, on {found['topology']}")
    screen.table(plans.table(found), right=range(2, 9))
    for line in plans.lines(found):
        screen.line(line)
    screen.line(plans.sentence(found), style="answer")


def _show_settings(asked: Asked) -> None:
    from kd_jax.cli.terminal import Screen
    from kd_jax.recipes import estimates
    from kd_jax.report import plans

    found = estimates.read()
    if asked.json:
        print(json.dumps(found, indent=1))
        return
    Screen().table(plans.settings(found), right=range(2, 9))
