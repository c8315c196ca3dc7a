"""From an encoded image of any size to the square view that a network gets, on the host: Pillow and NumPy.

The two views are torchvision's usual ones for ImageNet: `RandomResizedCrop` with `RandomHorizontalFlip` for training (Szegedy et
al. 2015), a resize and a crop of the centre otherwise; bilinear, with antialiasing. A JPEG is decoded at a half, a quarter or an
eighth of its size where the view needs no more: libjpeg then averages in the frequency domain, which costs less and changes pixels
by a little.
"""

import io
import math
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from kd_jax.data.pixels import DEEP, eight_bits

AREA = (0.08, 1.0)  # of a random crop, as shares of the image's
RATIO = (3 / 4, 4 / 3)  # of its width to its height
ATTEMPTS = 10  # to draw a crop that lies within the image
MARGIN = 256 / 224  # the shorter side of an image that is cropped at the centre, in units of the view's


class Undecodable(Exception):
    """The bytes are not a whole image; the message says why."""


def training_view(encoded: bytes, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random-resized crop, mirrored left to right half the time, uint8 [size, size, 3].

    Args:
        encoded: bytes of a JPEG or PNG; greyscale, CMYK and palettes become RGB.
        size: the side of the view [pixels].
        rng: draws the crop; nothing else decides it.

    Raises:
        Undecodable: when they cannot be decoded.
    """
    with _opened(encoded) as image:
        left, top, width, height = random_box(*image.size, rng)
        mirrored = rng.random() < 0.5
        image, box = _shrunk(image, (left, top, left + width, top + height), size)
        # Cut out first, as torchvision does: then no pixel beyond the crop is averaged in.
        outer = (math.floor(box[0]), math.floor(box[1]), math.ceil(box[2]), math.ceil(box[3]))
        inner = (box[0] - outer[0], box[1] - outer[1], box[2] - outer[0], box[3] - outer[1])
        view = np.asarray(image.crop(outer).convert("RGB").resize((size, size), Image.Resampling.BILINEAR, inner))
    return view[:, ::-1] if mirrored else view


def evaluation_view(encoded: bytes, size: int) -> np.ndarray:
    """Return the centre of an image whose shorter side was resized to `MARGIN * size`, uint8 [size, size, 3].

    Arguments and errors are those of `training_view`.
    """
    with _opened(encoded) as image:
        width, height = image.size
        shorter = round(MARGIN * size)
        scale = shorter / min(width, height)
        resized = (shorter, int(scale * height)) if width <= height else (int(scale * width), shorter)
        left, top = (round((side - size) / 2) for side in resized)
        across, down = width / resized[0], height / resized[1]
        # Resizing this box alone gives the very pixels of resizing all and cropping: those around it are averaged in.
        box = (left * across, top * down, (left + size) * across, (top + size) * down)
        image, box = _shrunk(image, box, size)
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR, box))


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of a random crop [pixels].

    Its area is uniform on `AREA`, the logarithm of its ratio is uniform on `RATIO`, its place is uniform. If no draw of `ATTEMPTS`
    fits into the image, it is the largest crop of an allowed ratio, in the centre.
    """
    low, high = map(math.log, RATIO)
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = rng.integers(width - across + 1), rng.integers(height - down + 1)
            return int(left), int(top), across, down
    across = min(width, round(height * RATIO[1]))
    down = min(height, round(width / RATIO[0]))
    return (width - across) // 2, (height - down) // 2, across, down


@contextmanager
def _opened(encoded):
    """Open some bytes with Pillow. Whatever it raises becomes `Undecodable`, for its decoders raise errors of many types."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            yield eight_bits(image) if image.mode in DEEP else image
    except UnidentifiedImageError:
        raise Undecodable("the bytes of no image") from None  # Pillow's own message holds an address in memory
    except Exception as error:
        raise Undecodable(" ".join(str(error).split()) or type(error).__name__) from None


def _shrunk(image, box, size):
    """Set a JPEG to be decoded at a fraction of its size, where a box still has `size` pixels a side; return it and its box."""
    width, height = image.size
    image.draft(None, (math.ceil(width * size / (box[2] - box[0])), math.ceil(height * size / (box[3] - box[1]))))
    across, down = image.size[0] / width, image.size[1] / height
    # Rounding must not carry the far corner out of the image.
    right, bottom = min(box[2] * across, image.size[0]), min(box[3] * down, image.size[1])
    return image, (box[0] * across, box[1] * down, right, bottom)
