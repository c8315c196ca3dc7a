"""The files of a work folder that are no checkpoints: JSON records and locks. Needs no JAX."""

import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd_jax.config import SCHEMA
from kd_jax.errors import BadInput
from kd_jax.files import settle, write_text
from kd_jax.workdir import remote

VERDICTS = ("supported", "contradicted", "inconclusive")


def write_json(path: Path | str, value: Any) -> None:
    """Replace a JSON file in one step: a reader, or a crash, sees the old or the new one."""
    write_text(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path | str, what: str, fix: str) -> dict[str, Any]:
    """Return the contents of a file that holds a JSON object.

    Args:
        path: the file.
        what: what it should be, for messages.
        fix: what to do where it is none, for messages.

    Raises:
        BadInput: in one line, when it is absent, cannot be read, or holds something else.
    """
    try:
        contents = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: expected {what}, there is none; {fix}") from None
    except OSError as error:
        raise BadInput(f"{path}: expected {what}, it cannot be read ({error.strerror}); {fix}") from None
    except ValueError as error:  # of JSON, and of UTF-8
        raise BadInput(f"{path}: expected {what}, found: {' '.join(str(error).split())}; {fix}") from None
    except RecursionError:
        raise BadInput(f"{path}: expected {what}, found lists in lists without end; {fix}") from None
    if not isinstance(contents, dict):
        raise BadInput(f"{path}: expected {what}, found {type(contents).__name__}; {fix}")
    return contents


def read_summary(workdir: Path | str, folder: Path | str | None = None, of_sweep: bool = False) -> dict[str, Any]:
    """Return the contents of `analysis/summary.json`.

    Args:
        workdir: the work folder.
        folder: where the analysis lies; `analysis` of the work folder by default.
        of_sweep: whether it is that of a sweep, and not of a study.

    Raises:
        BadInput: when there is no analysis, or it is damaged.
    """
    if folder is None:
        settle(Path(workdir) / "analysis")
    path = Path(folder or Path(workdir) / "analysis") / "summary.json"
    fix = f"run: kd-jax analyze {workdir}"
    if not path.is_file():
        raise BadInput(f"{workdir}: expected analysis/summary.json; {fix}")
    summary = read_json(path, "the JSON of an analysis", fix)
    kind, key, holds = ("sweep", "variants", list) if of_sweep else ("study", "config", dict)
    of_what = summary.get("study")
    if not isinstance(of_what, dict) or not isinstance(of_what.get(key), holds):
        raise BadInput(
            f"{path}: expected the analysis of a {kind}, found no {key} of one; restore {kind}.json, then {fix}"
        )
    for key in ("estimates", "verdicts"):
        found = summary.get(key, [])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise BadInput(f"{path}: {key}: expected a list of records, found something else; {fix}")
    for verdict in summary.get("verdicts", []):
        if verdict.get("verdict") not in VERDICTS:
            said = f"expected one of {', '.join(VERDICTS)}, found {str(verdict.get('verdict'))[:40]!r}"
            raise BadInput(f"{path}: verdicts: {said}; {fix}")
    return summary


def read_study(workdir: Path | str) -> dict[str, Any]:
    """Return the contents of `study.json`.

    Raises:
        BadInput: when the folder holds no study, or one that a newer version wrote.
    """
    path = Path(workdir) / "study.json"
    if not path.is_file():
        raise BadInput(
            f"{workdir}: expected a work folder with a study.json; name the --workdir of a study that was run"
        )
    record = read_json(path, "JSON", "restore the file or start in another --workdir")
    if lacking := [key for key in ("study", "config") if key not in record]:
        raise BadInput(
            f"{path}: expected the record of a study, found none of its {' and '.join(lacking)}; restore the file or start in"
            " another --workdir"
        )
    if not isinstance(record["study"], str) or not isinstance(record.get("schema", 1), int):
        raise BadInput(
            f"{path}: expected the name of a study and a number of its schema, found others; restore the file or start in another"
            " --workdir"
        )
    if record.get("schema", 1) > SCHEMA:
        raise BadInput(
            f"{path}: expected schema {SCHEMA} or older, found {record['schema']}; a newer version of kd_jax wrote it,"
            " install that one"
        )
    _check_skipped(path, record.get("skipped", {}))
    # It is of the file: what is made of the record is the same before and after it was written.
    seal = record.pop("seal", None)
    if seal is not None and seal != _seal(record):
        raise BadInput(
            f"{path}: expected what training wrote, it was changed since (its seal does not agree); restore the file, or start in"
            " another --workdir"
        )
    return record


def _check_skipped(path: Path, skipped: Any) -> None:
    """Raise `BadInput` for what is not {seed: {"run": its name, "why": text}}."""
    found = skipped.items() if isinstance(skipped, dict) else [("", None)]
    for seed, of in found:
        if not (re.fullmatch("[0-9]{1,10}", seed) and isinstance(of, dict) and isinstance(of.get("why"), str)):
            raise BadInput(
                f"{path}: skipped: expected seeds with the reason why, found {str(skipped)[:60]!r}; restore the file or start in"
                " another --workdir"
            )


def check_folder(flag: str, typed: str, path: Path) -> None:
    """Refuse what cannot be a folder of this machine: nothing, an address, a name that is too long.

    Args:
        flag: the flag that names it.
        typed: what was typed.
        path: the same as a path.

    Raises:
        BadInput: in one line.
    """
    if not typed.strip():
        raise BadInput(f"--{flag}=: expected a folder, found nothing; name one, or leave --{flag} out")
    if "://" in typed:
        raise BadInput(
            f"--{flag}={typed}: expected a folder of this machine, found an address; mount the bucket (as gcsfuse and s3fs do) and"
            " name the folder"
        )
    try:
        path.exists()
        (path / "runs" / "onehot-seed0" / "trajectory").exists()
    except OSError as error:
        raise BadInput(f"--{flag}={typed[:60]}...: expected a folder ({error.strerror}); name another") from None


def check_workdir(
    workdir: Path | str,
    name: str,
    identity: Mapping[str, Any],
    identity_of: Callable[[dict[str, Any]], Mapping[str, Any]] = lambda values: values,
) -> dict[str, Any] | None:
    """Return the record of the study that a folder holds, or None for a new folder.

    Args:
        workdir: the work folder; it is not made.
        name: the name of the study that is to use it.
        identity: the settings that must agree, as JSON values.
        identity_of: turns the `config` of the record into the identity of the study in the folder.

    Raises:
        BadInput: when it is no folder, or holds a study of another name or identity.
    """
    path = Path(workdir)
    if path.exists() and not path.is_dir():
        raise BadInput(f"--workdir={workdir}: expected a folder, this is a file; pass another")
    if (path / "sweep.json").exists():
        raise BadInput(
            f"--workdir={workdir}: holds a sweep, expected a single study or nothing; pass another --workdir"
        )
    if not (path / "study.json").exists():
        return None
    record = read_study(workdir)
    there = {"study": record["study"], **identity_of(record["config"])}
    for key, value in {"study": name, **identity}.items():
        if there.get(key) != value:
            raise BadInput(
                f"--workdir={workdir}: holds a study with {key}={there.get(key)}, expected {key}={value};"
                " pass another --workdir or the flags of that study"
            )
    return record


def write_study(workdir: Path | str, record: Mapping[str, Any]) -> None:
    """Write `study.json`, with a seal by which `read_study` notices a change by another hand."""
    write_json(Path(workdir) / "study.json", {**record, "seal": _seal(record)})


def _seal(record: Mapping[str, Any]) -> str:
    """The sha256, as hex, over all of a record but its seal."""
    sealed = {key: value for key, value in record.items() if key != "seal"}
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()


def update_study(
    workdir: Path | str, record: dict[str, Any], change: Callable[[dict[str, Any]], Mapping[str, Any] | None]
) -> None:
    """Change `study.json` as it lies there now, which another program may have written since this one has read it.

    Args:
        workdir: the work folder.
        record: contents of `study.json` as this program knows them; they are brought up to date in place. Where there is no
            `study.json` they are what is changed.
        change: changes a record in place, or returns another.

    Raises:
        BadInput: as `read_study`.
    """
    with updating(workdir):
        there = read_study(workdir) if (Path(workdir) / "study.json").is_file() else dict(record)
        changed = change(there) or there
        write_study(workdir, changed)
        record.update(changed)


def key_of(folder: Path | str) -> str | None:
    """Return the key that a study's record has for the run in this folder, as `plan.Run.key`.

    None where there is no record of it: for a teacher that was copied, whose digest is on record instead, and for folders of
    earlier versions.
    """
    path = Path(folder).absolute()
    try:
        return json.loads((path.parent.parent / "study.json").read_text(encoding="utf-8"))["keys"].get(path.name)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None  # whoever needs the record reads it, and says what is wrong with it


def check_name(name: Any, what: str, fix: str) -> None:
    """Raise `BadInput` for what is no name of one file or folder, such as a path that leads elsewhere."""
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\\0"):
        raise BadInput(f"{what}: expected the name of a folder, found {str(name)[:60]!r}; {fix}")


# What is written in a run's folder, through which a link would let a run write elsewhere.
WRITTEN = ("trajectory", "resume", "repair", "damaged", "metrics.jsonl", ".pruned", ".lock")


def check_links(workdir: Path | str) -> None:
    """Raise `BadInput` where a link in a work folder leads to what is no run of this study or its sweep.

    A run may be a link to one of the same study, `NAME`, or to the same run of another variant, `../../VARIANT/runs/NAME`: nothing
    else is followed, so that a folder from elsewhere has nothing written or removed outside of it.
    """
    runs = Path(workdir) / "runs"
    fix = "put what it points to there, or remove it"
    if runs.is_symlink():
        raise BadInput(f"{runs}: expected a folder, this is a link; {fix}")
    for run in sorted(runs.iterdir()) if runs.is_dir() else []:
        if run.is_symlink():
            target = Path(os.readlink(run)).parts
            of_variant = len(target) == 5 and target[:2] == ("..", "..") and target[3:] == ("runs", run.name)
            if not (len(target) == 1 or of_variant) or ".." in target[2:] or target == ("..",):
                raise BadInput(
                    f"{run}: expected a run, this is a link to {Path(*target)}, which is none of this study; {fix}"
                )
        linked = next((run / name for name in WRITTEN if (run / name).is_symlink()), None)
        if linked is not None:
            raise BadInput(f"{linked}: expected a folder or file, this is a link; {fix}")


def write_tokenizer(workdir: Path | str, text: str) -> None:
    """Write `tokenizer.json`, in the format of Hugging Face's tokenizers."""
    write_text(Path(workdir) / "tokenizer.json", text)


def read_tokenizer(workdir: Path | str) -> str | None:
    """Return the contents of `tokenizer.json`, or None where there is none."""
    path = Path(workdir) / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fix = "restore the file or start in another --workdir"
        raise BadInput(f"{path}: expected the tokenizer of this study, found: {error}; {fix}") from None


def teacher_logits_file(workdir: Path | str) -> Path:
    """Return the file of the logits that teach a study, where its teacher is a file of them."""
    return Path(workdir) / "teacher_logits.npz"


def run_folder(workdir: Path | str, name: str) -> Path:
    """Return the folder of a run as an absolute path, which orbax requires."""
    return (Path(workdir) / "runs" / name).absolute()


def kept_steps(folder: Path | str) -> list[int]:
    """Return the steps of a run's trajectory, rising, from the names of its folders alone, which is fast."""
    path = Path(folder) / "trajectory"
    return sorted(int(entry.name) for entry in path.iterdir() if entry.name.isdigit()) if path.is_dir() else []


def missing_steps(folder: Path | str, wanted: Iterable[int]) -> list[int]:
    """Return which steps of those wanted a run's trajectory lacks, rising; a run is finished when it lacks none."""
    return sorted(set(wanted) - set(kept_steps(folder)))


def pruned_steps(record: Mapping[str, Any], name: str) -> set[int]:
    """Return the steps that `kd-jax prune` took from the trajectory of a run; they count as kept, and are not trained again.

    Args:
        record: contents of `study.json`.
        name: the name of the run.
    """
    return set(record.get("pruned", {}).get("steps", {}).get(name, ()))


@contextmanager
def locked(workdir: Path | str, shared: bool = False) -> Iterator[None]:
    """Hold the work folder, so that two programs do not write into it; it is released when the process ends, however it ends.

    Args:
        workdir: the work folder.
        shared: whether other programs that share it may hold it too, as those do that train one run each.

    Raises:
        BadInput: when another program holds it, or it cannot be written.
    """
    busy = f"--workdir={workdir}: expected a free folder, another program is writing it; wait for it"
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with _held(workdir, ".lock", how | fcntl.LOCK_NB, workdir, busy), remote.leased(workdir, shared):
        yield


@contextmanager
def locked_run(workdir: Path | str, name: str) -> Iterator[None]:
    """Hold a run of a work folder that others may share, so that two programs do not train it.

    Args:
        workdir: the work folder.
        name: the name of the run.

    Raises:
        BadInput: as for `locked`.
    """
    busy = (
        f"{name} of {workdir}: expected a run that nobody trains, another program does; wait for it, or train another"
    )
    folder = run_folder(workdir, name)
    with _held(folder, ".lock", fcntl.LOCK_EX | fcntl.LOCK_NB, workdir, busy), remote.leased(folder):
        yield


@contextmanager
def updating(workdir: Path | str) -> Iterator[None]:
    """Hold the records of a work folder for as long as it takes to read, change and write them; others that do so wait."""
    with _held(workdir, ".records.lock", fcntl.LOCK_EX, workdir), remote.updating(workdir):
        yield


@contextmanager
def _held(folder: Path | str, file: str, how: int, workdir: Path | str, busy: str = "") -> Iterator[None]:
    """Hold a lock, a file of its own in a folder, which is made if it is absent.

    Args:
        folder: the folder.
        file: the name of the lock.
        how: the operation of `fcntl.flock`.
        workdir: the work folder, for messages.
        busy: what to say where another program holds it, unless it is waited for.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # A link in its place is not followed: what it points to is none of ours.
        descriptor = os.open(Path(folder) / file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise BadInput(
            f"--workdir={workdir}: expected a folder that can be written ({error.strerror}); pass another"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, how)
        except OSError as error:
            # Where a file system cannot lock, nothing is held.
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise BadInput(busy) from None
        yield
    finally:
        os.close(descriptor)
