"""What came out, on standard output: the answer first, tables as wide as the terminal is, and last what to do next.

On a terminal there is colour, unless `NO_COLOR` is set or `TERM` is `dumb`, and long lines are wrapped between words. Elsewhere
every line is whole, so that programs can read lines such as `supported: CLAIM` and `report: PATH`.
"""

import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_jax.report import about, costs, tables
from kd_jax.report.tables import Table
from kd_jax.studies import analyses

COLOURS = {"supported": "32", "contradicted": "31", "inconclusive": "33", "warning": "33", "answer": "1", "quiet": "2"}
INDENT = "    "
COMMANDS = 100  # characters of a line of a command, at most
MOST_SEEDS = 30  # that are proposed: an effect that needs more is too small to be of use here

Next = Sequence[tuple[str, str]]  # (what to do, what for)


class Screen:
    """Standard output, as one command uses it.

    Args:
        quiet: whether to print the answer and nothing else.
    """

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self._stream = sys.stdout
        is_terminal = self._stream.isatty()
        self._width = shutil.get_terminal_size().columns if is_terminal else None
        environment = os.environ
        self._coloured = is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"

    def line(self, text: str = "", style: str = "", label: str = "", indent: str = "") -> None:
        """Print a line; where it is wrapped, its further lines are indented.

        Args:
            text: what it says.
            style: a key of `COLOURS`, for the label or, without one, for the line.
            label: what stands before it and a colon.
            indent: what it begins with.
        """
        if self.quiet:
            return
        self._write(text, style, label, indent)

    def _write(self, text: str, style: str = "", label: str = "", indent: str = "") -> None:
        whole = f"{indent}{label}: {text}" if label else f"{indent}{text}"
        if self._width is not None and len(whole) > self._width:
            further = indent or (INDENT if label else "")
            whole = textwrap.fill(
                whole,
                max(self._width, tables.NARROWEST),
                subsequent_indent=further,
                break_long_words=False,
                break_on_hyphens=False,
                drop_whitespace=True,
            )
        if self._coloured and style:
            begin, end = f"\x1b[{COLOURS[style]}m", "\x1b[0m"
            styled = f"{indent}{label}" if label else whole
            whole = f"{begin}{styled}{end}{whole[len(styled) :]}"
        print(whole, file=self._stream)

    def table(self, table: Table, right: Iterable[int] = ()) -> None:
        """Print a table and its note, folded to the terminal."""
        if self.quiet:
            return
        if self._width is None:
            text = tables.text(table.header, table.rows, right=set(right))
        else:
            text = tables.folded(table.header, table.rows, self._width, right=set(right))
        print(text, file=self._stream)
        self.line(table.note)
        if table.note:
            self.line()

    def command(self, words: Sequence[str]) -> None:
        """Print a command that can be copied as it stands, over several lines where it is long."""
        # Room for the backslash that goes on to the next line.
        width = min(self._width or COMMANDS, COMMANDS) - 2
        lines = textwrap.wrap(
            shlex.join(words), width, subsequent_indent=INDENT, break_on_hyphens=False, break_long_words=False
        )
        self._print(" \\\n".join(lines))

    def _print(self, text: str) -> None:
        if not self.quiet:
            print(text, file=self._stream)

    def answer(self, summary: Mapping[str, Any]) -> None:
        """Print what a summary answers, in its sentences; where it has none, in its verdicts. It is all that is printed if quiet.

        On a terminal a sentence that is a verdict's has its numbers below it.
        """
        sentences, verdicts = summary.get("answer", ()), summary["verdicts"]
        if self.quiet:
            for sentence in sentences:
                self._write(sentence)
            for verdict in [] if sentences else verdicts:
                self._write(verdict.get("sentence") or verdict["claim"], label=verdict["verdict"])
            return
        for sentence in sentences:
            own = next((each for each in verdicts if each.get("sentence") == sentence), None)
            if own is None or self._width is None:
                self.line(sentence, "answer")
            else:
                self._verdict(own)
        if not sentences:
            for verdict in verdicts:
                self._verdict(verdict)
        if sentences or verdicts:
            self.line()

    def verdicts(self, summary: Mapping[str, Any]) -> None:
        """Print the verdicts that `answer` did not print, with what decided each."""
        sentences = summary.get("answer", ())
        for verdict in summary["verdicts"] if sentences else ():
            if self._width is None or verdict.get("sentence") not in sentences:
                self._verdict(verdict)

    def _verdict(self, verdict: Mapping[str, Any]) -> None:
        named, sentence = verdict["verdict"], verdict.get("sentence")
        if self._width is not None and sentence:
            self.line(sentence, named, named)
        else:
            self.line(verdict["claim"], named, named)
            if sentence:
                self.line(sentence, indent=INDENT)
        self.line(verdict["because"], "quiet", indent=INDENT)

    def warnings(self, summary: Mapping[str, Any]) -> None:
        """Print what is wrong with it."""
        for warning in summary.get("warnings", ()):
            self.line(warning, "warning", "warning")

    def last(self, report: Path | None, steps: Next) -> None:
        """Print where the report is and what one can do next.

        Args:
            report: the page; None without one.
            steps: (a command or what to do, what for).
        """
        if report is not None:
            self.line()
            self.line(f"report: {report}")
        width = max((len(do) for do, _ in steps), default=0)
        for do, what_for in steps:
            self.line(f"next: {do.ljust(width) if self._width and width < self._width // 2 else do}  # {what_for}")


def sweep(workdir: Path, summary: Mapping[str, Any], quiet: bool = False) -> None:
    """Print what came out of a sweep.

    Args:
        workdir: its work folder.
        summary: contents of its `summary.json`.
        quiet: whether to print the answer alone.
    """
    from kd_jax.report import sweeps

    screen = Screen(quiet)
    screen.line()
    screen.answer(summary)
    screen.table(sweeps.table(summary))
    screen.warnings(summary)
    screen.verdicts(summary)
    first = summary["study"]["variants"][0]["folder"]
    steps = [
        (_command("compare", workdir, "--out=side_by_side"), "its variants side by side, with differences"),
        (_command("export", workdir / first, "--run=student-seed0"), "a network of a variant for other programs"),
    ]
    screen.last(workdir / "analysis" / "report.html", steps)


def study(workdir: Path, summary: Mapping[str, Any], quiet: bool = False) -> None:
    """Print what came out of a study; arguments as for `sweep`."""
    screen = Screen(quiet)
    screen.line()
    screen.answer(summary)
    if quiet:
        return
    analysed = analyses.Analysed.of(workdir, workdir / "analysis", summary)
    for analysis in analyses.ANALYSES:
        for table in analysis.tables(analysed):
            screen.table(table)
    cost(workdir)
    record = summary["study"]
    for line in [*about.teacher(record), *about.controls(record), *about.data(record), about.memory(record)]:
        if line:
            screen.line(line)
    screen.warnings(summary)
    screen.verdicts(summary)
    run = f"student-seed{analysed.seeds[0]}"
    steps = [
        *_seeds(summary),
        (_command("compare", workdir, "OTHER"), "beside another study, with paired differences"),
        (_command("export", workdir, f"--run={run}"), "its network for other programs"),
    ]
    screen.last(workdir / "analysis" / "report.html", steps)


def _seeds(summary: Mapping[str, Any]) -> Next:
    """What more seeds would do, where that is known."""
    seeds = summary["study"]["config"]["seeds"]
    if seeds == 1:
        return [("the same command with --seeds=5", "one seed says nothing about others")]
    more = [verdict["more_seeds"] for verdict in summary["verdicts"] if verdict.get("more_seeds")]
    if not more or min(more) > MOST_SEEDS:
        return []
    return [(f"the same command with --seeds={seeds + min(more)}", "may decide what is inconclusive")]


def cost(workdir: Path) -> None:
    """Print what the networks of a study cost to run, where that was measured.

    Args:
        workdir: its work folder.
    """
    found = costs.read(workdir / "analysis")
    if found is not None:
        Screen().table(costs.table(found))


def audit(out: Path, found: Any, quiet: bool = False) -> None:
    """Print what came out of an audit.

    Args:
        out: the folder of its report.
        found: what `studies.audit.audit` returned.
        quiet: whether to print the answer alone.
    """
    screen = Screen(quiet)
    screen.line()
    screen.answer(found.summary)
    screen.table(found.table())
    screen.warnings(found.summary)
    screen.verdicts(found.summary)
    for each in found.advice:
        screen.line(each.advice, label="advice")
        screen.line(f"{each.because} ({each.source})", "quiet", indent=INDENT)
    steps = [(_command("compare", out, "OTHER"), "beside another audit or a study")]
    if not found.summary["audit"]["given"]["control"]:
        steps.insert(
            0, ("the same command with --control=C", "what no exaggeration looks like: another teacher's seed")
        )
    screen.last(out / "report.html", steps)


def comparison(found: Any, out: Path | None, quiet: bool = False) -> None:
    """Print what came out of a comparison.

    Args:
        found: what `studies.compare.compare` returned.
        out: the folder of its report; None without one.
        quiet: whether to print the answer alone.
    """
    from kd_jax.report import comparisons

    screen = Screen(quiet)
    screen.line()
    screen.answer({"answer": found.answer, "verdicts": []})
    for table in comparisons.listed(found.summary):
        screen.line(table.title, "answer")
        screen.table(table)
    screen.warnings(found.summary)
    screen.last(out / "report.html" if out else None, [] if out else [("the same command with --out=DIR", "as a page")])


def scoreboard(summary: Mapping[str, Any], out: Path | None, quiet: bool = False) -> None:
    """Print the paper's scoreboard.

    Args:
        summary: contents of its `summary.json`.
        out: the folder of its page; None without one.
        quiet: whether to print the counts alone.
    """
    from kd_jax.report import scoreboard as of_paper

    screen = Screen(quiet)
    screen.line()
    screen.answer({"answer": summary["answer"], "verdicts": []})
    screen.table(of_paper.table(summary))
    screen.table(of_paper.counts(summary))
    others = of_paper.others(summary)
    if others is not None:
        screen.line(others.title, "answer")
        screen.table(others)
    costs = of_paper.costs(summary)
    if costs is not None:
        screen.line(costs.title, "answer")
        for row in summary["settings"]:
            if row["status"] != "run":
                screen.line()
                screen.line(f"# {row['number']}. {row['name']}: {row['status']}; {of_paper.cost_line(row['cost'])}")
                screen.command(row["command"])
        screen.line()
        screen.line(costs.note)
    for each in summary["unread"]:
        screen.line(each["why"], "warning", "warning")
    screen.last(out / "report.html" if out else None, [] if out else [("kd-jax paper DIR --out=DIR", "as a page")])


def _command(name: str, *words: Path | str) -> str:
    return f"kd-jax {name} {shlex.join(map(str, words))}"
