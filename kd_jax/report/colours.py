"""Colours of figures and charts. A colour means the same thing in all of them, and no colour means two things.

Arms have the colours of Okabe and Ito, subsets of examples those of Tol, which colour-blind people tell apart, some of them
darkened: every one has a contrast of 3 or more (WCAG 2, criterion 1.4.11) on the page in light and in dark, so that one set serves
both. Only the teacher is as dark as the text, and in a chart on a dark page as light as it. What is neither an arm nor a subset,
such as a line of no effect, is grey.
"""

from collections.abc import Iterable

PAGES = {"light": "#ffffff", "dark": "#16181d"}
TEXT = "#222222"
REFERENCE = "#808080"  # lines of no effect: student = teacher, a slope or a ratio of 1, a gain of 0
POINT = "#8a8a8a"  # single examples
SUBSETS = {"all": "#8a6a35", "lowest_25": "#b8408a", "highest_25": "#228833"}
MARKERS = {"all": "o", "lowest_25": "v", "highest_25": "^"}  # for those who see no colours
FIELDS = ("#7066c2", "#1a8a3f", "#b3447a", "#8a8a2a", "#2f9080", "#808080")  # fields of a sweep; of Tol

ONEHOT, STUDENT = "#0072b2", "#d55e00"
FIXED = {
    "teacher": TEXT,
    "teacher_early": "#6f7a8a",
    "teacher_twin": "#7b5cd6",
    "teacher_twin_early": "#a05cc0",
    "teacher_next": "#7b5cd6",  # stands where there is no twin
    "teacher_next_early": "#a05cc0",
    "student": STUDENT,
    "student_early": "#d0406a",
    "onehot": ONEHOT,
    "onehot_early": "#5a70c8",
    "control": ONEHOT,
}
# Families of further arms: the first arm of a name that begins so, the second, ...
FAMILIES = {"student": ("#c77a4a", "#a05c2c"), "onehot": ("#4a8fc7", "#1290a8")}
NULLS = {"onehot_order": "#1790a6", "onehot_init": "#b07a00", "onehot_slower": "#cc79a7", "onehot_faster": "#8a8a2a"}
DASHES = {"onehot_order": "dot", "onehot_init": "dashdot", "onehot_slower": "longdash", "onehot_faster": "longdashdot"}
OTHERS = ("#7066c2", "#b3447a", "#1a8a3f", "#b05a5a")


def arms(names: Iterable[str]) -> dict[str, str]:
    """Return {arm: colour}; the same for every figure of a study whose further students are given in the study's order.

    >>> arms(["teacher", "onehot", "student", "onehot_order"])["student"]
    '#d55e00'

    Args:
        names: names of all arms of the study, or of the first ones.
    """
    used = dict.fromkeys((*FAMILIES, ""), 0)
    found = {}
    for name in dict.fromkeys(names):
        if name in FIXED or name in NULLS:
            found[name] = FIXED.get(name) or NULLS[name]
            continue
        family = next((each for each in FAMILIES if name.startswith(f"{each}_")), "")
        colours = FAMILIES.get(family, OTHERS)
        found[name] = colours[used[family] % len(colours)]
        used[family] += 1
    return found


def dash(arm: str) -> str:
    """Return the line style of an arm in plotly's words: teachers dashed, nulls dotted and dashed, all others solid."""
    return DASHES.get(arm, "dash" if arm.startswith("teacher") else "solid")


def faded(colour: str, alpha: float) -> str:
    """Return a colour given as hex with an opacity, for CSS.

    >>> faded("#0072b2", 0.5)
    'rgba(0, 114, 178, 0.5)'
    """
    return f"rgba({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))}, {alpha:g})"
