"""Studies on disk, held against the paper's settings: which they are, and what a setting would cost.

A study is a setting when every field that decides its numbers is that of the setting's command, and its data are as large as
published. What may differ is listed in `FREE`.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.config import Look, Study, from_json, to_json
from kd_jax.errors import BadInput
from kd_jax.plan import TEACHER, seeds_of
from kd_jax.recipes.settings import FORWARD_FLOPS, PaperSetting
from kd_jax.studies import folders
from kd_jax.workdir import metrics_file, records

# Fields that may differ from a setting's: which seeds and how many, what only analysis looks at, further arms and checkpoints, the
# arithmetic, the seed of the noise. Students are matched one by one, and weights by whether they were there.
FREE = (
    *(each.name for each in fields(Look)),
    *("seeds", "seed", "nulls", "control", "early_epoch", "checkpoints", "precision", "matmul_precision", "noise_seed"),
)
MATCHED = ("student", "init_from")
OF_TEXTS = ("tokenizer", "vocabulary")  # pre-trained weights bring their own
TRAINED = 3  # passes forward that a step of training costs: one forward, and about two backward


class Found(NamedTuple):
    """A student of a study that lies on disk.

    Attributes:
        folder: the work folder.
        record: contents of its `study.json`.
        study: its configuration.
        student: the student's network.
        arm: the name of its arm.
        taught_by: the name of its teacher's arm.
        opened: its analysis; None where there is none.
    """

    folder: Path
    record: dict[str, Any]
    study: Study
    student: str
    arm: str
    taught_by: str
    opened: folders.Opened | None


def workdirs(place: Path) -> Iterator[Path]:
    """Yield the work folders of studies below a folder, sorted; it is not looked for others inside one."""
    for folder, below, files in os.walk(place):
        if "study.json" in files:
            below.clear()
            yield Path(folder)
        below.sort()


def found_in(places: Sequence[Path]) -> tuple[list[Found], list[dict[str, str]]]:
    """Return (the students of all studies below some folders, the work folders that cannot be read with the reason)."""
    found, unread, seen = [], [], set()
    for folder in (folder for place in places for folder in workdirs(place)):
        if folder.resolve() in seen:
            continue
        seen.add(folder.resolve())
        try:
            record = records.read_study(folder)
            if "teacher_time" in record["config"]:
                continue  # of the theorem, which trains no networks
            study = from_json(record["config"])
            opened = folders.of_study(folder) if (folder / "analysis" / "summary.json").is_file() else None
            _ = record["data"]["train_examples"], record["data"]["test_examples"], record["data"]["classes"]
        except BadInput as error:
            unread.append({"folder": str(folder), "why": str(error)})
            continue
        except (KeyError, TypeError, AttributeError) as error:
            unread.append({"folder": str(folder), "why": f"{folder}: its study.json is damaged ({error})"})
            continue
        for arm in record["arms"]:
            if arm["baseline"]:
                found.append(Found(folder, record, study, arm["model"], arm["name"], arm["teacher"], opened))
    return found, unread


def differences(found: Found, setting: PaperSetting) -> dict[str, tuple[Any, Any]]:
    """Return {field: (value of the study, value of the setting)} of what makes a study another than a setting; empty for none.

    Args:
        found: a student of a study.
        setting: a setting.
    """
    own, theirs = to_json(found.study), to_json(setting.study)
    # A study with an analysis is what was analysed; seeds that were added since are not in it.
    left = {*FREE, *MATCHED, *(OF_TEXTS if setting.kind == "texts" else ())}
    other = {name: (own[name], theirs[name]) for name in own if name not in left and not equal(own[name], theirs[name])}
    if other.get("distillation") and found.study.distillation_loss == setting.study.distillation_loss:
        del other["distillation"]
    if found.student != setting.study.networks.student[0]:
        other["student"] = found.student, setting.study.networks.student[0]
    if found.taught_by != TEACHER:  # the same teacher at an earlier step
        other["teacher"] = found.taught_by, TEACHER
    starts, networks = found.record.get("init_from", {}), {setting.study.networks.teacher, found.student}
    if setting.study.networks.init_from and not networks <= set(starts):
        other["init_from"] = "random weights", "pre-trained weights"
    if not setting.study.networks.init_from and found.study.networks.init_from:
        other["init_from"] = "pre-trained weights", "random weights"
    data = found.record["data"]
    sizes = {"train": data["train_examples"], "test": data["test_examples"], "classes": data["classes"]}
    for name, size in sizes.items():
        published = getattr(setting.size, name)
        # A reduced study says so in its flags already.
        if size != published and f"{name}_examples" not in other:
            other["classes" if name == "classes" else f"{name} examples of the data"] = size, published
    return other


def equal(own: Any, theirs: Any) -> bool:
    """Return whether two values of a field are the same, numbers up to rounding."""
    if isinstance(own, list) and isinstance(theirs, list):
        return len(own) == len(theirs) and all(map(equal, own, theirs))
    if isinstance(own, float) or isinstance(theirs, float):
        return bool(np.isclose(own, theirs, rtol=1e-9, atol=0))
    return own == theirs


def cost(setting: PaperSetting, everything: Sequence[Found] = ()) -> dict[str, Any]:
    """Return what one seed of a setting costs: training steps, examples and floating-point operations, and hours where known.

    A seed trains the teacher, the student and the student's one-hot twin. Operations of one example forward are those that XLA
    counts in the network's program, texts at their full length, which is more than buckets of similar length take; a step of
    training takes about three times as many, and a student's also the teacher's forward. Hours are not known but where a study that
    was trained has the same networks on examples of the same shape: then from its examples per second, arm by arm.

    Args:
        setting: the setting.
        everything: the studies that were found, for their speed.
    """
    study, size = setting.study, setting.size
    steps = study.training.epochs * (size.train // study.training.batch_size)
    examples = steps * study.training.batch_size
    teacher, student = study.networks.teacher, study.networks.student[0]
    of_teacher, of_student = (FORWARD_FLOPS[name, study.data.dataset] for name in (teacher, student))
    flops = examples * (TRAINED * of_teacher + 2 * TRAINED * of_student + of_teacher)
    found = {"networks": 3, "steps": 3 * steps, "examples": 3 * examples, "flops": flops, "hours": None}
    for each in everything:
        speeds = _speeds(each, setting)
        if speeds:
            hours = sum(examples / speed for speed in speeds.values()) / 3600
            return found | {"hours": hours, "measured_in": str(each.folder), "examples_per_second": speeds}
    return found


def _speeds(found: Found, setting: PaperSetting) -> dict[str, float]:
    """{arm: examples per second, the median of its epochs but the first, which compiles} of a study with a setting's networks.

    Empty where one is not known, or the examples are of another shape.
    """
    data, networks = found.record["data"], setting.study.networks
    same = (found.study.networks.teacher, found.student) == (networks.teacher, networks.student[0])
    shape = tuple(data.get("image_shape", ())) or (found.study.data.max_length,)
    if not same or shape != setting.size.example or found.study.distillation_loss != setting.study.distillation_loss:
        return {}
    baseline = next(arm["baseline"] for arm in found.record["arms"] if arm["name"] == found.arm)
    speeds = {}
    seed = next(iter(seeds_of(found.study, found.record)), found.study.seed)
    for arm in (TEACHER, baseline, found.arm):
        lines = metrics_file.read(records.run_folder(found.folder, f"{arm}-seed{seed}"))
        known = [line["examples_per_second"] for line in lines if line.get("examples_per_second")][1:]
        if not known:
            return {}
        speeds[arm] = float(np.median(known))
    return speeds
