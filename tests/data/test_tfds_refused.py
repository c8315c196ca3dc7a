"""Prepared TFDS sets that cannot be read: each is refused in one line that says what to do."""

import json
import os
import shutil
import socket
import sys

import numpy as np
import pytest
import tensorflow_datasets

from kd_jax.data import tfds
from tests.data.prepared_sets import examples, png, refused, tiny, write_bytes, write_set

features = tensorflow_datasets.features


@pytest.fixture(autouse=True)
def _cache_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))


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
