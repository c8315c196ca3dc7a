"""What a study makes of a data set: which part, its label noise, its statistics, its fingerprint."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from kd_jax.config import BadInput, Data, Study
from kd_jax.data import check, digits
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble


def made(examples=200, classes=5, channels=3, seed=0):
    """A `Source` whose every image tells which it is: its first pixel holds its position."""
    rng = np.random.default_rng(seed)

    def split(count):
        x = rng.integers(0, 256, (count, 6, 4, channels)).astype(np.uint8)
        x[:, 0, 0, 0] = np.arange(count) % 256
        return x, rng.integers(0, classes, count).astype(np.int32)

    return Source("made", *split(examples), *split(examples // 2), classes, "test")


def asked(**changes):
    return Data(**{"dataset": "made", **changes})


# ---- parts


def test_without_limits_a_study_has_every_example_in_its_place():
    source = made()
    found = assemble(source, asked())
    for split, x, y in (
        (found.train, source.train_x, source.train_y),
        (found.test, source.test_x, source.test_y),
    ):
        np.testing.assert_array_equal(split.x, x)
        np.testing.assert_array_equal(split.y, y)
        np.testing.assert_array_equal(split.ids, np.arange(len(y)))
    assert (found.name, found.classes, found.test_split) == ("made", 5, "test")


def test_a_part_is_the_examples_its_ids_name_in_rising_order():
    source = made()
    found = assemble(source, asked(train_examples=70, test_examples=30))
    for split, x, y, count in (
        (found.train, source.train_x, source.train_y, 70),
        (found.test, source.test_x, source.test_y, 30),
    ):
        assert split.ids.dtype == np.int64
        assert len(split.ids) == count
        assert (np.diff(split.ids) > 0).all()
        np.testing.assert_array_equal(split.x, x[split.ids])
        np.testing.assert_array_equal(split.true_y, y[split.ids])


def test_every_study_means_the_same_part_and_a_larger_one_contains_it():
    source = made()
    small = assemble(source, asked(train_examples=50)).train.ids
    for changes in ({"noise_seed": 4, "label_noise": 0.5}, {"test_examples": 10}):
        np.testing.assert_array_equal(assemble(source, asked(train_examples=50, **changes)).train.ids, small)
    large = assemble(source, asked(train_examples=120)).train.ids
    assert set(small) < set(large)


def test_a_part_is_taken_from_everywhere():
    ids = assemble(made(2000), asked(train_examples=1000)).train.ids
    quarters = np.bincount(ids // 500)
    assert abs(quarters - 250).max() < 4 * np.sqrt(250 / 2)  # hypergeometric: variance n/4 (3/4) (1/2) < 125


@pytest.mark.parametrize(("flag", "count", "limit"), [("train_examples", 201, 200), ("test_examples", 101, 100)])
def test_more_than_there_is_is_refused_by_name(flag, count, limit):
    with pytest.raises(BadInput, match=rf"--{flag}={count}: expected at most .*{limit}"):
        assemble(made(), asked(**{flag: count}))


def test_a_batch_may_not_exceed_the_part_that_is_used():
    with pytest.raises(BadInput, match=r"--batch_size=51: expected at most the 50 training examples"):
        check(assemble(made(), asked(train_examples=50)), Study.from_flags(batch_size=51))
    check(assemble(made(), asked(train_examples=50)), Study.from_flags(batch_size=50))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dropout": 0.1}, "--dropout=0.1: expected 0 for images, made; it is for texts; leave it out"),
        ({"tokenizer": "a.json"}, "--tokenizer=a.json: expected none for images, made; it is for texts; leave it out"),
        ({"vocabulary": 300}, "--vocabulary=300: expected 8000 for images, made; it is for texts; leave it out"),
        ({"max_length": 64}, "--max_length=64: expected 128 for images, made; it is for texts; leave it out"),
        ({"image_size": 32}, "--image_size=32: expected a set of images of many sizes, those of made have 4x6 pixels"),
        ({"augment": "resized_crop_flip"}, "--augment=resized_crop_flip: expected a set of images of many sizes"),
        ({"teacher_with": ("dropout=0.5",)}, "--teacher_with=dropout=0.5: --dropout=0.5: expected 0 for images, made"),
    ],
)
def test_what_images_of_one_size_have_no_use_for_is_refused_by_name(changes, said):
    study = Study.from_flags(batch_size=1, **changes)
    with pytest.raises(BadInput) as caught:
        check(assemble(made(), study.data), study)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_value_that_is_the_default_is_no_request():
    study = Study.from_flags(batch_size=1, dropout=0.0, vocabulary=8000, max_length=128, tokenizer="", image_size=0)
    check(assemble(made(), study.data), study)


# ---- label noise


def test_noise_is_on_the_training_labels_alone_and_the_true_ones_are_kept():
    source = made()
    found = assemble(source, asked(label_noise=0.3))
    np.testing.assert_array_equal(found.train.true_y, source.train_y)
    assert (found.train.y != found.train.true_y).sum() == 60
    np.testing.assert_array_equal(found.test.y, source.test_y)
    np.testing.assert_array_equal(found.test.true_y, source.test_y)
    np.testing.assert_array_equal(found.train.x, source.train_x)


def test_every_seed_of_a_study_sees_the_same_noise():
    source = made()
    first = assemble(source, asked(label_noise=0.3)).train.y
    np.testing.assert_array_equal(assemble(source, asked(label_noise=0.3)).train.y, first)
    assert (assemble(source, asked(label_noise=0.3, noise_seed=1)).train.y != first).any()


def test_of_a_part_the_share_asked_for_is_noisy():
    found = assemble(made(), asked(train_examples=50, label_noise=0.2))
    assert (found.train.y != found.train.true_y).sum() == 10


# ---- statistics


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_deviation_are_those_of_the_training_pixels(channels):
    source = made(channels=channels)
    source = source._replace(test_x=np.zeros_like(source.test_x))
    for part in (0, 90):
        found = assemble(source, asked(train_examples=part))
        pixels = found.train.x.astype(np.float64).reshape(-1, channels)
        np.testing.assert_allclose(found.mean, pixels.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(found.std, pixels.std(axis=0), rtol=1e-12)
        assert found.mean.dtype == found.std.dtype == np.float64


def test_sums_of_bright_pixels_do_not_overflow():
    # 300 x 64 x 64 squares of 255 make 8e10, beyond 32 bits.
    x = np.full((300, 64, 64, 1), 255, np.uint8)
    x[::2] = 251
    y = np.zeros(300, np.int32)
    found = assemble(Source("bright", x, y, x[:1], y[:1], 2, "test"), asked())
    np.testing.assert_allclose((found.mean, found.std), ([253], [2]), rtol=1e-9)


def test_a_channel_without_variation_is_divided_by_one():
    source = made()
    source.train_x[..., 1] = 77
    found = assemble(source, asked())
    assert found.mean[1] == 77
    assert found.std[1] == 1
    assert (found.std[[0, 2]] > 1).all()


# ---- fingerprint


def test_the_fingerprint_is_the_same_for_the_same_data():
    first = assemble(made(), asked(label_noise=0.2)).fingerprint
    assert assemble(made(), asked(label_noise=0.2)).fingerprint == first
    fortran = made()._replace(train_x=np.asfortranarray(made().train_x))
    assert assemble(fortran, asked(label_noise=0.2)).fingerprint == first
    assert len(first) == 64


@pytest.mark.parametrize("field", ["train_x", "train_y", "test_x", "test_y"])
def test_one_label_or_one_pixel_changes_the_fingerprint(field):
    before = assemble(made(), asked()).fingerprint
    source = made()
    changed = getattr(source, field)
    changed.flat[7] = (changed.flat[7] + 1) % 5
    assert assemble(source, asked()).fingerprint != before


def test_noise_a_part_and_the_shape_of_the_images_change_the_fingerprint():
    source = made()
    reshaped = source._replace(train_x=source.train_x.reshape(200, 4, 6, 3))
    prints = [assemble(source, asked(**changes)).fingerprint for changes in ({}, {"label_noise": 0.005})]
    prints += [assemble(source, asked(label_noise=0.005, noise_seed=1)).fingerprint]
    prints += [assemble(source, asked(train_examples=199)).fingerprint, assemble(reshaped, asked()).fingerprint]
    assert len(set(prints)) == len(prints)


# ---- the embedded digits


def test_the_digits_are_scikit_learns_each_once():
    source, original = digits.load(), load_digits()
    assert source.train_x.shape == (1297, 8, 8, 1)
    assert source.test_x.shape == (500, 8, 8, 1)
    assert source.train_x.dtype == source.test_x.dtype == np.uint8
    x, y = np.concatenate([source.train_x, source.test_x]), np.concatenate([source.train_y, source.test_y])
    ours = np.column_stack([x.reshape(1797, 64), y])
    theirs = np.column_stack([original.images.reshape(1797, 64), original.target])
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    assert set(source.train_y) == set(source.test_y) == set(range(source.classes))
