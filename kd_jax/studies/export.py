"""Take a network of a trained study away: its files for other programs, with a card beside them."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax import data, models
from kd_jax.analysis import examples, rescaling, summary
from kd_jax.config import to_json, versions
from kd_jax.data import Dataset
from kd_jax.errors import BadInput
from kd_jax.export import program, roberta, weights
from kd_jax.extract.logits import analysis_precision, make_logits, model_of, seen_by_teacher, view_of
from kd_jax.models import Variables
from kd_jax.plan import LOGITS, Run
from kd_jax.report import card as cards
from kd_jax.studies import networks
from kd_jax.studies.prepare import Prepared, open_study
from kd_jax.workdir import checkpoints, packing, records

FORMATS = ("safetensors", "hf", "stablehlo")


def export(
    workdir: Path | str,
    run: str,
    form: str,
    step: int | None = None,
    out: Path | str | None = None,
    data_dir: Path | str | None = None,
    workers: int = 0,
    load: Callable[..., Dataset] = data.load,
) -> Path:
    """Write a network of a study in a form that other programs open, with a card beside it, and return the folder.

    Args:
        workdir: the work folder of a study.
        run: the name of the run, such as `student-seed0`.
        form: one of `FORMATS`: `safetensors`, the weights; `hf`, a RoBERTa for transformers; `stablehlo`, a program for JAX alone.
        step: the step of the run's trajectory; None for its last.
        out: the folder to write, which must not be there; by default `export/RUN-FORM` in the work folder, with the step in its
            name where that is given.
        data_dir, workers, load: as for `studies.prepare.open_study`; the test split is needed for the card.

    Raises:
        BadInput: for a study, run or step that is not there, a damaged checkpoint, a form that the network does not have, a
            package that is not installed, or a folder that is there. Nothing is written then.
    """
    record = records.read_study(workdir)
    folder = _folder_of(workdir, run, record)
    chosen = _step_of(folder, run, step)
    if out is None:
        out = Path(workdir) / "export" / f"{run}-{form}{'' if step is None else f'-step{step}'}"
    out = Path(out)
    if out.exists() or out.is_symlink():
        raise BadInput(f"--out={out}: expected a folder that is not there yet; move it away or pass another --out")
    (program if form == "stablehlo" else weights).check()
    prepared = open_study(workdir, data_dir, workers, load)
    networks.find_again(workdir, prepared.record.get("networks", {}))
    found = next((each for each in prepared.plan.runs if each.name == run), None)
    if found is None:
        left = ", ".join(map(str, prepared.plan.seeds))
        raise BadInput(f"--run={run}: expected a seed that was not given up, one of {left}; its training diverged")
    if form == "hf" and not found.arm.model.startswith("roberta"):
        raise BadInput(f"--format=hf: expected a RoBERTa, {run} is {found.arm.model}; pass --format=safetensors")
    if found.source is not None:
        prepared = replace(prepared, dataset=seen_by_teacher(prepared.plan, prepared.dataset))
    variables = Variables(**checkpoints.load_variables(folder, chosen))
    made = _card(prepared, found, chosen, variables)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise BadInput(f"--out={out}: expected a folder that can be made ({error.strerror}); pass another") from None
    try:
        made |= _WRITERS[form](temporary, prepared, found, variables, made)
        made["files"] = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
        text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
        (temporary / "card.json").write_text(text, encoding="utf-8")
        (temporary / "README.md").write_text(cards.render(made), encoding="utf-8")
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _folder_of(workdir: Path | str, run: str, record: dict[str, Any]) -> Path:
    there = sorted(path.name for path in (Path(workdir) / "runs").glob("*") if records.kept_steps(path))
    names = {f"{arm['name']}-seed" for arm in record["arms"]}
    if run not in there or run.rpartition("seed")[0] + "seed" not in names:
        listed = ", ".join(there) or "none yet"
        raise BadInput(f"--run={run}: expected a run of {workdir}; it has {listed}")
    return records.run_folder(workdir, run)


def _step_of(folder: Path, run: str, step: int | None) -> int:
    kept = records.kept_steps(folder)
    if step is None:
        return kept[-1]
    if step not in kept:
        raise BadInput(f"--step={step}: expected a step of {run} that is kept; it has {', '.join(map(str, kept))}")
    return step


def _card(prepared: Prepared, run: Run, step: int, variables: Variables) -> dict[str, Any]:
    """What every form says of a network: contents of `card.json` but for what the form itself adds."""
    dataset, record, study = prepared.dataset, prepared.record, prepared.study
    logits = make_logits(run.arm.model, dataset, study.networks.precision)(variables, dataset.test.x)
    labels, enough = dataset.test.y, len(dataset.test.y) >= rescaling.FEWEST
    calibrated = rescaling.calibrated(logits, labels, np.random.default_rng(0)).to_json() if enough else None
    teacher = None
    if run.taught_by:
        given, is_file = prepared.plan.given, run.taught_by == LOGITS
        teacher = {
            "run": run.taught_by,
            "architecture": "a file of logits" if is_file else study.networks.teacher,
            "step": run.teacher_step,
            "hash": given.key(run.seed) if given else record["teacher_hash"].get(run.teacher_name, "unknown"),
            "loss": study.distillation_loss,
        }
    return {
        "run": run.name,
        "step": step,
        "architecture": run.arm.model,
        "classes": dataset.classes,
        "labels": [str(name) for name in dataset.class_names or range(dataset.classes)],
        "parameters": models.parameter_count(variables.params),
        "hash": packing.tree_digest(variables),
        "measured": _measured(logits, labels),
        "temperature": calibrated,
        "teacher": teacher,
        "not_trained_here": _not_trained(record, run),
        "data": record["data"],
        "study_name": record["study"],
        "study": to_json(study),
        "platform": record["platform"],
        "versions": record["versions"],
        "revision": record["history"][-1].get("revision"),
        "exported_by": versions(),
    }


def _not_trained(record: dict[str, Any], run: Run) -> list[str]:
    """Where a network that the study did not train is from, in sentences; none for the others."""
    if (source := run.source) is not None:
        given = record["teacher_from"]
        which = f"{source.run} at step {source.step} (sha256 {source.sha256[:12]})"
        return [f"Not trained here: it is {which} of the study {given['study']} in {given['folder']}."]
    if run.training.epochs:
        return []
    start = record.get("init_from", {}).get(run.arm.model)
    where = f" in {start['folder']}" if start else ""
    return [f"Not trained here: it has the weights{where} as they were."]


def _measured(logits: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, Any]]:
    measured = summary.measure_model(examples.of_model(logits, labels))
    return {name: vars(value.interval()) for name, value in measured.items()}


# ---- the forms


def _normalisation(prepared: Prepared) -> dict[str, Any]:
    mean, std = (getattr(prepared.dataset, name, None) for name in ("mean", "std"))
    return {} if mean is None or std is None else {"mean": np.ravel(mean).tolist(), "std": np.ravel(std).tolist()}


def _input(prepared: Prepared, standardised: bool) -> str:
    dataset, tokens = prepared.dataset, prepared.record["data"].get("tokens")
    shape = ", ".join(map(str, dataset.train.x.shape[1:]))
    if tokens:
        return (
            f"token ids, int32 [batch, length], at most {tokens['positions']}, of the tokenizer with sha256"
            f" `{tokens['tokenizer_hash']}`, as `<s> text </s>`, padded at the end with 1."
        )
    stored = f"examples as they are stored, {_stored(dataset)} [batch, {shape}]"
    resized = "" if dataset.is_resident else ", resized and cropped to the centre beforehand"
    if standardised:
        return f"{stored}{resized}; the program standardises them itself."
    numbers = _normalisation(prepared)
    how = (
        " less `mean`, divided by `std` of each channel, which `card.json` has under `normalisation`" if numbers else ""
    )
    return f"float [batch, {shape}], {stored}{resized},{how}."


def _stored(dataset: Dataset) -> str:
    return np.dtype(getattr(dataset.train.x, "dtype", np.uint8)).name


def _facts(prepared: Prepared, made: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a file of weights."""
    names = ("architecture", "classes", "labels", "run", "step", "hash")
    fingerprint = prepared.record["data"]["fingerprint"]
    return {
        "format": "kd_jax",
        "kd_jax": made["exported_by"]["kd_jax"],
        **{name: made[name] for name in names},
        **_normalisation(prepared),
        "data": prepared.dataset.name,
        "fingerprint": fingerprint,
    }


def _write_weights(
    folder: Path, prepared: Prepared, run: Run, variables: Variables, made: dict[str, Any]
) -> dict[str, Any]:
    arrays, leaves = packing.pack(variables)
    weights.write(folder, packing.unpack(arrays, leaves), _facts(prepared, made))
    dataset = prepared.dataset
    example = dataset.example(models.PARAMETER_DTYPES[analysis_precision(prepared.study.networks.precision)])
    code = weights.snippet(
        run.arm.model, dataset.classes, dataset.network_settings, list(example.shape), example.dtype.name
    )
    return {
        "format": "safetensors",
        "normalisation": _normalisation(prepared),
        "input": _input(prepared, standardised=False),
        "needs": "kd_jax and safetensors",
        "snippet": code,
    }


def _write_roberta(
    folder: Path, prepared: Prepared, run: Run, variables: Variables, made: dict[str, Any]
) -> dict[str, Any]:
    facts = {name: str(made[name]) for name in ("run", "step", "hash")}
    tokens, training = prepared.record["data"]["tokens"], prepared.study.training
    tokenizer = prepared.dataset.tokenizer or ""
    roberta.write(folder, variables.params, made["labels"], tokenizer, tokens["max_length"], training.dropout, facts)
    return {
        "format": "hf",
        "input": "texts, or pairs of texts, by the tokenizer in this folder.",
        "needs": "torch and transformers",
        "snippet": roberta.SNIPPET,
    }


def _write_program(
    folder: Path, prepared: Prepared, run: Run, variables: Variables, made: dict[str, Any]
) -> dict[str, Any]:
    dataset, precision = prepared.dataset, prepared.study.networks.precision
    model, view = model_of(run.arm.model, dataset, precision), view_of(dataset, precision)
    tokens = prepared.record["data"].get("tokens")
    dtype = "int32" if tokens else _stored(dataset)
    shape, longest = dataset.train.x.shape[1:], tokens["positions"] if tokens else None
    platforms = program.write(
        folder, lambda x: model.apply(variables, view(x), train=False).logits, shape, dtype, longest
    )
    return {
        "format": "stablehlo",
        "platforms": list(platforms),
        "input": _input(prepared, standardised=True),
        "needs": "jax and flatbuffers, and nothing of kd_jax",
        "snippet": program.snippet([1, *shape], dtype),
    }


_WRITERS = {"safetensors": _write_weights, "hf": _write_roberta, "stablehlo": _write_program}


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
