"""The command line of a study: its flags in groups, and its presets."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kd_jax.cli import config_file, sweep_words
from kd_jax.cli.execution import check_batch, join, sweep_and_report, train_and_report
from kd_jax.cli.guard import guarded, hushed, one_line_errors
from kd_jax.cli.session import Session as Session
from kd_jax.cli.session import TrainingSession
from kd_jax.config import FLAGS, SECTIONS, Study
from kd_jax.plan import Variant
from kd_jax.recipes.studies import STUDIES, Preset
from kd_jax.workdir import remote


@dataclass(frozen=True)
class Runs:
    """How often everything is trained."""

    seeds: int = 1
    """Number of runs of every arm; with two or more, intervals are over seeds."""
    seed: int = 0
    """The first seed; the others follow."""


# Flags that a kind of data has no use for. Help leaves them out; typed all the same, they are refused where the data is read.
UNUSED = {
    "images": ("max_length", "vocabulary", "tokenizer", "text", "dropout"),
    "texts": ("image_size", "augment", "mixup", "cutmix"),
}

# Flags beside which a teacher teaches once.
ONE_TEACHER = ("teacher_from", "teacher_logits", "teacher_step", "kernel_examples")

GROUPS = {"look": "analysis"}  # sections whose group has another name in the help


def study_main(
    name: str,
    description: str | None,
    preset: Preset | Mapping[str, Preset],
    argv: Sequence[str] | None = None,
    flag: str | None = None,
    prog: str | None = None,
) -> int:
    """Run a study's command line to its report, and return the exit status.

    Args:
        name: the name of the study; its default work folder is `runs/NAME`.
        description: shown by `--help`.
        preset: a `Preset`; or, with a `flag`, {value of that flag: Preset}, the first being the default.
        argv: arguments; `sys.argv[1:]` by default.
        flag: name of the flag that chooses among presets, such as `setting`; or `dataset`, whose other values, or folders, take
            the preset whose name they contain, else the first.
        prog: how the program is called, for `--help`; its own name by default.
    """
    argv = sys.argv[1:] if argv is None else argv
    command = command_line(argv, prog)

    def run():
        session, study = _parsed(argv, description, preset, flag, prog)
        check_batch(session)
        join(session)
        with _here(session) as session:
            run_here(session, study)

    def run_here(session, study):
        if not session.sweep:
            with hushed(session.quiet):
                return train_and_report(name, session, study, command)
        studies: list[tuple[Variant, Study]] = []
        for variant in sweep_words.parse(session.sweep, session.combine, flag):
            _, changed = _parsed(sweep_words.words_of(argv, variant.values), description, preset, flag, prog)
            if changed not in [other for _, other in studies]:  # one by one, a value may be that of the base
                studies.append((variant, changed))
        with hushed(session.quiet):
            return sweep_and_report(name, session, studies, command)

    return guarded(run)


@contextmanager
def _here(session: TrainingSession) -> Iterator[TrainingSession]:
    """Give a session in which a folder of this machine stands in place of the address of a work folder, while the block runs.

    Of several processes the first one alone has the folder, for it alone reads and writes it.

    Raises:
        BadInput: as `remote.opened`.
    """
    if not remote.is_address(session.workdir):
        yield session
        return
    from kd_jax.train import hosts

    with ExitStack() as held:
        folder = None
        with hosts.each():
            if hosts.leads():
                is_part = session.list or bool(session.only)
                folder = held.enter_context(remote.opened(str(session.workdir), light=is_part))
        try:
            yield replace(session, workdir=folder and str(folder))
        except BaseException as error:
            if hosts.is_known(error):
                hosts.leave()  # the others need not wait for what is still brought to the address
            raise


@contextmanager
def brought_here(argv: Sequence[str]) -> Iterator[list[str]]:
    """Give a command line in which a folder of this machine stands in place of the address of a work folder, while the block runs.

    Raises:
        BadInput: as `remote.opened`.
    """
    address = value_of("workdir", argv)
    if not remote.is_address(address):
        yield list(argv)
        return
    with remote.opened(str(address)) as folder:
        yield [*sweep_words.without(argv, "workdir"), f"--workdir={folder}"]


def command_line(argv: Sequence[str], prog: str | None) -> str:
    """Return the command line as it was typed, for the record; `prog` is None for a script.

    Without `--only`: the same command does all of it, and the record has the names of runs that were trained alone.
    """
    words = sweep_words.without(argv, "only")
    return f"{prog or f'python {sys.argv[0]}'} {shlex.join(words)}".strip()


def run_study(
    name: str, argv: Sequence[str] | None = None, description: str | None = None, prog: str | None = None
) -> int:
    """Run the command line of a study of `recipes.studies.STUDIES`, and return the exit status.

    Args:
        name: the name of the study.
        argv: the arguments; `sys.argv[1:]` by default.
        description: shown by `--help`; the study's question by default.
        prog: how the program is called, for `--help`; its own name by default.
    """
    shipped = STUDIES[name]
    return study_main(name, description or shipped.question, shipped.presets, argv, shipped.flag or None, prog)


def study_of(name: str, argv: Sequence[str], prog: str) -> tuple[TrainingSession, Study]:
    """Return what the flags of a study of `recipes.studies.STUDIES` ask for: (where it runs, the study).

    Args:
        name: the name of the study.
        argv: the arguments.
        prog: how the program is called, for `--help`.

    Raises:
        BadInput: for a flag or value that does not fit.
    """
    shipped = STUDIES[name]
    return _parsed(argv, shipped.question, shipped.presets, shipped.flag or None, prog)


def _parsed(words, description, preset, flag, prog) -> tuple[TrainingSession, Study]:
    """(session, study) of a command line."""
    chosen, extra = preset, {}
    # Before all others are parsed, for what these two say decides the defaults of the others.
    path = value_of("config", words)
    given = config_file.read(Path(path), also=[flag] if flag else [])[0] if path else {}
    value = None
    if flag:
        value = value_of(flag, words) or given.get(flag) or next(iter(preset))
        # A wrong value is refused by the parser.
        chosen = preset.get(value) or next((of for name, of in preset.items() if name in value), None)
        chosen = chosen or next(iter(preset.values()))
        if flag not in FLAGS:
            extra = {flag: tuple(dict.fromkeys((value if value in preset else next(iter(preset)), *preset)))}
        given = {name: value for name, value in given.items() if name in FLAGS}
    small = "--small" in words
    session = TrainingSession(sweep=chosen.small_sweep if small else chosen.sweep, combine=chosen.combine)
    study = chosen.small if small else chosen.full
    if chosen.pretrained and not small and (value_of("init_from", words) or given.get("init_from")):
        study = chosen.pretrained
    if any(value_of(name, words) or given.get(name) for name in ONE_TEACHER):
        study = study.replaced(early_epoch=0)  # the preset's was not asked for
    study = study.replaced(**given)
    kind, default = _command(session, study, hidden=_unused(study.networks.teacher, words), extra=extra)
    command = parse(kind, words, description, default, prog)
    sections: dict[str, Any] = {
        name: section(**_values(getattr(command, GROUPS.get(name, name)))) for name, section in SECTIONS.items()
    }
    if sections["distillation"].is_teacher_given and value_of("teacher", words) is None and "teacher" not in given:
        # The preset's was not asked for: a teacher that exists brings its own network.
        sections["networks"] = replace(sections["networks"], teacher="")
    return command.session, Study(**sections, seeds=command.runs.seeds, seed=command.runs.seed)


def _unused(teacher: str, words: Sequence[str]) -> tuple[str, ...]:
    """The flags to leave out of the help for the kind of data that a study's teacher takes, but those that are typed."""
    kind = "texts" if teacher.startswith("roberta") else "images"
    return tuple(name for name in UNUSED[kind] if value_of(name, words) is None)


def _command(session: TrainingSession, study: Study, hidden: Sequence[str], extra: Mapping[str, tuple[str, ...]]):
    """(dataclass of a command line, its default): a group of flags per section."""
    parts: list[tuple[str, Any, Any]] = [("session", TrainingSession, session)]
    for name in SECTIONS:
        kind = _without(type(getattr(study, name)), hidden)
        parts.append((GROUPS.get(name, name), kind, kind(**_values(getattr(study, name)))))
    parts.append(("runs", Runs, Runs(study.seeds, study.seed)))
    for name, values in extra.items():
        which = Annotated[Literal[values], tyro.conf.arg(help="Which recipe; the other flags change it.")]  # type: ignore[valid-type]
        parts.insert(0, (name, which, values[0]))
    made = make_dataclass("Command", [(name, kind, field(default=value)) for name, kind, value in parts], frozen=True)
    return tyro.conf.OmitArgPrefixes[made], made()


def _without(section: type, hidden: Sequence[str]) -> type:
    """A section of a study, of which the parser does not know some fields; they keep their values."""
    of_section = [each for each in fields(section) if each.name in hidden]
    suppressed = [(each.name, tyro.conf.Suppress[each.type], field(default=each.default)) for each in of_section]
    if not suppressed:
        return section
    made = make_dataclass(section.__name__, suppressed, bases=(section,), frozen=True)
    made.__doc__ = section.__doc__
    return made


def _values(section: Any) -> dict[str, Any]:
    return {each.name: getattr(section, each.name) for each in fields(section)}


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """What `--flag=value` or `--flag value` says, or None."""
    for position, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name.replace("-", "_") == f"__{flag}":
            return value if equals else next(iter(argv[position + 1 :]), "")
    return None


def parse(kind: Any, argv: Sequence[str], description: str | None, default: Any, prog: str | None = None) -> Any:
    """Return what the flags make of a default; `kind` is its (annotated) dataclass, `prog` how the program is called.

    Raises:
        BadInput: for a flag or value that does not fit, in one line.
    """
    with one_line_errors():
        return tyro.cli(
            kind,
            prog=prog,
            args=argv,
            description=description,
            default=default,
            use_underscores=True,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
