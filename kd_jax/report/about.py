"""What a study says about its data, its weights and its networks, in sentences: for the terminal and the page."""

from collections.abc import Mapping
from typing import Any


def data(record: Mapping[str, Any]) -> list[str]:
    """Return sentences about the texts of a study and how they are read, about pre-trained weights, and networks of one's own.

    Args:
        record: contents of `study.json`.
    """
    said, tokens, starts = [], record["data"].get("tokens"), record.get("init_from", {})
    if tokens:
        said += _tokens(record["data"]["name"], tokens)
    for network, of in starts.items():
        said.append(f"{network} starts from the weights in {of['folder']}: {of['report']}.")
    random = [name for name in record["parameters"] if name not in starts]
    if random and (tokens or starts):
        said.append(f"No pre-trained weights: {', '.join(random)} starts at random.")
    for network, of in record.get("networks", {}).items():
        said.append(f"{network} is a {of['kind']} network in {of['file'] or 'a program of its own'}.")
    return said


def _tokens(name: str, tokens: Mapping[str, Any]) -> list[str]:
    said = [f"{name}: {tokens['note']}."] if tokens["note"] else []
    said.append(
        f"Tokenizer {tokens['tokenizer']}: {tokens['vocabulary']:,} ids; a training text has"
        f" {tokens['mean_length']['train']:.1f} tokens on average, the longest of any split {tokens['longest']}."
    )
    said.append(
        f"Padding: {tokens['padding']:.1%} of what is computed; without batches of similar length it would be"
        f" {tokens['padding_uncut']:.1%}."
    )
    said.append(f"Texts cut to {tokens['max_length']} tokens: {_counts(tokens['cut'])}.")
    if any(tokens["empty"].values()):
        said.append(f"Empty texts, which are kept: {_counts(tokens['empty'])}.")
    return said


def _counts(by_split: Mapping[str, int]) -> str:
    return ", ".join(f"{count} ({split})" for split, count in by_split.items())


def memory(record: Mapping[str, Any]) -> str:
    """Return a sentence about the most memory that training held; empty where it is not known.

    Args:
        record: contents of `study.json`.
    """
    peak = record.get("peak_memory")
    if not peak:
        return ""
    device = f", on a device {_gib(peak['device_bytes'])}" if peak["device_bytes"] else ""
    return f"Peak memory of training: {_gib(peak['host_bytes'])} in the program{device}."


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
