"""Sets made from small archives in their publishers' layout, from a server on this machine, held against TFDS's own builders."""

import csv
import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets
import tensorflow_datasets.text  # without this, GLUE is not known
from scipy.io import savemat
from tensorflow_datasets.core import hashing

from kd_jax.config import BadInput
from kd_jax.data import publishers, tfds
from kd_jax.data.publishers import glue, mnist

NAMES = list(publishers.SETS)
RNG = np.random.default_rng(0)
TRAIN, TEST = 23, 11  # examples


@pytest.fixture(autouse=True)
def _cache_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def offer(server, monkeypatch):
    """`offer(name, archives)` makes the server the mirror of a set whose files are {path: bytes}, with their sizes and sha256."""

    def put(name, archives):
        published = publishers.SETS[name]
        assert {remote.path for remote in published.files} == set(archives)
        files = tuple(
            remote._replace(size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for remote, data in ((remote, archives[remote.path]) for remote in published.files)
        )
        monkeypatch.setitem(publishers.SETS, name, published._replace(files=files))
        monkeypatch.setenv("KD_JAX_MIRROR", server.address)
        server.files |= archives

    return put


def tar(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return stream.getvalue()


def pixels(count, *shape):
    return RNG.integers(0, 256, (count, *shape)).astype(np.uint8)


def cifar(coarse):
    """Return (archive, {split: (images, labels, coarse labels)}), the latter in the archive's order."""
    fine_names, coarse_names = [f"fine_{i}" for i in range(100)], [f"coarse_{i}" for i in range(20)]
    classes = 100 if coarse else 10
    splits = {
        split: (pixels(count, 3, 32, 32), RNG.integers(0, classes, count), RNG.integers(0, 20, count))
        for split, count in (("train", 25), ("test", TEST))
    }
    records = {
        split: [bytes([c, y] if coarse else [y]) + x.tobytes() for x, y, c in zip(*arrays, strict=True)]
        for split, arrays in splits.items()
    }
    if coarse:
        members = {f"cifar-100-binary/{split}.bin": b"".join(rows) for split, rows in records.items()}
        members["cifar-100-binary/fine_label_names.txt"] = "\n".join(fine_names).encode() + b"\n"
        members["cifar-100-binary/coarse_label_names.txt"] = "\n".join(coarse_names).encode() + b"\n"
    else:
        folder = "cifar-10-batches-bin"
        members = {f"{folder}/data_batch_{i + 1}.bin": b"".join(records["train"][5 * i : 5 * i + 5]) for i in range(5)}
        members[f"{folder}/test_batch.bin"] = b"".join(records["test"])
        members[f"{folder}/batches.meta.txt"] = "\n".join(fine_names[:10]).encode() + b"\n\n"
        members[f"{folder}/readme.html"] = b"<html>"
    expected = {split: (x.transpose(0, 2, 3, 1), y, c) for split, (x, y, c) in splits.items()}
    return tar(members), expected


def idx(array):
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes())


def in_tfds_order(count, split):
    """Positions in the order of MD5 of the split's name and the position, as computed by TFDS's own function."""
    hasher = hashing.Hasher(split)
    return sorted(range(count), key=hasher.hash_key)


def assert_holds(source, expected):
    """The source has the expected (images, labels) of training and test set, in TFDS's order."""
    for split, x, y in (("train", source.train_x, source.train_y), ("test", source.test_x, source.test_y)):
        order = in_tfds_order(len(expected[split][1]), split)
        np.testing.assert_array_equal(x, expected[split][0][order])
        np.testing.assert_array_equal(y, expected[split][1][order])


def read(folder, split):
    source = tensorflow_datasets.builder_from_directory(str(folder)).as_data_source(split)
    return source.__getitems__(list(range(len(source))))


# ---- what is made of archives


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar(offer, server, tmp_path, name):
    archive, expected = cifar(name == "cifar100")
    remote = publishers.SETS[name].files[0].path
    offer(name, {remote: archive})
    source = tfds.load(name, tmp_path)
    assert_holds(source, expected)
    assert (source.name, source.classes, source.test_split) == (name, 10 if name == "cifar10" else 100, "test")
    folder = tmp_path / name / "3.0.2"
    assert tfds.find(name, tmp_path) == folder
    assert (folder / "label.labels.txt").read_text().split() == [f"fine_{i}" for i in range(source.classes)]
    order = in_tfds_order(TEST, "test")
    assert [example["id"].decode() for example in read(folder, "test")] == [f"test_{i:05d}" for i in order]
    if name == "cifar100":
        coarse = [int(example["coarse_label"]) for example in read(folder, "test")]
        assert coarse == expected["test"][2][order].tolist()
        assert (folder / "coarse_label.labels.txt").read_text().split() == [f"coarse_{i}" for i in range(20)]
    server.files.clear()
    assert_holds(tfds.load(f"{name}/3.0.2", tmp_path), expected)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_sets_of_idx_files(offer, tmp_path, name):
    expected = {
        split: (pixels(n, 28, 28, 1), RNG.integers(0, 10, n)) for split, n in (("train", TRAIN), ("test", TEST))
    }
    archives = {}
    for split, part in (("train", "train"), ("test", "t10k")):
        x, y = expected[split]
        archives[f"{name}/{part}-images-idx3-ubyte.gz"] = idx(x[..., 0])
        archives[f"{name}/{part}-labels-idx1-ubyte.gz"] = idx(y.astype(np.uint8))
    offer(name, archives)
    assert_holds(tfds.load(name, tmp_path), expected)


def test_every_configuration_of_emnist_comes_from_one_download(offer, server, tmp_path):
    members, expected = {}, {}
    for config, classes in mnist.EMNIST_CLASSES.items():
        expected[config] = {}
        for split, count in (("train", TRAIN), ("test", TEST)):
            x, y = expected[config][split] = pixels(count, 28, 28, 1), RNG.integers(0, classes, count)
            members[f"gzip/emnist-{config}-{split}-images-idx3-ubyte.gz"] = idx(x[..., 0])
            members[f"gzip/emnist-{config}-{split}-labels-idx1-ubyte.gz"] = idx(y.astype(np.uint8))
        members[f"gzip/emnist-{config}-mapping.txt"] = b"0 48\n"
    archive = zipped(members)
    for config in expected:
        offer(f"emnist/{config}", {"emnist/gzip.zip": archive})
        source = tfds.load(f"emnist/{config}", tmp_path)
        assert_holds(source, expected[config])
        assert (source.name, source.classes) == (f"emnist/{config}", mnist.EMNIST_CLASSES[config])
    assert len(server.requests) == 1


def test_svhn(offer, tmp_path):
    expected, archives = {}, {}
    for split, count in (("train", TRAIN), ("test", TEST), ("extra", 5)):
        x, y = pixels(count, 32, 32, 3), RNG.integers(1, 11, count)  # 10 is the digit 0
        stream = io.BytesIO()
        savemat(stream, {"X": x.transpose(1, 2, 3, 0), "y": y.astype(np.uint8)[:, None]}, do_compression=True)
        archives[f"svhn/{split}_32x32.mat"] = stream.getvalue()
        expected[split] = x, np.where(y == 10, 0, y)
    offer("svhn_cropped", archives)
    assert_holds(tfds.load("svhn_cropped", tmp_path), expected)
    order = in_tfds_order(5, "extra")
    extra = read(tmp_path / "svhn_cropped/3.1.0", "extra")
    assert [example["id"].decode() for example in extra] == [f"extra_{i:06d}" for i in order]
    np.testing.assert_array_equal([example["image"] for example in extra], expected["extra"][0][order])


def test_ag_news(offer, tmp_path):
    rows = {
        "train": [(3, 'A "quoted" title', "Commas, and\\a backslash"), (1, "größer", " spaces "), (4, "", "x")],
        "test": [(2, "one", "two\nlines")],
    }
    members = {}
    for split, lines in rows.items():
        stream = io.StringIO()
        csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(lines)
        members[f"ag_news_csv/{split}.csv"] = stream.getvalue().encode()
    offer("ag_news_subset", {"ag_news_csv.tar.gz": tar(members)})
    texts = tfds.load("ag_news_subset", tmp_path)
    for split, lines in rows.items():
        order = in_tfds_order(len(lines), split)
        found = read(tmp_path / "ag_news_subset/1.0.0", split)
        written = [(int(one["label"]) + 1, one["title"].decode(), one["description"].decode()) for one in found]
        assert written == [lines[i] for i in order]
        assert texts.of(split)[1].tolist() == [lines[i][0] - 1 for i in order]
    assert texts.classes == 4


def test_imdb(offer, tmp_path):
    reviews = {
        "aclImdb/train/neg/0_3.txt": b" Bad.<br />",
        "aclImdb/train/pos/0_9.txt": "großartig\n".encode(),
        "aclImdb/train/pos/11_7.txt": b"fine",
        "aclImdb/train/unsup/3_0.txt": b"who knows",
        "aclImdb/test/neg/2_1.txt": b"no",
        "aclImdb/test/pos/5_10.txt": b"yes",
        "aclImdb/train/labeledBow.feat": b"0 1:2",
        "aclImdb/imdb.vocab": b"the",
    }
    offer("imdb_reviews/plain_text", {"aclImdb_v1.tar.gz": tar(reviews)})
    texts = tfds.load("imdb_reviews", tmp_path)
    for split, folder in (("train", "train/(neg|pos)"), ("test", "test/(neg|pos)"), ("unsupervised", "train/unsup")):
        names = [name for name in reviews if re.match(f"aclImdb/{folder}/", name)]
        names.sort(key=hashing.Hasher(split).hash_key)
        found = read(tmp_path / "imdb_reviews/plain_text/1.0.0", split)
        assert [bytes(one["text"]) for one in found] == [reviews[name].strip() for name in names]
        labels = [-1 if split == "unsupervised" else int("/pos/" in name) for name in names]
        assert [int(one["label"]) for one in found] == labels
        if split != "unsupervised":
            assert texts.of(split)[1].tolist() == labels
    assert texts.classes == 2


def test_pairs_of_glue(offer, tmp_path):
    """Columns in another order, quotes that mean nothing, hidden test labels, and rows that lack something."""
    tables = {
        "train": 'id\tquestion1\tquestion2\tis_duplicate\n1\t"why so\tbecause\t1\n2\tshort\n3\ta\tb\t\n4\tgrün\tblau\t0\n',
        "dev": "id\tquestion2\tquestion1\tis_duplicate\n1\tsecond\tfirst\t0\n",
        "test": "id\tquestion1\tquestion2\n0\tone\ttwo\n",
    }
    offer("glue/qqp", {"glue/QQP.zip": zipped({f"QQP/{name}.tsv": table for name, table in tables.items()})})
    texts = tfds.load("glue/qqp", tmp_path)
    folder = tmp_path / "glue/qqp/2.0.0"
    rows = [
        (bytes(one["question1"]), bytes(one["question2"]), int(one["label"]), int(one["idx"]))
        for one in read(folder, "train")
    ]
    expected = [(b'"why so', b"because", 1, 0), ("grün".encode(), b"blau", 0, 3)]
    assert rows == sorted(expected, key=lambda row: hashing.Hasher("train").hash_key(row[3]))
    assert texts.of("test") == ([("first", "second")], [0])
    assert [int(one["label"]) for one in read(folder, "test")] == [-1]


def test_mnli_has_two_validation_sets_and_classes_by_name(offer, tmp_path):
    tables = {
        f"{part}{kind}": f"sentence1\tsentence2\tlabel1\tgold_label\np {kind}\th\tneutral\t{gold}\n"
        for part, kinds, gold in (("train", [""], "contradiction"), ("dev", ["_matched", "_mismatched"], "neutral"))
        for kind in kinds
    }
    tables |= {f"test{kind}": f"sentence1\tsentence2\np {kind}\th\n" for kind in ("_matched", "_mismatched")}
    offer("glue/mnli", {"glue/MNLI.zip": zipped({f"MNLI/{name}.tsv": table for name, table in tables.items()})})
    texts = tfds.load("glue/mnli", tmp_path)
    assert texts.of("train") == ([("p", "h")], [2])
    assert texts.of("test") == ([("p _matched", "h")], [1])
    assert texts.of("mismatched") == ([("p _mismatched", "h")], [1])


def test_sst2_comes_out_record_for_record_as_tfds_published_it(real_set, offer, tmp_path):
    """The validation sentences are put back into the publisher's table, which their numbers give, and go the whole way again."""
    official = real_set("glue/sst2/2.0.0")
    lines = {int(one["idx"]): one for one in read(official, "validation")}
    rows = [f"{bytes(lines[i]['sentence']).decode()}\t{int(lines[i]['label'])}\n" for i in range(len(lines))]
    table = "sentence\tlabel\n" + "".join(rows)
    test = "index\tsentence\n0\tone\n"
    archive = zipped({"SST-2/train.tsv": table, "SST-2/dev.tsv": table, "SST-2/test.tsv": test})
    offer("glue/sst2", {"glue/SST-2.zip": archive})
    tfds.load("glue/sst2", tmp_path)
    ours = tmp_path / "glue/sst2/2.0.0"
    assert read(ours, "validation") == read(official, "validation")
    assert (ours / "features.json").read_bytes() == (official / "features.json").read_bytes()


def test_mnist_comes_out_record_for_record_as_tfds_published_it(real_set, offer, tmp_path):
    """The first test images are put back into the publisher's order, which their keys give, and go the whole way again."""
    count = 1000
    official = real_set("mnist/3.0.1")
    order = in_tfds_order(10_000, "test")
    positions = [position for position, key in enumerate(order) if key < count]
    examples = tensorflow_datasets.builder_from_directory(str(official)).as_data_source("test").__getitems__(positions)
    x, y = np.stack([one["image"] for one in examples]), np.array([one["label"] for one in examples], np.uint8)
    published_x, published_y = np.empty_like(x), np.empty_like(y)
    keys = [order[position] for position in positions]
    published_x[keys], published_y[keys] = x, y
    assert published_y[:5].tolist() == [7, 2, 1, 0, 4]  # as the publisher's file begins
    archives = {
        "mnist/train-images-idx3-ubyte.gz": idx(published_x[:9, ..., 0]),
        "mnist/train-labels-idx1-ubyte.gz": idx(published_y[:9]),
        "mnist/t10k-images-idx3-ubyte.gz": idx(published_x[..., 0]),
        "mnist/t10k-labels-idx1-ubyte.gz": idx(published_y),
    }
    offer("mnist", archives)
    source = tfds.load("mnist", tmp_path)
    np.testing.assert_array_equal(source.test_x, x)
    np.testing.assert_array_equal(source.test_y, y)
    assert {path.name for path in (tmp_path / "mnist/3.0.1").glob("[!k]*")} == {
        path.name for path in official.iterdir()
    }


# ---- TFDS's own descriptions


@pytest.mark.parametrize("name", NAMES)
def test_addresses_sizes_and_checksums_are_those_that_tfds_registers(name):
    package = Path(tensorflow_datasets.__file__).parent
    base = name.split("/")[0]
    tables = [package / "url_checksums" / f"{base}.txt", package / "datasets" / base / "checksums.tsv"]
    (table,) = [table for table in tables if table.is_file()]
    lines = {tuple(line.split("\t")[:3]) for line in table.read_text().splitlines()}
    ours = {(remote.url, str(remote.size), remote.sha256) for remote in publishers.SETS[name].files}
    assert ours <= lines
    if base != "glue":  # which has more tasks
        assert ours == lines


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_described_as_tfds_describes_it(name, offer, tmp_path, monkeypatch):
    """Features, names of classes, supervised keys, version, citation and the rest, from TFDS's own builder."""
    monkeypatch.setattr("tensorflow_datasets.core.utils.gcs_utils._is_gcs_disabled", True)
    builder = tensorflow_datasets.builder(name, data_dir=str(tmp_path / "theirs"), file_format="array_record")
    official = builder.info
    archives = minimal(name)
    offer(name, archives)
    folder = publishers.prepare(publishers.find(name), tmp_path)
    official.set_splits(tensorflow_datasets.builder_from_directory(str(folder)).info.splits)
    official.download_size = sum(map(len, archives.values()))
    theirs, ours = json.loads(official.as_json), json.loads((folder / "dataset_info.json").read_text())
    assert ours == theirs
    for key, names in _names(name).items():
        official.features[key].names = names  # CIFAR's are in its archive
    official.write_to_directory(str(tmp_path))
    labels = {path.name: path.read_text() for path in tmp_path.glob("*.labels.txt")}
    assert {path.name: path.read_text() for path in folder.glob("*.labels.txt")} == labels
    assert (folder / "features.json").read_text() == (tmp_path / "features.json").read_text()


def _names(name):
    return {
        "cifar10": {"label": [f"fine_{i}" for i in range(10)]},
        "cifar100": {"label": [f"fine_{i}" for i in range(100)], "coarse_label": [f"coarse_{i}" for i in range(20)]},
    }.get(name, {})


def minimal(name):
    """Return {path: bytes} of the archives of a set with an example or a few in each split."""
    base, _, config = name.partition("/")
    remotes = publishers.SETS[name].files
    if base.startswith("cifar"):
        return {remotes[0].path: cifar(base == "cifar100")[0]}
    if base == "emnist":
        members = {}
        for split in ("train", "test"):
            members[f"gzip/emnist-{config}-{split}-images-idx3-ubyte.gz"] = idx(pixels(1, 28, 28))
            members[f"gzip/emnist-{config}-{split}-labels-idx1-ubyte.gz"] = idx(np.ones(1, np.uint8))
        return {remotes[0].path: zipped(members)}
    if base.endswith("mnist"):
        return {
            remote.path: idx(pixels(1, 28, 28) if "images" in remote.path else np.ones(1, np.uint8))
            for remote in remotes
        }
    if base == "svhn_cropped":
        stream = io.BytesIO()
        savemat(stream, {"X": pixels(1, 32, 32, 3).transpose(1, 2, 3, 0), "y": np.ones((1, 1), np.uint8)})
        return {remote.path: stream.getvalue() for remote in remotes}
    if base == "ag_news_subset":
        return {remotes[0].path: tar({f"ag_news_csv/{split}.csv": b'"1","a","b"\n' for split in ("train", "test")})}
    if base == "glue":
        task = next(each.read.args[0] for each in glue.SETS if each.info.config == config)
        columns = [*task.texts.values(), task.label]
        table = "\t".join(columns) + "\n" + "\t".join("0" for _ in columns) + "\n"
        return {remotes[0].path: zipped({f"{task.folder}/{name}.tsv": table for name in task.splits.values()})}
    names = ("train/neg/1_1.txt", "test/pos/1_9.txt", "train/unsup/1_0.txt")
    return {remotes[0].path: tar({f"aclImdb/{each}": b"text" for each in names})}


# ---- what goes wrong


def refused(name, data_dir):
    with pytest.raises(BadInput) as caught:
        tfds.load(name, data_dir)
    message = str(caught.value)
    assert message.startswith(f"--dataset={name}: expected a prepared set in {data_dir} (--data_dir)")
    assert "\n" not in message
    return message


def test_a_wrong_archive_is_one_line_and_nothing_is_there_afterwards(offer, server, tmp_path):
    offer("cifar10", {"cifar-10-binary.tar.gz": cifar(False)[0]})
    server.files["cifar-10-binary.tar.gz"] = server.files["cifar-10-binary.tar.gz"][:-1] + b"x"
    assert "expected a file with sha256" in refused("cifar10", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tfds.find("cifar10", tmp_path) is None


def test_a_download_that_was_cut_off_is_gone_on_with_by_the_next_study(offer, server, tmp_path):
    archive, expected = cifar(False)
    offer("cifar10", {"cifar-10-binary.tar.gz": archive})
    server.cuts = [2 << 14, 0]
    assert "goes on from there" in refused("cifar10", tmp_path)
    assert_holds(tfds.load("cifar10", tmp_path), expected)
    assert server.requests[-1] == ("/cifar-10-binary.tar.gz", f"bytes={2 << 14}-")


def test_an_archive_that_was_saved_by_hand_needs_no_network(offer, server, tmp_path):
    archive, expected = cifar(False)
    offer("cifar10", {"cifar-10-binary.tar.gz": archive})
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "cifar-10-binary.tar.gz").write_bytes(archive)
    assert_holds(tfds.load("cifar10", tmp_path), expected)
    assert server.requests == []


@pytest.mark.parametrize(
    ("name", "archives", "words"),
    [
        ("cifar10", {"cifar-10-binary.tar.gz": tar({"a": b"b"})}, "there is no cifar-10-batches-bin/batches.meta.txt in it"),
        ("cifar100", {"cifar-100-binary.tar.gz": b"no archive"}, "not a gzip file"),
        ("mnist", {"mnist/t10k-labels-idx1-ubyte.gz": gzip.compress(b"no labels")}, "no IDX file"),
        ("mnist", {"mnist/t10k-labels-idx1-ubyte.gz": b"no gzip"}, "Not a gzipped file"),
        ("emnist/digits", {"emnist/gzip.zip": b"no archive"}, "not a zip file"),
        ("svhn_cropped", {"svhn/train_32x32.mat": b"no file of MATLAB" * 100}, "Unknown mat file type"),
        ("ag_news_subset", {"ag_news_csv.tar.gz": tar({"ag_news_csv/train.csv": b"\xff"})}, "can't decode byte 0xff"),
        ("imdb_reviews/plain_text", {"aclImdb_v1.tar.gz": tar({"a": b"b"})}, "expected examples in split train, found none"),
    ],
)  # fmt: skip
def test_an_archive_that_holds_something_else_is_one_line(offer, tmp_path, name, archives, words):
    """Its sha256 is right: this can only be a mistake of ours, or a change of a library's."""
    offer(name, minimal(name) | archives)
    assert words in refused(name, tmp_path)
    assert tfds.find(name, tmp_path) is None


def test_a_version_that_is_not_made_here_is_left_to_tfds():
    assert publishers.find("cifar10/3.0.2") is publishers.SETS["cifar10"]
    assert publishers.find("cifar10/2.0.0") is None
    assert publishers.find("cifar10_corrupted") is None
    assert publishers.find("imdb_reviews") is publishers.SETS["imdb_reviews/plain_text"]
