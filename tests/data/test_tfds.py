"""Prepared TFDS sets without TensorFlow: tiny ones written here, MNIST where there is one."""

import io
import os
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from kd_jax.data import tfds
from kd_jax.data.arrays import held_out
from kd_jax.report import about
from tests.data.prepared_sets import examples, png, refused, tiny, write_bytes, write_set

features = tensorflow_datasets.features


@pytest.fixture(autouse=True)
def _cache_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))


def assert_equal(source, splits, test="test"):
    for found, expected in zip(source[1:5], (*splits["train"], *splits[test]), strict=True):
        np.testing.assert_array_equal(found, expected)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert type(a) is type(b)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def no_reading(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the set is read again")

    monkeypatch.setattr(tensorflow_datasets, "builder_from_directory", refuse)


# ---- reading


@pytest.mark.parametrize("shape", [(5, 4, 3), (6, 6, 1)])
def test_a_set_reads_as_the_images_and_labels_that_were_written(tmp_path, shape):
    splits = {"train": examples(7, shape), "test": examples(3, shape, seed=1)}
    write_set(tmp_path, splits)
    source = tfds.load("tiny", tmp_path)
    assert_equal(source, splits)
    assert (source.name, source.classes, source.test_split) == ("tiny", 3, "test")
    assert source.train_x.dtype == source.test_x.dtype == np.uint8
    assert source.train_y.dtype == source.test_y.dtype == np.int32


def test_reading_block_by_block_keeps_every_example_in_its_place(tmp_path, monkeypatch):
    _, splits = tiny(tmp_path)
    monkeypatch.setattr(tfds, "BLOCK", 2)
    assert_equal(tfds.load("tiny", tmp_path), splits)


def test_a_set_is_found_by_name_version_configuration_or_folder(tmp_path, monkeypatch):
    folder, splits = tiny(tmp_path)
    other, _ = tiny(tmp_path, seed=1, name="tiny/red/1.0.0")
    for name in ("tiny", "tiny/1.0.0", "tiny:1.0.0", str(folder)):
        assert_equal(tfds.load(name, tmp_path), splits)
    assert tfds.find("tiny/red", tmp_path) == other
    assert tfds.load("tiny/red", tmp_path).name == "tiny/red"
    monkeypatch.chdir(folder.parent)
    assert tfds.find("./1.0.0", "elsewhere") == folder
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tfds.find("~/tiny/1.0.0", "elsewhere") == folder
    assert tfds.find("tiny", "~") == folder
    assert tfds.find("absent", tmp_path) is None


def test_of_several_versions_the_newest_counts_as_numbers_are_compared(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.11"):
        tiny(tmp_path, name=f"tiny/{version}")
    tiny(tmp_path, name="tiny/1.11.0.incompleteABC")  # where TFDS was interrupted
    assert tfds.find("tiny", tmp_path).name == "1.10.0"


def test_the_data_dir_is_the_environments_else_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert tfds.default_data_dir() == tmp_path
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert tfds.default_data_dir() == tmp_path / "home" / "tensorflow_datasets"


def test_what_is_available_is_every_prepared_set_with_its_format(tmp_path):
    plain, _ = tiny(tmp_path)
    red, _ = tiny(tmp_path, name="tiny/red/2.0.0", file_format="tfrecord")
    (tmp_path / "downloads").mkdir()
    assert tfds.available(tmp_path) == [("tiny", plain, "array_record"), ("tiny/red", red, "tfrecord")]
    assert tfds.available(tmp_path / "absent") == []


def test_the_validation_split_serves_where_there_is_no_test_split(tmp_path):
    splits = {"train": examples(4), "validation": examples(2, seed=1)}
    write_set(tmp_path, splits)
    source = tfds.load("tiny", tmp_path)
    assert source.test_split == "validation"
    assert_equal(source, splits, test="validation")


def test_of_several_labels_the_supervised_one_is_taken(tmp_path):
    declared = {
        "picture": features.Image(shape=(5, 4, 3)),
        "fine": features.ClassLabel(num_classes=3),
        "coarse": features.ClassLabel(num_classes=2),
    }
    supervised = {"tuple": {"items": [{"featureKey": "picture"}, {"featureKey": "fine"}]}}
    _, splits = tiny(tmp_path, declared=declared, others={"coarse": 1}, supervisedKeys=supervised)
    source = tfds.load("tiny", tmp_path)
    assert_equal(source, splits)
    assert source.classes == 3


@pytest.mark.parametrize(
    ("supervised", "image", "label"),
    [
        (("picture", "species"), "picture", "species"),
        (None, "image", "label"),
        (("image", "box"), "image", "label"),
    ],
)
def test_which_image_and_label_are_taken_does_not_depend_on_the_order_of_the_features(supervised, image, label):
    # TFDS reads features.json through a protocol buffer's map, whose order differs from process to process.
    images = dict.fromkeys(("image", "mask", "picture"), features.Image(shape=(5, 4, 3)))
    labels = dict.fromkeys(("coarse_label", "label", "species"), features.ClassLabel(num_classes=3))
    for order in permutations((images | labels).items()):
        info = SimpleNamespace(features=dict(order), supervised_keys=supervised)
        assert tfds._keys(tensorflow_datasets, info, "") == (image, label)


def test_without_a_usual_name_the_first_in_the_alphabet_is_taken():
    listed = {"fine": features.ClassLabel(num_classes=3), "coarse": features.ClassLabel(num_classes=2)}
    listed |= {"right": features.Image(shape=(5, 4, 3)), "left": features.Image(shape=(5, 4, 3))}
    info = SimpleNamespace(features=listed, supervised_keys=None)
    assert tfds._keys(tensorflow_datasets, info, "") == ("left", "coarse")


# ---- the decoded copy


def test_a_second_read_is_equal_and_comes_from_the_decoded_copy_in_the_users_cache(tmp_path, monkeypatch):
    folder, _ = tiny(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    first = tfds.load("tiny", tmp_path)
    (copy,) = (tmp_path / "cache").iterdir()
    assert copy.name.startswith("kd_jax-")
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    no_reading(monkeypatch)
    assert_same(tfds.load("tiny", tmp_path), first)


def test_a_set_prepared_anew_is_read_anew(tmp_path):
    tiny(tmp_path)
    tfds.load("tiny", tmp_path)
    folder, splits = tiny(tmp_path, seed=1)
    for path in folder.glob("tiny-*"):
        os.utime(path, ns=(1, 1))  # coarse clocks: be sure that the files' times differ from the first
    assert_equal(tfds.load("tiny", tmp_path), splits)


def test_two_sets_of_one_cache_folder_are_not_confused(tmp_path):
    both = {}
    for seed, place in enumerate(("a", "b")):
        folder, splits = tiny(tmp_path / place, seed=seed)
        for path in folder.iterdir():
            os.utime(path, ns=(1, 1))
        both[place] = splits
    for _ in range(2):
        for place, splits in both.items():
            assert_equal(tfds.load("tiny", tmp_path / place), splits)


def test_without_any_place_for_a_copy_a_set_still_reads(tmp_path, monkeypatch):
    _, splits = tiny(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        assert_equal(tfds.load("tiny", tmp_path), splits)
    assert not list(tmp_path.rglob("kd_jax*"))


# ---- odd sets


def encoded(image):
    stream = io.BytesIO()
    image.save(stream, "png")
    return stream.getvalue()


def test_images_of_16_bits_with_palettes_and_with_transparency_are_the_colours_they_show(tmp_path):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, (6, 5)).astype(np.uint16)
    palette = Image.fromarray(rng.integers(0, 4, (6, 5)).astype(np.uint8)).convert("P")
    palette.putpalette(rng.integers(0, 256, 12).tolist())
    colours = np.array(palette.getpalette()).reshape(-1, 3)[np.asarray(palette)]
    clear = np.dstack([colours, np.full((6, 5), 255)]).astype(np.uint8)
    images = [encoded(Image.fromarray(deep)), encoded(palette), encoded(Image.fromarray(clear))]
    declared = {"image": features.Image(shape=(6, 5, 3)), "label": features.ClassLabel(num_classes=3)}
    write_bytes(tmp_path, {"train": (images, [0, 1, 2]), "test": (images, [0, 1, 2])}, declared)
    x = tfds.load("tiny", tmp_path).train_x
    np.testing.assert_allclose(x[0], np.repeat(deep[..., None] / 257, 3, 2), atol=0.5)
    np.testing.assert_array_equal(x[1], colours)
    np.testing.assert_array_equal(x[2], colours)


def test_an_image_of_another_size_than_declared_is_named(tmp_path, offline):
    images = [encoded(Image.fromarray(np.zeros(shape, np.uint8))) for shape in ((6, 5, 3), (5, 6, 3))]
    declared = {"image": features.Image(shape=(6, 5, 3)), "label": features.ClassLabel(num_classes=3)}
    write_bytes(tmp_path, {"train": (images, [0, 1]), "test": (images, [0, 1])}, declared)
    assert "expected images of 6x5x3, found 5x6x3 at train example 1" in refused("tiny", tmp_path)


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        ([1, 2, 3], 3, "expected labels from 0 to 2, found 3 at train example 2"),
        ([0, 0, 0], 1, "expected two classes or more, found 1"),
    ],
)
def test_labels_beyond_the_classes_and_a_single_class_are_refused(tmp_path, offline, labels, classes, said):
    declared = {"image": features.Image(shape=(5, 4, 3)), "label": features.ClassLabel(num_classes=classes)}
    images = [png(image) for image in examples(3)[0]]
    write_bytes(tmp_path, {"train": (images, labels), "test": (images, [0, 0, 0])}, declared)
    assert said in refused("tiny", tmp_path)


def test_an_empty_test_split_is_none_and_val_is_validation(tmp_path):
    splits = {"train": examples(4), "test": (examples(1)[0][:0], []), "val": examples(2, seed=1)}
    write_set(tmp_path, splits)
    source = tfds.load("tiny", tmp_path)
    assert source.test_split == "val"
    assert_equal(source, splits, test="val")


def test_without_a_train_split_that_has_examples_it_says_what_there_is(tmp_path, offline):
    write_set(tmp_path, {"train": (examples(1)[0][:0], []), "test": examples(4)})
    assert "expected a train split with examples, found train (empty), test" in refused("tiny", tmp_path)


@pytest.mark.parametrize("others", [{}, {"test": (examples(1)[0][:0], [])}])
def test_without_a_test_set_a_fifth_of_each_class_of_the_training_set_is_held_out(tmp_path, others):
    images, _ = examples(20)
    labels = [0] * 12 + [2] * 7 + [1]  # of one example none is taken
    write_set(tmp_path, {"train": (images, labels), **others})
    for _ in range(2):  # then from the copy
        source = tfds.load("tiny", tmp_path)
        assert source.test_split == "held-out" == about.HELD_OUT
        assert (source.train_y.size, source.test_y.size) == (17, 3)
        assert np.bincount(source.test_y).tolist() == [2, 0, 1]
        # Every image is in one of the two, beside its own label, and in its order.
        taken = held_out(np.array(labels))
        for part, x, y in ((~taken, source.train_x, source.train_y), (taken, source.test_x, source.test_y)):
            np.testing.assert_array_equal(x, np.stack(images)[part])
            np.testing.assert_array_equal(y, np.array(labels)[part])


@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 2, 3)])
def test_arrays_of_floats_are_read_bit_by_bit_with_the_names_of_their_classes(tmp_path, shape):
    x = np.random.default_rng(0).normal(size=(6, *shape)).astype(np.float32)
    declared = {
        "signal": features.Tensor(shape=shape, dtype=np.float32),
        "label": features.ClassLabel(names=["a", "b"]),
    }
    write_bytes(tmp_path, {"train": (x, [0, 1] * 3), "test": (x[:2], [0, 1])}, declared)
    for _ in range(2):  # then from the copy
        source = tfds.load("tiny", tmp_path)
        np.testing.assert_array_equal(source.train_x, x[..., None] if len(shape) == 2 else x)
        assert source.train_x.dtype == np.float32
        assert source.class_names.tolist() == ["a", "b"]


# ---- real data


@pytest.mark.long
def test_mnist_reads_as_tfds_publishes_it(real_set, tmp_path, monkeypatch):
    folder = real_set("mnist/3.0.1")
    source = tfds.load(str(folder), tmp_path)
    assert source.train_x.shape == (60_000, 28, 28, 1)
    assert source.test_x.shape == (10_000, 28, 28, 1)
    assert source.train_y[:5].tolist() == [4, 1, 0, 7, 8]  # TFDS shuffles: the official files begin 5, 0, 4, 1, 9
    assert source.test_y[:5].tolist() == [2, 0, 4, 8, 7]
    # Counts of the official label files.
    assert np.bincount(source.train_y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(source.test_y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    # The well-known mean and deviation of the training pixels, of 1.
    np.testing.assert_allclose(source.train_x.mean() / 255, 0.1307, atol=5e-5)
    np.testing.assert_allclose(source.train_x.std() / 255, 0.3081, atol=5e-5)
    assert (source.name, source.classes, source.test_split) == ("mnist", 10, "test")
    assert not list(folder.glob("kd_jax-*"))
    no_reading(monkeypatch)
    assert_same(tfds.load(str(folder), tmp_path), source)
