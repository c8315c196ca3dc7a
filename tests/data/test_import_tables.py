"""`kd-jax import` of tables: texts and numbers row by row, labels by name, and what is said of rows that are none."""

import gzip
import json

import numpy as np
import pytest

from kd_jax.data import tfds
from kd_jax.data.importing import Options, import_set
from kd_jax.errors import BadInput

TEXTS = Options(text_column="review", label_column="mood")
NUMBERS = Options(label_column="kind")
ROWS = [(f"film, number “{i}”", ("good", "bad")[i % 2], i) for i in range(10)]


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def texts_csv(path, rows=ROWS):
    body = "".join(f'{i},"{text}",{mood}\n' for text, mood, i in rows)
    return write(path, f"id,review,mood\n{body}")


def refused(tmp_path, source, options, said):
    """The import is refused in one line, and nothing is left behind."""
    with pytest.raises(BadInput, match=said) as caught:
        import_set(source, "mine", tmp_path / "sets", options)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "sets").rglob("*"))


def read(tmp_path, split="train", name="mine"):
    """(texts, labels) of a split as studies see them."""
    return tfds.load(name, tmp_path / "sets").of(split)


# ---- texts


def test_texts_are_read_as_they_stand_with_their_labels_by_name(tmp_path):
    texts_csv(tmp_path / "in" / "train.csv")
    texts_csv(tmp_path / "in" / "dev.csv", ROWS[:4])
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets", TEXTS)
    assert imported.class_names == ("bad", "good")
    assert (imported.kind, imported.about) == ("texts", "texts")
    for split, rows in (("train", ROWS), ("test", ROWS[:4])):
        texts, labels = read(tmp_path, split)
        assert texts == [(text,) for text, *_ in rows]
        assert labels.tolist() == [("bad", "good").index(mood) for _, mood, _ in rows]
    assert tfds.load("mine", tmp_path / "sets").class_names.tolist() == ["bad", "good"]


@pytest.mark.parametrize("kind", ["csv", "semicolons", "tsv", "csv.gz", "jsonl", "parquet", "bom", "columns", "crlf"])
def test_every_kind_of_table_gives_the_same_rows(tmp_path, kind):
    path, options = tmp_path / "in.csv", TEXTS
    csv = texts_csv(path).read_text(encoding="utf-8")
    if kind == "semicolons":
        write(path, "id;review;mood\n" + "".join(f"{i};{text};{mood}\n" for text, mood, i in ROWS))
    elif kind == "tsv":
        path = write(
            tmp_path / "in.tsv", "id\treview\tmood\n" + "".join(f"{i}\t{text}\t{mood}\n" for text, mood, i in ROWS)
        )
    elif kind == "csv.gz":
        path = tmp_path / "in.csv.gz"
        path.write_bytes(gzip.compress(csv.encode()))
    elif kind == "jsonl":
        lines = [json.dumps({"mood": mood, "review": text, "more": {"a": i}}) for text, mood, i in ROWS]
        path = write(tmp_path / "in.jsonl", "\n".join(lines))
    elif kind == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        path = tmp_path / "in.parquet"
        table = pyarrow.table({"review": [text for text, *_ in ROWS], "mood": [mood for _, mood, _ in ROWS]})
        parquet.write_table(table, path)
    elif kind == "bom":
        write(path, "review,mood\n" + "".join(f'"{text}",{mood}\n' for text, mood, _ in ROWS), "utf-8-sig")
    elif kind == "columns":
        write(path, csv.partition("\n")[2])
        options = Options(text_column="review", label_column="mood", columns=("id", "review", "mood"))
    elif kind == "crlf":
        write(path, csv.replace("\n", "\r\n"))
    import_set(path, "mine", tmp_path / "sets", options)
    texts = [*read(tmp_path)[0], *read(tmp_path, "test")[0]]
    assert sorted(texts) == sorted((text,) for text, *_ in ROWS)


def test_pairs_keep_their_order_and_quoted_texts_may_hold_lines(tmp_path):
    rows = "".join(f'"b{i}\nsecond line",a{i},{i % 2}\n' for i in range(10))
    write(tmp_path / "in.csv", f"zebra,ant,label\n{rows}")
    options = Options(text_column="zebra", pair_column="ant", label_column="label")
    imported = import_set(tmp_path / "in.csv", "mine", tmp_path / "sets", options)
    assert imported.about == "pairs of texts, zebra first"
    assert all(first[1:] == f"{second[1:]}\nsecond line" for first, second in read(tmp_path)[0])
    assert tfds.load("mine", tmp_path / "sets").class_names.size == 0  # 0 and 1 are no names


def test_rows_without_text_are_left_out_and_counted(tmp_path):
    texts_csv(tmp_path / "in" / "train.csv", [*ROWS, (" ", "good", 10), ("", "odd", 11)])
    texts_csv(tmp_path / "in" / "test.csv")
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets", TEXTS)
    assert imported.notes == ("left out 2 rows of the train part without text in review",)
    assert imported.class_names == ("bad", "good")  # a class of rows that are left out is none
    assert imported.counts["train"].tolist() == [5, 5]


@pytest.mark.parametrize("labels", [["1", "2", "10"], [1, 2, 10], [1.0, 2.0, 10.0]])
def test_numbers_as_labels_are_classes_in_their_order_and_renumbering_is_said(tmp_path, labels):
    lines = [json.dumps({"review": f"a{i}", "mood": labels[i % 3]}) for i in range(12)]
    write(tmp_path / "in.jsonl", "\n".join(lines))
    imported = import_set(tmp_path / "in.jsonl", "mine", tmp_path / "sets", TEXTS)
    assert imported.class_names == ("1", "2", "10")
    assert imported.notes[0] == "labels 1 to 10 became the classes 0 to 2; their names stay 1 to 10"


def test_shards_of_a_part_are_read_one_after_the_other(tmp_path):
    texts_csv(tmp_path / "in" / "train-00000-of-00002.csv", ROWS[:6])
    texts_csv(tmp_path / "in" / "train-00001-of-00002.csv", ROWS[6:])
    texts_csv(tmp_path / "in" / "test.csv")
    import_set(tmp_path / "in", "mine", tmp_path / "sets", TEXTS)
    assert read(tmp_path)[0] == [(text,) for text, *_ in ROWS]


# ---- numbers


def test_every_other_column_is_a_feature(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 3)) * [1, 1e-6, 1e6]
    body = "".join(f"{i},{a!r},{'yes' if i % 2 else 'no'},{b!r},{c!r}\n" for i, (a, b, c) in enumerate(x.tolist()))
    write(tmp_path / "in" / "train.csv", f"id,a,kind,b,c\n{body}")
    write(tmp_path / "in" / "test.csv", f"id,a,kind,b,c\n{body}")
    options = Options(label_column="kind", ignore_columns=("id",))
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets", options)
    assert (imported.kind, imported.about) == ("numbers", "3 numbers: a, b, c")
    source = tfds.load("mine", tmp_path / "sets")
    np.testing.assert_array_equal(source.train_x, x.astype(np.float32))
    assert source.class_names.tolist() == ["no", "yes"]
    assert source.train_y.tolist() == [0, 1] * 10
    assert "Features: a, b, c." in json.loads((imported.folder / "dataset_info.json").read_text())["description"]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "in.csv, line 4, column a: expected a finite number, found nothing; fill it in"),
        ("nan", "in.csv, line 4, column a: expected a finite number, found 'nan'"),
        ("inf", "line 4, column a: expected a finite number, found 'inf'"),
        ("1e39", "line 4, column a: expected a finite number, found '1e39'"),
        ("red", "line 4, column a: .* found 'red'; .* --ignore_columns a; or pass --text_column if it is a text"),
    ],
)
def test_a_feature_that_is_no_number_is_refused_with_its_line_and_column(tmp_path, value, said):
    rows = [f"{i},{i % 2}" for i in range(10)]
    rows[2] = f"{value},0"
    write(tmp_path / "in.csv", "a,kind\n" + "\n".join(rows))
    refused(tmp_path, tmp_path / "in.csv", NUMBERS, said)


# ---- what cannot be read


@pytest.mark.parametrize(
    ("body", "options", "said"),
    [
        (
            None,
            Options(label_column="label"),
            "--label_column=label: expected a column of .*, which are id, review, mood",
        ),
        (None, Options(text_column="text", label_column="mood"), "--text_column=text: expected a column"),
        (
            None,
            Options(text_column="review", pair_column="b", label_column="mood"),
            "--pair_column=b: expected a column",
        ),
        (
            None,
            Options(pair_column="review", label_column="mood"),
            "--pair_column=review: expected --text_column beside it",
        ),
        (
            None,
            Options(text_column="review"),
            "expected --label_column, the column of the classes, one of id, review, mood",
        ),
        (None, Options(label_column="mood", image_size=32), "--image_size=32: expected none for a table"),
        (
            None,
            Options(text_column="review", label_column="mood", ignore_columns=("id",)),
            "--ignore_columns=id: expected none",
        ),
        (None, Options(label_column="mood", ignore_columns=("no",)), "--ignore_columns=no: expected a column"),
        (
            None,
            Options(label_column="mood", ignore_columns=("id", "review")),
            "expected columns of numbers beside mood",
        ),
        (
            "id,review,mood\n1,a,b,c\n",
            TEXTS,
            "line 2: expected 3 fields as in line 1, found 4; quote fields that hold ,",
        ),
        ("id,review,mood\n1,a,b\n\n2,a\n", TEXTS, "line 4: expected 3 fields as in line 1, found 2"),
        ('id,review,mood\n1,"a\nb",b\n2,a\n', TEXTS, "line 4: expected 3 fields"),
        ('id,review,mood\n1,"a,b\n', TEXTS, "expected comma-separated values, found: unexpected end of data"),
        ("id,review,review\n1,a,b\n", TEXTS, "line 1: expected a different name for every column, found 'review'"),
        ("id,review,mood\n", TEXTS, "expected rows, found none"),
        ("id,review,mood\n1,a,good\n2,b,\n", TEXTS, "line 3: expected a label in mood, found none; fill it in"),
        ("id,review,mood\n1,a,good\n2,b,good\n", TEXTS, "expected two classes or more, found good"),
        ("id,review,mood\n1,,good\n2,,bad\n", TEXTS, "expected texts in review, found none in the train part"),
        ("id,review,mood\n1,a,good\n2,b,bad\n", TEXTS, "expected two training examples or more of some class"),
    ],
)
def test_tables_that_are_no_set_are_refused(tmp_path, body, options, said):
    texts_csv(tmp_path / "in.csv") if body is None else write(tmp_path / "in.csv", body)
    refused(tmp_path, tmp_path / "in.csv", options, said)


def test_a_text_that_is_not_in_utf8_is_refused_with_its_line(tmp_path):
    write(tmp_path / "in.csv", "id,review,mood\n1,fine,good\n2,naïve,bad\n", "latin-1")
    refused(
        tmp_path, tmp_path / "in.csv", TEXTS, r"in\.csv: line 3: expected UTF-8, found the byte 0xef; convert .*iconv"
    )


def test_100001_classes_are_refused(tmp_path):
    write(tmp_path / "in.csv", "a,kind\n" + "".join(f"1,c{i}\n" for i in range(100_001)))
    refused(tmp_path, tmp_path / "in.csv", NUMBERS, "column kind: expected at most 100,000 classes, found 100,001")


def test_numbers_to_be_predicted_are_no_classes(tmp_path):
    lines = [json.dumps({"a": i, "kind": i / 7}) for i in range(1, 20)]
    write(tmp_path / "in.jsonl", "\n".join(lines))
    refused(tmp_path, tmp_path / "in.jsonl", NUMBERS, "expected names or whole numbers, found 0.14.*not for regression")


def numbers_csv(path, labels, head="a,b,kind", first=None):
    rows = [f"{'' if first is None else f'{first[i]},'}{i % 7},{i * i},{label}" for i, label in enumerate(labels)]
    return write(path, "\n".join([head, *rows]) + "\n")


def test_whole_numbers_with_a_point_are_the_classes_of_those_without(tmp_path):
    """As pandas writes a column in which a value was missing; 10.0 comes behind 2.0."""
    numbers_csv(tmp_path / "in" / "train.csv", ["1", "2", "10"] * 5)
    numbers_csv(tmp_path / "in" / "test.csv", ["10.0", "1.0", "2.0"] * 2)
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets", NUMBERS)
    assert imported.class_names == ("1", "2", "10")
    assert tfds.load("mine", tmp_path / "sets").test_y.tolist() == [2, 0, 1] * 2


def test_numbers_to_be_predicted_are_no_classes_in_a_table_of_text_either(tmp_path):
    numbers_csv(tmp_path / "in.csv", [f"{i / 7:.3f}" for i in range(1, 20)])
    refused(
        tmp_path,
        tmp_path / "in.csv",
        NUMBERS,
        r"column kind: expected names or whole numbers, found 0\.143.* regression",
    )


@pytest.mark.parametrize("labels", [("007", "7"), ("1e5", "2e5"), ("nan", "1.5"), ("v1.0", "1.1")])
def test_names_that_look_a_bit_like_numbers_stay_names(tmp_path, labels):
    numbers_csv(tmp_path / "in.csv", labels * 5)
    assert import_set(tmp_path / "in.csv", "mine", tmp_path / "sets", NUMBERS).class_names == tuple(sorted(labels))


@pytest.mark.parametrize("kind", ["csv", "csv read again", "shuffled", "parquet"])
def test_row_numbers_of_pandas_are_no_feature(tmp_path, kind):
    numbers = list(range(20)) if kind != "shuffled" else np.random.default_rng(0).permutation(100)[:20].tolist()
    path = numbers_csv(tmp_path / "in.csv", ["x", "y"] * 10, ",a,b,kind", numbers)
    name = ""
    if kind == "csv read again":
        name = "Unnamed: 0"
        write(path, name + path.read_text(encoding="utf-8"))
    if kind == "parquet":
        pandas, name = pytest.importorskip("pandas"), "__index_level_0__"
        pytest.importorskip("pyarrow")
        frame = pandas.read_csv(path, index_col=0).sample(frac=1, random_state=0)
        path = tmp_path / "in.parquet"
        frame.to_parquet(path)
    imported = import_set(path, "mine", tmp_path / "sets", NUMBERS)
    assert imported.about == "2 numbers: a, b"
    assert imported.notes[0] == f"left out the column {name!r}, row numbers as pandas writes them"
    assert tfds.load("mine", tmp_path / "sets").train_x.shape == (16, 2)


def test_a_column_of_ids_is_a_feature_that_is_named(tmp_path):
    path = numbers_csv(tmp_path / "in.csv", ["x", "y"] * 10, "Id,a,b,kind", range(1, 21))
    imported = import_set(path, "mine", tmp_path / "sets", NUMBERS)
    assert imported.about.startswith("3 numbers: Id")
    assert "pass --ignore_columns Id" in imported.notes[0]


def test_true_and_false_are_1_and_0_as_a_parquet_file_has_them(tmp_path):
    write(tmp_path / "in.csv", "a,b,kind\n" + "True,1,x\nfalse,2,y\n" * 8)
    import_set(tmp_path / "in.csv", "mine", tmp_path / "sets", NUMBERS)
    x, y = (getattr(tfds.load("mine", tmp_path / "sets"), name) for name in ("train_x", "train_y"))
    assert x[:, 0].tolist() == (1 - y).tolist()


def test_a_column_with_a_space_in_its_name_is_quoted_in_what_to_type(tmp_path):
    write(tmp_path / "in.csv", "a b,kind\n1,x\n,y\n")
    refused(tmp_path, tmp_path / "in.csv", NUMBERS, "with --ignore_columns 'a b'")


def test_utf_16_is_named(tmp_path):
    write(tmp_path / "in.csv", "a,kind\n1,x\n", "utf-16")
    refused(tmp_path, tmp_path / "in.csv", NUMBERS, "convert the file, with iconv -f utf-16 -t utf-8")


def test_a_class_of_the_test_part_alone_is_refused(tmp_path):
    texts_csv(tmp_path / "in" / "train.csv")
    texts_csv(tmp_path / "in" / "test.csv", [*ROWS, ("a", "odd", 0)])
    refused(tmp_path, tmp_path / "in", TEXTS, "expected training examples of every class, found none of 'odd'")


def test_parts_with_other_columns_are_refused(tmp_path):
    texts_csv(tmp_path / "in" / "train.csv")
    write(tmp_path / "in" / "test.csv", "id,review\n0,a\n")
    refused(
        tmp_path, tmp_path / "in", TEXTS, "--label_column=mood: expected a column of the test part of .* are id, review"
    )
    (tmp_path / "in" / "train.csv").unlink()
    refused(tmp_path, tmp_path / "in", TEXTS, "expected train.csv or such, found test.csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1}\n{"a": ', "line 2: expected a JSON object, found: "),
        ("[1]\n", "line 1: expected a JSON object, found list"),
        ("[" * 100_000 + "\n", "line 1: expected a JSON object, found: "),
    ],
)
def test_lines_that_are_no_json_objects_are_refused(tmp_path, text, said):
    write(tmp_path / "in.jsonl", text)
    refused(tmp_path, tmp_path / "in.jsonl", NUMBERS, said)


def test_a_damaged_parquet_file_is_refused(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "in.parquet").write_bytes(b"PAR1 not really")
    refused(tmp_path, tmp_path / "in.parquet", NUMBERS, r"in\.parquet: expected a whole Parquet file, found: ")
