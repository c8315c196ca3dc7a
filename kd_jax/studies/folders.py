"""Work folders as they lie on disk, whatever they hold: a study, a sweep or an audit, analysed or not; and folders for reports."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kd_jax.analysis import results
from kd_jax.config import Study, from_json
from kd_jax.errors import BadInput
from kd_jax.files import fresh_folder, named, replace_folder
from kd_jax.studies import sweep, sweep_summary
from kd_jax.workdir import records

STUDY, AUDIT = "study", "audit"


class Opened(NamedTuple):
    """A study or an audit that was analysed.

    Attributes:
        folder: where it lies.
        kind: `STUDY` or `AUDIT`.
        summary: contents of its `summary.json`.
        study: its configuration; None of an audit.
        report: its page.
    """

    folder: Path
    kind: str
    summary: dict[str, Any]
    study: Study | None
    report: Path

    @property
    def arms(self) -> list[Mapping[str, Any]]:
        """The records of its arms, with `name`, `model` and `baseline`."""
        if self.kind == STUDY:
            return self.summary["study"]["arms"]
        given = self.summary["audit"]["given"]
        # The control of an audit stands where the one-hot twin of a study does.
        baselines = {"teacher": None, "student": "control", "control": None}
        return [
            {"name": arm, "model": _files(given[arm]), "baseline": of} for arm, of in baselines.items() if given[arm]
        ]


def _files(given: list[Mapping[str, Any]]) -> str:
    return given[0]["name"] if len(given) == 1 else f"{given[0]['name']} and {len(given) - 1} more"


def opened(folder: Path | str) -> list[Opened]:
    """Return the analysed study or audit of a folder, or of a sweep all its variants but those that diverged.

    Raises:
        BadInput: in one line, when there is none, it was not analysed, or a file is damaged.
    """
    folder = Path(folder).expanduser()
    if sweep.is_sweep(folder):
        without = sweep_summary.left_out(folder)
        variants = [variant["folder"] for variant in sweep.read(folder)["variants"]]
        return [of_study(folder / variant) for variant in variants if variant not in without]
    if (folder / "study.json").is_file():
        return [of_study(folder)]
    path = folder / "summary.json"
    if path.is_file():
        return [_of_audit(folder, records.read_json(path, "the JSON of an audit", f"make it again: {_audit(folder)}"))]
    raise BadInput(
        f"{folder}: expected the work folder of a study or a sweep (--workdir), or the folder of an audit (--out); pass one of them"
    )


def _audit(folder: Path) -> str:
    return f"kd-jax audit ... --out={folder}"


def of_study(folder: Path | str) -> Opened:
    """Return the analysed study of a work folder; errors as for `opened`."""
    folder = Path(folder)
    records.read_study(folder)
    summary = records.read_summary(folder)
    where, fix = folder / "analysis" / "summary.json", f"run: kd-jax analyze {folder}"
    if "theory" in summary:
        raise BadInput(f"{folder}: expected a study that trains networks, this one simulates the theorem; leave it out")
    try:
        study = from_json(summary["study"]["config"])
        _check(summary, summary["study"]["arms"], summary["study"]["data"]["fingerprint"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{where}: expected the JSON of an analysis, found it damaged ({_what(error)}); {fix}") from None
    return Opened(folder, STUDY, summary, study, folder / "analysis" / "report.html")


def _of_audit(folder: Path, summary: dict[str, Any]) -> Opened:
    where = folder / "summary.json"
    if "audit" not in summary:
        raise BadInput(
            f"{where}: expected that of an audit, found another; name the folder of a study, a sweep or an audit"
        )
    found = Opened(folder, AUDIT, summary, None, folder / "report.html")
    try:
        _check(summary, found.arms, summary["audit"]["given"]["digest"])
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{where}: expected the JSON of an audit, found it damaged ({_what(error)}); make it again: {_audit(folder)}"
        ) from None
    return found


def _check(summary: Mapping[str, Any], arms: Any, identity: Any) -> None:
    """Read what is needed of a summary; an exception says that it is damaged."""
    results.read(summary)
    for verdict in summary["verdicts"]:
        results.Verdict(**verdict)
    for arm in arms:
        _ = arm["name"], arm["model"], arm["baseline"]
    _ = summary["warnings"], len(identity)


def _what(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)


# ---- folders for reports


def check_out(out: Path, key: str, what: str) -> None:
    """Raise `BadInput` for a folder that holds something else than an earlier report of its kind.

    Args:
        out: the folder to write.
        key: a key that the `summary.json` of such a report has.
        what: what such a report is called.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"--out={out}: expected a folder, this is a file; pass another")
    if out.is_dir() and any(out.iterdir()):
        try:
            is_ours = key in json.loads((out / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, TypeError):
            is_ours = False
        if not is_ours:
            raise BadInput(f"--out={out}: expected a new or empty folder, or that of {what}; pass another")


@contextmanager
def replacing_folder(out: Path) -> Iterator[Path]:
    """Give a new folder beside `out`, which takes its place when the block ends without an exception; else nothing changes."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = fresh_folder(out.with_name(f".{out.name}.new"))
    try:
        with named(out):
            yield folder
        replace_folder(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
