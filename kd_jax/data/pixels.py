"""From an image file as people have them to pixels as networks take them: Pillow."""

import io
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

GREY = ("1", "L", "La", "LA", "I;16", "I;16L", "I;16B", "I;16N", "I")
DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I")
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
KEPT = ("JPEG", "PNG")  # formats that TFDS's readers decode
PLAIN = ("1", "L", "RGB", "CMYK", "P")  # modes that any reader turns into RGB in one way
ORIENTATION = 0x0112  # the EXIF tag
WHITE = 255


class Unreadable(Exception):
    """A file is not a whole image; the message says why."""


class Head(NamedTuple):
    """What the head of an image file says.

    Attributes:
        width, height: of the image as it is to be seen, after EXIF's rotation [pixels].
        grey: whether it has no colours.
        plain: whether the file may stay as it is: a JPEG or PNG that needs neither rotation nor another treatment.
        deep, clear, turned: whether it has 16 bits per pixel, is transparent, or is to be rotated as EXIF says.
    """

    width: int
    height: int
    grey: bool
    plain: bool
    deep: bool
    clear: bool
    turned: bool


def head(file: BinaryIO) -> Head:
    """Return what the head of an image file says; pixels are not decoded.

    Raises:
        Unreadable: when it is the head of no image.
    """
    with _opened(file) as image:
        orientation = _orientation(image)
        width, height = image.size
        if orientation >= 5:
            width, height = height, width
        clear = image.mode in ALPHA or "transparency" in image.info
        plain = image.format in KEPT and image.mode in PLAIN and not clear and orientation == 1
        return Head(width, height, image.mode in GREY, plain, image.mode in DEEP, clear, orientation != 1)


def check(file: BinaryIO) -> None:
    """Decode an image, to see whether it is whole.

    Raises:
        Unreadable: when it is not.
    """
    with _opened(file) as image:
        image.load()


def pixels(file: BinaryIO, channels: int, size: int = 0) -> np.ndarray:
    """Return an image as uint8 [height, width, channels].

    It is rotated as EXIF says; of an animation the first picture is taken; transparent pixels are laid on white; 16 bits become 8.

    Args:
        file: an image file.
        channels: 1 for grey, 3 for colour.
        size: the side of the square to which the image is brought [pixels]: the largest square in its centre, resized (bicubic,
            antialiased); 0 leaves it as it is.

    Raises:
        Unreadable: when it cannot be decoded.
    """
    with _opened(file) as image:
        orientation = _orientation(image)
        image.load()
        image = eight_bits(image)
        if orientation != 1:
            image = image.transpose(_TURNS[orientation])
        image = _on_white(image).convert("L" if channels == 1 else "RGB")
        array = np.asarray(image)
    array = array[..., None] if channels == 1 else array
    return square(array, size) if size else array


def is_odd(encoded: bytes) -> bool:
    """Return whether some bytes are a PNG that decoders take in different ways: of 16 bits, or with a palette.

    The head of a PNG has the bits of a pixel in byte 24 and its kind of colours in byte 25 (PNG specification, 11.2.2).
    """
    return encoded[:8] == b"\x89PNG\r\n\x1a\n" and (encoded[24:25] == b"\x10" or encoded[25:26] == b"\x03")


def square(array: np.ndarray, size: int) -> np.ndarray:
    """Return the largest square in the centre of an image, resized (bicubic, antialiased), uint8 [size, size, channels].

    Args:
        array: uint8 [height, width, 1 or 3].
        size: the side [pixels].
    """
    if array.shape[:2] == (size, size):
        return array
    side = min(array.shape[:2])
    top, left = ((whole - side) // 2 for whole in array.shape[:2])
    # Cut out first, so that no pixel beyond the square is averaged in.
    cut = array[top : top + side, left : left + side]
    image = Image.fromarray(cut[..., 0] if cut.shape[-1] == 1 else cut)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).reshape(size, size, -1)


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def png(array: np.ndarray) -> bytes:
    """Return uint8 pixels [height, width, 1 or 3] as the bytes of a PNG."""
    stream = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(stream, "png")
    return stream.getvalue()


class _opened:
    """Open a file with Pillow. Whatever it raises becomes `Unreadable`, for its decoders raise errors of many types."""

    def __init__(self, file):
        self._file = file

    def __enter__(self):
        try:
            self._image = Image.open(self._file)
        except UnidentifiedImageError:
            raise Unreadable("no image") from None  # Pillow's own message holds an address in memory
        except Exception as error:
            raise Unreadable(_said(error)) from None
        return self._image

    def __exit__(self, kind, error, trace):
        self._image.close()
        if isinstance(error, Exception) and not isinstance(error, Unreadable):
            raise Unreadable(_said(error)) from None


def _said(error):
    return " ".join(str(error).split()) or type(error).__name__


def _orientation(image):
    if image.format == "TIFF":  # Pillow turns it by itself
        return 1
    # Asked for more, Pillow decodes a PNG to find an EXIF block behind its pixels.
    exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
    value = exif.get(ORIENTATION, 1)
    return value if value in _TURNS else 1


def eight_bits(image: Image.Image) -> Image.Image:
    """Return an image whose pixels have 8 bits: of one of 16, each is divided by 257 and rounded.

    Raises:
        Unreadable: for pixels of more bits, and for floats, which have no brightest value.
    """
    if image.mode in DEEP:
        array = np.asarray(image).astype(np.int64)
        if array.min() < 0 or array.max() > 65535:
            raise Unreadable("whole numbers of more than 16 bits")
        return Image.fromarray(((array + 128) // 257).astype(np.uint8))  # 65535 becomes 255
    if image.mode == "F":
        raise Unreadable("pixels that are floats, which have no brightest value")
    return image


def _on_white(image):
    if image.mode not in ALPHA and "transparency" not in image.info:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, WHITE)), image)
