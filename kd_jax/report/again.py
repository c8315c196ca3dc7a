"""What a reader needs to make a result again: commands, settings, versions, dates, revision; from the records of a study."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kd_jax.report import settings
from kd_jax.report.tables import Table


class Again(NamedTuple):
    """How a result was made.

    Attributes:
        commands: the command lines, the newest last; empty where they are not known.
        facts: (what, which) of data, machine, versions and dates.
        tables: further tables, such as the settings.
    """

    commands: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()


def study(record: Mapping[str, Any]) -> Again:
    """Return how a study was made.

    Args:
        record: contents of `study.json`; earlier versions wrote no `history`.
    """
    history = record.get("history") or []
    data = record.get("data", {})
    facts = programs(history) if history else [*_where(record), _versions(record)]
    if data.get("fingerprint"):
        facts.append((f"fingerprint of the data ({data['name']})", data["fingerprint"]))
    for run, digest in record.get("teacher_hash", {}).items():
        facts.append((f"sha256 of {run}", digest))
    return Again(commands_of(history), facts, [configuration(record["config"])])


def command(made: Mapping[str, Any]) -> Again:
    """Return how a report was made that trains nothing; `made` has the `command`, the time `at` and the `versions` of a program."""
    return Again([made["command"]] if made["command"] else [], [("written", made["at"]), _versions(made)])


def commands_of(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the different command lines of the programs of a history."""
    return list(dict.fromkeys(each["command"] for each in history if each.get("command")))


def programs(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (what, which) of the programs that worked on a result: when, with which revision, where, with which versions."""
    facts = []
    for number, each in enumerate(history, 1):
        name = "program" if len(history) == 1 else f"program {number} of {len(history)}"
        alone = f", which trained {each['only']} alone" if each.get("only") else ""
        facts.append((f"{name}{alone}, started", each.get("started", "not recorded")))
        if number == 1 or not alone or each.get("revision") != history[number - 2].get("revision"):
            said = each.get("revision") or "none: kd_jax was not run from a git checkout"
            facts.append((f"{name}, git revision", said))
        if number == 1 or each.get("platform") != history[number - 2].get("platform"):
            facts += _where(each)
        if number == 1 or each.get("versions") != history[number - 2].get("versions"):
            facts.append(_versions(each))
    return facts


def _where(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    where = record.get("platform")
    return [("trained on", f"{where['devices']} x {where['device']} ({where['platform']})")] if where else []


def _versions(record: Mapping[str, Any]) -> tuple[str, str]:
    listed = record.get("versions") or {}
    return "versions", ", ".join(f"{package} {version}" for package, version in listed.items()) or "not recorded"


def configuration(values: Mapping[str, Any]) -> Table:
    """Return the table of all settings of a configuration, in words; `values` is that of a `study.json`."""
    rows = [(name, settings.said(name, value)) for name, value in values.items()]
    return Table(("setting", "value"), rows, title="Every setting", sortable=False)
