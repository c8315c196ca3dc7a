"""A file of logits from any framework as a teacher: `--teacher_logits`."""

from pathlib import Path

from kd_jax.data import Dataset, teacher_logits
from kd_jax.data.teacher_logits import Table
from kd_jax.errors import BadInput
from kd_jax.plan import LOGITS
from kd_jax.studies.teachers.found import Found, Record, given_of
from kd_jax.workdir import records


def found_logits(typed: str, dataset: Dataset, workdir: Path | str, previous: Record | None) -> Found:
    """The answers of `--teacher_logits`, after every check; those on record where the file is no longer there."""
    path = Path(typed).expanduser()
    before = previous.get(LOGITS) if previous else None
    if not path.exists() and before is not None:
        return Found(given_of({LOGITS: before}), before)
    tables = teacher_logits.read(path, dataset)
    sha256 = teacher_logits.digest(tables)
    if before is not None and before["sha256"] != sha256:
        raise BadInput(
            f"--teacher_logits={path}: its contents changed since this work folder was begun (sha256 {sha256[:12]}, expected"
            f" {before['sha256'][:12]}); pass another --workdir"
        )
    train = tables["train"]
    record = {
        "file": path.name,
        "sha256": sha256,
        "splits": list(tables),
        "kind": train.kind,
        "top_k": 0 if train.indices is None else train.values.shape[1],
        "dtype": train.values.dtype.name,
    }
    return Found(given_of({LOGITS: record}), record, tables=tables)


def logits_of(workdir: Path | str, dataset: Dataset, record: Record) -> dict[str, Table]:
    """Return {name of a split: the answers of a study's teacher} from its work folder.

    Raises:
        BadInput: when they are not there, or not those on record.
    """
    path = records.teacher_logits_file(workdir)
    tables = teacher_logits.read(path, dataset)
    if (found := teacher_logits.digest(tables)) != record[LOGITS]["sha256"]:
        raise BadInput(
            f"{path}: expected the answers on record (sha256 {record[LOGITS]['sha256'][:12]}), found {found[:12]}; remove the file"
            " and run the study's command again"
        )
    return tables
