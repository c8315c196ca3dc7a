"""An audit: what a student does differently from its teacher, from their answers alone, whoever trained them and with what.

OUT/
  summary.json     estimates, verdicts, warnings; `audit`: what was given, calibration, classes, confusions, examples, advice
  report.html, table.md, table.csv, classes.csv, examples.csv, figures/
"""

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.analysis import answers, learning, remainder, rescaling, summary, verdicts
from kd_jax.analysis import audit as questions
from kd_jax.analysis.claims import withheld
from kd_jax.analysis.examples import RANKS, Beside, OfModel, beside
from kd_jax.analysis.results import Estimate, Unlearned, Verdict
from kd_jax.config import versions
from kd_jax.data import outputs
from kd_jax.errors import BadInput
from kd_jax.provenance import now
from kd_jax.report import audits, tables
from kd_jax.studies import audit_given, folders
from kd_jax.studies.audit_given import FEWEST, Given, Tokens
from kd_jax.studies.progress import Quiet
from kd_jax.studies.results import Findings

FEW_SEQUENCES = 20  # of fewer, intervals hold the true value a little less often than they claim


def audit(
    teacher: Any,
    student: Any,
    labels: Any = None,
    *,
    control: Any = None,
    kind: outputs.Kind | None = None,
    classes: int | None = None,
    names: Any = None,
    examples: Any = None,
    split: str = "test",
    tokens: bool = False,
    sequences: Any = None,
    mask: Any = None,
    shift_labels: bool = False,
    out: Path | str | None = None,
    progress: Callable[..., Any] = Quiet,
    command: str = "",
) -> "Audit":
    """Judge a student by its answers and its teacher's: fidelity, exaggeration, calibration, where they part, what to do.

    A student whose confidence is one and a half times its teacher's:

    >>> rng = np.random.default_rng(0)
    >>> teacher = rng.normal(size=(500, 3))
    >>> found = audit(teacher, 1.5 * teacher)
    >>> print(f"{found.summary['audit']['rescaled']['temperature']['estimate']:.3f}")
    1.500
    >>> found.verdicts[0].verdict  # without a control it is never called supported
    'inconclusive'

    Args:
        teacher, student: logits float [examples, classes] of the same examples in the same order, as arrays or files; or a list of
            them, one for each seed. See `data.outputs.model` for the formats.
        labels: int [examples], an array or a file; without them nothing is said about accuracy and calibration.
        control: logits of a network that has never met the teacher, best one that was trained as the teacher was, from another
            seed. It is what "no exaggeration" looks like. One, or one for each seed.
        kind: `logits`, `log_probabilities` or `probabilities`; by default what a `.npz` says, else logits.
        classes: the number of classes, where only the most probable are given.
        names: names of the classes, a list or a text file; of tokens, the model's `tokenizer.json`.
        examples: what to show of the examples; see `data.views.views`.
        split: `train` where teacher and student were trained on these examples, which decides what is advised; else `test`.
        tokens: whether the rows are next-token distributions of language models. Arrays may then be
            [sequences, length, vocabulary], and labels [sequences, length], where -100 leaves a position out. What is shown of an
            example is the token in its context, from `examples`, int ids of the inputs [sequences, length], or from the labels.
        sequences: of tokens, the sequence that each is from, int [tokens], or [sequences] to join those that depend on each
            other. With it, or where arrays have three dimensions, intervals draw whole sequences.
        mask: of tokens, whether each counts, bool or 0 and 1, such as an attention mask.
        shift_labels: whether the labels are the inputs, as Hugging Face's models take them, so that the token at a position is
            what the row before it predicts.
        out: the folder in which the report is written; None to write nothing.
        progress: `progress(total, done)` returns a context manager that counts blocks of rows.
        command: the command line of this program, for the record.

    Raises:
        BadInput: in one line, for what cannot be judged; nothing is written then.
    """
    out = None if out is None else Path(out).expanduser()
    if out is not None:
        folders.check_out(out, "audit", "an audit")
    of_tokens = Tokens(sequences, mask, shift_labels)
    if not tokens and of_tokens != Tokens():
        raise BadInput("--sequences, --mask, --shift_labels: expected rows that are tokens; pass --tokens")
    given = audit_given.read(
        teacher, student, labels, control, kind, classes, names, examples, split, of_tokens if tokens else None
    )
    estimates, first, controlled, flat, same = _measured(given, progress)
    found = _looked_at(given, first, estimates)
    found["given"] = audit_given.described(given, first) | {
        "command": command,
        "written": now(),
        "versions": versions(),
    }
    said = _verdicts(given, estimates, flat)
    contents = {
        "answer": answers.of_audit(said, estimates, given.split, given.unit),
        "estimates": [estimate.to_json() for estimate in estimates],
        "verdicts": [verdict.to_json() for verdict in said],
        "warnings": [*same, *map(_flatness, flat), *_warnings(given, first)],
        "unlearned": [run.to_json() for run in flat],
        "audit": found,
    }
    contents = json.loads(json.dumps(contents, allow_nan=False))
    if out is not None:
        _write(out, contents, given, first, controlled)
    return Audit(contents)


class Audit(Findings):
    """What an audit found; `summary["audit"]` has calibration, classes, confusions, examples and advice."""

    @property
    def advice(self) -> list[questions.Advice]:
        """What the numbers advise, each with the number and a source."""
        return [questions.Advice(**each) for each in self.summary["audit"]["advice"]]

    @property
    def _arms(self):
        return audits.arms_of(self.summary)


# ---- what is measured


def _measured(
    given: Given, progress_of: Callable[..., Any]
) -> tuple[list[Estimate], Beside, Beside | None, list[Unlearned], list[str]]:
    """(estimates, the first seed's student beside its teacher, its control beside that teacher, what hardly varies, copies).

    What hardly varies are students and controls of which no slope could be seen, as `analysis.learning` has it.
    """
    seeds = range(len(given.students))
    count = len(given.teachers[0])
    kept: dict[str, Beside] = {}
    flat: list[Unlearned] = []
    digests: dict[str, dict[str, None]] = {}  # {what a model says: the models that say it, each once}

    def pairs():
        for seed in seeds:
            teacher = given.teachers[min(seed, len(given.teachers) - 1)]
            for arm, models in (("control", given.controls), ("student", given.students)):
                if not models:
                    continue
                model = models[min(seed, len(models) - 1)]
                best = rescaling.matched(teacher, model, given.sequences)
                numbers = beside(
                    teacher,
                    model,
                    given.labels,
                    lambda rows: bar.advance(rows, "auditing", audit_given.short(model.name)),  # noqa: B023, called at once
                    min(audit_given.top_k(teacher) or RANKS, RANKS),  # beyond those that were given there is no order
                    best.estimate,
                )
                if seed == 0:
                    kept[arm] = numbers
                if seed == 0 or max(len(models), len(given.teachers)) > 1:  # else it is the same beside the same
                    flat.extend(_flat(arm, seed, numbers))
                for role, of_role, said in (
                    ("teacher", given.teachers, numbers.teacher),
                    (arm, models, numbers.student),
                ):
                    called = f"{role} {seed + 1}" if len(of_role) > 1 else role
                    digests.setdefault(_digest(said), {})[called] = None
                yield summary.Compared(
                    arm, seed, given.split, numbers, given.labels, given.labels, given.sequences, best
                )

    total = count * (len(given.students) + (len(seeds) if given.controls else 0))
    with progress_of(total) as bar:
        models = {"teacher": given.teachers, "control": given.controls}
        single = [arm for arm, of in models.items() if len(of) == 1 < len(seeds)]
        estimates = summary.estimates(pairs(), {"student": "control"}, single)
    first = kept["student"]
    copies = [list(names) for names in digests.values()]
    same = [
        f"{', '.join(names[:-1])} and {names[-1]} say the same of every example, to the last digit: were other files meant? Copies"
        " are no seeds of their own"
        for names in copies
        if len(names) > 1
    ]
    return estimates, first, kept.get("control"), flat, same


def _digest(said: OfModel) -> str:
    digest = hashlib.sha256(said.prediction.tobytes())
    for array in (said.confidence, said.entropy):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _flat(arm: str, seed: int, numbers: Beside) -> list[Unlearned]:
    """The run, where its confidence varies so little beside the teacher's that no slope could be seen; else none."""
    known = np.isfinite(numbers.pair.x) & np.isfinite(numbers.pair.y)
    if known.sum() < 2:
        return []
    spread, of_teacher = float(numbers.pair.y[known].std()), float(numbers.pair.x[known].std())
    if not spread < learning.LEAST_SPREAD * of_teacher:
        return []
    return [Unlearned(arm, seed, "flat", {"spread": spread, "teacher_spread": of_teacher})]


def _flatness(run: Unlearned) -> str:
    return (
        f"{run.arm} {run.seed + 1}: its confidence varies by {run.numbers['spread']:.3g} nats over the examples,"
        f" its teacher's by {run.numbers['teacher_spread']:.3g} (standard deviations), so that no slope could be seen; nothing is"
        " concluded"
    )


def _verdicts(given: Given, estimates: Sequence[Estimate], flat: Sequence[Unlearned]) -> list[Verdict]:
    if given.controls:
        is_one = len(given.controls) == 1
        claims = verdicts.exaggeration_claims(
            estimates, {"student": "control"}, unlearned=flat, against="the control", is_one_control=is_one
        )
    else:
        claims = [withheld(claim, ("student",), flat) for claim in questions.claims(estimates, given.split)]
    return verdicts.decide(claims)


def _warnings(given: Given, first: Beside) -> list[str]:
    infinite = int((~np.isfinite(first.pair.x) | ~np.isfinite(first.pair.y)).sum())
    said = []
    if given.unit == "tokens" and given.sequences is None:
        said.append(
            "each token counts as an observation of its own, but those of one sequence depend on each other, so that intervals are"
            " too narrow; pass logits [sequences, length, vocabulary], or --sequences"
        )
    if given.sequences is not None and (number := int(given.sequences.max()) + 1) < FEW_SEQUENCES:
        said.append(f"there are {number} sequences: intervals over so few hold the true value less often than 95 %")
    if (better := _next_is_meant(given, first)) is not None:
        said.append(
            f"the teacher is right on {better[0]:.1%} of the labels, and on {better[1]:.1%} of those of the next position: are the"
            " labels the inputs, as Hugging Face's models take them? Then pass --shift_labels"
        )
    if infinite:
        said.append(
            f"{infinite} of {len(first.pair.x)} rows have a probability of exactly 0 or 1, whose confidence is infinite: slopes"
            " leave them out; pass logits instead of probabilities"
        )
    for name, model in (("teacher", first.teacher), ("student", first.student)):
        if model.nll is not None and (impossible := int(np.isinf(model.nll).sum())):
            said.append(
                f"the {name} gives {impossible} labels a probability of 0: its NLL is infinite, and is left out"
            )
    if impossible := int(np.isinf(first.pair.kl).sum()):
        said.append(
            f"for {impossible} of {len(first.pair.kl)} rows the student gives 0 to what its teacher holds possible: the divergence"
            " is infinite, and is left out"
        )
    finite = first.pair.x[np.isfinite(first.pair.x)]
    if not len(finite) or finite.min() == finite.max():
        said.append("the teacher is equally sure of every example: there is no slope of the student's confidence on it")
    return said


def _next_is_meant(given: Given, first: Beside) -> tuple[float, float] | None:
    """The teacher's accuracies as labels stand and a position on, where the second is far better; else None."""
    if given.unit != "tokens" or given.labels is None or first.teacher.hit is None or given.rows is None:
        return None
    follows = np.diff(given.rows) == 1
    if given.sequences is not None:
        follows &= np.diff(given.sequences) == 0
    if follows.sum() < FEWEST:
        return None
    now = float(first.teacher.hit[:-1][follows].mean())
    then = float((first.teacher.prediction[:-1] == given.labels[1:])[follows].mean())
    return (now, then) if then > 2 * now + 0.02 else None


def _looked_at(given: Given, first: Beside, estimates: Sequence[Estimate]) -> dict[str, Any]:
    count, classes = given.teachers[0].shape
    rng = np.random.default_rng(0)
    rows = rescaling.fitted_rows(count, classes, given.sequences)
    groups = None if given.sequences is None else given.sequences[rows]
    teacher, student = given.teachers[0][rows], given.students[0][rows]
    finite = rescaling.comparable(teacher, student)
    rescaled = rescaling.rescaled(teacher, student, groups) if finite else None
    calibrations = {}
    if given.labels is not None:
        y = given.labels[rows]
        calibrations = {
            name: rescaling.calibrated(logits, y, rng, groups)
            for name, logits in (("teacher", teacher), ("student", student))
            if rescaling.possible(logits, y)
        }
    below, above = questions.extremes(first, given.labels)
    advice = questions.advice(estimates, given.split, calibrations, rescaled)
    return {
        "fitted_on": len(rows),
        "rescaled": {} if rescaled is None else _plain(rescaled) | {"removed": rescaled.removed},
        "outside": _outside(given, first),
        "calibration": {name: each.to_json() for name, each in calibrations.items()},
        "entropy": {
            "teacher": float(first.teacher.entropy.mean()),
            "student": float(first.student.entropy.mean()),
        },
        "classes": [_known(each) for each in questions.classes(first, classes)],
        "confusions": [each._asdict() for each in questions.confusions(first, classes)],
        "less_sure": [_placed(given, each) for each in below],
        "surer": [_placed(given, each) for each in above],
        "advice": [each._asdict() for each in advice],
    }


def _outside(given: Given, first: Beside) -> dict[str, Any]:
    """What the files of the most probable classes leave out, of those models that have such; empty where none has."""
    count, said = len(given.teachers[0]), {}
    for name, model in (("teacher", given.teachers[0]), ("student", given.students[0])):
        if model.indices is not None:
            said[name] = remainder.mass(model.top, count, model.values.shape[1])._asdict()
    student = given.students[0]
    if student.indices is not None:
        said["assumed"] = _known(remainder.assumed(first, student.top, student.values.shape[1]))
    return said


def _placed(given: Given, example: questions.Example) -> dict[str, Any]:
    """An example with its row in the arrays, and where they have sequences, its place there."""
    values = example._asdict()
    row = values["row"] if given.rows is None else int(given.rows[values["row"]])
    layout = given.teachers[0].layout
    place = {} if layout is None else {"sequence": row // layout[1], "position": row % layout[1]}
    return values | {"row": row} | place


def _known(values: Any) -> dict[str, Any]:
    """A named tuple as a dict; what is not known, a NaN, is None, for JSON has no NaN."""
    return {name: None if value != value else value for name, value in values._asdict().items()}


def _plain(intervals: Any) -> dict[str, Any]:
    return {name: asdict(each) for name, each in intervals._asdict().items()}


# ---- what is written


def _write(out: Path, contents: dict[str, Any], given: Given, first: Beside, controlled: Beside | None) -> None:
    """Write all files beside the old ones, which the whole of the new then replaces."""
    with folders.replacing_folder(out) as folder:
        (folder / "summary.json").write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
        found = Findings(contents)
        with open(folder / "table.csv", "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(tables.CSV_COLUMNS)
            writer.writerows(tables.csv_rows(found.estimates))
        for name, keys in (("classes", ("classes",)), ("examples", ("less_sure", "surer"))):
            rows = [row for key in keys for row in contents["audit"][key]]
            with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, list(rows[0]) if rows else ["row"])
                writer.writeheader()
                writer.writerows(rows)
        audits.write(folder, contents, first, controlled, given.names, given.view, given.labels)
