"""Arrays of one's own: what comes of them, and what is said of those that are none."""

import numpy as np
import pytest

from kd_jax import data
from kd_jax.config import Data
from kd_jax.data.arrays import held_out
from kd_jax.data.images import ImagesInMemory, assemble
from kd_jax.data.own import numbered
from kd_jax.errors import BadInput

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 6, 4)).astype(np.uint8)
FLOATS = RNG.normal(size=(30, 5))
LABELS = np.arange(30) % 3


def test_images_with_a_test_set_are_taken_as_they_are():
    source = data.from_arrays(IMAGES, LABELS, IMAGES[:6], LABELS[:6], name="mine")
    np.testing.assert_array_equal(source.train_x, IMAGES[..., None])
    np.testing.assert_array_equal(source.test_x, IMAGES[:6, ..., None])
    np.testing.assert_array_equal(source.train_y, LABELS)
    assert (source.name, source.classes, source.test_split) == ("mine", 3, "test")
    assert source.train_x.dtype == np.uint8
    assert source.train_y.dtype == np.int32
    assert isinstance(assemble(source, Data(dataset="mine")), ImagesInMemory)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, bool])
def test_numbers_are_kept_in_float32(dtype):
    x = (FLOATS * 3).astype(dtype)
    source = data.from_arrays(x, LABELS, x, LABELS)
    assert source.train_x.dtype == np.float32
    np.testing.assert_array_equal(source.train_x, x.astype(np.float32))


def test_labels_that_are_names_are_classes_in_alphabetical_order_or_in_the_order_given():
    names = np.array(["zebra", "ant", "öx"])[LABELS]
    source = data.from_arrays(FLOATS, names, FLOATS, list(names))
    assert source.class_names.tolist() == ["ant", "zebra", "öx"]
    np.testing.assert_array_equal(source.class_names[source.train_y], names)
    given = data.from_arrays(FLOATS, names, FLOATS, names, classes=["öx", "zebra", "ant"])
    np.testing.assert_array_equal(np.array(["öx", "zebra", "ant"])[given.train_y], names)
    assert data.from_arrays(FLOATS, LABELS, classes=["a", "b", "c"]).class_names.tolist() == ["a", "b", "c"]


def test_without_a_test_set_a_fifth_of_every_class_is_held_out_and_it_is_said(capsys):
    labels = np.repeat([0, 1, 2], [15, 10, 5])
    source = data.from_arrays(FLOATS, labels, name="mine")
    assert np.bincount(source.test_y).tolist() == [3, 2, 1]
    assert np.bincount(source.train_y).tolist() == [12, 8, 4]
    assert source.test_split == "held-out"
    together = np.concatenate([source.train_x, source.test_x])
    np.testing.assert_array_equal(np.sort(together[:, 0]), np.sort(FLOATS[:, 0].astype(np.float32)))
    taken = held_out(labels)
    np.testing.assert_array_equal(source.test_x, FLOATS[taken].astype(np.float32))
    np.testing.assert_array_equal(source.train_y, labels[~taken])
    assert capsys.readouterr().err == "mine: no test set was given; 6 examples, 20% of each class, are held out\n"


def test_what_is_held_out_of_a_class_does_not_depend_on_the_others_and_takes_neither_none_nor_all():
    y = np.array([1] * 50 + [0] * 7)
    taken = held_out(y)
    np.testing.assert_array_equal(held_out(y[:50]), taken[:50])
    assert taken[:50].sum() == 10
    assert held_out(np.array([4, 4])).sum() == 1
    assert held_out(np.array([4])).sum() == 0
    assert held_out(np.zeros(10, int), 0.999).sum() == 9
    places = np.flatnonzero(held_out(np.zeros(1000, int)))
    assert abs(places.mean() - 500) < 5 * 1000 / np.sqrt(12 * 200)


def images(**changes):
    return {"train_x": IMAGES, "train_y": LABELS, **changes}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_x": IMAGES.astype(np.int32)}, "train_x: expected images, uint8 .* found int32 .*astype"),
        ({"train_x": IMAGES[0]}, r"train_x: expected images, uint8 .* found uint8 \[6, 4\]|train_y: expected 6 labels"),
        ({"train_x": [IMAGES[0], IMAGES[1, :3]]}, "train_x: expected one array of examples of one shape"),
        ({"train_x": np.array(["a"] * 30)}, "train_x: expected images, uint8 .* found <U1"),
        ({"train_x": IMAGES[:0], "train_y": LABELS[:0]}, "train_x: expected at least one example"),
        (
            {"train_x": np.where(np.arange(5) == 3, np.nan, FLOATS)},
            r"train_x: expected finite numbers, found nan at \[0, 3\]",
        ),
        ({"train_x": np.full((30, 2), 1e300)}, "train_x: expected numbers up to 3e38"),
        ({"train_y": LABELS[:29]}, r"train_y: expected 30 labels, .* found \[29\]"),
        (
            {"train_y": np.eye(3)[LABELS]},
            r"train_y: expected a label per example, found \[30, 3\]; pass train_y.argmax\(1\)",
        ),
        ({"train_y": LABELS - 1}, "labels: expected whole numbers from 0, found -1"),
        ({"train_y": LABELS + 0.5}, "labels: expected names or whole numbers, found float64; .* not for regression"),
        (
            {"train_y": LABELS * 2},
            "train_y: expected training examples of all 5 classes, found none of class 1 and 1 more",
        ),
        ({"train_y": LABELS * 0}, "train_y: expected two classes or more, found 1"),
        ({"train_y": LABELS + 100_000}, "labels: expected at most 100,000 classes, found 100,003"),
        ({"test_x": IMAGES}, "from_arrays: expected test_x and test_y together"),
        (
            {"test_x": IMAGES[:, :5], "test_y": LABELS},
            r"test_x: expected uint8 \[6, 4, 1\] as in train_x, found uint8 \[5, 4, 1\]",
        ),
        (
            {"test_x": IMAGES, "test_y": LABELS.astype(str)},
            "labels: expected names in all parts or numbers in all parts",
        ),
        (
            {"test_x": IMAGES, "test_y": LABELS + 1},
            "train_y: expected training examples of all 4 classes, found none of class 3",
        ),
        (
            {"train_y": LABELS.astype(str), "classes": ["0", "1"]},
            "labels: expected one of the 2 classes given, found '2'",
        ),
        ({"classes": ["a", "b"]}, "labels: expected numbers below 2, the number of classes, found 2"),
    ],
)
def test_arrays_that_are_no_set_are_refused_in_one_line(changes, said):
    with pytest.raises(BadInput, match=said) as caught:
        data.from_arrays(**images(**changes))
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


def test_bytes_are_names_too():
    labels, names = numbered([np.array([b"cat", b"ant"])])
    assert names == ["ant", "cat"]
    assert labels[0].tolist() == [1, 0]


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_an_example_without_a_label_is_named(missing):
    labels = np.array(["a", "b"] * 10, object)
    labels[7] = missing
    with pytest.raises(BadInput, match=f"expected a label for each example, found {missing} for example 7"):
        data.from_arrays(np.zeros((20, 3)), labels)


def test_bytes_with_channels_first_are_refused_and_floats_are_named(capsys):
    x = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 9)).astype(np.uint8)
    y = np.arange(20) % 2
    with pytest.raises(
        BadInput, match=r"train_x: expected images with their channels last, found \[3, 8, 9\]; move that axis"
    ):
        data.from_arrays(x, y)
    assert data.from_arrays(np.moveaxis(x, 1, -1), y).train_x.shape == (16, 8, 9, 3)
    assert "channels" not in capsys.readouterr().err
    assert data.from_arrays(x.astype(float), y).train_x.shape == (16, 3, 8, 9)
    assert "the last axis of [3, 8, 9] is taken for the channels" in capsys.readouterr().err
