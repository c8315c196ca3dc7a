"""The card of an exported network: what it is, how good it is, where it is from, how it is loaded. Markdown from `card.json`."""

from collections.abc import Mapping
from typing import Any

from kd_jax.analysis.results import Interval
from kd_jax.config import parse_switch
from kd_jax.report.tables import markdown, shown

MEASURED = {
    "accuracy": "accuracy",
    "nll": "negative log-likelihood [nats]",
    "ece": "expected calibration error",
    "brier": "Brier score",
}


def render(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Args:
        card: contents of `card.json`, as `studies.export` writes it.
    """
    study, data, measured = card["study"], card["data"], card["measured"]
    rows = [[title, shown(Interval(**measured[name]), 4)] for name, title in MEASURED.items()]
    count, level = measured["accuracy"]["count"], measured["accuracy"]["level"]
    where = f"the {data['test_split']} split of {data['name']}"
    not_here = card.get("not_trained_here")  # absent from cards of earlier versions
    trained = (
        f" Trained on {data['name']}, {data['train_examples']} examples in {card['classes']} classes, {data['wrong_labels']} of the"
        " labels wrong by design."
    )
    unseen = "" if not_here else ", which was not trained on"
    parts = [
        f"# {card['architecture']}, {card['run']} at step {card['step']}",
        f"{' '.join(not_here) if not_here else _origin(card) + trained} {card['parameters']:,} parameters.",
        "## How good it is",
        markdown(["", f"on {count} examples, {level:.0%} interval"], rows).rstrip(),
        f"Measured on {where}{unseen}; one network, so the intervals are over examples.",
        "## Temperature",
        advice(card["temperature"], where),
        "## How to load it",
        f"Input: {card['input']} Output: logits, {card['classes']} of them: {_labels(card['labels'])}.",
        f"In this folder, with {card['needs']}:",
        f"```python\n{card['snippet']}\n```",
        "## Where it is from",
        _provenance(card, study),
        f"`card.json` has all of this unrounded, with the configuration of the study `{card['study_name']}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _origin(card: Mapping[str, Any]) -> str:
    teacher = card["teacher"]
    if teacher is None:
        return "A network trained on labels."
    which = f" ({teacher['run']} at step {teacher['step']})" if teacher["step"] else ""
    return (
        f"A student of {teacher['architecture']}{which}, distilled by the loss"
        f" `{teacher['loss']}` of weight {card['study']['weight']:g} at temperature {card['study']['temperature']:g}"
        f"{_switch(card)}."
    )


def _switch(card: Mapping[str, Any]) -> str:
    """That the loss was switched in mid-training, where it was."""
    found = parse_switch(card["study"]["switch"])
    if found is None:
        return ""
    which = "to this loss from that on labels" if found.to_kd else "from this loss to that on labels"
    ramp = f", over {found.ramp} steps" if found.ramp > 1 else ""
    return f", switched {which} after {found.epoch:g} epochs{ramp}"


def _labels(labels: list[str]) -> str:
    if labels == [str(number) for number in range(len(labels))]:
        return f"the classes 0 to {len(labels) - 1} in their order"
    few = ", ".join(labels[:10])
    return few if len(labels) <= 10 else f"{few}, ... (`card.json` has all)"


def advice(found: Mapping[str, Any] | None, where: str) -> str:
    """Return what to do about a network's temperature, in sentences.

    Args:
        found: `analysis.rescaling.Calibration.to_json`, or None.
        where: what it was measured on.
    """
    if found is None:
        return "No advice: the test split has too few examples for two halves."
    best, gain = (shown(Interval(**found[name]), 4) for name in ("temperature", "nll_gain"))
    tried = (
        f"The temperature that fits {where} best is {best}. Fitted on one random half and tried on the other, and the other way"
        f" round, it takes the negative log-likelihood from {found['nll_before']['estimate']:.4f} to"
        f" {found['nll_after']['estimate']:.4f} (lower by {gain}) and the calibration error from"
        f" {found['ece_before']['estimate']:.4f} to {found['ece_after']['estimate']:.4f}."
    )
    if not found["helps"]:
        return f"Leave the logits as they are. {tried}"
    return (
        f"Divide the logits by {found['temperature']['estimate']:.3f} before taking probabilities; predictions stay the same."
        f" {tried} On data of another kind, fit it anew."
    )


def _by(versions: Mapping[str, str], platform: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    return (
        f"trained by kd_jax {versions['kd_jax']} with jax {versions['jax']} on {platform['devices']} x {platform['device']},"
        f" precision {study['precision']}"
    )


def _provenance(card: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    versions, platform = card["versions"], card["platform"]
    lines = [
        f"weights: sha256 `{card['hash']}`",
        f"data: fingerprint `{card['data']['fingerprint']}`",
        *([] if card.get("not_trained_here") else [_by(versions, platform, study)]),
        f"exported by kd_jax {card['exported_by']['kd_jax']} with jax {card['exported_by']['jax']}",
    ]
    if card["teacher"] is not None:
        lines.insert(1, f"teacher: sha256 `{card['teacher']['hash']}`")
    if card.get("revision"):
        lines.append(f"git revision `{card['revision']}`")
    return "\n".join(f"- {line}" for line in lines)
