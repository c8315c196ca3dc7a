"""The files of a work folder that are no checkpoints: JSON records, metrics, the lock. Needs no JAX."""

import fcntl
import json
import os
from contextlib import contextmanager
from pathlib import Path

from kd_jax.config import BadInput


def write_json(path, value):
    """Replace a JSON file in one step: a reader, or a crash, sees the old or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    os.replace(temporary, path)


def read_study(workdir):
    """Return the contents of `study.json`.

    Raises:
        BadInput: when the folder holds no study.
    """
    path = Path(workdir) / "study.json"
    if not path.is_file():
        raise BadInput(
            f"{workdir}: expected a work folder with a study.json; name the --workdir of a study that was run"
        )
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise BadInput(
            f"{path}: expected JSON, found {error}; restore the file or start in another --workdir"
        ) from None


def check_workdir(workdir, name, identity, identity_of=lambda values: values):
    """Return the record of the study that a folder holds, or None for a new folder.

    Args:
        workdir: the work folder; not made.
        name: of the study that is to use it.
        identity: what must agree, as JSON values.
        identity_of: `identity_of(config of the record) -> identity` of the study in the folder.

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


def write_study(workdir, record):
    """Write `study.json`."""
    write_json(Path(workdir) / "study.json", record)


def write_tokenizer(workdir, text):
    """Write `tokenizer.json`, as Hugging Face's tokenizers has it."""
    path = Path(workdir) / "tokenizer.json"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def read_tokenizer(workdir):
    """Return the contents of `tokenizer.json`, or None where there is none."""
    path = Path(workdir) / "tokenizer.json"
    return path.read_text() if path.is_file() else None


def run_folder(workdir, name):
    """The folder of a run, absolute, as orbax wants it."""
    return (Path(workdir) / "runs" / name).absolute()


def read_metrics(folder):
    """Return the lines of `metrics.jsonl`, oldest first; a line cut short by a crash is left out."""
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = []
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return lines


def append_metrics(folder, line):
    """Add a line to `metrics.jsonl`."""
    with open(Path(folder) / "metrics.jsonl", "a") as stream:
        stream.write(json.dumps(line) + "\n")


def rewind_metrics(folder, step):
    """Drop the lines of `metrics.jsonl` after `step`: training goes on from there and writes them again."""
    path = Path(folder) / "metrics.jsonl"
    kept = [line for line in read_metrics(folder) if line["step"] <= step]
    if path.exists():
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, path)


@contextmanager
def locked(workdir):
    """Hold the work folder, so that two programs do not write into it; released when the process ends, however it ends.

    Raises:
        BadInput: when another program holds it, or it cannot be written.
    """
    workdir = Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        stream = open(workdir / ".lock", "w")  # noqa: SIM115, closed below
    except OSError as error:
        raise BadInput(
            f"--workdir={workdir}: expected a folder that can be written ({error.strerror}); pass another"
        ) from None
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(
                f"--workdir={workdir}: expected a free folder, another program is writing it; wait for it"
            ) from None
        yield


def kept_steps(folder):
    """Steps of a run's trajectory, rising, from the folder names alone: fast, for asking what is done."""
    path = Path(folder) / "trajectory"
    return sorted(int(entry.name) for entry in path.iterdir() if entry.name.isdigit()) if path.is_dir() else []
