"""The console script `kd-jax`: run a study, analyse a work folder, draw its report, look at this machine, list the settings."""

import difflib
import functools
import os
import sys
import textwrap
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import tyro

from kd_jax import __version__
from kd_jax.cli import config_file, theory
from kd_jax.cli.audit_command import audit
from kd_jax.cli.compare_command import compare
from kd_jax.cli.cost_command import cost
from kd_jax.cli.export_command import export
from kd_jax.cli.guard import OK, guarded, hushed, one_line_errors
from kd_jax.cli.import_command import import_data
from kd_jax.cli.paper_command import paper
from kd_jax.cli.plan_command import plan, plan_main
from kd_jax.cli.prune_command import prune
from kd_jax.cli.session import Platform
from kd_jax.cli.study import run_study, value_of
from kd_jax.config import versions
from kd_jax.errors import BadInput
from kd_jax.recipes.studies import STUDIES
from kd_jax.workdir import remote

OF_ADDRESSES = ("analyze", "report", "cost", "export")  # commands whose work folder may lie in an object store


def analyze(
    workdir: tyro.conf.Positional[Path],
    data_dir: Path | None = None,
    tiny_imagenet_dir: Path | None = None,
    platform: Platform = "cpu",
    layers: tuple[str, ...] | None = None,
    pairs: tuple[tuple[int, int], ...] | None = None,
    kernel_examples: int | None = None,
    trajectory_examples: int | None = None,
    workers: int = 0,
    dataset: str = "",
    variant_figures: bool = False,
    quiet: bool = False,
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
        trajectory_examples: Training examples to follow along training, 0 for none [default: the study's].
        workers: Processes that read and decode a streamed set [0: threads of this process].
        dataset: Name or folder of the study's data now, where it was trained on a folder that lies elsewhere [the study's].
        variant_figures: Draw the figures of every variant of a sweep too; those that are there are drawn anew in any case.
        quiet: Print the answer and errors alone: no progress, no tables.
    """
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import analyse, sweep
    from kd_jax.studies.progress import Progress
    from kd_jax.train import compiled, devices

    devices.select(platform)
    compiled.keep()
    asked = {
        "layers": layers,
        "pairs": pairs,
        "kernel_examples": kernel_examples,
        "trajectory_examples": trajectory_examples,
    }
    look = {name: value for name, value in asked.items() if value is not None}
    folder = tiny_imagenet_dir or data_dir
    with hushed(quiet):
        if sweep.is_sweep(workdir):
            loader = data.Loader().load
            summary = sweep.analyze(workdir, folder, look, workers, loader, Progress, dataset, variant_figures)
            terminal.sweep(workdir, summary, quiet)
        else:
            summary = analyse.analyze(workdir, folder, look, workers, progress=Progress, dataset=dataset)
            terminal.study(workdir, summary, quiet)


def report(workdir: tyro.conf.Positional[Path], variant_figures: bool = False):
    """Draw tables, figures and report.html again from an analysis that is there.

    Args:
        workdir: Work folder of a study, or of a sweep.
        variant_figures: Draw the figures of every variant of a sweep too; those that are there are drawn anew in any case.
    """
    from kd_jax.studies import sweep
    from kd_jax.studies.report import write_report

    sweep.report(workdir, variant_figures) if sweep.is_sweep(workdir) else write_report(workdir)
    print(f"report: {workdir / 'analysis' / 'report.html'}")


def doctor(data_dir: Path | None = None, tiny_imagenet_dir: Path | None = None, platform: Platform = "auto"):
    """Say what this machine offers: versions, devices, data sets.

    Args:
        data_dir: Folder of prepared TFDS sets [default: $TFDS_DATA_DIR, else ~/tensorflow_datasets].
        tiny_imagenet_dir: Folder of Tiny-ImageNet [default: $TINY_IMAGENET_DIR, else DATA_DIR/tiny-imagenet-200].
        platform: Kind of device to ask for.
    """
    from kd_jax import data
    from kd_jax.data import cache, publishers, tfds, tiny_imagenet
    from kd_jax.train import compiled, devices

    print(", ".join(f"{package} {version}" for package, version in versions().items()))
    chosen = devices.select(platform)
    print(f"platform {chosen[0].platform}: {len(chosen)} x {chosen[0].device_kind}, {os.cpu_count()} CPU cores")
    kept = cache.state()
    print(
        f"cache: {kept.copies} decoded copies in {kept.folder}, {cache.shown(kept.size)} of at most {cache.shown(kept.bound)};"
        " set KD_JAX_CACHE or KD_JAX_CACHE_GB to change that"
        if kept.folder
        else "cache: no home folder for decoded copies, so sets are decoded anew each time; set KD_JAX_CACHE"
    )
    programs = compiled.state()
    print(
        f"cache: {programs.programs} compiled programs in {programs.folder}, {cache.shown(programs.size)} of at most"
        f" {cache.shown(programs.bound)}; set KD_JAX_COMPILED_GB to change that"
        if programs.folder
        else "cache: compiled programs are not kept; unset KD_JAX_COMPILED_GB, or set KD_JAX_CACHE, to change that"
    )
    folder = data_dir or data.default_data_dir()
    print(f"data: {' and '.join(data.EMBEDDED)} are embedded")
    tiny = data.folder_of(tiny_imagenet.NAME, data_dir, tiny_imagenet_dir)
    found = tiny_imagenet.find(tiny)
    print(
        f"data: tiny_imagenet in {found}"
        if found
        else f"data: no Tiny-ImageNet in {tiny}; name another --tiny_imagenet_dir or set TINY_IMAGENET_DIR"
    )
    found = tfds.available(folder)
    for name, path, file_format in found:
        note = {"array_record": "", "tfrecord": " (tfrecord: kd-jax import converts it)"}.get(
            file_format, f" ({file_format})"
        )
        print(f"data: {name} in {path}{note}")
    if not found:
        print(f"data: no prepared sets in {folder}; name another --data_dir or set TFDS_DATA_DIR")
    if absent := [name for name in publishers.SETS if tfds.find(name, folder) is None]:
        print(textwrap.fill(f"data: downloaded when a study asks for them: {', '.join(absent)}", 100))


def settings():
    """List the paper's 18 image and 12 language settings, with the command that runs each."""
    from kd_jax.cli.terminal import Screen
    from kd_jax.recipes import images as recipes
    from kd_jax.recipes import texts as text_recipes
    from kd_jax.report.tables import Table

    screen = Screen()
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
    screen.table(Table(header, rows), right=[0])
    print(f"\n{textwrap.fill(recipes.NOTE, 100)}")
    for number, setting in enumerate(recipes.SETTINGS, 1):
        print(f"\n# {number}")
        screen.command(setting.command)
    print()
    numbered = list(enumerate(text_recipes.SETTINGS, len(recipes.SETTINGS) + 1))
    rows = [(str(number), setting.dataset, setting.teacher, setting.student) for number, setting in numbered]
    screen.table(Table(("", "texts", "teacher", "student"), rows), right=[0])
    print(f"\n{textwrap.fill(text_recipes.NOTE, 100)}")
    for number, setting in numbered:
        print(f"\n# {number}")
        screen.command(setting.command)


def run(study: tyro.conf.Positional[str] = ""):
    """Run a study: kd-jax run STUDY [flags], or kd-jax run --config study.json; alone it lists the studies, and
    kd-jax run STUDY --help a study's flags.

    Args:
        study: Name of the study.
    """
    if study:
        known = [*STUDIES, theory.NAME]
        close = difflib.get_close_matches(study, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "kd-jax run lists what they ask"
        raise BadInput(f"kd-jax run {study}: expected one of {', '.join(known)}; {hint}")
    questions = {name: shipped.question for name, shipped in STUDIES.items()} | {theory.NAME: theory.QUESTION}
    width = max(map(len, questions))
    for name, question in questions.items():
        print(f"{name.ljust(width)}  {question}")
    print("\nkd-jax run STUDY --help explains a study's flags; --small is a reduced run.")


def _study_of(path: str) -> str:
    """The study of which a file of settings says that it is, as a `study.json` does."""
    _, name = config_file.read(Path(path), also=("recipe", "setting"))
    if name not in STUDIES:
        known = ", ".join(STUDIES)
        raise BadInput(
            f"--config={path}: expected the study.json of one of {known}; name the study: kd-jax run STUDY --config={path}"
        )
    return name


def main(argv: Sequence[str] | None = None) -> int:
    """Run the console script `kd-jax`, and return the exit status."""
    commands = {
        "run": run,
        "import": import_data,
        "analyze": analyze,
        "report": report,
        "plan": plan,
        "cost": cost,
        "audit": audit,
        "compare": compare,
        "paper": paper,
        "export": export,
        "prune": prune,
        "settings": settings,
        "doctor": doctor,
    }
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["--version"]:
        print(f"kd_jax {__version__}")
        return OK
    if argv[:1] == ["run"] and value_of("config", argv) and argv[1].startswith("-"):
        path, studies = value_of("config", argv) or "", []
        status = guarded(lambda: studies.append(_study_of(path)))
        return status or run_study(studies[0], argv[1:], prog=f"kd-jax run {studies[0]}")
    if argv[:1] == ["run"] and argv[1:2] and not argv[1].startswith("-"):
        # A study's flags are its own.
        prog = f"kd-jax run {argv[1]}"
        if argv[1] in STUDIES:
            return run_study(argv[1], argv[2:], prog=prog)
        if argv[1] == theory.NAME:
            return theory.theory_main(argv[2:], prog=prog)
        argv = argv[:2]  # the flags of a study that there is not

    if argv[:1] == ["plan"]:
        return plan_main(argv[1:])  # a study's flags are its own

    def call_command():
        with _folder_brought_here(argv) as words:
            with one_line_errors():
                call = tyro.extras.subcommand_cli_from_dict(
                    {name: _later(command) for name, command in commands.items()},
                    prog="kd-jax",
                    description="What did the student do differently?",
                    args=words,
                    use_underscores=True,
                    config=(tyro.conf.FlagCreatePairsOff,),
                )
            call()

    return guarded(call_command)


@contextmanager
def _folder_brought_here(argv):
    """Give the words of a command with a folder of this machine in place of the address of the one work folder that it takes."""
    word = argv[1] if argv[:1] and argv[0] in OF_ADDRESSES and argv[1:] else ""
    if not remote.is_address(word):
        yield argv
        return
    with remote.opened(word) as folder:
        yield [argv[0], str(folder), *argv[2:]]


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
        with _folder_brought_here(["analyze", *argv]) as words:
            with one_line_errors():
                call = tyro.cli(_later(analyze), args=words[1:], use_underscores=True)
            call()

    return guarded(run)
