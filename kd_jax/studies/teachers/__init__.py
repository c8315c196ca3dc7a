"""Teachers that exist already: finished runs of another work folder, or a file of logits from any framework.

Both are brought into the work folder before training: runs as copies of their folders, logits as `teacher_logits.npz` with the
answers that the study uses. So the folder needs neither of them afterwards, and analysis reads nothing else.

Modules: `runs` and `answers` know the one and the other, `found` is what both return.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_jax.config import Networks, Study
from kd_jax.data import Dataset, teacher_logits
from kd_jax.errors import BadInput
from kd_jax.plan import LOGITS, Plan
from kd_jax.studies.teachers.answers import found_logits
from kd_jax.studies.teachers.answers import logits_of as logits_of
from kd_jax.studies.teachers.found import Found as Found
from kd_jax.studies.teachers.found import Record
from kd_jax.studies.teachers.runs import absent, bring_runs, found_runs, source_of
from kd_jax.studies.teachers.runs import load as load
from kd_jax.studies.teachers.runs import networks_of as networks_of
from kd_jax.studies.teachers.runs import precision_of as precision_of
from kd_jax.studies.teachers.runs import tokens as tokens
from kd_jax.workdir import packing, records


def resolved(study: Study, workdir: Path | str) -> Study:
    """Return the study with the network of the teacher that exists; other studies are returned as they are.

    A study names that network, or leaves `Networks.teacher` empty or at its default. Beside a file of logits it is empty.

    Args:
        study: the configuration.
        workdir: its work folder, whose record knows where the teacher is no longer where it was.

    Raises:
        BadInput: for another network, or where there is no work folder to take a teacher from.
    """
    if not study.distillation.is_teacher_given:
        return study
    typed = study.networks.teacher if study.networks.teacher != Networks().teacher else ""
    if study.distillation.teacher_logits:
        if typed:
            raise BadInput(
                f"--teacher={typed}: expected none beside --teacher_logits, which has no network; leave it out"
            )
        return study.replaced(teacher="")
    source = source_of(study.distillation.teacher_from)
    if source is not None:
        network = source.arm["model"]
    elif (previous := _previous(workdir)) is not None:
        network = previous["network"]
    else:
        raise absent(study.distillation.teacher_from)
    if typed not in ("", network):
        raise BadInput(f"--teacher={typed}: expected {network}, the network of --teacher_from; leave it out")
    return study.replaced(teacher=network)


def _previous(workdir: Path | str) -> dict[str, Any] | None:
    if not (Path(workdir) / "study.json").is_file():
        return None
    return records.read_study(workdir).get("teacher_from")


def find(study: Study, dataset: Dataset, workdir: Path | str, previous: Record | None) -> Found | None:
    """Return the teacher of a study that exists already, after every check; None where teachers are trained. Writes nothing.

    Args:
        study: the configuration, as `resolved` returned it.
        dataset: its data.
        workdir: its work folder.
        previous: contents of its `study.json`, if it was begun before.

    Raises:
        BadInput: for a teacher that cannot teach this study, or is not the one with which it was begun.
    """
    if study.distillation.teacher_from:
        return found_runs(study, dataset, previous)
    if study.distillation.teacher_logits:
        return found_logits(study.distillation.teacher_logits, dataset, workdir, previous)
    return None


def bring(workdir: Path | str, plan: Plan, dataset: Dataset, found: Found, record: Record) -> None:
    """Copy a teacher that exists into the work folder, where it is not there yet. A run that teaches several seeds is copied once.

    Args:
        workdir, plan, dataset: the study.
        found: its teacher.
        record: contents of its `study.json`.

    Raises:
        BadInput: when a copy lacks something and the original is no longer there.
    """
    if plan.given is not None and plan.given.logits:
        path = records.teacher_logits_file(workdir)
        if found.tables and not path.is_file():
            teacher_logits.write(path, found.tables)
        logits_of(workdir, dataset, {LOGITS: found.record})
        return
    bring_runs(workdir, plan, found, record)


def check_digest(name: str, variables: Any, expected: Mapping[str, str]) -> None:
    """Raise `BadInput` where a teacher is not the one on record.

    Args:
        name: of the run that teaches, or `LOGITS`.
        variables: what was read of it.
        expected: {name: digest} of the record, `teacher_hash`.
    """
    found = packing.tree_digest(variables)
    if found != expected[name]:
        raise BadInput(
            f"{name}: expected the teacher on record (hash {expected[name][:12]}), found another ({found[:12]}); restore its"
            " folder, or start in another --workdir"
        )
