"""The paper's scoreboard: its 30 settings, what was reported of each, and what has been run here.

OUT/
  summary.json     `settings`, `others` (studies found that are none of them), `counts`, `unread`
  report.html, table.md, table.csv

A study is a setting when every field that decides its numbers is that of the setting's command, and its data are as large as
published. What may differ is listed in `FREE`. Everything else that is found is listed under its own name and counts for nothing.
"""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.analysis import results
from kd_jax.config import Look, Study, from_json, to_json, versions
from kd_jax.errors import BadInput
from kd_jax.plan import TEACHER, seeds_of
from kd_jax.provenance import now
from kd_jax.recipes import images
from kd_jax.recipes.settings import FORWARD_FLOPS, PaperSetting, name_of, settings
from kd_jax.report import scoreboard, tables
from kd_jax.studies import conclusions, folders
from kd_jax.workdir import metrics_file, records

# Fields that may differ from a setting's: which seeds and how many, what only analysis looks at, further arms and checkpoints, the
# arithmetic, the seed of the noise. Students are matched one by one, and weights by whether they were there.
FREE = (
    *(each.name for each in fields(Look)),
    *("seeds", "seed", "nulls", "control", "early_epoch", "checkpoints", "precision", "matmul_precision", "noise_seed"),
)
MATCHED = ("student", "init_from")
OF_TEXTS = ("tokenizer", "vocabulary")  # pre-trained weights bring their own
SPLITS = ("test", "train")
TRAINED = 3  # passes forward that a step of training costs: one forward, and about two backward


class Scoreboard:
    """The paper's settings and what was run of them. Printed, it shows its table and counts.

    Attributes:
        summary: the contents of `summary.json`.
    """

    def __init__(self, summary: dict[str, Any]):
        self.summary = summary

    def table(self) -> tables.Table:
        """Return a setting per row: what was reported of it, what was run, and what came out."""
        return scoreboard.table(self.summary)

    def __repr__(self) -> str:
        return f"<Scoreboard: {scoreboard.answer(self.summary)[0]}>"

    def __str__(self) -> str:
        lines = [*scoreboard.answer(self.summary), ""]
        for table in scoreboard.listed(self.summary):
            lines += [table.title, tables.text(table.header, table.rows), table.note, ""]
        return "\n".join(lines).strip()


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


def paper(
    places: Sequence[Path | str] = (".",),
    out: Path | str | None = None,
    command: str = "",
) -> Scoreboard:
    """Say which of the paper's settings have been run here, and what came out beside what was reported.

    Args:
        places: folders below which work folders are looked for.
        out: the folder in which the page is written; None to write nothing.
        command: the command line of this program, for the record.

    Raises:
        BadInput: for a place that is no folder, or a folder for the page that holds something else.
    """
    out = None if out is None else Path(out).expanduser()
    if out is not None:
        folders.check_out(out, "settings", "a scoreboard")
    here = [Path(place).expanduser() for place in places]
    for place in here:
        if not place.is_dir():
            raise BadInput(
                f"{place}: expected a folder with work folders in it, found none; pass the folder of your runs"
            )
    found, unread = _found(here)
    summary = _summary(found, unread) | {"places": [str(place) for place in here]}
    summary["made"] = {"command": command, "at": now(), "versions": versions()}
    summary = json.loads(json.dumps(summary))
    summary["answer"] = scoreboard.answer(summary)
    if out is not None:
        _write(out, summary)
    return Scoreboard(summary)


# ---- what is found


def workdirs(place: Path) -> Iterator[Path]:
    """Yield the work folders of studies below a folder, sorted; it is not looked for others inside one."""
    for folder, below, files in os.walk(place):
        if "study.json" in files:
            below.clear()
            yield Path(folder)
        below.sort()


def _found(places: Sequence[Path]) -> tuple[list[Found], list[dict[str, str]]]:
    """(students, work folders that cannot be read with the reason)."""
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
    other = {
        name: (own[name], theirs[name]) for name in own if name not in left and not _equal(own[name], theirs[name])
    }
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


def _equal(own: Any, theirs: Any) -> bool:
    if isinstance(own, list) and isinstance(theirs, list):
        return len(own) == len(theirs) and all(map(_equal, own, theirs))
    if isinstance(own, float) or isinstance(theirs, float):
        return bool(np.isclose(own, theirs, rtol=1e-9, atol=0))
    return own == theirs


# ---- what came out


def _summary(found: Sequence[Found], unread: Sequence[dict[str, str]]) -> dict[str, Any]:
    listed = settings()
    runs: dict[int, list[Found]] = {setting.number: [] for setting in listed}
    others = []
    for each in found:
        number = next((setting.number for setting in listed if not differences(each, setting)), None)
        if number is None:
            others.append(_other(each, listed))
        else:
            runs[number].append(each)
    rows = [_row(setting, runs[setting.number], found) for setting in listed]
    return {"settings": rows, "others": others, "counts": _counts(rows), "unread": list(unread)}


def _row(setting: PaperSetting, runs: Sequence[Found], everything: Sequence[Found]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "number": setting.number,
        "kind": setting.kind,
        "name": setting.name,
        "dataset": setting.study.data.dataset,
        "teacher": setting.study.networks.teacher,
        "student": setting.study.networks.student[0],
        "recipe": setting.recipe,
        "command": list(setting.command),
        "reported": None if setting.reported is None else setting.reported._asdict() | {"gain": setting.reported.gain},
    }
    analysed = [each for each in runs if each.opened is not None]
    if not analysed:
        row["status"] = "not analysed" if runs else "not run"
        row["folders"] = [str(each.folder) for each in runs]
        row["cost"] = cost(setting, everything)
        return row
    # Of several the one with the most seeds, the first of those: chosen by what was run, not by what came out.
    best = max(analysed, key=_seeds)
    row["status"] = "run"
    row["folders"] = [str(best.folder), *(str(each.folder) for each in runs if each is not best)]
    return row | _measured(best)


def _seeds(found: Found) -> int:
    """The number of seeds that were analysed; more may have been asked for since."""
    if found.opened is None:
        return 0
    record = found.opened.summary["study"]
    return len(seeds_of(from_json(record["config"]), record))


def _measured(found: Found) -> dict[str, Any]:
    """What an analysed study says of a student."""
    summary = found.opened.summary if found.opened else {"estimates": [], "verdicts": []}
    known = results.index(results.read(summary), "name", "arm", "split", "subset")

    def interval(name: str, arm: str, split: str, subset: str = "all") -> dict[str, Any] | None:
        estimate = known.get((name, arm, split, subset))
        return None if estimate is None else vars(estimate.interval)

    measured = {
        "arm": found.arm,
        "seeds": _seeds(found),
        "precision": found.study.networks.precision,
        "teacher_accuracy": interval("accuracy", found.taught_by, "test"),
        "student_accuracy": interval("accuracy", found.arm, "test"),
        "gain": interval("accuracy_gain", found.arm, "test"),
        "over_teacher": interval("accuracy_over_teacher", found.arm, "test"),
        "slopes": {split: interval("exaggeration_slope", found.arm, split, "lowest_25") for split in SPLITS},
        "verdicts": {},
    }
    for split in SPLITS:
        verdict = conclusions.on(summary, "exaggeration_slope", found.arm, split)
        if verdict is not None:
            measured["verdicts"][split] = verdict.to_json()
    return measured


def _other(found: Found, listed: Sequence[PaperSetting]) -> dict[str, Any]:
    """A study that is none of the settings, and what makes it another than the one that is most like it, if one is like it."""
    alike = [
        setting
        for setting in listed
        if (setting.study.data.dataset, setting.study.networks.teacher, setting.study.networks.student[0])
        == (found.study.data.dataset, found.study.networks.teacher, found.student)
    ]
    nearest = min(alike, key=lambda setting: len(differences(found, setting)), default=None)
    return {
        "folder": str(found.folder),
        "study": found.record["study"],
        "name": name_of(found.study, found.student),
        "recipe": _recipe(found.study),
        "seeds": len(seeds_of(found.study, found.record)),
        "nearest": None if nearest is None else nearest.number,
        "differs": {} if nearest is None else {key: list(of) for key, of in differences(found, nearest).items()},
        "analysed": found.opened is not None,
        **(_measured(found) if found.opened is not None else {}),
    }


def _recipe(study: Study) -> str:
    """The name of the recipe for images whose training and distillation a study has; empty for none."""
    own = to_json(study)
    for name, recipe in images.RECIPES.items():
        theirs = to_json(recipe)
        if all(_equal(own[name], theirs[name]) for name in _OF_RECIPES):
            return name
    return ""


_OF_RECIPES = (
    "epochs",
    "batch_size",
    "learning_rate",
    "warmup",
    "decay_at",
    "decay_by",
    "optimizer",
    "temperature",
    "weight",
)


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many settings of a kind exaggerate on a split: reported, supported here, and of how many that were run."""
    from kd_jax.recipes.reported import COUNTS

    counted = []
    for each in COUNTS:
        own = [row for row in rows if row["kind"] == each.kind and row["status"] == "run"]
        verdicts = [row["verdicts"].get(each.split, {}).get("verdict", "none") for row in own]
        slopes = [row["slopes"][each.split] for row in own if row["slopes"][each.split]]
        counted.append(
            {
                **each._asdict(),
                "run": len(own),
                **{name: verdicts.count(name) for name in ("supported", "inconclusive", "contradicted")},
                "above_1": sum(slope["estimate"] > 1 for slope in slopes),
            }
        )
    return counted


# ---- what is to come


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


# ---- what is written


def _write(out: Path, summary: Mapping[str, Any]) -> None:
    with folders.replacing_folder(out) as folder:
        (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        with open(folder / "table.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(scoreboard.CSV_COLUMNS)
            writer.writerows(scoreboard.csv_rows(summary))
        reports = {}
        for row in (*summary["settings"], *summary["others"]):
            for place in row.get("folders", [row.get("folder")]):
                page = Path(place) / "analysis" / "report.html"
                if page.is_file():
                    reports[f"{place}: {row['name']}"] = os.path.relpath(page.resolve(), out.resolve())
        scoreboard.write(folder, summary, reports)
