"""Prepared folders written without TensorFlow, read back by TFDS itself and held against folders that TFDS wrote."""

import errno
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from tensorflow_datasets.core import hashing
from tensorflow_datasets.core.utils import shard_utils
from tensorflow_datasets.proto import tf_example_pb2

from kd_jax.config import BadInput
from kd_jax.data import prepared, tfds

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _cache_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def info(features=None, **more):
    features = features or {"x": prepared.Tensor((3,)), "label": prepared.Label(classes=3)}
    return prepared.Info(**{"name": "tiny", "version": "1.0.0", "features": features, **more})


def rows(count, size=3, seed=0):
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=size).astype(np.float32), "label": int(rng.integers(3))} for _ in range(count)]


def read(folder, split):
    source = tensorflow_datasets.builder_from_directory(str(folder)).as_data_source(split)
    return source.__getitems__(list(range(len(source))))


def test_every_kind_of_feature_reads_as_it_was_written_under_the_names_of_its_classes(tmp_path):
    features = {
        "grey": prepared.Image((4, 5, 1)),
        "picture": prepared.Image((None, None, 3), "jpeg"),
        "text": prepared.Text(),
        "label": prepared.Label(names=("a dog", "Katze", "鳥")),
        "row": prepared.Tensor((2, 2)),
        "count": prepared.Tensor((), "int64"),
    }
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (8, 6, 3)).astype(np.uint8)).save(stream, "jpeg")
    as_read = np.asarray(Image.open(stream))
    examples = [
        {
            "grey": rng.integers(0, 256, (4, 5, 1)).astype(np.uint8),
            "picture": stream.getvalue(),
            "text": text,
            "label": label,
            "row": rng.normal(size=(2, 2)).astype(np.float32),
            "count": i,
        }
        for i, (text, label) in enumerate([("größer", 2), (b"two\nlines", "a dog"), ("", -1)])
    ]
    folder = prepared.write(tmp_path, info(features, supervised_keys=("grey", "label")), {"train": examples})
    found = read(folder, "train")
    for one, example in zip(found, examples, strict=True):
        for key in ("grey", "row", "count"):
            np.testing.assert_array_equal(one[key], example[key])
        np.testing.assert_array_equal(one["picture"], as_read)
    (record, *_) = ArrayRecordReader(str(next(folder.glob("*record*")))).read([0])
    places = [record.index(b"\n" + bytes([len(key)]) + key.encode()) for key in sorted(features)]
    assert places == sorted(places)  # names in order: equal examples are equal bytes
    assert [bytes(one["text"]).decode() for one in found] == ["größer", "two\nlines", ""]
    assert [int(one["label"]) for one in found] == [2, 0, -1]
    built = tensorflow_datasets.builder_from_directory(str(folder)).info
    assert built.features["label"].names == ["a dog", "Katze", "鳥"]
    assert (built.full_name, built.supervised_keys) == ("tiny/1.0.0", ("grey", "label"))


def test_an_array_is_kept_as_jpeg_where_its_feature_says_so_and_else_without_loss(tmp_path):
    ramp = np.add.outer(np.arange(16) * 8, np.arange(16) * 8).astype(np.uint8)[..., None].repeat(3, -1)
    features = {"image": prepared.Image((16, 16, 3)), "lossy": prepared.Image((16, 16, 3), "jpeg")}
    folder = prepared.write(tmp_path, info(features), {"train": [{"image": ramp, "lossy": ramp}]})
    (found,) = read(folder, "train")
    np.testing.assert_array_equal(found["image"], ramp)
    assert 0 < np.abs(found["lossy"].astype(int) - ramp).max() < 8


@pytest.mark.parametrize("name", ["mnist/3.0.1", "glue/sst2/2.0.0"])
def test_a_folder_that_tfds_wrote_comes_out_equal_when_it_is_written_again(real_set, tmp_path, name):
    """Every file has the same name; JSON is equal but for the bytes of PNGs; records are equal but for PNGs, whose pixels are."""
    folder = real_set(name)
    builder = tensorflow_datasets.builder_from_directory(str(folder))
    theirs = json.loads((folder / "dataset_info.json").read_text())
    kinds = {
        "Image": lambda feature: prepared.Image(feature.shape),
        "Text": lambda feature: prepared.Text(),
        "Tensor": lambda feature: prepared.Tensor(feature.shape, feature.np_dtype.name),
    }
    features = {
        key: kinds.get(type(each).__name__, lambda _: None)(each) for key, each in builder.info.features.items()
    }
    names = folder / "label.labels.txt"
    features["label"] = (
        prepared.Label(tuple(names.read_text().split()))
        if names.exists()
        else prepared.Label(classes=builder.info.features["label"].num_classes)
    )
    again = prepared.Info(
        name=theirs["name"],
        config=theirs.get("configName", ""),
        version=theirs["version"],
        features=features,
        supervised_keys=builder.info.supervised_keys,
        description=theirs["description"],
        citation=theirs["citation"],
        homepage=theirs["location"]["urls"][0],
        module=theirs["moduleName"],
        config_description=theirs.get("configDescription", ""),
        release_notes=theirs.get("releaseNotes", {}),
        download_size=int(theirs["downloadSize"]),
    )
    first = 300  # examples of each split
    listed = [split["name"] for split in theirs["splits"]]
    sources = {split: builder.as_data_source(split).__getitems__(list(range(first))) for split in listed}
    ours = prepared.write(tmp_path, again, sources)
    assert (ours / "features.json").read_bytes() == (folder / "features.json").read_bytes()
    assert {path.name for path in ours.iterdir()} == {path.name for path in folder.iterdir()}
    described = json.loads((ours / "dataset_info.json").read_text())
    for split in (*described["splits"], *theirs["splits"]):
        assert int(split.pop("numBytes")) > 0
        assert len(split.pop("shardLengths")) == 1
    assert described == theirs
    for path in ours.glob("*array_record*"):
        pairs = zip(
            *(ArrayRecordReader(str(each / path.name)).read(range(first)) for each in (ours, folder)), strict=True
        )
        for mine, official in pairs:
            protos = [tf_example_pb2.Example.FromString(record) for record in (mine, official)]
            for proto in protos:
                png = proto.features.feature["image"].bytes_list.value if "image" in features else []
                png[:] = [np.asarray(Image.open(io.BytesIO(value))).tobytes() for value in png]
            assert protos[0] == protos[1]


def test_examples_come_in_the_order_in_which_tfds_writes_them(real_set):
    folder = real_set("glue/sst2/2.0.0")
    found = [int(example["idx"]) for example in read(folder, "validation")]
    assert prepared.shuffled(range(len(found)), "validation") == found
    keys = ["train/neg/3_1.txt", "train/pos/7_9.txt", "train/neg/1_2.txt"]
    hashed = [hashing.Hasher("train").hash_key(key) for key in keys]
    assert prepared.shuffled(keys, "train") == np.argsort(hashed).tolist()


# ---- files


@pytest.mark.parametrize("count", [3, 15, 17, 64, 65, 200])
def test_there_are_as_many_files_as_tfds_would_write_and_no_record_is_lost(tmp_path, monkeypatch, count):
    monkeypatch.setattr(shard_utils.ShardConfig, "min_shard_size", 1000)
    monkeypatch.setattr(shard_utils.ShardConfig, "max_shard_size", 16_000)
    examples = rows(count, size=20)
    features = {"x": prepared.Tensor((20,)), "label": prepared.Label(classes=3)}
    folder = prepared.write(tmp_path, info(features), {"train": examples})
    split = tensorflow_datasets.builder_from_directory(str(folder)).info.splits["train"]
    shards = shard_utils.ShardConfig.calculate_number_shards(split.num_bytes, count)
    ends = shard_utils.get_shard_boundaries(count, shards)
    assert split.shard_lengths == np.diff([0, *ends]).tolist()
    assert {path.name for path in folder.glob("*record*")} == set(split.filenames)
    assert not list(folder.glob("*piece*"))
    for one, example in zip(read(folder, "train"), examples, strict=True):
        np.testing.assert_array_equal(one["x"], example["x"])


def test_pieces_end_when_they_have_reached_their_size():
    pieces = prepared._pieces(iter([b"12", b"3", b"4567", b"8", b"9"]), limit=4, overhead=1)
    assert [list(piece) for piece in pieces] == [[b"12", b"3"], [b"4567"], [b"8", b"9"]]
    assert not list(prepared._pieces(iter([]), limit=4, overhead=1))


def test_examples_are_asked_for_one_by_one_and_never_held(tmp_path):
    alive = 0

    class Row(dict):
        def __init__(self, row):
            nonlocal alive
            super().__init__(row)
            alive += 1
            assert alive < 5

        def __del__(self):
            nonlocal alive
            alive -= 1

    prepared.write(tmp_path, info(), {"train": (Row(row) for row in rows(100))})


def test_writing_twice_gives_the_same_bytes(tmp_path):
    folders = [prepared.write(tmp_path / place, info(), {"train": rows(5), "test": rows(2)}) for place in "ab"]
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} for folder in folders
    ]
    assert digests[0] == digests[1]


# ---- what goes wrong


def refused(data_dir, described=None, splits=None):
    with pytest.raises(BadInput) as caught:
        prepared.write(data_dir, described or info(), splits or {"train": rows(3)})
    message = str(caught.value)
    assert "expected" in message
    assert "\n" not in message
    return message


def test_an_exception_in_the_middle_leaves_nothing_behind(tmp_path):
    def broken():
        yield from rows(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared.write(tmp_path, info(), {"train": broken()})
    assert not list((tmp_path / "tiny").iterdir())


def test_what_a_killed_program_left_is_never_found_and_removed_by_the_next(tmp_path):
    words = """
import os, sys
from kd_jax.data import prepared
def killed():
    yield {"x": [1, 2, 3], "label": 0}
    os.kill(os.getpid(), 9)
features = {"x": prepared.Tensor((3,)), "label": prepared.Label(classes=3)}
prepared.write(sys.argv[1], prepared.Info("tiny", "1.0.0", features), {"train": killed()})
"""
    assert subprocess.run([sys.executable, "-c", words, tmp_path], capture_output=True).returncode == -9
    assert len(list((tmp_path / "tiny").iterdir())) == 1
    assert tfds.find("tiny", tmp_path) is None
    assert tfds.available(tmp_path) == []
    folder = prepared.write(tmp_path, info(), {"train": rows(3)})
    assert list((tmp_path / "tiny").iterdir()) == [folder]


def test_a_set_that_is_there_is_not_written_over(tmp_path):
    folder = prepared.write(tmp_path, info(), {"train": rows(3)})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(prepared.Exists, match=r"1\.0\.0"):
        prepared.write(tmp_path, info(), {"train": rows(4)})
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(prepared, "_write_file", full)
        assert "No space left on device" in refused(tmp_path)
    assert not list((tmp_path / "tiny").iterdir())


def test_records_that_the_system_does_not_take_are_noticed(tmp_path):
    """array_record reports a failed write when it is closed, and not before."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))  # Python ignores the signal, so that writing fails
    try:
        features = {"x": prepared.Tensor((100_000,)), "label": prepared.Label(classes=3)}
        message = refused(tmp_path, info(features), {"train": rows(10, size=100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in message
    assert not list((tmp_path / "tiny").iterdir())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(tmp_path / "file")


def test_a_split_without_examples_is_refused(tmp_path):
    assert "test" in refused(tmp_path, splits={"train": rows(3), "test": []})
    assert not list((tmp_path / "tiny").iterdir())


@pytest.mark.parametrize(
    "names",
    [("cat", "cat"), ("cat", " dog"), ("cat", ""), ("two\nlines", "cat")],
    ids=["double", "space", "empty", "lines"],
)
def test_names_of_classes_that_would_not_read_back_are_refused(names):
    with pytest.raises(BadInput, match=r"class .* of label: expected"):
        info({"label": prepared.Label(names)})


@pytest.mark.parametrize("name", ["", "../up", "a/b", "1st", "with space"])
def test_names_that_are_no_part_of_a_file_name_are_refused(name):
    with pytest.raises(BadInput, match="expected letters"):
        info(name=name)


@pytest.mark.parametrize(
    ("example", "words"),
    [
        ({"x": np.zeros(3, np.float32), "label": 3}, "label"),
        ({"x": np.zeros(2, np.float32), "label": 0}, "x"),
        ({"x": np.zeros(3, np.float32)}, "label"),
    ],
)
def test_an_example_that_does_not_fit_is_named_by_split_and_number(tmp_path, example, words):
    with pytest.raises(ValueError, match="train example 2: (?s:.*)" + words):
        prepared.write(tmp_path, info(), {"train": [*rows(2), example]})
    assert not list((tmp_path / "tiny").iterdir())


def test_an_array_of_another_shape_than_its_images_is_refused(tmp_path):
    features = {"image": prepared.Image((4, None, 3))}
    for wrong in (np.zeros((5, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3))):
        with pytest.raises(ValueError, match="expected an image uint8"):
            prepared.write(tmp_path, info(features), {"train": [{"image": wrong}]})


def test_two_programs_that_write_the_same_set_do_not_disturb_each_other(tmp_path):
    words = """
import sys
from kd_jax.data import prepared
features = {"x": prepared.Tensor((3,)), "label": prepared.Label(classes=3)}
try:
    rows = ({"x": [1, 2, i], "label": 0} for i in range(2000))
    prepared.write(sys.argv[1], prepared.Info("tiny", "1.0.0", features), {"train": rows})
    print("written")
except prepared.Exists:
    print("exists")
"""
    programs = [
        subprocess.Popen([sys.executable, "-c", words, tmp_path], stdout=subprocess.PIPE, text=True) for _ in "ab"
    ]
    assert sorted(program.communicate(timeout=60)[0].strip() for program in programs) == ["exists", "written"]
    assert [path.name for path in Path(tmp_path / "tiny").iterdir()] == ["1.0.0"]
    assert len(read(tmp_path / "tiny/1.0.0", "train")) == 2000
