"""A teacher that exists already, as it was found."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kd_jax.data.teacher_logits import Table
from kd_jax.plan import GivenTeacher

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A teacher that exists already, as it was found.

    Attributes:
        given: what the plan knows of it.
        record: what `study.json` keeps of it.
        folders: {run of this study that is a copy: the folder to copy}; empty where the copies are there and the original is not.
        tables: the logits that are used, by split; empty for runs, and where the copy is there and the file is not.
    """

    given: GivenTeacher
    record: Record
    folders: Mapping[str, Path] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)


def given_of(record: Record) -> GivenTeacher:
    """Return what the plan knows of a teacher on record."""
    found = GivenTeacher.of(record)
    assert found is not None
    return found
