"""Sets of images of many sizes: what they say, how they are read ahead, and that it does not matter by whom."""

import multiprocessing
import shutil
import sys
from collections import namedtuple
from functools import partial

import numpy as np
import pytest

from kd_jax import data
from kd_jax.config import BadInput, Study
from kd_jax.data import encoded as encodings
from kd_jax.data import jpeg, loader, streamed, tfds
from kd_jax.data.arrays import held_out
from kd_jax.data.order import order
from tests.conftest import write_streamed

STUDY = Study.from_flags(dataset="many", augment="resized_crop_flip", image_size=16, batch_size=40)


def loaded(many, study=STUDY, workers=0):
    return data.load(study.data, many.data_dir, workers=workers)


def epochs(dataset, count=2, draw=(1, 2)):
    rows_of = partial(order, 0, 1, examples=len(dataset.train.y), batch_size=40)
    return loader.Epochs(rows_of, count, draw)


class Part:
    """Stands in for `train.devices.Put`: leaves the arrays of one of several processes where they are."""

    def __init__(self, number, processes):
        self.number, self.processes = number, processes

    def own(self, size):
        each = size // self.processes
        return slice(self.number * each, (self.number + 1) * each)

    def part(self, tree):
        return tree


def read(*args):
    return [x for x, _ in loader.stream(*args)]


# ---- what a set is


def test_a_set_of_many_sizes_is_its_labels_and_the_views_of_its_images(many):
    dataset = loaded(many)
    assert (dataset.name, dataset.classes, dataset.test_split) == ("many", 3, "validation")
    for split, (encoded, labels) in ((dataset.train, many.train), (dataset.test, many.validation)):
        np.testing.assert_array_equal(split.y, labels)
        assert split.y.dtype == np.int32
        assert split.x.shape == (len(labels), 16, 16, 3)
        rows = [len(labels) - 1, 0, 3, 3]
        np.testing.assert_array_equal(split.x[rows], [jpeg.evaluation_view(encoded[row], 16) for row in rows])
        assert split.x[:2].shape == (2, 16, 16, 3)
    np.testing.assert_allclose(dataset.mean / 255, [0.485, 0.456, 0.406])
    np.testing.assert_allclose(dataset.std / 255, [0.229, 0.224, 0.225])


def test_without_a_test_set_a_part_of_the_training_images_is_held_out(tmp_path, many, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))
    encoded, labels = many.train
    write_streamed(tmp_path, {"train": many.train})
    taken = held_out(np.array(labels))
    for _ in range(2):  # then from the copy
        dataset = data.load(STUDY.replaced(train_examples=30).data, tmp_path)
        assert (dataset.test_split, dataset.train.published) == ("held-out", 70)
        np.testing.assert_array_equal(dataset.test.ids, np.flatnonzero(taken))
        assert not set(dataset.train.ids) & set(dataset.test.ids)
        for split in (dataset.train, dataset.test):
            np.testing.assert_array_equal(split.y, np.array(labels)[split.ids])
            np.testing.assert_array_equal(split.x[[3]][0], jpeg.evaluation_view(encoded[split.ids[3]], 16))


def test_views_have_224_pixels_a_side_unless_told_otherwise(many):
    assert loaded(many, STUDY.replaced(image_size=0)).train.x.shape == (70, 224, 224, 3)


def test_a_part_of_it_with_label_noise_keeps_images_labels_and_positions_together(many):
    dataset = loaded(many, STUDY.replaced(train_examples=50, test_examples=4, label_noise=0.2))
    encoded, labels = many.train
    np.testing.assert_array_equal(dataset.train.true_y, labels[dataset.train.ids])
    assert (dataset.train.y != dataset.train.true_y).sum() == 10
    np.testing.assert_array_equal(dataset.train.x[[7]][0], jpeg.evaluation_view(encoded[dataset.train.ids[7]], 16))
    assert len(dataset.test.x) == len(dataset.test.y) == 4


def test_the_fingerprint_follows_labels_part_and_files_and_not_who_reads(many, tmp_path):
    fingerprints = {loaded(many, study).fingerprint for study in (STUDY, STUDY.replaced(label_noise=0.1))}
    fingerprints.add(loaded(many, STUDY.replaced(train_examples=60)).fingerprint)
    many.write(tmp_path, {"train": many.train, "validation": (many.validation[0][::-1], many.validation[1])}, shards=3)
    fingerprints.add(data.load(STUDY.data, tmp_path).fingerprint)
    assert len(fingerprints) == 4
    assert loaded(many, workers=2).fingerprint == loaded(many).fingerprint


def test_labels_are_read_once(many, monkeypatch):
    first = loaded(many)
    monkeypatch.setattr(tfds, "_each", None)
    again = loaded(many)
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.train.x[[5]], first.train.x[[5]])


def test_of_a_large_set_analysis_examines_a_fixed_random_part(many, monkeypatch):
    dataset = loaded(many)
    train = dataset.train
    assert dataset.examined["train"] is train
    monkeypatch.setattr(streamed, "EXAMINED", 12)
    part, test = dataset.examined.values()
    assert test is dataset.test
    assert len(set(part.ids)) == len(part.x) == 12
    np.testing.assert_array_equal(part.y, train.y[part.ids])
    np.testing.assert_array_equal(part.x[:], train.x[part.ids])


# ---- which view


def test_a_training_view_depends_on_key_epoch_and_example_alone(many):
    images = loaded(many).train.x
    views = images.views([3, 8, 5], (1, 2, 0))
    np.testing.assert_array_equal(images.views([5, 3], (1, 2, 0)), views[[2, 0]])
    part = encodings.Images(images.records, images.ids[5:], 16)
    np.testing.assert_array_equal(part.views([3], (1, 2, 0)), views[[1]])
    for other in ((1, 2, 1), (1, 3, 0)):
        assert (images.views([3, 8, 5], other) != views).any(axis=(1, 2, 3)).all()


# ---- read ahead


def test_a_run_reads_the_batches_of_its_order_and_can_begin_at_any(many):
    dataset = loaded(many, STUDY.replaced(batch_size=20))
    rows_of = partial(order, 0, 1, examples=70, batch_size=20)
    whole = read(dataset.train.x, loader.Epochs(rows_of, 2, (1, 2)))
    assert len(whole) == 2 * 3
    for step, batch in enumerate(whole):
        expected = dataset.train.x.views(rows_of(step // 3)[step % 3], (1, 2, step // 3))
        np.testing.assert_array_equal(batch, expected)
    for start in (2, 3, 5):
        np.testing.assert_array_equal(read(dataset.train.x, loader.Epochs(rows_of, 2, (1, 2)), start), whole[start:])


def test_worker_processes_give_the_same_bytes_and_end_when_they_are_not_needed(many):
    """Stopped early, when they have more to do, too."""
    here, there = (loaded(many, workers=workers) for workers in (0, 2))
    expected = read(here.train.x, epochs(here))
    blocks = loader.ahead(loader.stream(there.train.x, epochs(there, 9)))
    for block in expected:
        np.testing.assert_array_equal(next(blocks)[0], block)
    assert len(multiprocessing.active_children()) == 2
    blocks.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("size", [5, 13, 40])
def test_blocks_have_every_example_once_in_order(many, size):
    dataset = loaded(many)
    decoded = dataset.test.x[:]
    for x in (dataset.test.x, decoded):
        rows, blocks = zip(*dataset.blocks(x, size), strict=True)
        assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
        np.testing.assert_array_equal(np.concatenate(rows), np.arange(13))
        np.testing.assert_array_equal(np.concatenate(blocks), decoded)
        _, filled = zip(*dataset.blocks(x, size, pad=True), strict=True)
        assert {len(block) for block in filled} == {size}
        np.testing.assert_array_equal(np.concatenate(filled)[:13], decoded)
        chosen = np.array([4, 2, 9])
        rows, blocks = zip(*dataset.blocks(x, 2, chosen), strict=True)
        np.testing.assert_array_equal(np.concatenate(rows), chosen)
        np.testing.assert_array_equal(np.concatenate(blocks), decoded[chosen])


def test_every_streamed_example_is_evaluated_once_with_its_label_and_padding_weighs_nothing(many):
    dataset = loaded(many)
    items = list(dataset.evaluation_items(dataset.test, 5, Part(0, 1)))
    rows, x, y = (np.concatenate([item[i] for item, _ in items]) for i in range(3))
    weights = np.concatenate([weights for _, weights in items])
    assert weights.tolist() == [1.0] * 13 + [0.0] * 2
    np.testing.assert_array_equal(rows[:13], np.arange(13))
    np.testing.assert_array_equal(x[:13], dataset.test.x[:])
    np.testing.assert_array_equal(y[:13], dataset.test.y)


@pytest.mark.parametrize("size", [4, 12, 40])
def test_of_several_processes_each_evaluates_its_part_of_every_batch_and_together_they_evaluate_all(many, size):
    dataset = loaded(many)
    (whole, alone), parts = zip(*dataset.evaluation_items(dataset.test, size, Part(0, 1)), strict=True), []
    for number in range(4):
        items = list(dataset.evaluation_items(dataset.test, size, Part(number, 4)))
        assert len(items) == len(whole)  # so that none waits for another
        parts.append(items)
    for at, (item, weights) in enumerate(zip(whole, alone, strict=True)):
        for name, expected in enumerate((*item, weights)):
            found = np.concatenate([(*of[at][0], of[at][1])[name] for of in parts])
            np.testing.assert_array_equal(found, expected)


def test_of_several_processes_each_decodes_its_part_of_every_batch_of_a_run(many):
    dataset = loaded(many, STUDY.replaced(batch_size=20))
    rows_of = dataset.rows_of(0, 1, 20)
    feeds = [dataset.feed(rows_of, 2, "resized_crop_flip", (1, 2), put) for put in (Part(0, 1), Part(0, 2), Part(1, 2))]
    for step in (0, 1, 4):
        whole, *parts = (feed.item(step) for feed in feeds)
        for expected, *found in zip(whole, *parts, strict=True):
            assert {len(part) for part in found} == {10}
            np.testing.assert_array_equal(np.concatenate(found), expected)
    for feed in feeds:
        feed.close()


def test_ahead_yields_the_same_and_passes_on_what_goes_wrong():
    def items():
        yield from range(3)
        raise BadInput("broken")

    found = loader.ahead(items())
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BadInput, match="broken"):
        next(found)


# ---- what cannot be read


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_by_file_and_record(many, tmp_path, workers):
    images, labels = list(many.train[0]), many.train[1]
    images[40] = images[40][:200]
    folder = many.write(tmp_path, {"train": (images, labels), "validation": many.validation})
    dataset = data.load(STUDY.data, tmp_path, workers=workers)
    said = (
        f"{folder}/many-train.array_record-00001-of-00002: record 5 (train example 40): expected a whole image, found"
    )
    with pytest.raises(BadInput) as caught:
        read(dataset.train.x, loader.Once(np.arange(70), 70))
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"augment": "crop_flip"}, r"--augment=crop_flip: expected none or resized_crop_flip: many is streamed"),
        ({"mixup": 0.2}, r"--mixup=0\.2: expected 0: many is streamed"),
        ({"cutmix": 1.0}, r"--cutmix=1\.0: expected 0: many is streamed"),
        ({"vocabulary": 300}, r"--vocabulary=300: expected 8000 for images, many; it is for texts"),
        ({"train_examples": 71}, r"--train_examples=71: expected at most 70"),
        ({"batch_size": 71}, r"--batch_size=71: expected at most the 70 training examples"),
    ],
)
def test_what_makes_no_sense_of_a_streamed_set_is_refused(many, changed, said):
    study = STUDY.replaced(**changed)

    def ask():
        data.check(loaded(many, study), study)

    with pytest.raises(BadInput, match=said):
        ask()


def test_without_grain_it_says_what_to_install(many, monkeypatch):
    dataset = loaded(many)
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(BadInput, match=r"expected the package grain.*pip install grain"):
        read(dataset.train.x, epochs(dataset))
    with pytest.raises(BadInput, match=r"expected the package grain.*pip install grain"):
        loaded(many)  # before anything of a study is written


def test_too_many_workers_for_the_shared_memory_are_refused(many, monkeypatch):
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 3 * 4 * loader.PIECE * 16 * 16 * 3))
    if not loader.SHARED.is_dir():
        pytest.skip("this system has no such folder")
    dataset = loaded(many, workers=4)
    with pytest.raises(BadInput, match=r"--workers=4: expected at most 3, .*--shm-size"):
        read(dataset.train.x, loader.Once(np.tile(np.arange(70), 4), 280))
