"""What came out, on standard output."""

from kd_jax.report import about, sweeps, tables


def sweep(workdir, found):
    """Print what a sweep found.

    Args:
        workdir: its work folder.
        found: contents of its `summary.json`.
    """
    print()
    print(tables.text(*sweeps.table(found)))
    print(f"{tables.what_intervals_are(found)}\n")
    _conclusions(workdir, found)


def study(workdir, found):
    """Print what a study found.

    Args:
        workdir: its work folder.
        found: contents of its `summary.json`.
    """
    print()
    print(tables.text(*tables.main_table(found)))
    print(tables.what_intervals_are(found))
    print()
    ratios = tables.eigen_table(found)
    if ratios is not None:
        print(tables.text(*ratios))
        print(
            "Weights along lower eigendirections of the inputs at equal progress along a top one, relative to one-hot.\n"
        )
    functions = tables.function_table(found)
    if functions is not None:
        print(tables.text(*functions))
        print(
            "Functions, along groups of eigenvectors of the tangent kernel; ratios at equal progress in the first of two groups.\n"
        )
    for line in [*about.data(found["study"]), about.memory(found["study"])]:
        if line:
            print(line)
    _conclusions(workdir, found)


def _conclusions(workdir, found):
    for warning in found["warnings"]:
        print(f"warning: {warning}")
    for verdict in found["verdicts"]:
        print(f"{verdict['verdict']}: {verdict['claim']}\n    {verdict['because']}")
    print(f"\nreport: {workdir / 'analysis' / 'report.html'}")
