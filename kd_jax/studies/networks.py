"""The networks of one's own in a study: tried before training, recorded with where their source lies, and found again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data import Dataset
from kd_jax.errors import BadInput
from kd_jax.models.trial import trial

Described = Mapping[str, Mapping[str, str]]  # what `study.json` holds as `networks`
TRIED = 4  # examples of the trial


def of(study: Study) -> list[str]:
    """Return the names of the networks of a study, each once, the teacher's first; a file of logits is none."""
    of_teacher = () if study.distillation.teacher_logits else (study.networks.teacher,)
    return list(dict.fromkeys((*of_teacher, *study.networks.student)))


def remember(described: Described) -> None:
    """Let Python find the networks of a study on record where they were when it was trained, besides the usual places."""
    for name, where in described.items():
        models.remember(name, where["target"], where["folder"])


def describe(study: Study, dataset: Dataset) -> dict[str, dict[str, str]]:
    """Return {network: {"file", "sha256", "kind", "target", "folder"}} of a study's networks of one's own, after a trial of each.

    `file` is the file that defines it, `sha256` is of it, `kind` is linen or nnx, `target` is `package.module:Net`, and `folder` is
    where that is found; see `models.foreign.Origin`.

    Raises:
        BadInput: for a network that cannot be used; see `models.trial`.
    """
    found = {}
    for name in filter(models.is_foreign, of(study)):
        settings = {**dataset.network_settings, "dropout": study.training.dropout}
        model = models.build(name, dataset.classes, study.networks.precision, **settings)
        trial(name, model, dataset.classes, _examples(dataset, study.networks.precision), study.seed)
        where = models.origin(name)
        kind = models.kind_of(name, dataset.example(), dataset.classes, **dataset.network_settings)
        found[name] = {**where._asdict(), "kind": kind}
    return found


def _examples(dataset: Dataset, precision: str) -> Any:
    """A few training examples as networks are given them; texts at their full length."""
    rows = np.resize(np.arange(min(TRIED, len(dataset.train.y))), TRIED)
    return np.asarray(dataset.clean_view(models.COMPUTE_DTYPES[precision])(dataset.train.x[rows]))


def sources(described: Described) -> dict[str, str]:
    """Return {network: sha256 of its source}, which decides the bits of a run as its name does."""
    return {name: where["sha256"] for name, where in described.items()}


def check_unchanged(described: Described, now: Described) -> None:
    """Refuse to train on where the source of a network is not what it was.

    Args:
        described: the networks of the study on record.
        now: what `describe` returns today.

    Raises:
        BadInput: for the first that changed.
    """
    for name, where in now.items():
        if name in described and described[name]["sha256"] != where["sha256"]:
            raise BadInput(
                f"model {name!r}: {_changed(where['file'], described[name]['sha256'], where['sha256'])}, or pass another --workdir"
            )


def find_again(workdir: Path | str, described: Described) -> None:
    """Check that the networks of a trained study can be run: that they are found, and as they were.

    Raises:
        BadInput: for one that is not, with what can be done without it.
    """
    remember(described)
    for name, where in described.items():
        rest = f"without it there is what was analysed before: kd-jax report {workdir}"
        try:
            found = models.origin(name)
        except BadInput as error:
            raise BadInput(
                f"{workdir}: its networks cannot be run: {error}; it was in {where['file']}; {rest}"
            ) from None
        if found.sha256 != where["sha256"]:
            changed = _changed(found.file, where["sha256"], found.sha256)
            raise BadInput(f"{workdir}: its networks cannot be run: model {name!r}: {changed}; {rest}")


def _changed(file: str, before: str, now: str) -> str:
    return (
        f"expected its source as it was when this work folder was begun (sha256 {before[:12]}), found {now[:12]} in"
        f" {file or 'this program'}; restore it"
    )


def has_dropout(study: Study, dataset: Dataset) -> tuple[bool, bool]:
    """Return whether there is dropout that a study could set: in one of the students' networks, and in the teacher's.

    Raises:
        BadInput: for dropout that is asked for of texts, and that none of the networks trained so has. For other data `data.check`
            sees to that.
    """
    there = []
    for training, names in (
        (study.training, study.networks.student),
        (study.teacher_training, [study.networks.teacher]),
    ):
        own = [name for name in names if models.is_foreign(name)]
        has = any(models.takes_dropout(name) for name in own)
        if training.dropout and not has and len(own) == len(names) and dataset.tokenizer is not None:
            shown = f"--dropout={training.dropout}"
            raise BadInput(
                f"{shown}: expected 0, for {', '.join(own)} has no argument dropout or dropout_rate; leave it out"
            )
        there.append(has)
    return there[0], there[1]
