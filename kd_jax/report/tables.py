"""Tables of results: what a reader looks at first, and everything as CSV. Numbers are rounded here and in figures only."""

import itertools
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from kd_jax.analysis.results import Estimate, Interval, index
from kd_jax.plan import EARLY, TEACHER, Arm


class Table(NamedTuple):
    """A table for the terminal and the page.

    Attributes:
        header: headings of the columns.
        rows: cells of each row, as many as there are headings.
        note: a sentence or two about it, for both.
        details: more about it, for the page alone.
        title: heading above it on the page; empty for none.
        sortable: whether its rows can be sorted on the page: those of a table with a quantity per row are not of one kind.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    details: str = ""
    title: str = ""
    sortable: bool = True


# Characters beyond which the cells of a folded table are wrapped: of its first column, of the others.
LABEL, CELL = 28, 24
NARROWEST = 20  # characters of a folded table, however narrow the terminal says that it is

# (heading, name, split, subset, digits)
COLUMNS = (
    ("test accuracy", "accuracy", "test", "all", 3),
    ("test accuracy, best epoch", "accuracy_best", "test", "all", 3),
    ("gain", "accuracy_gain", "test", "all", 3),
    ("less the teacher's", "accuracy_over_teacher", "test", "all", 3),
    ("train accuracy", "accuracy", "train", "all", 3),
    ("test NLL", "nll", "test", "all", 3),
    ("test ECE", "ece", "test", "all", 3),
    ("agreement", "agreement", "test", "all", 3),
    ("slope, test, lowest 25 %", "exaggeration_slope", "test", "lowest_25", 2),
    ("slope, train, lowest 25 %", "exaggeration_slope", "train", "lowest_25", 2),
    ("slope, test, all", "exaggeration_slope", "test", "all", 2),
)
MISMATCHED_COLUMNS = (  # of MNLI's further test set
    ("mismatched accuracy", "accuracy", "mismatched", "all", 3),
    ("mismatched gain", "accuracy_gain", "mismatched", "all", 3),
    ("slope, mismatched, all", "exaggeration_slope", "mismatched", "all", 2),
)
NOISE_COLUMNS = (  # where some training labels are wrong by design
    ("true labels, train, noisy points", "accuracy_true", "train", "noisy", 3),
    ("slope, train, clean points", "exaggeration_slope", "train", "clean", 2),
    ("slope, train, noisy points", "exaggeration_slope", "train", "noisy", 2),
    ("their lowest 25 %, clean", "exaggeration_slope", "train", "clean_lowest_25", 2),
    ("their lowest 25 %, noisy", "exaggeration_slope", "train", "noisy_lowest_25", 2),
)
FIRST = {  # heading in the main table: heading in the short one that a page begins with
    "arm": "arm",
    "test accuracy": "test accuracy",
    "test accuracy, best epoch": "at its best epoch",
    "gain": "gain over one-hot",
    "less the teacher's": "less the teacher's",
    "train accuracy": "accuracy on training labels",
}
CSV_COLUMNS = (
    "name",
    "arm",
    "split",
    "subset",
    "layer",
    "directions",
    "estimate",
    "low",
    "high",
    "level",
    "resampled",
    "count",
    "values",
    "rank",
)


def shown(interval: Interval, digits: int = 3) -> str:
    """Return an estimate with its interval: `0.884 ± 0.012`, or `0.884 [0.853, 0.909]` where it is not symmetric."""
    value, low, high = interval.estimate, interval.low, interval.high
    if abs((high - value) - (value - low)) < 1e-9 * max(abs(value), 1):
        return f"{value:.{digits}f} ± {high - value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def compared(arms: Iterable[Arm]) -> list[Arm]:
    """Return the arms that are compared by their logits, the teacher first: all but the nulls of the eigendirections.

    A teacher that is a file of logits is no arm.
    """
    return [arm for arm in arms if not arm.null_of]


def beside_teacher(arms: Iterable[Arm]) -> list[Arm]:
    """Return the arms that are compared with a teacher: those of `compared` that are none."""
    return [arm for arm in compared(arms) if arm.name not in (TEACHER, EARLY)]


def main_table(estimates: Iterable[Estimate], arms: Iterable[Arm]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return (header, rows): a quantity per row, an arm per column; what does not apply is a dash."""
    table = index(estimates, "name", "arm", "split", "subset")
    columns = COLUMNS
    columns += MISMATCHED_COLUMNS if any(split == "mismatched" for _, _, split, _ in table) else ()
    columns += NOISE_COLUMNS if any(subset == "noisy" for *_, subset in table) else ()
    header = ["arm", *(column[0] for column in columns)]
    listed = {arm.name: f"{arm.name} ({arm.model})" for arm in compared(arms)}
    if TEACHER not in listed and any(arm == TEACHER for _, arm, *_ in table):
        listed = {TEACHER: f"{TEACHER} (given logits)"} | listed
    rows = []
    for who, label in listed.items():
        cells = []
        for _, name, split, subset, digits in columns:
            estimate = table.get((name, who, split, subset))
            cells.append("-" if estimate is None else shown(estimate.interval, digits))
        rows.append([label, *cells])
    return turned(header, rows)


def first_table(estimates: Iterable[Estimate], arms: Iterable[Arm]) -> Table | None:
    """Return the short table that a page begins with: how accurate every arm is; None where that is not known.

    Args:
        estimates: the estimates of a study or an audit.
        arms: its arms.
    """
    arms = list(arms)
    header, rows = turned(*main_table(estimates, arms))
    wanted = [place for place, heading in enumerate(header) if heading in FIRST]
    kept = [[row[place] for place in wanted] for row in rows]
    used = [place for place in range(len(wanted)) if any(row[place] != "-" for row in kept)]
    if len(used) < 2:
        return None
    estimates = [estimate for estimate in estimates if estimate.name == "accuracy"]
    short = FIRST | ({"gain": "gain over control"} if any(arm.name == "control" for arm in arms) else {})
    names = [short[header[wanted[place]]] for place in used]
    cells = [[row[place] for place in used] for row in kept]
    return Table(names, cells, what_intervals_are(estimates), title="Accuracies")


def arm_per_column(
    estimates: Iterable[Estimate], corner: str, cell: Callable[[Estimate], tuple[str, str] | None]
) -> tuple[list[str], list[list[str]]] | None:
    """Return (header, rows) of the estimates that a row can be made of; None where there are none.

    Args:
        estimates: the estimates to choose from.
        corner: heading of the first column.
        cell: `cell(estimate)` returns (label of the row, text of the cell), or None for an estimate that does not belong here.
    """
    about: dict[str, dict[str, str]] = {}
    for estimate in estimates:
        made = cell(estimate)
        if made is not None:
            about.setdefault(made[0], {})[estimate.arm] = made[1]
    if not about:
        return None
    arms = list(dict.fromkeys(arm for cells in about.values() for arm in cells))
    rows = [[label, *(cells.get(arm, "-") for arm in arms)] for label, cells in about.items()]
    return [corner, *arms], rows


def everything(estimates: Iterable[Estimate]) -> Table:
    """Return the table of all estimates of a study, one per row."""
    rows = []
    for estimate in estimates:
        pair = " and ".join(map(str, estimate.directions))
        split = f"{estimate.split}, {estimate.subset}" if estimate.split else ""
        where = split or f"{estimate.layer} {pair}".strip()
        where += f", rank {estimate.rank}" if estimate.rank else ""
        over = f"{estimate.interval.count} {estimate.interval.resampled}"
        rows.append([estimate.name, estimate.arm, where, shown(estimate.interval, 4), over])
    return Table(["name", "arm", "where", "estimate", "over"], rows, title="All numbers")


def what_intervals_are(estimates: Sequence[Estimate]) -> str:
    """Return a sentence that says what the intervals are over; empty where there are none."""
    if not estimates:
        return ""
    first = next((e.interval for e in estimates if e.interval.resampled == "seeds"), estimates[0].interval)
    if first.resampled == "seeds":
        rest = "".join(
            f" The {arm} is one for all seeds; its own intervals are over {over}." for arm, over in _single(estimates)
        )
        return f"Mean and {first.level:.0%} interval over {first.count} seeds.{rest}"
    return f"One seed; {first.level:.0%} intervals over {first.resampled}: how other seeds would differ is not in them."


def _single(estimates: Iterable[Estimate]) -> list[tuple[str, str]]:
    """[(arm, what its intervals are over)] of the networks that stand for all seeds, where others have one for each."""
    own = {(e.variant, e.arm): e.interval.resampled for e in estimates if e.name in ("accuracy", "entropy")}
    several = {variant for (variant, _), over in own.items() if over == "seeds"}
    return list(
        dict.fromkeys((arm, over) for (variant, arm), over in own.items() if variant in several and over != "seeds")
    )


def turned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the table with rows and columns exchanged, as (header, rows)."""
    first, *rest = zip(header, *rows, strict=True)
    return first, rest


def text(header: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Return a table in columns, for a terminal.

    >>> print(text(["arm", "gain"], [["student", "0.1"]], right=[1]))
    arm      gain
    -------------
    student   0.1

    Args:
        header, rows: cells, as in `Table`.
        right: positions of the columns that are aligned on the right.
    """
    table = [header, *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = []
    for line in table:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def folded(header: Sequence[str], rows: Sequence[Sequence[str]], width: int, right: Collection[int] = ()) -> str:
    """Return a table in columns that is no wider than a terminal, and in which nothing is cut.

    Columns that do not fit beside the first go into further blocks, each of which begins with the first column. Then long cells
    are wrapped.

    >>> print(folded(["arm", "gain", "test slope"], [["student", "0.1", "1.2"]], width=20))
    arm      gain
    -------------
    student  0.1
    <BLANKLINE>
    arm      test slope
    -------------------
    student  1.2

    Args:
        header, rows: cells, as in `Table`.
        width: of the terminal, in characters; at least `NARROWEST` of them are used.
        right: positions of the columns that are aligned on the right.
    """
    width = max(width, NARROWEST)
    table = [header, *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) > width:
        first, *others = (min(of, most) for of, most in zip(widths, [LABEL, *[CELL] * len(widths)], strict=False))
        rest = width - 2  # between two columns
        if others and first + max(others) > rest:
            # The labels get what the widest column leaves them, but no less than their longest word or a third.
            word = max(len(word) for line in table for word in line[0].split() or [""])
            first = min(first, max(rest - max(others), rest // 3, min(word, rest // 2)))
            others = [min(other, rest - first) for other in others]
        widths = [min(first, width), *others]
    blocks: list[list[int]] = []
    for column in range(1, len(widths)):
        if blocks and widths[0] + sum(widths[other] + 2 for other in [*blocks[-1], column]) <= width:
            blocks[-1].append(column)
        else:
            blocks.append([column])
    return "\n\n".join(_block(table, [0, *block], widths, right) for block in blocks or [[]])


def _block(
    table: Sequence[Sequence[str]], columns: Sequence[int], widths: Sequence[int], right: Collection[int]
) -> str:
    lines = []
    for line in table:
        cells = [textwrap.wrap(line[column], widths[column], break_on_hyphens=False) or [""] for column in columns]
        for parts in itertools.zip_longest(*cells, fillvalue=""):
            padded = [
                part.rjust(widths[column]) if column in right else part.ljust(widths[column])
                for part, column in zip(parts, columns, strict=True)
            ]
            lines.append("  ".join(padded).rstrip())
        if len(lines) and line is table[0]:
            lines.append("-" * max(len(each) for each in lines))
    return "\n".join(lines)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the table as Markdown; what a cell holds neither ends it nor is HTML.

    >>> print(markdown(["arm"], [["a|<b>"]]))
    | arm |
    |---|
    | a\\|&lt;b> |
    <BLANKLINE>
    """
    escaped = [
        [" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in line] for line in [header, *rows]
    ]
    lines = ["| " + " | ".join(line) + " |" for line in escaped]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]]) + "\n"


def csv_rows(estimates: Iterable[Estimate]) -> Iterator[list]:
    """Yield every estimate as a row of `CSV_COLUMNS`, unrounded; the values of the seeds are joined by spaces.

    A name that a spreadsheet would run as a formula has an apostrophe before it.
    """
    for estimate in estimates:
        values = {name: _no_formula(value) for name, value in estimate.to_json().items()}
        row = {**values, "values": " ".join(map(repr, values["values"]))}
        yield [row.get(column, "") for column in CSV_COLUMNS]


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(tuple("=+-@\t\r")) else value
