"""Which values a field of a section takes, as a note in its type, and how a value is refused."""

import math
from collections.abc import Callable
from dataclasses import fields
from pathlib import PurePath
from typing import Any, Literal, NamedTuple, get_args, get_origin

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


def fits(kind: Any, value: Any) -> bool:
    """Return whether a value is of a field's type; a whole number is a float too.

    >>> fits(tuple[float, ...], (1, 0.5)), fits(int, True), fits(Literal["a", "b"], "c")
    (True, False, False)
    """
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        first, *rest = get_args(kind)
        if not isinstance(value, tuple):
            return False
        if rest == [...]:
            return all(fits(first, part) for part in value)
        return len(value) == 1 + len(rest) and all(map(fits, (first, *rest), value))
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def plain(kind: Any, value: Any) -> Any:
    """Return a value as its field has it: lists as tuples, paths as strings, NumPy's numbers as Python's.

    >>> plain(tuple[str, ...], ["mlp_8"]), plain(str, PurePath("runs") / "a")
    (('mlp_8',), 'runs/a')
    """
    if isinstance(value, list) and get_origin(kind) is tuple:
        return tuple(plain(get_args(kind)[0], part) for part in value)
    if isinstance(value, PurePath) and kind is str:
        return str(value)
    is_numpys = type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()
    number: Any = value
    return number.item() if is_numpys else number


def described(kind: Any) -> str:
    """Return what a field of a type takes, in words.

    >>> described(tuple[str, ...])
    'a list, each a word'
    """
    if get_origin(kind) is Literal:
        return f"one of {shown(get_args(kind))}"
    if get_origin(kind) is tuple:
        parts = get_args(kind)
        of = described(parts[0])
        return f"a list, each {of}" if parts[-1] is Ellipsis else f"{len(parts)} values in a list, each {of}"
    return {int: "a whole number", float: "a number", str: "a word", bool: "true or false"}[kind]


def shown(value: Any) -> str:
    """Return a flag's value as it is typed."""
    return " ".join(map(shown, value)) if isinstance(value, tuple) else str(value)
