"""`kd-jax import` of sets that Hugging Face's `datasets` saved; skipped where it is not installed."""

import sys

import numpy as np
import pytest
from PIL import Image

from kd_jax.data import tfds
from kd_jax.data.importing import Options, import_set
from kd_jax.errors import BadInput


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "hf"))
    return pytest.importorskip("datasets")


def saved(datasets, path, features, **splits):
    features = datasets.Features(features)
    made = {name: datasets.Dataset.from_dict(columns, features=features) for name, columns in splits.items()}
    datasets.DatasetDict(made).save_to_disk(str(path))
    return path


def test_images_keep_their_pixels_and_the_order_of_their_classes(datasets, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (12, 6, 6, 3)).astype(np.uint8)
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=["zebra", "ant"])}
    columns = {"img": [Image.fromarray(image) for image in x], "label": [i % 2 for i in range(12)]}
    imported = import_set(
        saved(datasets, tmp_path / "in", features, train=columns, test=columns), "mine", tmp_path / "sets"
    )
    assert imported.class_names == ("zebra", "ant")
    source = tfds.load("mine", tmp_path / "sets")
    np.testing.assert_array_equal(source.train_x, x)
    assert source.test_y.tolist() == [0, 1] * 6


def test_texts_keep_their_rows_and_a_part_of_hidden_labels_is_left_out(datasets, tmp_path):
    features = {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    columns = {"sentence": [f"film {i}" for i in range(8)], "label": [i % 2 for i in range(8)]}
    hidden = columns | {"label": [-1] * 8}
    source = saved(datasets, tmp_path / "in", features, train=columns, validation=columns, test=hidden)
    imported = import_set(source, "mine", tmp_path / "sets", Options(text_column="sentence"))
    assert imported.notes == ("left out the test part: its labels are hidden (-1)",)
    texts = tfds.load("mine", tmp_path / "sets")
    assert texts.of("train")[0] == [(f"film {i}",) for i in range(8)]
    assert texts.of("test")[1].tolist() == [0, 1] * 4
    assert texts.class_names.tolist() == ["neg", "pos"]


def test_classes_keep_their_order_where_one_of_them_has_no_example(datasets, tmp_path):
    features = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["zebra ", "monkey", "ant"])}
    columns = {"text": [f"row {i}" for i in range(12)], "label": [(0, 2)[i % 2] for i in range(12)]}
    source = saved(datasets, tmp_path / "in", features, train=columns, test=columns)
    imported = import_set(source, "mine", tmp_path / "sets", Options(text_column="text"))
    assert imported.class_names == ("zebra", "ant")
    assert imported.notes == ("left out monkey, a class of the set without examples",)
    assert tfds.load("mine", tmp_path / "sets").of("test")[1].tolist() == [0, 1] * 6


@pytest.mark.parametrize("kind", ["texts", "images"])
@pytest.mark.parametrize(("label", "shown"), [(-1, "-1"), (None, "none")])
def test_a_row_without_a_label_is_refused_by_its_place(datasets, tmp_path, kind, label, shown):
    inputs = {"text": datasets.Value("string")} if kind == "texts" else {"image": datasets.Image()}
    row = "a" if kind == "texts" else Image.new("L", (4, 4))
    features = {**inputs, "label": datasets.ClassLabel(names=["neg", "pos"])}
    columns = {next(iter(inputs)): [row] * 8, "label": [0, 1, 0, label, 1, 0, 1, 0]}
    source = saved(datasets, tmp_path / "in", features, train=columns)
    options = Options(text_column="text") if kind == "texts" else Options()
    with pytest.raises(BadInput, match=rf"train, row 3: expected a label in label, found {shown}; leave out"):
        import_set(source, "mine", tmp_path / "sets", options)
    assert not (tmp_path / "sets").exists()


def test_minus_one_is_a_class_like_another_where_classes_are_plain_numbers(datasets, tmp_path):
    features = {"a": datasets.Value("float32"), "label": datasets.Value("int64")}
    columns = {"a": list(map(float, range(8))), "label": [-1, 1] * 4}
    imported = import_set(
        saved(datasets, tmp_path / "in", features, train=columns, test=columns), "mine", tmp_path / "sets"
    )
    assert imported.class_names == ("-1", "1")
    assert list(imported.counts) == ["train", "test"]


def test_several_labels_of_an_example_are_refused(datasets, tmp_path):
    features = {"a": datasets.Value("float32"), "label": datasets.Sequence(datasets.Value("int64"))}
    source = saved(datasets, tmp_path / "in", features, train={"a": [1.0, 2.0], "label": [[0, 1], [1]]})
    with pytest.raises(BadInput, match=r"column label: expected one label of each example, found \[0, 1\]"):
        import_set(source, "mine", tmp_path / "sets")


def test_a_name_that_would_mean_the_source_itself_is_refused_without_advice_to_remove_it(
    datasets, tmp_path, monkeypatch
):
    features = {"a": datasets.Value("float32"), "label": datasets.Value("int64")}
    datasets.Dataset.from_dict({"a": [1.0] * 4, "label": [0, 1] * 2}, datasets.Features(features)).save_to_disk(
        str(tmp_path / "mine")
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BadInput, match=r"--name=mine: expected another name than that of the source.*--name=my_mine"
    ) as caught:
        import_set("mine", "mine", tmp_path / "sets")
    assert "remove" not in str(caught.value)
    assert import_set("mine", "my_mine", tmp_path / "sets").class_names == ("0", "1")


def test_a_label_column_that_is_absent_is_refused_with_those_that_are_there(datasets, tmp_path):
    source = saved(datasets, tmp_path / "in", {"a": datasets.Value("float32")}, train={"a": [1.0, 2.0]})
    with pytest.raises(BadInput, match="expected --label_column, the column of the classes, one of a; pass it"):
        import_set(source, "mine", tmp_path / "sets")
    with pytest.raises(BadInput, match=r"--label_column=b: expected a column of .*, which are a"):
        import_set(source, "mine", tmp_path / "sets", Options(label_column="b"))
    assert not (tmp_path / "sets").exists()


def test_without_datasets_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "dataset_dict.json").write_text("{}")
    for source in (str(tmp_path / "in"), "hf:mnist"):
        with pytest.raises(BadInput, match=r"expected the package datasets, .* pip install 'kd_jax\[hf\]'"):
            import_set(source, "mine", tmp_path / "sets")
