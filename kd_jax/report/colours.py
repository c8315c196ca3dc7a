"""Colours of figures and charts. A colour means the same thing in all of them, and no colour means two things.

Arms have the colours of Okabe and Ito, subsets of examples those of Tol, which colour-blind people tell apart; what is neither an arm nor a
subset, such as a line of no effect, is grey.
"""

from collections.abc import Iterable

REFERENCE = "#8a8a8a"  # lines of no effect: student = teacher, a slope or a ratio of 1, a gain of 0
POINT = "#9a9a9a"  # single examples
SUBSETS = {"all": "#7a5c2e", "lowest_25": "#aa3377", "highest_25": "#228833"}
MARKERS = {"all": "o", "lowest_25": "v", "highest_25": "^"}  # for those who see no colours
FIELDS = ("#332288", "#117733", "#882255", "#999933", "#44aa99", "#666666")  # fields of a sweep; of Tol

ONEHOT, STUDENT = "#0072b2", "#d55e00"
# Families of arms: the first arm of a name that begins so, the second, ...
FAMILIES = {
    "teacher": ("#222222", "#6b6b6b", "#a3a3a3"),
    "student": (STUDENT, "#b3003c", "#f0803c", "#7f3300"),
    "onehot": (ONEHOT, "#003f7d", "#5b9bd5", "#00b3c4"),
    "control": (ONEHOT,),
}
NULLS = {"onehot_order": "#56b4e9", "onehot_init": "#e69f00", "onehot_slower": "#cc79a7", "onehot_faster": "#44aa99"}
OTHERS = ("#999933", "#882255", "#117733", "#661100")


def arms(names: Iterable[str]) -> dict[str, str]:
    """Return {arm: colour}; the same for every figure of a study whose arms are given in the study's order.

    >>> arms(["teacher", "onehot", "student", "onehot_order"])["student"]
    '#d55e00'

    Args:
        names: names of all arms of the study, or of the first ones.
    """
    used = dict.fromkeys((*FAMILIES, ""), 0)
    found = {}
    for name in dict.fromkeys(names):
        if name in NULLS:
            found[name] = NULLS[name]
            continue
        family = next((each for each in FAMILIES if name == each or name.startswith(f"{each}_")), "")
        colours = FAMILIES.get(family, OTHERS)
        found[name] = colours[used[family] % len(colours)]
        used[family] += 1
    return found
