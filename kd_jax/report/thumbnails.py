"""Single examples on a page: thumbnails, all of them as one picture, or texts."""

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

PNG_BYTES = 400_000  # beyond which a picture of thumbnails is a JPEG
JPEG_QUALITY = 80
DARK = 128  # images without a pixel brighter than this are brightened
CARD = 96  # side of a thumbnail that stands alone, in pixels


def views(ids: np.ndarray, shown: np.ndarray) -> "Views":
    """Return the `Views` of examples; dark images, such as those of 16 shades of grey, are brightened, all by the same factor."""
    if shown.dtype == np.uint8 and 0 < shown.max() < DARK:
        shown = shown * np.uint8(255 // shown.max())
    return Views(ids, shown)


class Views(NamedTuple):
    """What is shown of some examples of a split.

    Attributes:
        ids: which examples, int [examples], rising.
        shown: thumbnails, uint8 [examples, height, width, 1 or 3], or texts, str [examples].
    """

    ids: np.ndarray
    shown: np.ndarray

    @property
    def are_images(self) -> bool:
        """Whether they are thumbnails."""
        return self.shown.dtype == np.uint8

    def position(self, ids: np.ndarray) -> np.ndarray:
        """Return the positions of examples in `shown`, int [ids]; -1 for those that it lacks."""
        place = np.searchsorted(self.ids, ids).clip(0, len(self.ids) - 1)
        return np.where(self.ids[place] == ids, place, -1)

    def chosen(self, ids: np.ndarray) -> "Views":
        """Return the views of those of some examples that are here."""
        there = np.isin(self.ids, ids)
        return Views(self.ids[there], self.shown[there])

    def card(self, id_: int) -> tuple[str, str] | None:
        """Return ("image", PNG in base64) or ("text", text) of an example; None where it is not here."""
        at = int(self.position(np.array([id_]))[0])
        if at < 0:
            return None
        if not self.are_images:
            return "text", str(self.shown[at])
        image = _image(self.shown[at])
        scale = max(CARD // max(image.size), 1)
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
        return "image", base64.b64encode(_saved(image, "png")).decode()


def sheet(views: Views) -> dict[str, Any]:
    """Return the set of views of a chart: all thumbnails as one picture in rows, or texts. `charts` says how it is used."""
    if not views.are_images:
        return {"texts": views.shown.tolist()}
    count, height, width, channels = views.shown.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    tiles = np.zeros((rows * columns, height, width, channels), np.uint8)
    tiles[:count] = views.shown
    whole = tiles.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    image = _image(whole.reshape(rows * height, columns * width, channels))
    kind, saved = "png", _saved(image, "png", optimize=True)
    if len(saved) > PNG_BYTES:
        kind, saved = "jpeg", _saved(image, "jpeg", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    address = f"data:image/{kind};base64,{base64.b64encode(saved).decode()}"
    return {"sprite": address, "width": width, "height": height, "columns": columns}


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
