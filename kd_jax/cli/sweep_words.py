"""What `--sweep` says: the variants of a study, as words of its command line. Light: it is read before JAX loads."""

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import get_origin

from kd_jax.config import FLAGS, SECTION_OF
from kd_jax.errors import BadInput
from kd_jax.plan import Variant

VALUES = re.compile(r",(?!ramp=)")  # a switch has a comma of its own
BASE = "base"


def parse(words: Sequence[str], combine: str = "all", flag: str | None = None) -> list[Variant]:
    """Return the variants that a sweep asks for.

    >>> [variant.folder for variant in parse(["temperature=1,4"])]
    ['temperature=1', 'temperature=4']

    Args:
        words: such as `temperature=1,2,4`; a value is what one would type after the flag, and `none` is nothing.
        combine: `all` values of each field with those of the others; or `one_by_one`, a field at a time changed from the base
            study, which comes first.
        flag: name of a further flag that may be swept, such as `recipe`.

    Raises:
        BadInput: for a word that names no field, or no value, or a value twice.
    """
    known = [name for name in FLAGS if SECTION_OF.get(name, "look") != "look"] + ([flag] if flag else [])
    axes = {}
    for word in words:
        name, _, listed = word.partition("=")
        name, values = name.lstrip("-").replace("-", "_"), VALUES.split(listed)
        if name not in known:
            raise BadInput(f"--sweep={word}: expected FIELD=VALUE,VALUE,... with one of {', '.join(known)}; see --help")
        if "" in values or len(set(values)) < len(values):
            raise BadInput(f"--sweep={word}: expected values after {name}=, each once; pass none for nothing")
        if name in axes:
            raise BadInput(f"--sweep={word}: expected each field once; list all values of {name} in one word")
        axes[name] = values
    if combine == "one_by_one":
        changed = [{}, *({name: value} for name, values in axes.items() for value in values)]
    else:
        changed = [dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]
    return [Variant(name, values) for name, values in zip(folders(changed), changed, strict=True)]


def folders(changed: Sequence[dict[str, str]]) -> list[str]:
    """Return a folder name for each variant: what was typed, with `_` for signs that file systems or shells take amiss.

    Where that makes two names equal, as of `glue/sst2` and `glue_sst2`, the one that was changed has a few digits of its
    sha256 added. File systems that ignore case are taken into account.

    >>> folders([{}, {"dataset": "glue/mnli"}])
    ['base', 'dataset=glue_mnli']
    """
    typed = [",".join(f"{field}={value}" for field, value in values.items()) or BASE for values in changed]
    plain = [re.sub(r"[^\w=,.+-]", "_", name) for name in typed]
    count = Counter(name.lower() for name in plain)
    return [
        f"{name}-{hashlib.sha256(original.encode()).hexdigest()[:6]}"
        if count[name.lower()] > 1 and name.lower() != original
        else name
        for name, original in zip(plain, typed, strict=True)
    ]


def words_of(argv: Sequence[str], values: dict[str, str]) -> list[str]:
    """The command line `argv` with the flags of a variant in place of those that it has.

    Args:
        argv: words of a command line.
        values: the values of a `Variant`.
    """
    words = list(argv)
    for name, value in values.items():
        words = without(words, name)
        kind = FLAGS.get(name)
        if value == "none" and kind is str:
            words.append(f"--{name}=")
        elif get_origin(kind) is tuple:
            words += [f"--{name}", *([] if value == "none" else value.split())]
        else:
            words.append(f"--{name}={value}")
    return words


def without(argv: Sequence[str], name: str) -> list[str]:
    """Return the words of a command line but for a flag and what it says."""
    kept, skipping = [], False
    for word in argv:
        if word.startswith("--"):
            said, _, _ = word[2:].partition("=")
            skipping = said.replace("-", "_") == name
            if not skipping:
                kept.append(word)
        elif not skipping:
            kept.append(word)
    return kept
