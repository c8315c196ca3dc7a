"""What the variants of a sweep came to, side by side: `analysis/summary.json` of a sweep, and its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.analysis import across, answers, results
from kd_jax.analysis.claims import decide
from kd_jax.analysis.results import Unlearned
from kd_jax.config import from_json
from kd_jax.errors import BadInput
from kd_jax.files import fresh_folder, named, replace_folder
from kd_jax.plan import seeds_of
from kd_jax.report.sweeps import write_report
from kd_jax.studies.analyses import learning
from kd_jax.workdir import records


def is_summarised(workdir: Path | str, record: Mapping[str, Any]) -> bool:
    """Return whether a sweep has a summary of the variants that its record, the contents of `sweep.json`, names."""
    try:
        return records.read_summary(workdir, of_sweep=True)["study"]["variants"] == record["variants"]
    except (BadInput, KeyError, TypeError):
        return False  # absent or damaged: it is made again


def summarise(
    workdir: str | Path, record: Mapping[str, Any], diverged: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Write `analysis/` of a sweep from the analyses of its variants, and return the contents of its `summary.json`.

    Args:
        workdir: the sweep's work folder.
        record: contents of `sweep.json`.
        diverged: {folder of a variant: why there is no analysis of it}; by default what the last analysis of the sweep says.
    """
    workdir = Path(workdir)
    if diverged is None:
        diverged = left_out(workdir)
    record = {**record, "variants": [v for v in record["variants"] if v["folder"] not in diverged]}
    if not record["variants"]:
        raise BadInput(
            f"{workdir}: expected a sweep with a variant that was analysed, found none; run its command again"
        )
    summaries = {v["folder"]: records.read_summary(workdir / v["folder"]) for v in record["variants"]}
    unlearned = {name: _unlearned(workdir / name, of) for name, of in summaries.items()}
    measured = _measured(record, summaries, unlearned)
    together, claims = [], []
    for question in (across.switching, across.helping):
        numbers, drawn = question(measured)
        together += numbers
        claims += drawn
    estimates = [{"variant": name, **e} for name, of in summaries.items() for e in of["estimates"]]
    verdicts = decide(claims)
    result = {
        "answer": answers.of_sweep(verdicts, measured),
        "estimates": [*(number.to_json() for number in together), *estimates],
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "diverged": dict(diverged),
        "warnings": [f"{name} is left out: {why}" for name, why in diverged.items()]
        + _of_common_seeds(summaries)
        + [f"{name}: {warning}" for name, of in summaries.items() for warning in of["warnings"]],
        "unlearned": [{"variant": name, **run.to_json()} for name, of in unlearned.items() for run in of],
        "study": {
            **record,
            "arms": {name: of["study"]["arms"] for name, of in summaries.items()},
            "first": next(iter(summaries.values()))["study"],
        },
    }
    folder = fresh_folder(workdir / ".analysis")
    with named(workdir / "analysis"):
        records.write_json(folder / "summary.json", result)
        write_report(folder, measured)
    replace_folder(folder, workdir / "analysis")
    return result


def left_out(workdir: Path | str) -> dict[str, str]:
    """Return {folder of a variant: why there is no analysis of it} of a sweep."""
    try:
        return records.read_summary(workdir, of_sweep=True).get("diverged", {})
    except BadInput:
        return {}


def _unlearned(workdir: Path, summary: Mapping[str, Any]) -> list[Unlearned]:
    """Return the runs of a variant that did not learn.

    Args:
        workdir: the variant's work folder.
        summary: contents of its `summary.json`. Where an earlier version wrote it, without such a list, the runs are judged anew.
    """
    if "unlearned" in summary:
        return [Unlearned.from_json(run) for run in summary["unlearned"]]
    study = from_json(summary["study"]["config"])
    return learning.unlearned(workdir, workdir / "analysis", study, summary["study"])


def _measured(
    record: Mapping[str, Any], summaries: Mapping[str, Mapping[str, Any]], unlearned: Mapping[str, Sequence[Unlearned]]
) -> list[across.StudentResult]:
    """Return the student of every variant, with the fields in which variants differ.

    Args:
        record: contents of `sweep.json`.
        summaries: {folder of a variant: contents of its `summary.json`}.
        unlearned: {folder of a variant: its runs that did not learn}.
    """
    configs = {v["folder"]: told_apart(v["config"]) for v in record["variants"]}
    differing = [name for name in next(iter(configs.values())) if len({str(c[name]) for c in configs.values()}) > 1]
    listed, seeds = (
        [],
        {name: seeds_of(from_json(of["study"]["config"]), of["study"]) for name, of in summaries.items()},
    )
    common = _common(list(seeds.values()))
    if common is None:
        return []
    for name, of in summaries.items():
        at = [seeds[name].index(seed) for seed in common] or slice(None)
        table = results.index(results.read(of), "name", "arm", "split", "subset")
        failed = {run.arm for run in unlearned[name]}
        for arm in of["study"]["arms"]:
            if not arm["baseline"]:
                continue
            teacher = arm["teacher"]
            learned = not failed & {teacher, arm["baseline"], arm["name"]}
            values = {field: configs[name][field] for field in differing}
            gain = np.array(table["accuracy_gain", arm["name"], "test", "all"].values)
            # One teacher of all seeds has one value.
            fit = np.broadcast_to(table["accuracy", teacher, "train", "all"].values, gain.shape)[at]
            over = table.get(("accuracy_over_teacher", arm["name"], "test", "all"))
            lead = (gain - over.values if over else np.full(gain.shape, np.nan))[at]
            gain = gain[at]
            listed.append(across.StudentResult(name, arm["name"], values, fit, lead, gain, learned))
    return listed


def _of_common_seeds(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence on the seeds of which the variants are taken together, where some variants have others besides."""
    seeds = [seeds_of(from_json(of["study"]["config"]), of["study"]) for of in summaries.values()]
    common = _common(seeds)
    if common == [] or all(of == common for of in seeds):
        return []
    if common is None:
        return ["no seed was trained to its end in every variant, so nothing is said of several variants together"]
    listed = ", ".join(map(str, common))
    return [f"variants have different seeds; what is said of several variants together is of those of all: {listed}"]


def _common(seeds: Sequence[list[int]]) -> list[int] | None:
    """The seeds that all variants have, where they are taken together, for numbers are paired by seed.

    Empty where each variant has one seed of its own, so that nothing is paired; None where some have several and none is common.
    """
    common = [seed for seed in seeds[0] if all(seed in of for of in seeds)]
    return common or ([] if max(map(len, seeds)) == 1 else None)


def told_apart(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration, as JSON values, with a field of its own for each thing that the teacher's training can do otherwise.

    Such a field is None where the teacher's training is as the students'.
    """
    study = from_json(values)
    teacher, students = vars(study.teacher_training), vars(study.training)
    own = {f"teacher's {name}": value if value != students[name] else None for name, value in teacher.items()}
    return {name: value for name, value in values.items() if name != "teacher_with"} | own
