"""The card of an exported network: what it is, how good it is, where it is from, how it is loaded. Markdown from `card.json`."""

from collections.abc import Mapping
from typing import Any

from kd_jax.analysis.results import Interval
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
    parts = [
        f"# {card['architecture']}, {card['run']} at step {card['step']}",
        f"{_origin(card)} Trained on {data['name']}, {data['train_examples']} examples in {card['classes']} classes,"
        f" {data['wrong_labels']} of the labels wrong by design. {card['parameters']:,} parameters.",
        "## How good it is",
        markdown(["", f"on {count} examples, {level:.0%} interval"], rows).rstrip(),
        f"Measured on {where}, which was not trained on; one network, so the intervals are over examples.",
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
        f" `{teacher['loss']}` of weight {card['study']['weight']:g} at temperature {card['study']['temperature']:g}."
    )


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


def _provenance(card: Mapping[str, Any], study: Mapping[str, Any]) -> str:
    versions, platform = card["versions"], card["platform"]
    lines = [
        f"weights: sha256 `{card['hash']}`",
        f"data: fingerprint `{card['data']['fingerprint']}`",
        f"trained by kd_jax {versions['kd_jax']} with jax {versions['jax']} on {platform['devices']} x {platform['device']},"
        f" precision {study['precision']}",
        f"exported by kd_jax {card['exported_by']['kd_jax']} with jax {card['exported_by']['jax']}",
    ]
    if card["teacher"] is not None:
        lines.insert(1, f"teacher: sha256 `{card['teacher']['hash']}`")
    if card.get("revision"):
        lines.append(f"git revision `{card['revision']}`")
    return "\n".join(f"- {line}" for line in lines)
