"""`kd-jax audit` on what cannot be judged: exit status 2, one line that names the value, nothing written."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy.special import log_softmax, softmax

from kd_jax.cli import commands
from kd_jax.report import audit_figures

ROWS, CLASSES = 40, 4
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(ROWS, CLASSES))
P = softmax(LOGITS, axis=1)
Y = RNG.integers(0, CLASSES, ROWS)
ORDER = np.argsort(-P, axis=1)[:, :2]
TOP = {"indices": ORDER, "probabilities": np.take_along_axis(P, ORDER, axis=1)}


def broken(array, row=3, column=1, value=np.nan):
    array = np.array(array)
    array[row, column] = value
    return array


def write(path, contents):
    """Write an array, {key: array}, text or bytes as the ending of the path asks."""
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    elif isinstance(contents, str):
        path.write_text(contents, encoding="utf-8")
    elif path.suffix == ".npz":
        np.savez(path, **contents)
    elif path.suffix == ".npy":
        np.save(path, contents, allow_pickle=True)
    else:
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(contents, columns=[f"class{i}" for i in range(contents.shape[1])])
        if path.suffix == ".parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")


# (what, the student's file, its contents, further flags, the line)
STUDENTS = [
    ("nan", "s.npy", broken(LOGITS), [], "student: row 3, column 1: expected a finite number, found nan"),
    ("infinity", "s.npy", broken(LOGITS, value=np.inf), [], "student: row 3, column 1: .* found inf"),
    ("nothing possible", "s.npy", np.where(np.arange(ROWS)[:, None] == 5, -np.inf, LOGITS), [], "row 5"),
    ("an empty cell", "s.csv", broken(LOGITS), [], "row 3, column 1: expected a finite number, found nan"),
    ("nan, parquet", "s.parquet", broken(LOGITS), [], "row 3, column 1: expected a finite number, found nan"),
    ("nan, float16", "s.npy", broken(LOGITS).astype(np.float16), [], "row 3, column 1"),
    ("nan, top-k", "s.npz", TOP | {"probabilities": broken(TOP["probabilities"])}, ["--classes=4"], "row 3"),
    ("fewer classes", "s.npy", LOGITS[:, :3], [], r"student=.*: expected \[40, 4\] .* found \[40, 3\]"),
    ("fewer rows", "s.npy", LOGITS[:39], [], r"expected \[40, 4\] .* found \[39, 4\]"),
    ("fewer classes, csv", "s.csv", LOGITS[:, :3], [], r"found \[40, 3\]"),
    ("three dimensions", "s.npy", LOGITS[None], [], r"found float64 \[1, 40, 4\]; pass --tokens"),
    ("one dimension", "s.npy", LOGITS[:, 0], [], r"expected floats \[examples, classes\]"),
    ("integers", "s.npy", Y, [], "expected floats"),
    ("bfloat16", "s.npy", np.zeros((ROWS, CLASSES), "V2"), [], "bfloat16 is saved as float32"),
    ("sums", "s.npy", broken(P, value=0.9), ["--probabilities"], "row 3: expected probabilities that add up to 1"),
    ("negative", "s.npy", P - 0.5, ["--probabilities"], "row 0: expected probabilities that add up to 1"),
    ("sums, csv", "s.csv", broken(P, value=0.9), ["--probabilities"], "row 3: expected probabilities"),
    ("sums, parquet", "s.parquet", broken(P, value=0.9), ["--probabilities"], "row 3: expected probabilities"),
    ("logits", "s.npy", LOGITS, ["--log_probabilities"], "row 0: expected log_probabilities that add up to 1"),
    ("large logits", "s.npy", 1e3 * LOGITS, ["--log_probabilities"], "expected log_probabilities that add up to 1"),
    ("sums, top-k", "s.npz", TOP | {"probabilities": TOP["probabilities"] + 0.5}, ["--classes=4"], "add up to 1"),
    ("classes", "s.npz", TOP, ["--classes=2"], "--classes=2: expected 4, as the rows have"),
    ("classes of all", "s.npy", LOGITS, ["--classes=9"], "--classes=9: expected 4, as the rows have"),
    ("twice", "s.npz", TOP | {"indices": ORDER * 0}, ["--classes=4"], "row 0 has one twice"),
    (
        "negative class",
        "s.npz",
        TOP | {"indices": ORDER - 4},
        ["--classes=4"],
        "expected classes from 0 to 3, found -4",
    ),
    ("rest of logits", "s.npz", {"indices": ORDER, "logits": TOP["probabilities"]}, [], "the rest is not known"),
    ("indices alone", "s.npz", {"indices": ORDER}, [], "expected one of the keys"),
    ("pickle", "s.npy", np.array([[{}, []]], dtype=object), [], "plain arrays.*Python objects"),
    ("pickle, npz", "s.npz", {"logits": np.array([[{}, []]], dtype=object)}, [], "plain arrays.*Object arrays"),
    ("text", "s.npy", "0.1 0.2\n", [], "plain arrays"),
    ("empty", "s.npy", b"", [], "plain arrays"),
    ("empty, csv", "s.csv", b"", [], "expected a column of numbers per class"),
    ("empty, parquet", "s.parquet", b"", [], "expected a column of numbers per class"),
    ("heading alone", "s.csv", "a,b,c,d\n", [], r"expected|found \[0, 4\]"),
    ("words, csv", "s.csv", "a,b,c,d\n" + "1,2,x,4\n" * ROWS, [], "expected a column of numbers per class"),
    ("ragged, csv", "s.csv", "a,b\n1,2\n1,2,3\n", [], "expected a column of numbers per class"),
    ("row numbers, csv", "s.csv", ",a,b,c\n" + "".join(f"{i},1,2,3\n" for i in range(ROWS)), [], "has row numbers"),
]


@pytest.fixture
def audit(tmp_path, capsys, monkeypatch):
    """`audit(flags, **contents)` writes the files and runs the command; returns (exit status, what it said)."""

    monkeypatch.setattr(audit_figures, "drawn", lambda *args: {})  # which take most of the time

    def run(*flags, teacher=LOGITS):
        np.save(tmp_path / "t.npy", teacher)
        argv = [flag.replace("@", f"{tmp_path}/") for flag in flags]
        status = commands.main(["audit", f"--teacher={tmp_path}/t.npy", f"--out={tmp_path}/out", *argv])
        said = capsys.readouterr()
        if status:
            assert len(said.err.strip().splitlines()) == 1, said.err
            assert not [path for path in tmp_path.iterdir() if path.name.startswith((".", "out"))]
        return status, said.err if status else said.out

    return run


@pytest.mark.parametrize(
    ("name", "contents", "flags", "said"), [case[1:] for case in STUDENTS], ids=[case[0] for case in STUDENTS]
)
def test_a_student_that_cannot_be_judged(tmp_path, audit, name, contents, flags, said):
    write(tmp_path / name, contents)
    teacher = P if "--probabilities" in flags else log_softmax(LOGITS, axis=1)
    status, line = audit(f"--student=@{name}", *flags, teacher=teacher)
    assert status == 2
    assert re.search(said, line), line


# (what, {file: contents}, flags, the line)
OTHERS = [
    ("absent", {}, ["--student=@absent.npy"], "student=.*absent.npy: expected a file, there is none"),
    ("folder", {}, ["--student=@"], "plain arrays"),
    ("labels out of range", {"y.npy": Y + 1}, ["--labels=@y.npy"], "found 4; they seem to begin at 1: subtract 1"),
    ("negative labels", {"y.txt": "-100\n" + "0\n" * 39}, ["--labels=@y.txt"], "row 0: .* found -100"),
    ("negative labels, npy", {"y.npy": Y - 1}, ["--labels=@y.npy"], "expected a class from 0 to 3, found -1"),
    ("float labels", {"y.npy": Y * 1.0}, ["--labels=@y.npy"], "expected integers"),
    ("word as a label", {"y.txt": "0\n" * 39 + "cat\n"}, ["--labels=@y.txt"], "line 40: expected a whole number"),
    ("huge label", {"y.txt": "0\n" * 39 + "9" * 30}, ["--labels=@y.txt"], "expected whole numbers of 64 bits"),
    ("huge label, npy", {"y.npy": np.full(ROWS, 2**64 - 1, np.uint64)}, ["--labels=@y.npy"], "of 64 bits"),
    ("few labels", {"y.npy": Y[:-1]}, ["--labels=@y.npy"], "expected 40 labels, one per row of the teacher, found 39"),
    ("labels in two dimensions", {"y.npy": Y[:, None]}, ["--labels=@y.npy"], r"expected integers \[examples\]"),
    ("labels, empty npz", {"y.npz": {}}, ["--labels=@y.npz"], "expected an array, the file has none"),
    ("pickled labels", {"y.npy": np.array([{}])}, ["--labels=@y.npy"], "plain arrays"),
    ("names alike", {"n.txt": "cat\ndog\ncat\neel"}, ["--names=@n.txt"], "class 2: .* 'cat' is class 0 too"),
    ("no name", {"n.txt": "cat\n\ndog\neel"}, ["--names=@n.txt"], "class 1: expected a name, found none"),
    ("few names", {"n.txt": "cat\ndog"}, ["--names=@n.txt"], "expected 4 names, one per class, found 2"),
    ("names in Latin-1", {"n.txt": "Bär\n".encode("latin-1") * 4}, ["--names=@n.txt"], "expected UTF-8"),
    ("no tokenizer", {"n.json": "[[[["}, ["--names=@n.json"], "expected a tokenizer.json"),
    ("few texts", {"e.txt": "a\nb\n"}, ["--examples=@e.txt"], "expected 40 examples"),
    ("few images", {"e.npy": np.zeros((39, 2, 2), np.uint8)}, ["--examples=@e.npy"], "expected 40 examples.* found 39"),
    ("float images", {"e.npy": np.zeros((40, 2, 2))}, ["--examples=@e.npy"], "expected uint8"),
    ("absent examples", {}, ["--examples=@absent.npy"], "expected a .npy of images"),
    ("control of other rows", {"c.npy": LOGITS[:9]}, ["--control=@c.npy"], r"control=.* found \[9, 4\]"),
    ("both kinds", {}, ["--probabilities", "--log_probabilities"], "expected one of the two"),
    ("mask of examples", {"m.npy": Y * 0 + 1}, ["--mask=@m.npy"], "pass --tokens"),
    ("few sequences", {"m.npy": Y}, ["--tokens", "--sequences=@m.npy"], "at least 8 sequences, found 4"),
    ("all masked", {"m.npy": Y * 0}, ["--tokens", "--mask=@m.npy"], "expected at least 8 tokens, found 0"),
    ("token below 0", {"y.npy": Y - 7}, ["--tokens", "--labels=@y.npy"], "or -100 to leave it out, found -"),
]


@pytest.mark.parametrize(("files", "flags", "said"), [case[1:] for case in OTHERS], ids=[case[0] for case in OTHERS])
def test_what_is_given_besides_and_does_not_fit(tmp_path, audit, files, flags, said):
    for name, contents in files.items():
        write(tmp_path / name, contents)
    write(tmp_path / "s.npy", LOGITS)
    student = [] if any("--student" in flag for flag in flags) else ["--student=@s.npy"]
    status, line = audit(*student, *flags)
    assert status == 2
    assert re.search(said, line), line


def test_one_class_few_examples_and_a_folder_of_too_few_images(tmp_path, audit):
    for teacher, said in (
        (LOGITS[:, :1], "expected two classes or more"),
        (LOGITS[:7], "at least 8 examples, found 7"),
    ):
        write(tmp_path / "s.npy", teacher)
        status, line = audit("--student=@s.npy", teacher=teacher)
        assert (status, said in line) == (2, True)
    write(tmp_path / "s.npy", LOGITS)
    (folder := tmp_path / "images").mkdir()
    for i in range(3):
        Image.new("L", (4, 4)).save(folder / f"{i}.png")
    status, line = audit("--student=@s.npy", "--examples=@images")
    assert (status, "expected 40 examples" in line and "found 3" in line) == (2, True)


def test_a_folder_that_is_no_audits_is_left_alone(tmp_path, capsys):
    write(tmp_path / "s.npy", LOGITS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("mine")
    for out in ("mine", "mine/kept.txt"):
        files = [f"--{name}={tmp_path}/s.npy" for name in ("teacher", "student")]
        assert commands.main(["audit", *files, f"--out={tmp_path}/{out}"]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "mine" / "kept.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("teacher", "student", "said"),
    [
        (np.eye(CLASSES)[Y] * 2, LOGITS, "the teacher is equally sure of every example"),
        (LOGITS, np.zeros((ROWS, CLASSES)), ""),
        (np.zeros((ROWS, CLASSES)), np.zeros((ROWS, CLASSES)), "equally sure"),
        (LOGITS, broken(LOGITS, value=-np.inf), "a probability of"),
        (1e4 * np.eye(CLASSES)[Y], -1e4 * np.eye(CLASSES)[Y], ""),
    ],
    ids=["teacher equally sure", "student says nothing", "neither says anything", "a probability of 0", "opposites"],
)
def test_what_has_no_slope_or_no_best_temperature_is_said_and_nothing_is_nan(tmp_path, audit, teacher, student, said):
    write(tmp_path / "s.npy", student)
    write(tmp_path / "y.npy", Y)
    status, out = audit("--student=@s.npy", "--labels=@y.npy", teacher=teacher)
    assert status == 0
    assert said in out
    text = (tmp_path / "out" / "summary.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in summary.json"))
    assert "nan" not in (tmp_path / "out" / "table.csv").read_text(encoding="utf-8")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ">nan" not in page
    assert "inf<" not in page


def test_a_table_without_a_heading_loses_no_example(tmp_path, audit):
    write(tmp_path / "t.csv", "\n".join(",".join(f"{value:.6f}" for value in row) for row in LOGITS))
    status, _ = audit("--student=@t.csv")
    assert status == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["audit"]["given"]["examples"] == ROWS
