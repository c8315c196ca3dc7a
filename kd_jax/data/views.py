"""Single examples to look at on a page: a thumbnail, or a text."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd_jax.data import stored
from kd_jax.data.outputs import text_lines
from kd_jax.errors import BadInput

SIDE = 96  # of a thumbnail, in pixels
SMALL = 32  # of a thumbnail that is kept with an analysis
MOST = 300  # characters of a text that are shown
View = tuple[str, str]  # ("image", PNG in base64) or ("text", text)


def views(source: Any, flag: str, count: int) -> Callable[[int], View]:
    """Return `view(row)`, which gives what is shown of an example.

    Args:
        source: an array uint8 [examples, height, width] or [..., channels], in memory or as `.npy`; a text file with one example
            per line; or a folder of image files, one per example in the order of their names.
        flag: what messages call it.
        count: the number of examples that there must be.

    Raises:
        BadInput: in one line, when it cannot be read or has another number of examples.
    """
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if path.is_dir():
            files = sorted(entry for entry in path.iterdir() if entry.is_file() and not entry.name.startswith("."))
            return _checked(files, flag, count, lambda file: ("image", _thumbnail(_opened(file, flag))))
        if path.suffix != ".npy":
            return _checked(text_lines(path, flag), flag, count, lambda line: ("text", line[:MOST]))
        try:
            source = stored.read(path)
        except (FileNotFoundError, ValueError) as error:
            raise BadInput(f"{flag}: expected a .npy of images: {error}") from None
    array = np.asanyarray(source)
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise BadInput(
            f"{flag}: expected uint8 [examples, height, width, channels], found {array.dtype} {list(array.shape)}"
        )
    return _checked(array, flag, count, lambda pixels: ("image", _thumbnail(_image(pixels))))


def small(images: Any) -> np.ndarray:
    """Return images no larger than `SMALL` pixels on a side, uint8 [images, height, width, 1 or 3].

    Args:
        images: uint8 [images, height, width, 1, 3 or 4].
    """
    images = np.asarray(images)
    height, width, channels = images.shape[1:]
    if max(height, width) <= SMALL and channels in (1, 3):
        return images
    scale = min(SMALL / max(height, width), 1.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    resized = [
        np.asarray(_image(pixels[..., :3] if channels > 3 else pixels[..., : 3 if channels == 3 else 1]).resize(size))
        for pixels in images
    ]
    return np.array(resized).reshape(len(images), size[1], size[0], 3 if channels >= 3 else 1)


def _checked(examples: Any, flag: str, count: int, show: Callable[[Any], View]) -> Callable[[int], View]:
    if len(examples) != count:
        raise BadInput(f"{flag}: expected {count} examples, one per row of the teacher, found {len(examples)}")
    return lambda row: show(examples[row])


def _image(pixels: np.ndarray) -> Image.Image:
    pixels = np.asarray(pixels)
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def _opened(file: Path, flag: str) -> Image.Image:
    try:
        image = Image.open(file)
        image.load()
        return image
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"{flag}: {file.name}: expected an image, found: {error}; name a folder of images alone"
        ) from None


def _thumbnail(image: Image.Image) -> str:
    """PNG in base64; small images are magnified without smoothing."""
    image = image.convert("RGB")
    scale = SIDE / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    image = image.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode()
