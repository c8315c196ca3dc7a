"""What a study says about its data, its weights and its networks, in sentences: for the terminal and the page."""

from collections.abc import Mapping
from typing import Any

from kd_jax.plan import EARLY, NEXT, TWIN

HELD_OUT = "held-out"  # the name of a test set that was split off the training set, as `data.arrays` has it


def data(record: Mapping[str, Any]) -> list[str]:
    """Return sentences about a test set that was held out, texts and how they are read, pre-trained weights, and own networks.

    Args:
        record: contents of `study.json`.
    """
    of_data = record["data"]
    said, tokens, starts = [], of_data.get("tokens"), record.get("init_from", {})
    if of_data.get("test_split") == HELD_OUT:
        said.append(
            f"{of_data['name']} has no test or validation split with labels: a fifth of each class of its training examples,"
            " chosen by a fixed rule, is held out as the test set."
        )
    if tokens:
        said += _tokens(record["data"]["name"], tokens)
    for network, of in starts.items():
        said.append(f"{network} starts from the weights in {of['folder']}: {of['report']}.")
    random = [name for name in record["parameters"] if name not in starts]
    if random and (tokens or starts):
        said.append(f"No pre-trained weights: {', '.join(random)} starts at random.")
    for network, of in record.get("networks", {}).items():
        said.append(f"{network} (flax {of['kind']}) comes from {of['file'] or 'the program that trained it'}.")
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


def teacher(record: Mapping[str, Any]) -> list[str]:
    """Return sentences about a teacher that existed before the study; none where teachers are trained.

    Args:
        record: contents of `study.json`.
    """
    if logits := record.get("teacher_logits"):
        return _logits(record, logits)
    given = record.get("teacher_from")
    if not given:
        return []
    sources = {(of_run["run"], of_run["step"], of_run["sha256"][:12]) for of_run in given["runs"].values()}
    listed = ", ".join(f"{run} at step {step} (sha256 {sha256})" for run, step, sha256 in sorted(sources))
    said = [
        f"Not trained here: the teacher, {given['network']}, {listed} of the study {given['study']} in {given['folder']}."
    ]
    if len(sources) == 1 and len(given["runs"]) > 1:
        said.append("It teaches all seeds, so intervals over seeds say nothing about other teachers.")
    if given["fingerprint"] != record["data"]["fingerprint"]:
        theirs, ours = given["fingerprint"][:12], record["data"]["fingerprint"][:12]
        said.append(
            f"It was trained on other data or labels than these ({given['data']}, fingerprint {theirs}; here {ours})."
        )
    theirs, ours = given.get("class_names"), record["data"].get("class_names")
    if theirs and ours and theirs != ours:
        pairs = [f"{their} for {our}" for their, our in zip(theirs, ours, strict=True) if their != our]
        more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
        said.append(f"Its classes have other names than those of the data: {', '.join(pairs[:3])}{more}.")
    if any(key in given and given[key] != record["data"].get(key) for key in ("mean", "std")):
        said.append("It sees examples standardised with the mean and deviation of its own training.")
    return said


def _logits(record: Mapping[str, Any], logits: Mapping[str, Any]) -> list[str]:
    kind = logits["kind"].replace("_", "-")
    what = f"{kind} of the {logits['top_k']} most probable classes" if logits["top_k"] else kind
    said = [
        f"The teacher is a file, {logits['file']}: {what} ({logits['dtype']}, sha256 {logits['sha256'][:12]}) for the"
        f" {' and '.join(logits['splits'])} examples. It teaches all seeds, so intervals over seeds say nothing about other"
        " teachers."
    ]
    if logits["top_k"]:
        said.append("The rest of each example's mass is spread evenly over the other classes.")
    further = [name.removesuffix("_examples") for name in record["data"] if name.endswith("_examples")]
    if lacking := [name for name in further if name not in logits["splits"]]:
        said.append(
            f"It has no answers for the {' and '.join(lacking)} examples: what compares with a teacher on them is left out."
        )
    return said


def controls(record: Mapping[str, Any]) -> list[str]:
    """Return sentences about teachers and controls of a study that are no runs of an ordinary one.

    Args:
        record: contents of `study.json`.
    """
    arms, said = {arm["name"]: arm for arm in record["arms"]}, []
    epoch = record["config"].get("early_epoch", 0)
    if any(arm["teacher"] == EARLY for arm in arms.values()):
        epochs = f"{epoch} epoch" if epoch == 1 else f"{epoch} epochs"
        said.append(f"{EARLY} is the teacher after {epochs}; it teaches {_named(arms, 'teacher', EARLY)}.")
    for control in dict.fromkeys(arm.get("control") for arm in arms.values() if arm.get("control")):
        whose = _named(arms, "control", control)
        if control == TWIN:
            what = "a second teacher, trained as the first from another random stream"
        elif control.startswith(NEXT):
            what = "the teacher of the next seed, so neighbouring seeds share networks"
        elif control not in arms:
            what = f"{control.removesuffix('_early')} at the step at which the teacher teaches"
        else:
            continue
        said.append(f"{control}, the control of {whose}, is {what}.")
    return said


def seeds(record: Mapping[str, Any]) -> str:
    """Return which seeds a study has, such as `0 to 4 without 2`.

    Args:
        record: contents of `study.json`.
    """
    first, count = record["config"]["seed"], record["config"]["seeds"]
    whole = f"{first} to {first + count - 1}" if count > 1 else f"{first}"
    without = sorted(int(seed) for seed in record.get("skipped", {}))
    return f"{whole} without {', '.join(map(str, without))}" if without else whole


def skipped(record: Mapping[str, Any]) -> list[str]:
    """Return a sentence about the seeds that were given up because a run of theirs diverged; none where all were trained.

    Args:
        record: contents of `study.json`.
    """
    given_up = record.get("skipped", {})
    if not given_up:
        return []
    count = record["config"]["seeds"]
    why = "; ".join(f"seed {seed}: {of['why']}" for seed, of in sorted(given_up.items(), key=lambda each: int(each[0])))
    return [
        f"{len(given_up)} of {count} seeds diverged, and are left out of every arm, so that all numbers are of the other"
        f" {count - len(given_up)} and of training that does not diverge ({why})"
    ]


def _named(arms: Mapping[str, Mapping[str, Any]], key: str, value: str) -> str:
    return " and ".join(name for name, arm in arms.items() if arm.get(key) == value)


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
