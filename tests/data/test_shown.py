"""What people are shown of examples: thumbnails, texts, or nothing."""

import numpy as np
from PIL import Image

from kd_jax import data
from kd_jax.config import Data, Study
from kd_jax.data import images, numbers, views

MIXED = "a good film of slow acting"


def test_small_images_are_shown_as_they_are_in_the_order_that_was_asked_for():
    x = np.random.default_rng(0).integers(0, 256, (9, 5, 4, 3), dtype=np.uint8)
    dataset = images.assemble(data.from_arrays(x, np.arange(9) % 3, x[:3], np.arange(3)), Data())
    rows = np.array([7, 0, 3])
    assert (dataset.shown(dataset.train.x, rows) == x[rows]).all()


def test_large_images_are_shrunk_to_32_pixels_and_keep_their_shape_and_colours():
    for height, width, channels in ((64, 64, 3), (96, 48, 1), (40, 80, 4)):
        side = np.linspace(0, 255, width).astype(np.uint8)
        ramps = np.broadcast_to(side[None, None, :, None], (2, height, width, channels)).copy()
        found = views.small(ramps)
        assert max(found.shape[1:3]) == 32
        assert abs(found.shape[1] / found.shape[2] - height / width) < 0.1
        assert found.shape[3] == (1 if channels == 1 else 3)
        # A ramp stays a ramp.
        wide = np.asarray(Image.fromarray(side[None]).resize((found.shape[2], 1)))[0]
        assert np.abs(found[0, 3, :, 0].astype(int) - wide).max() <= 3


def test_streamed_images_are_decoded_to_thumbnails(many):
    study = Study.from_flags(dataset="many", teacher="resnet18", student=("resnet18",), image_size=64)
    dataset = data.load(study.data, many.data_dir)
    rows = np.array([12, 3, 4])
    found = dataset.shown(dataset.test.x, rows)
    whole = np.concatenate([block for _, block in dataset.blocks(dataset.test.x, 5, rows)])
    assert found.shape == (3, 32, 32, 3)
    assert (found == views.small(whole)).all()


def test_texts_are_shown_as_their_tokens_spell_them_and_of_pairs_both(tmp_path, write_texts, sentences):
    singles = [*sentences(40), (MIXED, 1), ("good " * 200, 1)]
    write_texts(tmp_path, {"train": singles, "test": sentences(5, seed=1)})
    flags = {"teacher": "roberta_32x2", "student": ("roberta_32x2",), "batch_size": 4, "max_length": 64}
    dataset = data.load(Study.from_flags(dataset="texts", **flags).data, tmp_path)
    rows = np.array([40, 2, 41])
    found = dataset.shown(dataset.train.x, rows)
    assert found[:2].tolist() == [MIXED, singles[2][0]]
    assert found[2].startswith("good good good")
    assert len(found[2]) <= views.MOST
    pairs = [(f"first {text}", f"second {text}", label) for text, label in sentences(30)]
    write_texts(tmp_path, {"train": pairs, "test": pairs[:4]}, name="pairs/1.0.0", keys=("premise", "hypothesis"))
    dataset = data.load(Study.from_flags(dataset="pairs", **flags).data, tmp_path)
    assert dataset.shown(dataset.train.x, np.array([1])).tolist() == [" | ".join(pairs[1][:2])]


def test_nobody_can_look_at_numbers():
    x = np.random.default_rng(0).normal(size=(12, 3))
    dataset = numbers.assemble(data.from_arrays(x, np.arange(12) % 2, x[:4], np.arange(4) % 2), Data())
    assert dataset.shown(dataset.train.x, np.array([0, 1])) is None
