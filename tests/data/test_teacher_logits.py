"""Files of a teacher's answers: what they say, and every way in which one can be wrong."""

import re

import numpy as np
import pytest
from scipy.special import log_softmax

from kd_jax.config import Data
from kd_jax.data import teacher_logits
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.errors import BadInput

PUBLISHED, TESTED, CLASSES = 12, 7, 5
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (PUBLISHED, CLASSES))
TEST_LOGITS = RNG.normal(0, 3, (TESTED, CLASSES))
P = np.exp(log_softmax(LOGITS, axis=1))


def made(**data):
    x, y = RNG.integers(0, 256, (PUBLISHED, 2, 2, 1)).astype(np.uint8), RNG.integers(0, CLASSES, PUBLISHED)
    source = Source("made", x, y.astype(np.int32), x[:TESTED], y[:TESTED].astype(np.int32), CLASSES, "test")
    return assemble(source, Data(dataset="made", **data))


def written(tmp_path, **arrays):
    path = tmp_path / "answers.npz"
    np.savez(path, **arrays)
    return path


def answers(tmp_path, dataset=None, split="train", **arrays):
    """The logits of every example of a split, in its order."""
    dataset = dataset or made()
    table = teacher_logits.read(written(tmp_path, **arrays), dataset)[split]
    return table.logits(dataset.splits[split].ids, CLASSES, np.float64)


def top(k, p=P):
    indices = np.argsort(-p, axis=1)[:, :k]
    return {"indices": indices, "probabilities": np.take_along_axis(p, indices, axis=1)}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_rows_are_examples_in_their_published_order_whatever_the_type_of_their_numbers(tmp_path, dtype):
    found = answers(tmp_path, logits=LOGITS.astype(dtype))
    np.testing.assert_array_equal(found, LOGITS.astype(dtype))
    dataset = made(train_examples=5)
    assert 0 < len(dataset.train.ids) < PUBLISHED
    found = answers(tmp_path, dataset, logits=LOGITS.astype(dtype))
    np.testing.assert_array_equal(found, LOGITS.astype(dtype)[dataset.train.ids])


def test_with_ids_rows_may_come_in_any_order_and_be_of_the_used_examples_alone(tmp_path):
    order = np.random.default_rng(1).permutation(PUBLISHED)
    np.testing.assert_array_equal(answers(tmp_path, logits=LOGITS[order], ids=order), LOGITS)
    dataset = made(train_examples=5)
    own = dataset.train.ids[::-1].astype(np.uint8)
    np.testing.assert_array_equal(answers(tmp_path, dataset, logits=LOGITS[own], ids=own), LOGITS[dataset.train.ids])


def test_probabilities_and_log_probabilities_are_logits_of_the_same_softmax(tmp_path):
    np.testing.assert_allclose(answers(tmp_path, log_probabilities=np.log(P)), np.log(P))
    np.testing.assert_allclose(answers(tmp_path, probabilities=P), np.log(P))
    half = answers(tmp_path, probabilities=P.astype(np.float16))  # whose logarithm is not taken in so few digits
    np.testing.assert_allclose(half, np.log(P.astype(np.float16).astype(np.float64)), rtol=1e-6)


def test_of_the_top_k_the_rest_of_the_mass_is_spread_evenly(tmp_path):
    found = np.exp(answers(tmp_path, **top(2)))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    for row, p in zip(found, P, strict=True):
        largest = np.argsort(-p)[:2]
        np.testing.assert_allclose(row[largest], p[largest])
        np.testing.assert_allclose(np.delete(row, largest), (1 - p[largest].sum()) / (CLASSES - 2))
    logs = {"indices": top(2)["indices"], "log_probabilities": np.log(top(2)["probabilities"])}
    np.testing.assert_allclose(np.exp(answers(tmp_path, **logs)), found)


def test_the_top_k_of_all_classes_are_all_there_is_to_say(tmp_path):
    np.testing.assert_allclose(answers(tmp_path, **top(CLASSES)), np.log(P))


def test_where_the_top_k_have_all_the_mass_the_rest_has_a_finite_logarithm(tmp_path):
    sure = {"indices": np.tile([[1, 3]], (PUBLISHED, 1)), "probabilities": np.tile([[0.75, 0.25]], (PUBLISHED, 1))}
    found = answers(tmp_path, **sure)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, atol=2 * teacher_logits.LEAST_REST)


def test_other_splits_are_optional_and_have_keys_of_their_own(tmp_path):
    assert set(teacher_logits.read(written(tmp_path, logits=LOGITS), made())) == {"train"}
    found = answers(tmp_path, split="test", logits=LOGITS, test_logits=TEST_LOGITS)
    np.testing.assert_array_equal(found, TEST_LOGITS)
    order = np.arange(TESTED)[::-1]
    found = answers(tmp_path, split="test", logits=LOGITS, test_logits=TEST_LOGITS[order], test_ids=order)
    np.testing.assert_array_equal(found, TEST_LOGITS)


@pytest.mark.parametrize("arrays", [{"logits": LOGITS}, top(3), {"logits": LOGITS, "test_logits": TEST_LOGITS}])
def test_what_is_used_is_written_and_read_to_the_same_digest(tmp_path, arrays):
    dataset = made(train_examples=5)
    tables = teacher_logits.read(written(tmp_path, **arrays), dataset)
    teacher_logits.write(tmp_path / "copy.npz", tables)
    again = teacher_logits.read(tmp_path / "copy.npz", dataset)
    assert teacher_logits.digest(again) == teacher_logits.digest(tables)
    for name, table in tables.items():
        ids = dataset.splits[name].ids
        expected = table.logits(ids, CLASSES, np.float32)
        np.testing.assert_array_equal(again[name].logits(ids, CLASSES, np.float32), expected)
    assert {path.name for path in tmp_path.iterdir()} == {"answers.npz", "copy.npz"}


def test_the_digest_is_of_the_answers_that_are_used_and_not_of_the_order_of_rows(tmp_path):
    dataset = made(train_examples=5)

    def digest(**arrays):
        return teacher_logits.digest(teacher_logits.read(written(tmp_path, **arrays), dataset))

    first = digest(logits=LOGITS)
    order = np.random.default_rng(1).permutation(PUBLISHED)
    assert digest(logits=LOGITS[order], ids=order) == first
    used, unused = LOGITS.copy(), LOGITS.copy()
    used[dataset.train.ids[0], 0] += 1e-6
    unused[np.setdiff1d(np.arange(PUBLISHED), dataset.train.ids)[0], 0] += 1
    assert digest(logits=unused) == first
    assert digest(logits=used) != first
    assert digest(logits=LOGITS, test_logits=TEST_LOGITS) != first


def changed(array, where, value):
    array = array.copy()
    array[where] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            {"logits": LOGITS[:-1]},
            r"logits: expected the 12 examples of the train split as published, found 11; pass all",
        ),
        ({"logits": LOGITS[:, :4]}, r"logits: expected 5 classes, found 4; for the top k pass indices too"),
        ({"logits": LOGITS[0]}, r"logits: expected floats \[examples, classes\], found float64 \[5\]"),
        ({"logits": LOGITS.astype(int)}, r"logits: expected floats \[examples, classes\], found int64"),
        (
            {"logits": changed(LOGITS, (3, 1), np.nan)},
            r"logits: expected finite numbers, row 3 has a number that is not",
        ),
        ({"logits": changed(LOGITS, (4, 0), np.inf)}, r"row 4 has a number that is not finite; mend the row"),
        (
            {"probabilities": changed(P, (2, 0), 0)},
            r"probabilities: .* row 2 has a number that is no positive probability",
        ),
        (
            {"log_probabilities": LOGITS},
            r"log_probabilities: expected probabilities that add up to 1, those of row 0 to",
        ),
        ({"probabilities": P / 2}, r"probabilities: expected probabilities that add up to 1, those of row 0 to 0\.5;"),
        ({"logits": LOGITS, "ids": np.arange(11)}, r"ids: expected whole numbers \[12\], found int64 \[11\]"),
        ({"logits": LOGITS, "ids": np.arange(12.0)}, r"ids: expected whole numbers \[12\], found float64"),
        (
            {"logits": LOGITS, "ids": np.r_[0, :11]},
            r"ids: expected each example once, 0 is there twice; remove one row",
        ),
        (
            {"logits": LOGITS, "ids": np.r_[1:13]},
            r"ids: expected positions in the train split of 12 examples, found 12",
        ),
        (
            {"logits": LOGITS, "ids": np.r_[-1:11]},
            r"ids: expected positions in the train split of 12 examples, found -1",
        ),
        (
            {"logits": LOGITS[3:], "ids": np.r_[3:12]},
            r"ids: expected every example .* used, lacks 3 of 12, the first is 0",
        ),
        ({"logits": LOGITS[:0], "ids": np.arange(0)}, r"ids: expected every example .* lacks 12 of 12, the first is 0"),
        (
            {"indices": top(2)["indices"], "logits": LOGITS[:, :2]},
            r"indices: expected probabilities or log_probabilities",
        ),
        (
            top(2) | {"indices": top(3)["indices"]},
            r"indices: expected whole numbers \[12, 2\], as probabilities has, found",
        ),
        (top(2) | {"indices": top(2)["indices"] * 1.0}, r"indices: expected whole numbers .*, found float64 \[12, 2\]"),
        (
            top(2) | {"indices": changed(top(2)["indices"], (5, 1), 5)},
            r"indices: expected classes from 0 to 4, row 5 has 5",
        ),
        (
            top(2) | {"indices": np.zeros((12, 2), int)},
            r"indices: expected each class once in a row, row 0 has one twice",
        ),
        (
            {"indices": np.tile(np.arange(6), (12, 1)), "probabilities": np.full((12, 6), 0.1)},
            r"indices: expected 1 to 5 classes in a row, found 6",
        ),
        (
            {"indices": top(2)["indices"], "probabilities": np.full((12, 2), 0.6)},
            r"probabilities: expected probabilities that add up to at most 1, those of row 0 to 1\.2; pass probabilities",
        ),
        (
            {"test_logits": TEST_LOGITS},
            r"expected one of the keys logits, log_probabilities, probabilities, found test_logits",
        ),
        ({}, r"expected one of the keys logits, .*, found none"),
        ({"logits": LOGITS, "probabilities": P}, r"expected one of the keys logits, .* found logits, probabilities"),
        (
            {"logit": LOGITS},
            r"logit: expected keys among ids, indices, log_probabilities, logits, probabilities, test_ids",
        ),
        (
            {"logits": LOGITS, "test_logits": TEST_LOGITS[1:]},
            r"test_logits: expected the 7 examples of the test split as",
        ),
        (
            {"logits": LOGITS, "test_ids": np.arange(TESTED)},
            r"expected one of the keys test_logits, .*, found logits, test_ids",
        ),
        ({"logits": np.array([object()])}, r"expected a \.npz file of arrays, which cannot be read \(Object arrays"),
        ({"logits": P}, r"logits: expected logits, found numbers from 0 to 1 that .*; rename it probabilities"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, arrays, said):
    path = written(tmp_path, **arrays)
    with pytest.raises(BadInput, match=said) as raised:
        teacher_logits.read(path, made())
    assert str(raised.value).startswith(f"--teacher_logits={path}: ")
    assert "\n" not in str(raised.value)


def test_a_row_that_no_used_example_needs_is_not_looked_at(tmp_path):
    dataset = made(train_examples=5)
    unused = np.setdiff1d(np.arange(PUBLISHED), dataset.train.ids)[0]
    answers(tmp_path, dataset, logits=changed(LOGITS, unused, np.nan))


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 and no more"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "answers.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=re.escape(f"--teacher_logits={path}: expected a .npz file")):
        teacher_logits.read(path, made())


def test_a_single_array_is_no_archive_of_them(tmp_path):
    np.save(tmp_path / "answers.npy", LOGITS)
    with pytest.raises(BadInput, match=r"expected a \.npz file of arrays"):
        teacher_logits.read(tmp_path / "answers.npy", made())


def test_an_archive_with_a_damaged_array_is_named(tmp_path):
    path = written(tmp_path, logits=LOGITS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"which cannot be read \(.*CRC"):
        teacher_logits.read(path, made())
