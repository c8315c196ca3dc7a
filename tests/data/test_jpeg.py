"""Views of encoded images: against torchvision's definition, written down again here, and against what is known of the crops."""

import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from kd_jax.data import jpeg

BILINEAR = Image.Resampling.BILINEAR


def rng(seed=0):
    return np.random.Generator(np.random.Philox(seed))


@pytest.fixture
def photograph(many):
    """A smooth picture, uint8 [480, 640, 3]."""
    with Image.open(io.BytesIO(many.train[0][0])) as image:
        return np.asarray(image.resize((640, 480), Image.Resampling.BICUBIC))


# ---- which crop


def test_crops_have_the_areas_ratios_and_places_of_their_definition():
    """Of crops below half of a square's area all fit: so there areas and logarithms of ratios are uniform, and so are places."""
    size, draws = 4000, rng()
    boxes = np.array([jpeg.random_box(size, size, draws) for _ in range(4000)])
    left, top, width, height = boxes.T
    assert (width > 0).all()
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + width <= size).all()
    assert (top + height <= size).all()
    share = width * height / size**2
    assert share.min() > 0.0799
    share, (left, top, width, height) = share[share < 0.5], boxes[share < 0.5].T
    uniform = stats.uniform
    for values, low, high in (
        (share, 0.08, 0.5),
        (np.log(width / height), math.log(3 / 4), math.log(4 / 3)),
        (left / (size - width), 0, 1),
        (top / (size - height), 0, 1),
    ):
        assert stats.kstest(values, uniform(low, high - low).cdf).pvalue > 1e-3


def test_an_image_too_long_for_any_crop_gives_its_centre_at_the_nearest_ratio():
    assert jpeg.random_box(1000, 12, rng()) == (492, 0, 16, 12)
    assert jpeg.random_box(12, 1000, rng()) == (0, 492, 12, 16)


# ---- what is in it


def torchvision_training_view(image, size, draws):
    """RandomResizedCrop, RandomHorizontalFlip."""
    left, top, width, height = jpeg.random_box(*image.size, draws)
    view = image.crop((left, top, left + width, top + height)).resize((size, size), BILINEAR)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if draws.random() < 0.5 else view


def torchvision_evaluation_view(image, size):
    """Resize(256 / 224 size), CenterCrop(size)."""
    shorter = round(size * 256 / 224)
    width, height = image.size
    if width <= height:
        image = image.resize((shorter, int(shorter * height / width)), BILINEAR)
    else:
        image = image.resize((int(shorter * width / height), shorter), BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return image.crop((left, top, left + size, top + size))


@pytest.mark.parametrize("size", [24, 56, 200])
def test_views_of_a_png_are_torchvisions(many, photograph, size):
    """Smaller than a half, and larger than some crops; a PNG is decoded whole."""
    encoded, image = many.encode(photograph, kind="png"), Image.fromarray(photograph)
    for seed in range(5):
        expected = np.asarray(torchvision_training_view(image, size, rng(seed)))
        np.testing.assert_array_equal(jpeg.training_view(encoded, size, rng(seed)), expected)
    for tall in (False, True):
        turned = photograph.swapaxes(0, 1) if tall else photograph
        found = jpeg.evaluation_view(many.encode(turned, kind="png"), size)
        expected = np.asarray(torchvision_evaluation_view(Image.fromarray(turned), size), int)
        assert np.abs(found - expected).max() <= 1


def test_views_of_a_jpeg_decoded_at_a_fraction_of_its_size_differ_by_little(many, photograph):
    encoded = many.encode(photograph)
    with Image.open(io.BytesIO(encoded)) as image:
        whole = image.convert("RGB")
    found = jpeg.evaluation_view(encoded, 32).astype(float)
    assert np.abs(found - torchvision_evaluation_view(whole, 32)).mean() < 2
    for seed in range(5):
        found = jpeg.training_view(encoded, 32, rng(seed)).astype(float)
        assert np.abs(found - torchvision_training_view(whole, 32, rng(seed))).mean() < 2


def test_half_of_the_training_views_are_mirrored(many):
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (60, 60, 3))
    encoded = many.encode(np.ascontiguousarray(ramp))
    views = [jpeg.training_view(encoded, 8, rng(seed)).astype(int) for seed in range(400)]
    mirrored = sum(view[:, 0].mean() > view[:, -1].mean() for view in views)
    assert stats.binomtest(mirrored, 400).pvalue > 1e-3


@pytest.mark.parametrize(
    ("mode", "kind"), [("RGB", "jpeg"), ("CMYK", "jpeg"), ("L", "jpeg"), ("RGBA", "png"), ("P", "png"), ("LA", "png")]
)
def test_every_encoding_gives_red_green_and_blue(many, mode, kind):
    """One colour, which survives all of them but grey: its luminance there, by the weights of ITU-R 601."""
    colour = np.array([204, 102, 51])  # which is one of the usual palette's
    encoded = many.encode(np.full((50, 70, 3), colour, np.uint8), mode, kind)
    expected = np.full(3, colour @ [0.299, 0.587, 0.114]) if mode in ("L", "LA") else colour
    for view in (jpeg.evaluation_view(encoded, 16), jpeg.training_view(encoded, 16, rng())):
        assert view.shape == (16, 16, 3)
        assert view.dtype == np.uint8
        assert np.abs(view - expected).max() <= 4


@pytest.mark.parametrize("view", [lambda e: jpeg.evaluation_view(e, 16), lambda e: jpeg.training_view(e, 16, rng())])
def test_what_is_no_whole_image_is_damaged_in_one_line(many, photograph, view):
    whole = many.encode(photograph)
    for encoded in (
        b"",
        b"no image",
        whole[: len(whole) // 2],
        whole[:100],
        many.encode(photograph, kind="png")[:3000],
    ):
        with pytest.raises(jpeg.Undecodable) as caught:
            view(encoded)
        assert str(caught.value)
        assert "\n" not in str(caught.value)
        assert "0x" not in str(caught.value)


def test_an_image_of_16_bits_is_seen_in_8():
    deep = np.full((40, 40), 30_000, np.uint16)
    stream = io.BytesIO()
    Image.fromarray(deep).save(stream, "png")
    for view in (
        jpeg.evaluation_view(stream.getvalue(), 16),
        jpeg.training_view(stream.getvalue(), 16, np.random.default_rng(0)),
    ):
        assert (view == round(30_000 / 257)).all()
