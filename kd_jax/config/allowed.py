"""Which values a field of a section takes, as a note in its type, and how a value is refused."""

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

from kd_jax.errors import BadInput


class Allowed(NamedTuple):
    """Which values a field takes; a note in the field's type, such as `Annotated[float, SHARE]`, that `check` reads.

    Attributes:
        holds: whether it takes a value.
        expected: which it takes, in words.
    """

    holds: Callable[[Any], bool]
    expected: str

    def __repr__(self) -> str:
        """Return it as the API pages show it."""
        return f"Allowed({self.expected!r})"


ABOVE_0 = Allowed(lambda value: 0 < value < math.inf, "a number above 0")
SHARE = Allowed(lambda value: 0 <= value <= 1, "a number from 0 to 1")
BELOW_1 = Allowed(lambda value: 0 <= value < 1, "a number from 0 to below 1")


def at_least(lowest: int, what: str = "a number") -> Allowed:
    """Return the rule of finite numbers from `lowest` on.

    >>> at_least(1, "a whole number").expected
    'a whole number of at least 1'
    """
    return Allowed(lambda value: lowest <= value < math.inf, f"{what} of at least {lowest}")


def zero_or(lowest: int, zero: str) -> Allowed:
    """Return the rule of whole numbers from `lowest` on, and of 0, which stands for `zero`.

    >>> zero_or(2, "all").expected
    '0 for all, or at least 2'
    """
    return Allowed(lambda value: value == 0 or value >= lowest, f"0 for {zero}, or at least {lowest}")


def once(what: str) -> Allowed:
    """Return the rule of a tuple that has nothing twice.

    >>> once("layer").holds(("a", "b", "a")), once("layer").expected
    (False, 'each layer once')
    """
    return Allowed(lambda values: len(set(values)) == len(values), f"each {what} once")


def check(section: Any) -> None:
    """Refuse a section of which a field has a value that its type does not allow.

    Raises:
        BadInput: in one line that names the flag.
    """
    for each in fields(section):
        for rule in getattr(each.type, "__metadata__", ()):
            if isinstance(rule, Allowed):
                need(section, each.name, rule.holds(getattr(section, each.name)), rule.expected)


def need(section: Any, name: str, holds: bool, expected: str) -> None:
    """Refuse the value that a field of a section has, unless `holds`.

    Raises:
        BadInput: in one line that names the flag, its value and what was expected.
    """
    if not holds:
        raise BadInput(f"--{name}={shown(getattr(section, name))}: expected {expected}; see --help")


def shown(value: Any) -> str:
    """Return a flag's value as it is typed."""
    return " ".join(map(shown, value)) if isinstance(value, tuple) else str(value)
