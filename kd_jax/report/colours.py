"""One colour per arm, in every figure and chart: a colour means the same wherever it appears.

Every colour has a contrast of 3 or more against the page in light and in dark (WCAG 2, criterion 1.4.11), so that one set serves
both, and those of the arms that are compared most are told apart by the colour-blind. Where a figure shows something else than
arms, such as the quarters of the examples, it is told by line styles and symbols.
"""

from collections.abc import Iterable

PAGES = {"light": "#FFFFFF", "dark": "#16181D"}
NEUTRAL = "#7A7A7A"  # of what is no arm: diagonals, reference lines, counts
TWIN = "#009E73"  # a model that was trained as the teacher was and never met it
FIXED = {
    "teacher": NEUTRAL,
    "onehot": "#0072B2",
    "student": "#D55E00",
    "control": TWIN,
    "teacher_twin": TWIN,
    "onehot_order": "#CC79A7",
    "onehot_init": "#A6761D",
    "onehot_slower": "#2B8CBE",
    "onehot_faster": "#7B5CD6",
}
FURTHER = ("#B3446C", "#17869E", "#6A7B1F", "#9467BD", "#B87A00", "#C062A0")
NULLS = ("onehot_order", "onehot_init", "onehot_slower", "onehot_faster")


def faded(colour: str, alpha: float) -> str:
    """Return a colour given as hex with an opacity, for CSS.

    >>> faded("#0072B2", 0.5)
    'rgba(0, 114, 178, 0.5)'
    """
    return f"rgba({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))}, {alpha:g})"


def dash(arm: str) -> str:
    """Return the line style of an arm in plotly's words: teachers and controls dashed, nulls dotted, all others solid."""
    if arm.startswith(("teacher", "control")):
        return "dash"
    return "dot" if arm in NULLS else "solid"


def of_arms(names: Iterable[str]) -> dict[str, str]:
    """Return {arm: its colour}, as hex.

    The arms that most studies have keep their colour whatever other arms there are. Others, such as those of a second student, take
    further colours in the order in which they come, so pass all arms of a study wherever one of its figures is drawn.

    >>> of_arms(["teacher", "student", "student_mlp_3x64"])["student"]
    '#D55E00'

    Args:
        names: the names of the arms.
    """
    found: dict[str, str] = {}
    others = 0
    for name in dict.fromkeys(names):
        if name in FIXED:
            found[name] = FIXED[name]
        else:
            found[name] = FURTHER[others % len(FURTHER)]
            others += 1
    return found
