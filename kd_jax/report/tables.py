"""Tables of a `summary.json`: what a reader looks at first, and everything as CSV."""

# (heading, name, split, subset, digits)
COLUMNS = (
    ("test accuracy", "accuracy", "test", "all", 3),
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
)


def shown(estimate, digits=3):
    """An estimate with its interval: `0.884 ± 0.012`, or `0.884 [0.853, 0.909]` where it is not symmetric."""
    value, low, high = estimate["estimate"], estimate["low"], estimate["high"]
    if abs((high - value) - (value - low)) < 1e-9 * max(abs(value), 1):
        return f"{value:.{digits}f} ± {high - value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def lookup(found):
    """{(name, arm, split, subset): estimate} of a summary."""
    return {(e["name"], e["arm"], e["split"], e["subset"]): e for e in found["estimates"] if "split" in e}


def compared_arms(found):
    """The arms of a summary but for the nulls of its eigendirections, the teacher first."""
    return [arm for arm in found["study"]["arms"] if not arm.get("null_of")]


def main_table(found):
    """Return (header, rows) of strings: a quantity per row, an arm per column; what does not apply is a dash."""
    table = lookup(found)
    columns = COLUMNS
    columns += MISMATCHED_COLUMNS if any(split == "mismatched" for _, _, split, _ in table) else ()
    columns += NOISE_COLUMNS if any(subset == "noisy" for *_, subset in table) else ()
    header = ["arm", *(column[0] for column in columns)]
    rows = []
    for arm in compared_arms(found):
        cells = []
        for _, name, split, subset, digits in columns:
            estimate = table.get((name, arm["name"], split, subset))
            cells.append("-" if estimate is None else shown(estimate, digits))
        rows.append([f"{arm['name']} ({arm['model']})", *cells])
    return turned(header, rows)


def eigen_table(found):
    """Return (header, rows) of strings: a pair of directions per row, an arm per column; None where there are no ratios."""
    return _arm_per_column(found, "ratio to onehot", _eigen_cell)


def _eigen_cell(e):
    if not e["name"].startswith(("eigen_ratio", "eigen_fraction")):
        return None
    pair = " and ".join(map(str, e["directions"])) if "directions" in e else "random pairs below 1"
    what = ", movement" if e["name"].endswith("_moved") else ""
    return f"{e['layer']}, {pair}{what}", shown(e, 3 if "directions" in e else 2)


# name -> heading
FUNCTIONS = {
    "function_ratio": "ratio to onehot, groups",
    "function_ratio_filter": "the same by the filters, groups",
    "kernel_drift": "kernel's drift",
    "linearisation_error": "error of the linearisation",
    "filter_error": "error of the filter",
}


def function_table(found):
    """Return (header, rows) of strings of the functions along kernels' eigenvectors; None where none were followed."""
    return _arm_per_column(found, "function", _function_cell)


def _function_cell(e):
    heading = FUNCTIONS.get(e["name"])
    if heading is None:
        return None
    pair = " and ".join(map(str, e["directions"])) if "directions" in e else ""
    return f"{heading} {pair}".rstrip(), shown(e)


def _arm_per_column(found, corner, cell):
    """(header, rows) of the estimates of which `cell(estimate)` makes (row's label, text) and not None; None if there are none."""
    about = {}
    for e in found["estimates"]:
        label, text = cell(e) or (None, None)
        if label:
            about.setdefault(label, {})[e["arm"]] = text
    if not about:
        return None
    arms = list(dict.fromkeys(arm for cells in about.values() for arm in cells))
    rows = [[label, *(cells.get(arm, "-") for arm in arms)] for label, cells in about.items()]
    return [corner, *arms], rows


def what_intervals_are(found):
    """A sentence that says what the intervals of a summary are over."""
    first = found["estimates"][0]
    if first["resampled"] == "seeds":
        return f"Mean and {first['level']:.0%} interval over {first['count']} seeds."
    return f"One seed; {first['level']:.0%} intervals over examples: how other seeds would differ is not in them."


def turned(header, rows):
    """The table on its side, as (header, rows)."""
    first, *rest = zip(header, *rows, strict=True)
    return first, rest


def text(header, rows):
    """The table for a terminal."""
    table = [header, *rows]
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def markdown(header, rows):
    """The table as Markdown."""
    lines = ["| " + " | ".join(line) + " |" for line in [header, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]]) + "\n"


def csv_rows(found):
    """Every estimate as a row of `CSV_COLUMNS`, unrounded; the values of the seeds joined by spaces."""
    for estimate in found["estimates"]:
        row = {**estimate, "values": " ".join(map(repr, estimate["values"]))}
        yield [row.get(column, "") for column in CSV_COLUMNS]
