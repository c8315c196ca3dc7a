"""Command lines: parse, call, print. `experiments/` and the console script `kd-jax` alone import this."""

import functools
import os
import sys
import textwrap
import time
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import tyro

from kd_jax.cli.guard import guarded, one_line_errors
from kd_jax.config import FLAGS, BadInput, Study, versions

Platform = Literal["auto", "cpu", "gpu", "tpu"]


@dataclass(frozen=True)
class Session:
    """Where a study runs; none of it changes what comes out."""

    platform: Platform = "auto"
    """Kind of device to train on; auto takes the best there is. All local devices of that kind share each batch."""
    workdir: Path | None = None
    """Work folder, made if absent [default: runs/NAME of the study]. The same command again resumes it."""
    data_dir: Path | None = None
    """Folder of prepared TFDS sets [default: $TFDS_DATA_DIR, else ~/tensorflow_datasets]."""
    small: bool = False
    """A reduced run, within a minute on two CPU cores; flags given beside it still count."""


@dataclass(frozen=True)
class TrainingSession(Session):
    """Where a study runs, and in which variants; none of it changes what comes out of one."""

    tiny_imagenet_dir: Path | None = None
    """Folder of Tiny-ImageNet as its makers publish it [default: $TINY_IMAGENET_DIR, else DATA_DIR/tiny-imagenet-200]."""
    workers: int = 0
    """Processes that read and decode a streamed set, as many as there are cores to spare [0: threads of this process]."""
    sweep: tuple[str, ...] = ()
    """Run the study for every combination of values, such as temperature=1,2,4 weight=0.5,1: one work folder with a study for
    each, one table. A value is what one would type after the flag; none is nothing. What is equal is trained once."""
    combine: Literal["all", "one_by_one"] = "all"
    """How --sweep combines its fields: all values of each with all of the others, or one changed at a time, from the study that
    the other flags describe."""


@dataclass(frozen=True)
class _Command:
    session: TrainingSession
    study: Study


class Preset(NamedTuple):
    """The `Study` that flags change, its reduced form for `--small`; for studies that are sweeps, also what they sweep; where it
    differs, the `Study` for `--init_from`.
    """

    full: Study
    small: Study
    sweep: tuple[str, ...] = ()
    small_sweep: tuple[str, ...] = ()
    combine: Literal["all", "one_by_one"] = "all"
    pretrained: Study | None = None


def study_main(name, description, preset, argv=None, flag=None):
    """Run a study's command line to its report, and return the exit status.

    Args:
        name: of the study; its default work folder is `runs/NAME`.
        description: shown by `--help`.
        preset: a `Preset`; or, with a `flag`, {value of that flag: Preset}, the first being the default.
        argv: arguments; `sys.argv[1:]` by default.
        flag: name of the flag that chooses among presets, such as `setting`; or `dataset`, whose other values, or folders, take
            the preset whose name they contain, else the first.
    """
    argv = sys.argv[1:] if argv is None else argv

    def command_of(words):
        kind, chosen = _Command, preset
        if flag:
            # Before all others are parsed, for what it says decides their defaults.
            value = _value_of(flag, words) or next(iter(preset))
            # A wrong value is refused by the parser.
            chosen = preset.get(value) or next((of for name, of in preset.items() if name in value), None)
            chosen = chosen or next(iter(preset.values()))
            kind = _Command if flag in FLAGS else _command_with(flag, tuple(preset))
        small = "--small" in words
        session = TrainingSession(sweep=chosen.small_sweep if small else chosen.sweep, combine=chosen.combine)
        study = chosen.small if small else chosen.full
        if chosen.pretrained and not small and _value_of("init_from", words):
            study = chosen.pretrained
        return parse(tyro.conf.OmitArgPrefixes[kind], words, description, kind(session, study))

    def run():
        command = command_of(argv)
        if not command.session.sweep:
            return _train_and_report(name, command.session, command.study)
        from kd_jax.cli import sweep_words as variants

        asked = variants.parse(command.session.sweep, command.session.combine, flag)
        studies, known = [], set()
        for variant in asked:
            study = command_of(variants.words_of(argv, variant.values)).study
            if study not in known:  # one by one, a value may be that of the base
                studies.append((variant, study))
                known.add(study)
        return _sweep_and_report(name, command.session, studies)

    return guarded(run)


def _value_of(flag, argv):
    """What `--flag=value` or `--flag value` says, or None."""
    for position, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == f"__{flag}":
            return value if equals else next(iter(argv[position + 1 :]), None)
    return None


def _command_with(flag, values):
    """A `_Command` with one more flag, that takes one of `values`."""
    which = Annotated[Literal[values], tyro.conf.arg(help="Which recipe; the other flags change it.")]
    return make_dataclass("_PresetCommand", [(flag, which, values[0])], bases=(_Command,), frozen=True)


def _train_and_report(name, session, study):
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import analyse
    from kd_jax.studies import train as train_stage
    from kd_jax.train import devices

    began = time.monotonic()
    workdir = session.workdir or Path("runs") / name
    train_stage.set_precision(study)
    chosen = devices.select(session.platform)
    data_dir = data.place(study.dataset, session.data_dir, session.tiny_imagenet_dir)
    trained = train_stage.train(name, study, workdir, data_dir, chosen, workers=session.workers)
    if not trained and analyse.is_analysed(workdir, study):
        print(f"{workdir}: all is done already; kd-jax analyze {workdir} computes the numbers again")
        return
    terminal.study(workdir, analyse.analyze(workdir, data_dir, workers=session.workers))
    print(f"{time.monotonic() - began:.0f} s in all")


def _sweep_and_report(name, session, studies):
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import sweep
    from kd_jax.studies import train as train_stage
    from kd_jax.train import devices

    began = time.monotonic()
    workdir = session.workdir or Path("runs") / name
    if len({study.precision == "float64" for _, study in studies}) > 1:
        raise BadInput("--sweep=precision: expected float64 in a sweep of its own; sweep float32 and bfloat16 alone")
    train_stage.set_precision(studies[0][1])
    chosen = devices.select(session.platform)

    def place(dataset):
        return data.place(dataset, session.data_dir, session.tiny_imagenet_dir)

    _, found = sweep.run(name, studies, workdir, place, chosen, session.workers)
    if found is None:
        print(f"{workdir}: all is done already; kd-jax analyze {workdir} computes the numbers again")
        return
    terminal.sweep(workdir, found)
    print(f"{time.monotonic() - began:.0f} s in all")


def parse(kind, argv, description, default):
    """Return what the flags make of a default; `kind` is its (annotated) dataclass.

    Raises:
        BadInput: for a flag or value that does not fit, in one line.
    """
    with one_line_errors():
        return tyro.cli(
            kind,
            args=argv,
            description=description,
            default=default,
            use_underscores=True,
            config=(tyro.conf.FlagCreatePairsOff,),
        )


# ---- kd-jax


def analyze(
    workdir: tyro.conf.Positional[Path],
    data_dir: Path | None = None,
    tiny_imagenet_dir: Path | None = None,
    platform: Platform = "cpu",
    layers: tuple[str, ...] | None = None,
    pairs: tuple[tuple[int, int], ...] | None = None,
    kernel_examples: int | None = None,
    workers: int = 0,
):
    """Recompute every number and figure of a work folder from its checkpoints.

    Args:
        workdir: Work folder of a study, or of a sweep.
        data_dir: Folder of prepared TFDS sets [default: where the study found its data].
        tiny_imagenet_dir: Folder of Tiny-ImageNet, for a study of it [default: where the study found it].
        platform: Kind of device; CPU suffices whatever hardware trained.
        layers: Layers whose weights to follow along the eigendirections of their inputs [default: the study's].
        pairs: Pairs of eigendirections to compare beside those fixed by rule, such as 0 8 0 32 [default: the study's].
        kernel_examples: Training examples for the functions along their tangent kernel's eigenvectors [default: the study's].
        workers: Processes that read and decode a streamed set [0: threads of this process].
    """
    from kd_jax.cli import terminal
    from kd_jax.studies import analyse, sweep
    from kd_jax.train import devices

    devices.select(platform)
    asked = {"layers": layers, "pairs": pairs, "kernel_examples": kernel_examples}
    look = {name: value for name, value in asked.items() if value is not None}
    if sweep.is_sweep(workdir):
        terminal.sweep(workdir, sweep.analyze(workdir, tiny_imagenet_dir or data_dir, look, workers))
    else:
        terminal.study(workdir, analyse.analyze(workdir, tiny_imagenet_dir or data_dir, look, workers))


def report(workdir: tyro.conf.Positional[Path]):
    """Draw tables, figures and report.html again from an analysis that is there.

    Args:
        workdir: Work folder of a study, or of a sweep.
    """
    from kd_jax.studies import sweep
    from kd_jax.studies.report import write_report

    sweep.report(workdir) if sweep.is_sweep(workdir) else write_report(workdir)
    print(f"report: {workdir / 'analysis' / 'report.html'}")


def doctor(data_dir: Path | None = None, tiny_imagenet_dir: Path | None = None, platform: Platform = "auto"):
    """Say what this machine offers: versions, devices, data sets.

    Args:
        data_dir: Folder of prepared TFDS sets [default: $TFDS_DATA_DIR, else ~/tensorflow_datasets].
        tiny_imagenet_dir: Folder of Tiny-ImageNet [default: $TINY_IMAGENET_DIR, else DATA_DIR/tiny-imagenet-200].
        platform: Kind of device to ask for.
    """
    from kd_jax import data
    from kd_jax.data import tfds, tiny_imagenet
    from kd_jax.train import devices

    print(", ".join(f"{package} {version}" for package, version in versions().items()))
    chosen = devices.select(platform)
    print(f"platform {chosen[0].platform}: {len(chosen)} x {chosen[0].device_kind}, {os.cpu_count()} CPU cores")
    folder = data_dir or data.default_data_dir()
    print("data: digits is embedded")
    tiny = data.place(tiny_imagenet.NAME, data_dir, tiny_imagenet_dir)
    found = tiny_imagenet.find(tiny)
    print(
        f"data: tiny_imagenet in {found}"
        if found
        else f"data: no Tiny-ImageNet in {tiny}; name another --tiny_imagenet_dir or set TINY_IMAGENET_DIR"
    )
    found = tfds.available(folder)
    for name, path, file_format in found:
        note = "" if file_format == "array_record" else f" ({file_format}: convert it to array_record to use it)"
        print(f"data: {name} in {path}{note}")
    if not found:
        print(f"data: no prepared sets in {folder}; name another --data_dir or set TFDS_DATA_DIR")


def settings():
    """List the paper's 18 image and 12 language settings, with the command that runs each."""
    from kd_jax.recipes import images as recipes
    from kd_jax.recipes import texts as text_recipes

    header = ("", "data", "label noise", "teacher", "student", "recipe")
    rows = [
        (
            str(number),
            setting.dataset,
            f"{setting.label_noise:.0%}" if setting.label_noise else "-",
            setting.teacher,
            setting.student,
            setting.recipe,
        )
        for number, setting in enumerate(recipes.SETTINGS, 1)
    ]
    _print_columns(header, rows)
    print(f"\n{textwrap.fill(recipes.NOTE, 100)}")
    for number, setting in enumerate(recipes.SETTINGS, 1):
        print(f"\n# {number}")
        _print_command(setting.command)
    print()
    numbered = list(enumerate(text_recipes.SETTINGS, len(recipes.SETTINGS) + 1))
    rows = [(str(number), setting.dataset, setting.teacher, setting.student) for number, setting in numbered]
    _print_columns(("", "texts", "teacher", "student"), rows)
    print(f"\n{textwrap.fill(text_recipes.NOTE, 100)}")
    for number, setting in numbered:
        print(f"\n# {number}")
        _print_command(setting.command)


def _print_columns(header, rows):
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        first, *cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join([first.strip().rjust(widths[0]), *cells]).rstrip())


def _print_command(words):
    # Room for the backslash that goes on to the next line.
    lines = textwrap.wrap(" ".join(words), 98, subsequent_indent="    ", break_on_hyphens=False)
    print(" \\\n".join(lines))


def main(argv=None):
    """The console script `kd-jax`; returns the exit status."""
    commands = {"analyze": analyze, "report": report, "settings": settings, "doctor": doctor}
    argv = sys.argv[1:] if argv is None else argv

    def run():
        with one_line_errors():
            call = tyro.extras.subcommand_cli_from_dict(
                {name: _later(command) for name, command in commands.items()},
                prog="kd-jax",
                description="What did the student do differently?",
                args=argv,
                use_underscores=True,
            )
        call()

    return guarded(run)


def _later(command):
    """A function that parses as `command` does and returns a call of it: what is only parsed does not hold back its progress."""

    @functools.wraps(command)
    def bound(*args, **kwargs):
        return functools.partial(command, *args, **kwargs)

    return bound


def analyze_main(argv=None):
    """`experiments/analyze.py`: `kd-jax analyze` under its own name; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv

    def run():
        with one_line_errors():
            call = tyro.cli(_later(analyze), args=argv, use_underscores=True)
        call()

    return guarded(run)
