"""`kd-jax import` of CIFAR and MNIST in their publishers' layout, packed and unpacked."""

import gzip
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from kd_jax.data import tfds
from kd_jax.data.importing import Options, import_set
from kd_jax.errors import BadInput

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 32, 32, 3)).astype(np.uint8)
Y = np.arange(12) % 2
NAMES = {"cifar10": ["cat", "dog"], "cifar100": ["apple", "bear"]}


def rows(x):
    """Red, green and blue, each row by row."""
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


def files(kind):
    """{path in the archive: contents} with ten training and two test images."""
    if kind == "cifar10-binary":
        parts = np.array_split(np.arange(10), 5)
        records = {f"data_batch_{i}.bin": part for i, part in enumerate(parts, 1)} | {
            "test_batch.bin": np.array([10, 11])
        }
        found = {
            name: np.column_stack([Y[part], rows(X[part])]).astype(np.uint8).tobytes() for name, part in records.items()
        }
        return {f"cifar-10-batches-bin/{name}": body for name, body in found.items()} | {
            "cifar-10-batches-bin/batches.meta.txt": b"cat\ndog\n\n"
        }
    if kind == "cifar100-binary":
        found = {
            name: np.column_stack([Y[part] + 7, Y[part], rows(X[part])]).astype(np.uint8).tobytes()
            for name, part in (("train.bin", np.arange(10)), ("test.bin", np.array([10, 11])))
        }
        found |= {"fine_label_names.txt": b"apple\nbear\n", "coarse_label_names.txt": b"fruit\nbeast\n"}
        return {f"cifar-100-binary/{name}": body for name, body in found.items()}
    if kind == "cifar10-python":
        parts = np.array_split(np.arange(10), 5)
        records = {f"data_batch_{i}": part for i, part in enumerate(parts, 1)} | {"test_batch": np.array([10, 11])}
        found = {
            name: pickle.dumps({"data": rows(X[part]), "labels": Y[part].tolist(), "batch_label": "x"}, protocol=2)
            for name, part in records.items()
        }
        found |= {"batches.meta": pickle.dumps({"label_names": ["cat", "dog"]}, protocol=2)}
        return {f"cifar-10-batches-py/{name}": body for name, body in found.items()}
    found = {
        name: pickle.dumps({"data": rows(X[part]), "fine_labels": Y[part].tolist(), "coarse_labels": [0] * len(part)})
        for name, part in (("train", np.arange(10)), ("test", np.array([10, 11])))
    }
    found |= {"meta": pickle.dumps({"fine_label_names": ["apple", "bear"], "coarse_label_names": ["fruit"]})}
    return {f"cifar-100-python/{name}": body for name, body in found.items()}


def packed(path, contents):
    with tarfile.open(path, "w:gz") as archive:
        for name, body in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return path


def unpacked(root, contents):
    for name, body in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return path.parent


@pytest.mark.parametrize("kind", ["cifar10-binary", "cifar100-binary", "cifar10-python", "cifar100-python"])
@pytest.mark.parametrize("pack", [True, False])
def test_cifar_reads_as_published(tmp_path, kind, pack):
    contents = files(kind)
    source = packed(tmp_path / "in.tar.gz", contents) if pack else unpacked(tmp_path, contents)
    imported = import_set(source, "mine", tmp_path / "sets")
    found = tfds.load("mine", tmp_path / "sets")
    for part, array in (("train_x", X[:10]), ("test_x", X[10:]), ("train_y", Y[:10]), ("test_y", Y[10:])):
        np.testing.assert_array_equal(getattr(found, part), array)
    assert found.class_names.tolist() == NAMES[kind.partition("-")[0]]
    assert imported.notes == (() if "10-" in kind else ("classes are the fine ones; the coarse ones were left out",))


@pytest.mark.parametrize("form", ["-idx{}-ubyte.gz", "-idx{}-ubyte", ".idx{}-ubyte"])
def test_mnist_reads_as_published(tmp_path, form):
    grey = X[..., 0]
    for part, chosen in (("train", slice(0, 10)), ("t10k", slice(10, 12))):
        for kind, axes, array in (("images", 3, grey[chosen]), ("labels", 1, Y[chosen].astype(np.uint8))):
            body = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
            path = tmp_path / "in" / f"{part}-{kind}{form.format(axes)}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    import_set(tmp_path / "in", "mine", tmp_path / "sets")
    import_set(path, "from_one_file", tmp_path / "sets", Options(image_size=8))
    found = tfds.load("mine", tmp_path / "sets")
    np.testing.assert_array_equal(found.train_x[..., 0], grey[:10])
    np.testing.assert_array_equal(found.test_x[..., 0], grey[10:])
    np.testing.assert_array_equal(found.train_y, Y[:10])
    assert tfds.load("from_one_file", tmp_path / "sets").train_x.shape == (10, 8, 8, 1)
    path.unlink()
    with pytest.raises(
        BadInput, match="expected CIFAR or MNIST as published, found: no file t10k-labels-idx1-ubyte beside"
    ):
        import_set(tmp_path / "in", "again", tmp_path / "sets")


def test_archives_that_are_damaged_or_of_something_else_are_refused(tmp_path):
    def refused(path, said):
        with pytest.raises(BadInput, match=said) as caught:
            import_set(path, "mine", tmp_path / "sets")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "sets").exists()

    contents = files("cifar10-binary")
    whole = packed(tmp_path / "in.tar.gz", contents)
    os.truncate(whole, whole.stat().st_size // 2)
    refused(whole, "expected CIFAR or MNIST as published, found: ")
    name = "cifar-10-batches-bin/data_batch_3.bin"
    refused(packed(tmp_path / "short.tar.gz", contents | {name: contents[name][:-5]}), "cannot reshape")
    refused(
        packed(tmp_path / "other.tar.gz", {"a/b.txt": b"x"}),
        "found: an archive of b.txt; unpack it and pass its folder",
    )


def test_a_pickle_that_would_run_something_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    contents = files("cifar10-python") | {"cifar-10-batches-py/data_batch_2": pickle.dumps(Evil())}
    with pytest.raises(BadInput, match=r"found: it would call (posix|nt)\.mkdir"):
        import_set(packed(tmp_path / "in.tar.gz", contents), "mine", tmp_path / "sets")
    assert not (tmp_path / "made").exists()
