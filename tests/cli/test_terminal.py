"""What is printed: folded to the terminal, in colour where there is one, the answer first; quiet, the answer alone."""

import io
import json
import re
import sys

import numpy as np
import pytest

from kd_jax import cli
from kd_jax.cli import study as study_line
from kd_jax.cli import terminal
from kd_jax.cli.terminal import Screen
from kd_jax.report import tables
from kd_jax.report.tables import Table

ANSI = re.compile(r"\x1b\[[0-9;]*m")
SUMMARY = {
    "answer": ["Distillation did not measurably help: -0.4 points [-0.9, 0.0], 5 seeds."],
    "verdicts": [
        {
            "claim": "it helps",
            "verdict": "inconclusive",
            "because": "gain 0.01",
            "sentence": "Whether it helps is open.",
        },
        {"claim": "it exaggerates", "verdict": "supported", "because": "slope 1.2"},
    ],
    "warnings": ["a run did not learn"],
}


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def on_terminal(monkeypatch):
    """`on_terminal(width, **environment)`: standard output becomes a terminal, which is returned."""

    def make(width, **environment):
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"COLUMNS": str(width), **environment}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "stdout", Terminal())
        return sys.stdout

    return make


def random_table(rng, columns, rows, longest):
    def cell():
        words = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 12))) for _ in range(rng.integers(1, longest))]
        return " ".join(words)

    header = ["", *(cell() for _ in range(columns))]
    return header, [[cell() for _ in header] for _ in range(rows)]


# ---- tables


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize(("columns", "longest"), [(1, 3), (7, 3), (13, 9)])
def test_a_folded_table_fits_and_has_every_cell_beside_its_label(width, columns, longest):
    header, rows = random_table(np.random.default_rng(columns), columns, 5, longest)
    text = tables.folded(header, rows, width)
    assert max(map(len, text.splitlines())) <= width
    blocks = text.split("\n\n")
    shown = [0]
    for block in blocks:
        lines = block.splitlines()
        rule = next(n for n, line in enumerate(lines) if re.fullmatch("-+", line))
        above, below = "".join(lines[:rule]), "".join(lines[rule + 1 :])
        # Wrapped cells lie among each other: compare their letters, which are all there, each block with the whole first column.
        of_block = range(shown[-1] + 1, len(header))
        for count in range(1, len(of_block) + 1):
            chosen = [0, *of_block[:count]]
            if sorted(re.sub(r"\s", "", above)) == sorted("".join(header[n] for n in chosen).replace(" ", "")):
                expected = "".join(row[n] for row in rows for n in chosen).replace(" ", "")
                assert sorted(re.sub(r"\s", "", below)) == sorted(expected)
                shown.append(of_block[count - 1])
                break
    assert shown[-1] == len(header) - 1
    assert len(blocks) == len(shown) - 1


def test_a_table_that_fits_is_as_without_a_terminal():
    header, rows = ["arm", "gain", "slope"], [["student", "0.1", "1.20"], ["onehot", "-", "1.00"]]
    assert tables.folded(header, rows, 200, right=[1]) == tables.text(header, rows, right=[1])


def test_where_there_is_no_terminal_lines_are_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen()
    screen.table(
        Table(
            ["arm", *"abcdefgh"], [["student", *["0.123 ± 0.456"] * 8]], "A note that is longer than forty characters."
        )
    )
    screen.answer(SUMMARY)
    screen.verdicts(SUMMARY)
    screen.warnings(SUMMARY)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    lines = out.splitlines()
    assert max(map(len, lines)) > 100
    assert "A note that is longer than forty characters." in lines
    # As programs read them.
    assert "inconclusive: it helps" in lines
    assert "supported: it exaggerates" in lines
    assert "warning: a run did not learn" in lines
    assert lines[lines.index("supported: it exaggerates") + 1] == "    slope 1.2"


# ---- colour and width


def test_on_a_terminal_verdicts_are_in_colour_and_lines_are_wrapped_between_words(on_terminal):
    stream = on_terminal(40)
    screen = Screen()
    screen.answer(SUMMARY)
    screen.verdicts(SUMMARY)
    screen.last(None, [("do", "something that takes a long sentence to say")])
    out = stream.getvalue()
    assert "\x1b[32msupported\x1b[0m: it exaggerates" in out
    assert "\x1b[33minconclusive\x1b[0m: Whether it helps is open." in out  # the sentence instead of the claim
    plain = ANSI.sub("", out)
    assert max(map(len, plain.splitlines())) <= 40
    words = " ".join(plain.split())
    assert SUMMARY["answer"][0] in words
    assert "something that takes a long sentence to say" in words


def test_a_sentence_that_is_a_verdicts_stands_once_on_a_terminal(on_terminal, capsys):
    summary = {"answer": ["Whether it helps is open."], "verdicts": SUMMARY["verdicts"]}
    stream = on_terminal(80)
    screen = Screen()
    screen.answer(summary)
    screen.line("tables")
    screen.verdicts(summary)
    lines = ANSI.sub("", stream.getvalue()).splitlines()
    first = ["inconclusive: Whether it helps is open.", "    gain 0.01", "", "tables"]
    assert lines == [*first, "supported: it exaggerates", "    slope 1.2"]


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted_or_not_there(on_terminal, environment):
    stream = on_terminal(80, **environment)
    Screen().answer(SUMMARY)
    Screen().verdicts(SUMMARY)
    assert "\x1b" not in stream.getvalue()
    assert "supported: it exaggerates" in stream.getvalue()


def test_an_empty_no_color_means_colour(on_terminal):
    stream = on_terminal(80, NO_COLOR="")
    Screen().answer(SUMMARY)
    assert "\x1b" in stream.getvalue()


# ---- the answer, and nothing else


def test_the_answer_comes_first_and_what_to_do_last(tmp_path, write_analysed, capsys):
    study = study_line.STUDIES["digits_kd"].presets.small
    gains = {("accuracy_gain", "student", "test", "all"): [0.01, 0.02]}
    folder = write_analysed(tmp_path / "work", study, gains | {("accuracy", "teacher", "train", "all"): [1.0, 0.9]})
    record = json.loads((folder / "study.json").read_text())
    summary = {**SUMMARY, "estimates": [], "study": record | {"parameters": {}}}
    summary["verdicts"] = [
        *SUMMARY["verdicts"],
        {"claim": "c", "verdict": "inconclusive", "because": "", "more_seeds": 4},
    ]
    terminal.study(folder, summary)
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0] == SUMMARY["answer"][0]
    report = lines.index(f"report: {folder / 'analysis' / 'report.html'}")
    following = lines[report + 1 :]
    assert following
    assert all(line.startswith("next: ") for line in following)
    assert "next: the same command with --seeds=6  # may decide what is inconclusive" in following
    assert any(f"kd-jax compare {folder} OTHER" in line for line in following)
    terminal.study(folder, summary, quiet=True)
    assert capsys.readouterr().out.splitlines() == SUMMARY["answer"]
    terminal.study(folder, {**summary, "answer": []}, quiet=True)
    assert capsys.readouterr().out.splitlines() == [
        "inconclusive: Whether it helps is open.",
        "supported: it exaggerates",
        "inconclusive: c",
    ]


@pytest.mark.long
def test_a_quiet_study_says_only_what_it_answers_and_a_quiet_error_is_one_line(tmp_path, capfd, no_figures):
    flags = [
        "--platform=cpu",
        "--small",
        "--epochs=2",
        "--nulls",
        "--checkpoints=2",
        "--teacher=linear",
        "--student=linear",
        "--trajectory_examples=0",
    ]
    flags += [f"--workdir={tmp_path / 'work'}", "--seeds=2", "--quiet"]
    assert cli.run_study("digits_kd", flags) == 0
    streams = capfd.readouterr()
    assert streams.err == ""
    answered = streams.out.splitlines()
    assert 0 < len(answered) < 12
    assert not [line for line in answered if line.startswith(("report", "next", " ", "test accuracy"))]
    # All is done already: the same answer.
    assert cli.run_study("digits_kd", flags) == 0
    assert capfd.readouterr() == (streams.out, "")
    assert cli.main(["analyze", str(tmp_path / "work"), "--quiet"]) == 0
    assert capfd.readouterr() == (streams.out, "")
    assert cli.run_study("digits_kd", [*flags, "--temperature=2"]) == 2
    streams = capfd.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1


def test_a_quiet_audit_says_only_what_it_answers(tmp_path, capfd):
    rng = np.random.default_rng(0)
    teacher = rng.normal(0, 2, (60, 3))
    np.save(tmp_path / "t.npy", teacher)
    np.save(tmp_path / "s.npy", teacher + rng.normal(0, 1, teacher.shape))
    words = [f"--teacher={tmp_path / 't.npy'}", f"--student={tmp_path / 's.npy'}", f"--out={tmp_path / 'out'}"]
    assert cli.main(["audit", *words, "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert 0 < len(out.splitlines()) < 5
    assert cli.main(["audit", *words]) == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert f"report: {tmp_path / 'out' / 'report.html'}" in lines
    assert lines[-1].startswith("next: kd-jax compare ")


@pytest.mark.long
def test_the_theorem_can_be_quiet_too(tmp_path, capfd):
    assert cli.main(["run", "linear_theory", "--small", "--platform=cpu", f"--workdir={tmp_path}", "--quiet"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    answer = json.loads((tmp_path / "analysis" / "summary.json").read_text())["answer"]
    assert answer
    assert out.splitlines() == answer


def test_help_lists_the_new_commands(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert re.search(r"\bcompare\b", text)
    assert re.search(r"\bpaper\b", text)
