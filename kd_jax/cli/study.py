"""The command line of a study: its flags in groups, its presets, and running it to its report."""

import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from kd_jax.cli import BEGAN, config_file, sweep_words
from kd_jax.cli.guard import guarded, hushed, one_line_errors
from kd_jax.config import FLAGS, SECTIONS, Study
from kd_jax.errors import BadInput, Diverged
from kd_jax.plan import Variant
from kd_jax.recipes.studies import STUDIES, Preset
from kd_jax.workdir import records, remote

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
        _check_batch(session)
        _join(session)
        with _here(session) as session:
            run_here(session, study)

    def run_here(session, study):
        if not session.sweep:
            with hushed(session.quiet):
                return _train_and_report(name, session, study, command)
        studies: list[tuple[Variant, Study]] = []
        for variant in sweep_words.parse(session.sweep, session.combine, flag):
            _, changed = _parsed(sweep_words.words_of(argv, variant.values), description, preset, flag, prog)
            if changed not in [other for _, other in studies]:  # one by one, a value may be that of the base
                studies.append((variant, changed))
        with hushed(session.quiet):
            return _sweep_and_report(name, session, studies, command)

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
    kind, default = _command(session, study, hidden=_unused(study, words), extra=extra)
    command = parse(kind, words, description, default, prog)
    sections: dict[str, Any] = {
        name: section(**_values(getattr(command, GROUPS.get(name, name)))) for name, section in SECTIONS.items()
    }
    if sections["distillation"].is_teacher_given and value_of("teacher", words) is None and "teacher" not in given:
        # The preset's was not asked for: a teacher that exists brings its own network.
        sections["networks"] = replace(sections["networks"], teacher="")
    return command.session, Study(**sections, seeds=command.runs.seeds, seed=command.runs.seed)


def _unused(study: Study, words: Sequence[str]) -> tuple[str, ...]:
    """The flags to leave out of the help for a study's kind of data, but those that are typed."""
    kind = "texts" if study.networks.teacher.startswith("roberta") else "images"
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


def workdir_of(session: Session, name: str) -> Path:
    """Return the work folder of a study; see `records.check_folder` for what is refused."""
    workdir = (Path("runs") / name if session.workdir is None else Path(session.workdir)).expanduser()
    records.check_folder("workdir", str(session.workdir), workdir)
    return workdir


def _join(session: TrainingSession) -> None:
    """Join the other processes of a run that is distributed.

    Raises:
        BadInput: for flags that do not fit, or processes that do not come.
    """
    named = {"coordinator": session.coordinator or None, "num_processes": session.num_processes}
    named["process_id"] = session.process_id
    if not session.distributed:
        for flag, value in named.items():
            if value is not None:
                raise BadInput(f"--{flag}={value}: expected --distributed beside it; pass both, or leave it out")
        return
    if session.list:
        raise BadInput("--distributed: expected runs to train, found --list; leave one of the two out")
    from kd_jax.train import devices, hosts

    devices.only(session.platform)
    hosts.join(session.coordinator, session.num_processes, session.process_id, session.coordinator_timeout)


def _train_and_report(name: str, session: TrainingSession, study: Study, command: str) -> None:
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import batch, cost, trackers
    from kd_jax.studies.analyse import analyze_prepared, is_analysed
    from kd_jax.studies.prepare import prepare, set_precision
    from kd_jax.studies.progress import Progress
    from kd_jax.studies.train import train_prepared
    from kd_jax.train import compiled, devices, hosts
    from kd_jax.workdir import records

    began = time.monotonic()
    workdir = workdir_of(session, name)
    trackers.check(session.log)
    set_precision(study)
    chosen = devices.select(_platform(session))
    compiled.keep()
    data_dir = data.folder_of(study.data.dataset, session.data_dir, session.tiny_imagenet_dir)
    prepared = prepare(name, study, workdir, data_dir, chosen, workers=session.workers, command=command)
    if session.list:
        _print_lines(batch.to_do(batch.of_study(prepared), session.ready))
        return
    sinks, only = trackers.sinks(session.log, prepared), session.only
    shown = partial(Progress, since=BEGAN)
    if only:
        job = hosts.told(lambda: batch.chosen(batch.of_study(prepared), only, batch.given_up({"": prepared})))
        if not job.done:
            train_prepared(prepared, chosen, shown, sinks, session.on_nan, only=only)
        hosts.leave()
        if hosts.leads():
            _print_left(workdir, session, batch.of_study(prepared))
        return
    trained = train_prepared(prepared, chosen, shown, sinks, session.on_nan, session.seeds_at_once)
    hosts.leave()
    if not hosts.leads():
        return  # analysis is process 0's
    if not trained and is_analysed(workdir, prepared.study, prepared.record):
        if session.quiet:
            terminal.Screen(quiet=True).answer(records.read_summary(workdir))
        else:
            print(f"{workdir}: all is done already; kd-jax analyze {workdir} computes the numbers again")
        return
    measure = partial(cost.measure, prepared, devices.own(chosen)[0])
    terminal.study(workdir, analyze_prepared(prepared, Progress, measure, session.on_nan), session.quiet)
    _print_seconds(began, session)


def _check_batch(session: TrainingSession) -> None:
    if session.list and session.only:
        raise BadInput(f"--only={session.only}: expected --list or --only, found both; leave one out")
    if session.ready and not session.list:
        raise BadInput("--ready: expected --list beside it; add --list or leave --ready out")


def _platform(session: TrainingSession) -> str:
    """The platform to use: whoever lists runs, such as a login node, need not have the devices that train them."""
    return "cpu" if session.list else session.platform


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)


def _print_left(workdir: Path, session: TrainingSession, jobs: Sequence[Any]) -> None:
    """Say that the one run is finished, and what is left."""
    left = sum(job.is_to_do for job in jobs)
    then = f"{left} of {len(jobs)} are to do" if left else "so are all; the same command without --only analyses them"
    if not session.quiet:
        print(f"{workdir}: {session.only} is finished; {then}")


def _print_seconds(began: float, session: Session) -> None:
    if not session.quiet:
        print(f"{time.monotonic() - began:.0f} s in all")


def _sweep_and_report(
    name: str, session: TrainingSession, studies: Sequence[tuple[Variant, Study]], command: str
) -> None:
    from kd_jax import data
    from kd_jax.cli import terminal
    from kd_jax.studies import batch, sweep, trackers
    from kd_jax.studies.prepare import set_precision
    from kd_jax.studies.progress import Progress
    from kd_jax.train import compiled, devices, hosts
    from kd_jax.workdir import records

    began = time.monotonic()
    workdir = workdir_of(session, name)
    if len({study.networks.precision == "float64" for _, study in studies}) > 1:
        raise BadInput("--sweep=precision: expected float64 in a sweep of its own; sweep float32 and bfloat16 alone")
    if len({study.networks.matmul_precision for _, study in studies}) > 1:
        raise BadInput("--sweep=matmul_precision: expected one for the whole program; run a study for each")
    trackers.check(session.log)
    set_precision(studies[0][1])
    chosen = devices.select(_platform(session))
    compiled.keep()

    def find(dataset):
        return data.folder_of(dataset, session.data_dir, session.tiny_imagenet_dir)

    load, log = data.Loader().load, session.log
    if session.list or session.only:
        if session.only:
            sweep.run_one(
                name,
                studies,
                workdir,
                session.only,
                find,
                chosen,
                session.workers,
                load,
                Progress,
                command,
                log,
                session.on_nan,
            )
            hosts.leave()
            if not hosts.leads():
                return
        jobs = batch.of_sweep(workdir, sweep.planned(name, studies, workdir, find, chosen, load))
        if session.list:
            _print_lines(batch.to_do(jobs, session.ready))
        else:
            _print_left(workdir, session, jobs)
        return
    settings = session.on_nan, session.seeds_at_once, session.variant_figures
    _, summary = sweep.run(
        name, studies, workdir, find, chosen, session.workers, load, Progress, command, log, *settings
    )
    if not hosts.leads():
        return
    if summary is None:
        if session.quiet:
            terminal.Screen(quiet=True).answer(records.read_summary(workdir))
        else:
            print(f"{workdir}: all is done already; kd-jax analyze {workdir} computes the numbers again")
        return
    terminal.sweep(workdir, summary, session.quiet)
    _print_seconds(began, session)
    if diverged := summary["diverged"]:
        raise Diverged(f"{len(diverged)} of {len(studies)} variants diverged and are left out: {', '.join(diverged)}")
