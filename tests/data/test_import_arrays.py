"""`kd-jax import` of arrays: what comes out, number by number, and what is refused without leaving anything behind."""

import os

import numpy as np
import pytest

from kd_jax.data import tfds
from kd_jax.data.importing import Options, import_set
from tests.data.test_importing import RNG, examples, refused

IMAGES = RNG.integers(0, 256, (30, 6, 5)).astype(np.uint8)
LABELS = np.arange(30) % 3


@pytest.mark.parametrize(
    "keys",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_data", "train_targets", "val_data", "val_targets"),
        ("x", "y", "x_valid", "y_valid"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_arrays_are_found_by_the_names_people_give_them(tmp_path, keys, packed):
    arrays = dict(zip(keys, (IMAGES, LABELS, IMAGES[::-1], LABELS[::-1]), strict=True))
    source = tmp_path / "in.npz"
    if packed:
        np.savez(source, other=np.zeros(3), **arrays)
    else:
        source = tmp_path / "in"
        source.mkdir()
        for name, array in arrays.items():
            np.save(source / f"{name}.npy", array)
    imported = import_set(source, "mine", tmp_path / "sets")
    for split, x, y in zip(imported.counts, (IMAGES, IMAGES[::-1]), (LABELS, LABELS[::-1]), strict=True):
        found = examples(imported, split)
        np.testing.assert_array_equal([example["image"][..., 0] for example in found], x)
        assert [example["label"] for example in found] == y.tolist()
    if not packed:
        again = import_set(source / f"{keys[0]}.npy", "again", tmp_path / "sets")
        assert {split: counts.tolist() for split, counts in again.counts.items()} == {
            split: counts.tolist() for split, counts in imported.counts.items()
        }


def test_floats_become_numbers_that_tfds_reads_back_bit_by_bit(tmp_path):
    x = RNG.normal(size=(30, 4)).astype(np.float32)
    np.savez(tmp_path / "in.npz", x=x, y=LABELS, x_test=x[:6], y_test=LABELS[:6])
    imported = import_set(tmp_path / "in.npz", "mine", tmp_path / "sets")
    assert (imported.kind, imported.about) == ("numbers", "4 numbers")
    source = tfds.load("mine", tmp_path / "sets")
    np.testing.assert_array_equal(source.train_x, x)
    np.testing.assert_array_equal(source.test_x, x[:6])
    np.testing.assert_array_equal(source.train_y, LABELS)
    assert source.train_x.dtype == np.float32


def test_labels_from_1_to_n_in_columns_or_one_hot_become_classes_from_0_and_it_is_said(tmp_path):
    np.savez(tmp_path / "in.npz", x=IMAGES, y=(LABELS + 1)[:, None], x_test=IMAGES[:3], y_test=[[1], [2], [3]])
    imported = import_set(tmp_path / "in.npz", "mine", tmp_path / "sets")
    assert imported.class_names == ("1", "2", "3")
    assert imported.notes == ("labels 1 to 3 became the classes 0 to 2; their names stay 1 to 3",)
    assert [example["label"] for example in examples(imported, "train")] == LABELS.tolist()
    np.savez(tmp_path / "hot.npz", x=IMAGES, y=np.eye(3)[LABELS], x_test=IMAGES[:3], y_test=np.eye(3)[[2, 0, 1]])
    imported = import_set(tmp_path / "hot.npz", "hot", tmp_path / "sets")
    assert [example["label"] for example in examples(imported, "test")] == [2, 0, 1]


def test_image_size_resizes_arrays(tmp_path):
    np.savez(tmp_path / "in.npz", x=np.full((9, 20, 10, 3), 9, np.uint8), y=LABELS[:9])
    imported = import_set(tmp_path / "in.npz", "mine", tmp_path / "sets", Options(image_size=4))
    assert imported.about == "4x4 colour"
    assert all((example["image"] == 9).all() for example in examples(imported, "train"))


@pytest.mark.parametrize(
    ("arrays", "options", "said"),
    [
        ({"pictures": IMAGES, "classes": LABELS}, {}, "expected arrays named x, images, .* found classes, pictures"),
        ({"x": IMAGES, "y": LABELS[:5]}, {}, "expected in y one label for each of the 30 examples of x"),
        (
            {"x": IMAGES, "y": LABELS, "x_test": IMAGES},
            {},
            "expected inputs and labels of each part, found x_test alone",
        ),
        (
            {"x": IMAGES, "y": LABELS, "x_test": IMAGES[:, :4], "y_test": LABELS},
            {},
            r"like those of x, uint8 \[6, 5, 1\]",
        ),
        (
            {"x": np.array([IMAGES[0], IMAGES[0, :3]], object), "y": LABELS[:2]},
            {},
            "expected a whole .npz|one array of one shape",
        ),
        (
            {"x": np.where(IMAGES > 250, np.nan, IMAGES), "y": LABELS},
            {},
            r"x: expected finite numbers, found nan at \[",
        ),
        ({"x": IMAGES.astype(np.int64), "y": LABELS}, {}, "expected images, uint8 .* found int64"),
        ({"x": IMAGES[..., None].repeat(4, 3), "y": LABELS}, {}, "expected images of 1 or 3 channels last, found 4"),
        ({"x": IMAGES, "y": LABELS * 0}, {}, "expected two classes or more, found 0"),
        ({"x": IMAGES, "y": LABELS / 2}, {}, "expected names or whole numbers, found 0.5; .* not for regression"),
        ({"x": np.zeros((100_001, 1)), "y": np.arange(100_001)}, {}, "expected at most 100,000 classes, found 100,001"),
        ({"a": IMAGES, "b": LABELS}, {"image_key": "a", "label_key": "c"}, "--label_key=c: expected one of a, b"),
        ({"a": IMAGES, "b": LABELS}, {"image_key": "a"}, "--label_key=: expected one of a, b .* pass both keys"),
        (
            {"x": IMAGES[:, 0] / 2, "y": LABELS},
            {"image_size": 4},
            "--image_size=4: expected none for arrays of numbers",
        ),
    ],
)
def test_arrays_that_are_no_set_are_refused(tmp_path, arrays, options, said):
    np.savez(tmp_path / "in.npz", **arrays)
    refused(tmp_path, tmp_path / "in.npz", said, **options)


def test_keys_name_arrays_of_other_names(tmp_path):
    np.savez(tmp_path / "in.npz", a=IMAGES, b=LABELS)
    imported = import_set(tmp_path / "in.npz", "mine", tmp_path / "sets", Options(image_key="a", label_key="b"))
    assert imported.counts["train"].tolist() == [8, 8, 8]


def test_a_damaged_file_of_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "in.npz", x=IMAGES, y=LABELS)
    os.truncate(tmp_path / "in.npz", 500)
    refused(tmp_path, tmp_path / "in.npz", r"in\.npz: expected a whole \.npz file of arrays")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.npy").write_bytes(b"no array")
    refused(tmp_path, tmp_path / "in", r"x\.npy: expected a whole \.npy file")


def test_floats_whose_channels_seem_to_be_first_are_named(tmp_path):
    x = RNG.normal(size=(30, 3, 6, 5))
    np.savez(tmp_path / "in.npz", x=x, y=LABELS)
    notes = import_set(tmp_path / "in.npz", "mine", tmp_path / "sets").notes
    assert "3 rows, 6 columns, 5 channels" in notes[0]
    assert "the last axis, of 5, is taken for the channels" in notes[1]
    assert "numpy.moveaxis(x, 1, -1)" in notes[1]
    np.savez(tmp_path / "last.npz", x=np.moveaxis(x, 1, -1), y=LABELS)
    notes = import_set(tmp_path / "last.npz", "last", tmp_path / "sets").notes
    assert "6 rows, 5 columns, 3 channels" in notes[0]
    assert not any("moveaxis" in note for note in notes)


def test_bytes_whose_channels_are_first_are_refused_with_what_moves_them(tmp_path):
    np.savez(tmp_path / "in.npz", x=RNG.integers(0, 256, (30, 3, 6, 5)).astype(np.uint8), y=LABELS)
    refused(
        tmp_path,
        tmp_path / "in.npz",
        r"in.npz: x: expected images with their channels last, found .* numpy.moveaxis\(x, 1, -1\)",
    )


def test_names_as_objects_are_refused_with_what_converts_them(tmp_path):
    np.savez(tmp_path / "in.npz", x=IMAGES, y=np.array(["a", "b", "c"], object)[LABELS])
    refused(tmp_path, tmp_path / "in.npz", "in.npz: .* convert arrays of objects first: names with astype")
