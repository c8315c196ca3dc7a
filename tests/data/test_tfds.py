"""Prepared TFDS sets without TensorFlow: tiny ones written here, MNIST where there is one."""

import io
import json
import os
import shutil
import socket
import sys
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from kd_jax.config import BadInput
from kd_jax.data import tfds
from kd_jax.data.arrays import held_out
from kd_jax.report import about

features = tensorflow_datasets.features


@pytest.fixture(autouse=True)
def _cache_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", refuse)


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(stream, "png")
    return stream.getvalue()


def write_set(data_dir, splits, name="tiny/1.0.0", file_format="array_record", declared=None, others=None, **more):
    """Write a prepared set as TFDS does, without TensorFlow, and return its folder.

    Args:
        splits: {split: (x uint8 [examples, height, width, channels], y)}.
        name: set, configuration if any, version.
        declared: its features, those of `x` and `y` first; by default an image and one of three classes.
        others: {feature: value in every example} of further features.
        more: further entries of `dataset_info.json`.
    """
    first = next(iter(splits.values()))[0]
    declared = declared or {"image": features.Image(shape=first.shape[1:]), "label": features.ClassLabel(num_classes=3)}
    image, label, *_ = declared
    declared = features.FeaturesDict(declared)
    folder = data_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    declared.save_config(str(folder))
    serializer = ExampleSerializer(declared.get_serialized_info())
    set_name, *config, version = name.split("/")
    listed = []
    for split, (x, y) in splits.items():
        writer = ArrayRecordWriter(str(folder / f"{set_name}-{split}.{file_format}-00000-of-00001"), "group_size:1")
        for pixels, value in zip(x, y, strict=True):
            encoded = png(pixels) if isinstance(declared[image], features.Image) else pixels
            writer.write(serializer.serialize_example({image: encoded, label: value, **(others or {})}))
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        listed.append(
            {"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": [str(len(y))]},
        )
    info = {"name": set_name, "version": version, "fileFormat": file_format, "splits": listed, **more}
    if config:
        info["configName"] = config[0]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def examples(count, shape=(5, 4, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape)).astype(np.uint8), rng.integers(0, 3, count)


def tiny(data_dir, seed=0, **more):
    """Write a set of seven training and three test images; return its folder and splits."""
    splits = {"train": examples(7, seed=seed), "test": examples(3, seed=seed + 100)}
    return write_set(data_dir, splits, **more), splits


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


# ---- what cannot be read


def refused(name, data_dir):
    """The one line that tells the user why."""
    with pytest.raises(BadInput) as caught:
        tfds.load(name, data_dir)
    message = str(caught.value)
    assert message.startswith("--dataset")
    assert "expected" in message
    assert "\n" not in message
    return message


def test_a_name_that_nobody_knows_is_refused_with_the_nearest_one(tmp_path, offline):
    message = refused("cifra10", tmp_path)
    assert "cifra10" in message
    assert "did you mean" in message
    assert "cifar10" in message
    assert str(tmp_path) in message
    assert "digits" in refused("digit", tmp_path)
    assert "catalog" in refused("qqqqqqqqqq", tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_a_network_an_absent_set_is_refused_at_once_and_leaves_nothing_behind(tmp_path, offline):
    message = refused("cifar10", tmp_path / "data")
    assert "no network" in message
    archive = tmp_path / "data" / "downloads" / "cifar-10-binary.tar.gz"
    assert f"save https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz as {archive}" in message
    message = refused("stl10", tmp_path / "data")
    assert "no network" in message
    assert f"tfds build stl10 --file_format=array_record --data_dir={tmp_path / 'data'}" in message
    assert not list(tmp_path.iterdir())


def test_a_set_whose_files_are_given_out_by_hand_says_where_they_belong(tmp_path, offline):
    message = refused("imagenet2012", tmp_path)
    assert f"{tmp_path}/downloads/manual" in message
    assert "tfds build imagenet2012 --file_format=array_record" in message
    assert not list(tmp_path.iterdir())


def test_with_a_network_but_no_tensorflow_the_command_that_prepares_is_told(tmp_path, monkeypatch):
    opened = []

    def connect(address, timeout):
        opened.append(address)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    message = refused("stl10", tmp_path)
    assert opened == [("storage.googleapis.com", 443)]
    assert "TensorFlow" in message
    assert "tfds build stl10" in message


def test_a_set_with_configurations_asks_for_one_of_them(tmp_path, offline):
    for config in ("letters", "balanced"):
        tiny(tmp_path, name=f"emnist/{config}/3.1.0")
    message = refused("emnist", tmp_path)
    assert "balanced, letters" in message
    assert "--dataset=emnist/balanced" in message


def test_a_set_with_configurations_asks_for_one_of_them_before_any_is_there(tmp_path, offline):
    message = refused("emnist", tmp_path)
    assert "--dataset=emnist/byclass or emnist/bymerge or emnist/balanced" in message


def test_a_folder_without_a_prepared_set_is_refused(tmp_path, offline, monkeypatch):
    folder, _ = tiny(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in (str(folder.parent), "./tiny", "~/absent"):
        assert name in refused(name, tmp_path)


def test_a_tfrecord_folder_is_refused_with_the_command_that_converts_it(tmp_path, offline):
    folder, _ = tiny(tmp_path, file_format="tfrecord")
    message = refused("tiny", tmp_path)
    assert "found tfrecord" in message
    assert f"kd-jax import {folder} --name NEW_NAME" in message


def test_a_set_in_another_format_is_refused_with_the_command_that_converts_it(tmp_path, offline):
    folder, _ = tiny(tmp_path, file_format="riegeli")
    message = refused("tiny", tmp_path)
    assert "found riegeli" in message
    assert f"tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record" in message


def test_a_folder_from_before_formats_were_recorded_is_tfrecord(tmp_path, offline):
    folder, _ = tiny(tmp_path, file_format="tfrecord")
    info = json.loads((folder / "dataset_info.json").read_text())
    del info["fileFormat"]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    assert "found tfrecord" in refused("tiny", tmp_path)


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ({"age": features.Scalar(np.int64), "label": features.ClassLabel(num_classes=3)}, "age, label"),
        ({"image": features.Image(shape=(5, 4, 3)), "age": features.Scalar(np.int64)}, "age, image"),
    ],
)
def test_a_set_that_is_not_image_classification_is_refused_with_what_it_has(tmp_path, declared, found):
    x, y = examples(2)
    x = x if "image" in declared else np.array([4, 7])
    write_set(tmp_path, {"train": (x, y), "test": (x, y)}, declared=declared)
    message = refused("tiny", tmp_path)
    assert found in message
    assert "expected an image, a text or floats, and a class label" in message


@pytest.mark.parametrize("splits", [("test",), ("test", "unsupervised")])
def test_a_set_without_training_images_is_refused(tmp_path, splits):
    write_set(tmp_path, {split: examples(2) for split in splits})
    assert f"found {', '.join(splits)}" in refused("tiny", tmp_path)


def test_a_training_set_with_one_example_of_each_class_is_not_split(tmp_path):
    write_set(tmp_path, {"train": (examples(2)[0], [0, 1])})
    assert "or two training examples of some class to hold out" in refused("tiny", tmp_path)


def test_hidden_labels_are_refused(tmp_path):
    x, _ = examples(2)
    folder = write_set(tmp_path, {"train": examples(2), "test": (x, np.array([-1, -1]))})
    message = refused("tiny", tmp_path)
    assert "hidden" in message
    assert "test" in message
    assert not list(folder.glob("kd_jax-*"))


@pytest.mark.parametrize("damage", ["json empty", "json cut", "shard cut", "shard gone", "features gone", "image cut"])
def test_a_damaged_set_is_refused_in_one_line_and_listed_all_the_same(tmp_path, offline, damage):
    folder, _ = tiny(tmp_path)
    info, (shard,) = folder / "dataset_info.json", folder.glob("tiny-train*")
    if damage == "json empty":
        info.write_text("")
    elif damage == "json cut":
        info.write_text(info.read_text()[:40])
    elif damage == "shard cut":
        os.truncate(shard, 1000)
    elif damage == "shard gone":
        shard.unlink()
    elif damage == "features gone":
        (folder / "features.json").unlink()
    else:
        shutil.rmtree(folder)
        encoded = features.Image(shape=(5, 4, 3)), features.ClassLabel(num_classes=3)
        bad = [png(examples(1)[0][0])[:-30], png(examples(1)[0][0])]
        write_bytes(
            tmp_path,
            {"train": (bad, [0, 1]), "test": (bad, [0, 1])},
            dict(zip(("image", "label"), encoded, strict=True)),
        )
    message = refused("tiny", tmp_path)
    assert str(folder) in message
    assert ("train example 0" in message) == (damage == "image cut")
    assert [name for name, *_ in tfds.available(tmp_path)] == ["tiny"]
    assert not list((tmp_path / "cache").glob("*"))


# ---- odd sets


def write_bytes(data_dir, splits, declared):
    """Write a set of encoded images, or of anything else that is serialised as it is: {split: (x, y)}."""
    folder = data_dir / "tiny" / "1.0.0"
    (key, label), described = declared, features.FeaturesDict(declared)
    folder.mkdir(parents=True)
    described.save_config(str(folder))
    serializer = ExampleSerializer(described.get_serialized_info())
    listed = []
    for split, (x, y) in splits.items():
        writer = ArrayRecordWriter(str(folder / f"tiny-{split}.array_record-00000-of-00001"), "group_size:1")
        for value, number in zip(x, y, strict=True):
            writer.write(serializer.serialize_example({key: value, label: number}))
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        listed.append({"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": [str(len(y))]})
    info = {"name": "tiny", "version": "1.0.0", "fileFormat": "array_record", "splits": listed}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


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
