"""The paper's scoreboard: its 30 settings, what was reported of each, and what has been run here.

OUT/
  summary.json     `settings`, `others` (studies found that are none of them), `counts`, `unread`
  report.html, table.md, table.csv

Which studies are settings, `reproductions` knows. Everything else that is found is listed under its own name, and counts for
nothing.
"""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_jax.analysis import results
from kd_jax.config import Study, from_json, to_json, versions
from kd_jax.errors import BadInput
from kd_jax.plan import seeds_of
from kd_jax.provenance import now
from kd_jax.recipes import images
from kd_jax.recipes.settings import PaperSetting, name_of, settings
from kd_jax.report import scoreboard, tables
from kd_jax.studies import conclusions, folders
from kd_jax.studies.reproductions import Found, cost, differences, equal, found_in

SPLITS = ("test", "train")


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
    found, unread = found_in(here)
    summary = _summary(found, unread) | {"places": [str(place) for place in here]}
    summary["made"] = {"command": command, "at": now(), "versions": versions()}
    summary = json.loads(json.dumps(summary))
    summary["answer"] = scoreboard.answer(summary)
    if out is not None:
        _write(out, summary)
    return Scoreboard(summary)


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
        if all(equal(own[name], theirs[name]) for name in _OF_RECIPES):
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
