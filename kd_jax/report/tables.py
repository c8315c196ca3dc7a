"""Tables of results: what a reader looks at first, and everything as CSV. Numbers are rounded here and in figures only."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from kd_jax.analysis.results import Estimate, Interval, index
from kd_jax.plan import TEACHER, Arm


class Table(NamedTuple):
    """A table for the terminal and the page.

    Attributes:
        header: headings of the columns.
        rows: cells of each row, as many as there are headings.
        note: a sentence or two about it, for both.
        details: more about it, for the page alone.
        title: heading above it on the page; empty for none.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    details: str = ""
    title: str = ""


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
    """Return the arms that are compared with the teacher: those of `compared` without it."""
    return [arm for arm in compared(arms) if arm.name != TEACHER]


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
    return Table(["name", "arm", "where", "estimate", "over"], rows)


def what_intervals_are(estimates: Sequence[Estimate]) -> str:
    """Return a sentence that says what the intervals are over; empty where there are none."""
    if not estimates:
        return ""
    first = next((e.interval for e in estimates if e.interval.resampled == "seeds"), estimates[0].interval)
    if first.resampled == "seeds":
        own = next((e.interval.resampled for e in estimates if e.arm == TEACHER and e.name == "accuracy"), "seeds")
        rest = f" The teacher is one for all seeds; its own intervals are over {own}." if own != "seeds" else ""
        return f"Mean and {first.level:.0%} interval over {first.count} seeds.{rest}"
    return f"One seed; {first.level:.0%} intervals over {first.resampled}: how other seeds would differ is not in them."


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


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the table as Markdown."""
    lines = ["| " + " | ".join(line) + " |" for line in [header, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]]) + "\n"


def csv_rows(estimates: Iterable[Estimate]) -> Iterator[list]:
    """Yield every estimate as a row of `CSV_COLUMNS`, unrounded; the values of the seeds are joined by spaces."""
    for estimate in estimates:
        values = estimate.to_json()
        row = {**values, "values": " ".join(map(repr, values["values"]))}
        yield [row.get(column, "") for column in CSV_COLUMNS]
