"""tfrecord files without TensorFlow: checksums of the standard, and sets whose examples are the same afterwards."""

import gzip
import json
import struct

import numpy as np
import pytest
import tensorflow_datasets

from kd_jax.data import prepared, tfds
from kd_jax.data.importing import import_set, tfrecord
from kd_jax.errors import BadInput

X = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 1)).astype(np.uint8)
Y = np.arange(12) % 2


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksums_are_those_of_rfc_3720(data, crc):
    assert tfrecord.crc32c(data) == crc


def framed(record):
    """A record as TensorFlow frames it."""
    length = struct.pack("<Q", len(record))
    sums = [struct.pack("<I", tfrecord.masked(tfrecord.crc32c(part))) for part in (length, record)]
    return length + sums[0] + record + sums[1]


def test_a_file_that_another_program_wrote_is_read(tmp_path):
    """Written by tensorboard 2.21.0: RecordWriter(stream).write(b"abc"), then .write(bytes(range(40)))."""
    written = (
        "0300000000000000b099490e6162636e57f1212800000000000000ff70164a000102030405060708090a0b0c0d0e0f10111213141516171819"
        "1a1b1c1d1e1f202122232425262775118983"
    )
    path = tmp_path / "a"
    path.write_bytes(bytes.fromhex(written))
    records = list(tfrecord.read(path))
    assert records == [b"abc", bytes(range(40))]
    assert b"".join(map(framed, records)).hex() == written


def write(root, name="old", shards=2, zipped=False):
    """A prepared set of tfrecord files, and its twin in array_record."""
    info = prepared.Info(
        name=name,
        version="2.1.0",
        features={"image": prepared.Image((4, 4, 1)), "label": prepared.Label(("a", "b")), "id": prepared.Text()},
    )
    examples = [{"image": x, "label": int(y), "id": f"n{i}"} for i, (x, y) in enumerate(zip(X, Y, strict=True))]
    twin = prepared.write(root / "twin", info, {"train": examples, "test": examples[:4]})
    folder = root / "in" / name / "2.1.0"
    folder.mkdir(parents=True)
    described = json.loads((twin / "dataset_info.json").read_text())
    described["fileFormat"] = "tfrecord"
    for split in described["splits"]:
        reader = tensorflow_datasets.builder_from_directory(str(twin))
        from array_record.python.array_record_module import ArrayRecordReader

        (path,) = [twin / file for file in reader.info.splits[split["name"]].filenames]
        records = [ArrayRecordReader(str(path)).read([i])[0] for i in range(int(split["shardLengths"][0]))]
        parts = np.array_split(np.arange(len(records)), shards)
        split["shardLengths"] = [str(len(part)) for part in parts]
        for shard, rows in enumerate(parts):
            body = b"".join(framed(records[i]) for i in rows)
            file = folder / f"{name}-{split['name']}.tfrecord-{shard:05}-of-{shards:05}"
            file.write_bytes(gzip.compress(body) if zipped else body)
    (folder / "dataset_info.json").write_text(json.dumps(described))
    for path in twin.iterdir():
        if path.name in ("features.json", "label.labels.txt"):
            (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.mark.parametrize(("shards", "zipped"), [(1, False), (3, False), (2, True)])
def test_a_converted_set_has_the_same_examples_features_version_and_shards(tmp_path, shards, zipped):
    folder = write(tmp_path, shards=shards, zipped=zipped)
    with pytest.raises(BadInput, match="found tfrecord"):
        tfds.load("old", tmp_path / "in")
    imported = import_set(folder, "new", tmp_path / "sets")
    assert imported.folder == tmp_path / "sets" / "new" / "2.1.0"
    source = tfds.load("new", tmp_path / "sets")
    np.testing.assert_array_equal(source.train_x, X)
    np.testing.assert_array_equal(source.test_x, X[:4])
    np.testing.assert_array_equal(source.train_y, Y)
    assert source.class_names.tolist() == ["a", "b"]
    read = tensorflow_datasets.builder_from_directory(str(imported.folder)).as_data_source("train")
    assert [read[i]["id"] for i in range(12)] == [f"n{i}".encode() for i in range(12)]
    assert len(list(imported.folder.glob("new-train.array_record-*"))) == shards


def test_a_set_of_tfds_keeps_its_name(tmp_path):
    folder = write(tmp_path, "mnist")
    import_set(folder.parent, "mnist", tmp_path / "sets")  # the folder around its version will do
    np.testing.assert_array_equal(tfds.load("mnist", tmp_path / "sets").train_x, X)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("flip", r"-of-00002: record 2: expected a whole one, found: a wrong checksum of its data"),
        ("length", r"record 0: expected a whole one, found: a wrong checksum of its length"),
        ("cut", r"record 5: expected a whole one, found: the file ends within it"),
        ("short", r"expected 6 records, found 5"),
        ("gone", r"expected this file of split train, found none"),
        ("lfs", r"record 0: expected a whole one, found: "),
    ],
)
def test_a_damaged_file_is_named_with_its_record_and_nothing_is_left_behind(tmp_path, damage, said):
    path = next(write(tmp_path).glob("*train*-00001-*"))
    whole = path.read_bytes()
    starts = [0]
    while starts[-1] < len(whole):
        starts.append(starts[-1] + 16 + struct.unpack("<Q", whole[starts[-1] : starts[-1] + 8])[0])
    changed = bytearray(whole)
    if damage == "flip":
        changed[starts[2] + 30] ^= 1
    elif damage == "length":
        changed[1] ^= 1
    elif damage == "cut":
        del changed[-3:]
    elif damage == "short":
        del changed[starts[5] :]
    elif damage == "lfs":
        changed = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n"
    path.write_bytes(changed)
    if damage == "gone":
        path.unlink()
    with pytest.raises(BadInput, match=said) as caught:
        import_set(path.parent, "new", tmp_path / "sets")
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    assert not list((tmp_path / "sets").rglob("*"))


def test_a_set_that_needs_no_conversion_says_how_to_use_it(tmp_path):
    write(tmp_path)
    with pytest.raises(BadInput, match=r"expected files of format tfrecord, found array_record; pass --dataset="):
        import_set(tmp_path / "twin" / "old" / "2.1.0", "new", tmp_path / "sets")
