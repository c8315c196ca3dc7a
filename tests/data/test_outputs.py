"""Answers of somebody's models from files: what comes in is what was meant, and what is wrong is named."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kd_jax.data import answer_tables, outputs
from kd_jax.data.views import views
from kd_jax.errors import BadInput

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(20, 4)).astype(np.float32)
P = softmax(LOGITS.astype(np.float64), axis=1)


def saved(tmp_path, name, **arrays):
    path = tmp_path / name
    np.savez(path, **arrays)
    return path


def test_an_npy_stays_on_disk_and_gives_its_rows(tmp_path):
    np.save(tmp_path / "t.npy", LOGITS)
    model = outputs.model(tmp_path / "t.npy", "--teacher")
    assert isinstance(model.values, np.memmap)
    assert model.shape == (20, 4)
    np.testing.assert_array_equal(model[3:7], LOGITS[3:7])
    np.testing.assert_array_equal(model[np.array([5, 1])], LOGITS[[5, 1]])


@pytest.mark.parametrize("kind", ["probabilities", "log_probabilities"])
def test_probabilities_become_logits_of_the_same_distribution(tmp_path, kind):
    values = P if kind == "probabilities" else np.log(P)
    by_key = outputs.model(saved(tmp_path, "a.npz", **{kind: values}), "--teacher")
    by_flag = outputs.model(values, "teacher", kind)
    for model in (by_key, by_flag):
        np.testing.assert_allclose(softmax(model[:], axis=1), P, rtol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_of_the_top_classes_the_rest_is_spread_evenly(tmp_path, k):
    indices = np.argsort(-P, axis=1)[:, :k]
    top = np.take_along_axis(P, indices, axis=1)
    model = outputs.model(saved(tmp_path, "a.npz", probabilities=top, indices=indices), "--teacher")
    expected = np.repeat(((1 - top.sum(axis=1)) / max(4 - k, 1))[:, None], 4, axis=1)
    np.put_along_axis(expected, indices, top, axis=1)
    np.testing.assert_allclose(np.exp(model[:]), expected, atol=1e-9)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_have_a_column_per_class(tmp_path, ending):
    pandas = pytest.importorskip("pandas")
    frame, path = pandas.DataFrame(LOGITS, columns=list("abcd")), tmp_path / f"t.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
    np.testing.assert_allclose(outputs.model(path, "--teacher")[:], LOGITS, rtol=1e-6)


@pytest.fixture
def table(tmp_path):
    """`table(frame, ending)` writes a table as pandas does, with its row numbers or without."""
    pandas = pytest.importorskip("pandas")

    def write(columns, ending="csv", **options):
        path, frame = tmp_path / f"t.{ending}", pandas.DataFrame(columns)
        if ending == "parquet":
            pytest.importorskip("pyarrow")
            frame.to_parquet(path, **options)
        else:
            frame.to_csv(path, **{"index": False, **options})
        return path

    return write


COLUMNS = {name: LOGITS[:, i] for i, name in enumerate(["cat", "dog", "fish", "ox"])}


@pytest.mark.parametrize("name", ["id", "Id", "image_id", "", "Unnamed: 0"])
def test_row_numbers_are_no_class_whatever_they_are_called(table, name):
    for start in (0, 1):
        with pytest.raises(BadInput, match="--teacher: expected a column per class, the first one has row numbers"):
            outputs.model(table({name: np.arange(20) + start, **COLUMNS}), "--teacher")
    table({name: np.arange(20), **COLUMNS}, header=False)
    with pytest.raises(BadInput, match="the first one has row numbers"):
        outputs.model(table({name: np.arange(20), **COLUMNS}, header=False), "--teacher")


def test_ids_and_pandas_row_numbers_in_parquet_are_no_class(table):
    with pytest.raises(BadInput, match="the first one has row numbers"):
        outputs.model(table({"id": 1000 - 7 * np.arange(20), **COLUMNS}, "parquet"), "--teacher")
    with pytest.raises(BadInput, match="the last one has row numbers"):
        outputs.model(table(COLUMNS, "parquet", index=True), "--teacher")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_labels_beside_logits_are_no_class(table, ending):
    with pytest.raises(BadInput, match=r"found one of whole numbers that is called 'Label'; .*--labels"):
        outputs.model(table({**COLUMNS, "Label": np.arange(20) % 4}, ending), "--teacher")
    # A class may be called so, if its logits are logits.
    assert outputs.model(table({**COLUMNS, "y": LOGITS[:, 0]}, ending), "--teacher").shape == (20, 5)


def test_a_table_names_its_classes_and_may_be_separated_by_semicolons(table):
    model = outputs.model(table(COLUMNS, sep=";"), "--teacher")
    assert model.columns == ("cat", "dog", "fish", "ox")
    np.testing.assert_allclose(model[:], LOGITS, rtol=1e-6)
    assert outputs.model(table(COLUMNS, header=False), "--teacher").columns == ()


def test_lists_in_a_parquet_column_are_rows(table):
    np.testing.assert_array_equal(outputs.model(table({"logits": list(LOGITS)}, "parquet"), "--teacher")[:], LOGITS)


def test_columns_in_another_order_are_refused():
    answer_tables.check_order(("a", "b"), ("x", "y"), "--student", "--teacher")
    answer_tables.check_order((), ("a", "b"), "--student", "--teacher")
    with pytest.raises(
        BadInput, match="--student: expected the classes in the order of --teacher, found 'a' as class 1 where"
    ):
        answer_tables.check_order(("x", "b", "a"), ("x", "a", "b"), "--student", "--teacher")


def test_a_frame_of_pandas_has_the_names_of_its_columns():
    pandas = pytest.importorskip("pandas")
    assert outputs.model(pandas.DataFrame(COLUMNS), "teacher").columns == ("cat", "dog", "fish", "ox")


def test_labels_are_found_in_a_table_by_the_name_of_their_column(table, tmp_path):
    y = np.arange(20) % 4
    for columns, *how in (
        [{"id": np.arange(20), "Label": y}],
        [{"id": np.arange(20), "label": y}, "parquet"],
        [{"found": y}, "parquet"],
        [{"target": y, "id": np.arange(20)}],
    ):
        np.testing.assert_array_equal(outputs.labels(table(columns, *how), "--labels", 20, 4), y)
    np.savetxt(tmp_path / "y.txt", y)
    np.testing.assert_array_equal(outputs.labels(tmp_path / "y.txt", "--labels", 20, 4), y)
    with pytest.raises(BadInput, match="or a column called labels or label, found the columns id, mood"):
        outputs.labels(table({"id": np.arange(20), "mood": y}), "--labels", 20, 4)
    for ending in ("csv", "parquet"):
        with pytest.raises(BadInput, match="write classes as numbers from 0, in the order of the columns"):
            outputs.labels(table({"label": np.array(["cat", "ox"] * 10)}, ending), "--labels", 20, 4)


def test_of_several_arrays_none_is_taken_for_labels(tmp_path):
    y = np.arange(20) % 4
    np.testing.assert_array_equal(outputs.labels(saved(tmp_path, "a.npz", other=LOGITS, y=y), "--labels", 20, 4), y)
    with pytest.raises(BadInput, match=r"expected one of the keys labels, .* found first, second"):
        outputs.labels(saved(tmp_path, "b.npz", first=y, second=y), "--labels", 20, 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_probabilities_that_are_given_as_logits_are_refused(dtype):
    with pytest.raises(
        BadInput, match=r"--teacher: expected logits, found numbers from 0 to 1 that add up to 1 .*--probabilities"
    ):
        outputs.model(P.astype(dtype), "--teacher")
    assert outputs.model(P.astype(dtype), "--teacher", "probabilities").shape == P.shape
    assert outputs.model(np.log(P).astype(dtype), "--teacher").shape == P.shape


def test_labels_come_as_arrays_and_as_lines(tmp_path):
    y = np.arange(20) % 4
    np.save(tmp_path / "y.npy", y)
    (tmp_path / "y.txt").write_text("\n".join(map(str, y)) + "\n")
    (tmp_path / "y.csv").write_text("label\n" + "\n".join(map(str, y)) + "\n")
    sources = [y, tmp_path / "y.npy", saved(tmp_path, "y.npz", labels=y), tmp_path / "y.txt", tmp_path / "y.csv"]
    for source in sources:
        np.testing.assert_array_equal(outputs.labels(source, "--labels", 20, 4), y)


def bad_model(tmp_path, what):
    if what == "absent":
        return tmp_path / "absent.npy"
    if what == "text":
        (tmp_path / "t.npy").write_text("no array")
        return tmp_path / "t.npy"
    if what == "pickle":
        np.save(tmp_path / "t.npy", np.array([{}, []], dtype=object), allow_pickle=True)
        return tmp_path / "t.npy"
    if what == "keys":
        return saved(tmp_path, "t.npz", a=LOGITS, b=LOGITS)
    if what == "integers":
        return np.zeros((20, 4), int)
    if what == "flat":
        return LOGITS.ravel()
    if what == "of logits":
        return saved(tmp_path, "t.npz", logits=LOGITS[:, :2], indices=np.tile([0, 1], (20, 1)))
    indices = np.tile([0, 1], (20, 1))
    if what == "twice":
        indices[7] = 3
    if what == "negative":
        indices[3, 0] = -1
    if what == "shape":
        indices = indices[:5]
    return saved(tmp_path, "t.npz", probabilities=P[:, :2], indices=indices)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("absent", "there is none"),
        ("text", "plain arrays"),
        ("pickle", "plain arrays"),
        ("keys", "expected one of the keys logits, log_probabilities, probabilities, found a, b"),
        ("integers", "expected floats"),
        ("flat", r"\[80\]"),
        ("of logits", "of logits the rest is not known"),
        ("twice", "row 7 has one twice"),
        ("negative", "expected classes from 0 to 1, found -1"),
        ("shape", r"expected integers \[20, 2\]"),
    ],
)
def test_what_is_no_model_is_one_line(tmp_path, what, said):
    with pytest.raises(BadInput, match=said) as caught:
        outputs.model(bad_model(tmp_path, what), "--teacher")
    assert "--teacher" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"), [("probabilities", 1.1 * P), ("log_probabilities", LOGITS), ("probabilities", LOGITS)]
)
def test_probabilities_that_do_not_add_up_are_named_by_row(kind, values):
    model = outputs.model(values, "--student", kind)
    with pytest.raises(BadInput, match=r"--student: row \d+: expected .*add up to 1"):
        model[2:9]


def test_log_softmax_of_float16_adds_up_well_enough():
    values = log_softmax(LOGITS.astype(np.float64), axis=1).astype(np.float16)
    np.testing.assert_allclose(outputs.model(values, "t", "log_probabilities")[:], values)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.arange(20) % 4 + 1, "row 3: expected a class from 0 to 3, found 4; they seem to begin at 1"),
        (np.arange(19) % 4, "expected 20 labels"),
        (np.zeros(20), "expected integers"),
        (np.full(20, -1), "row 0: expected a class from 0 to 3, found -1"),
    ],
)
def test_labels_that_do_not_fit_are_one_line(labels, said):
    with pytest.raises(BadInput, match=said):
        outputs.labels(labels, "--labels", 20, 4)


def test_examples_are_shown_as_pictures_or_texts(tmp_path):
    (tmp_path / "lines.txt").write_text("ein Bär\nzwei", encoding="utf-8")
    show = views(tmp_path / "lines.txt", "--examples", 2)
    assert show(0) == ("text", "ein Bär")
    images = RNG.integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)
    kind, content = views(images, "examples", 3)(1)
    assert kind == "image"
    assert len(content) > 50
    with pytest.raises(BadInput, match="expected 4 examples"):
        views(images, "examples", 4)
    with pytest.raises(BadInput, match="expected uint8"):
        views(images / 2, "examples", 3)
