"""Tiny-ImageNet from the folder that its makers publish, for which TFDS has no builder; or a part of it in the same layout.

    DIR/
      wnids.txt                     a class per line
      train/WNID/images/            WNID_0.JPEG to WNID_499.JPEG
      val/images/                   the test split: the labels of the folder test/ are not public
      val/val_annotations.txt       image, tab, class, tab, a box, per line

Many sort it for other programs: `val/WNID/`, `val/images/WNID/` or `val/WNID/images/` hold the images of a class then, and
`train/WNID/` may hold them directly. That is the same set, in the same order.

"Tiny ImageNet Visual Recognition Challenge" (Le and Yang, CS 231N, 2015).
"""

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from kd_jax.data import cache
from kd_jax.data.arrays import Source
from kd_jax.errors import BadInput

NAME = "tiny_imagenet"
ARCHIVE = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
FOLDER = "tiny-imagenet-200"  # what the archive unpacks to
SIZE = 64  # of an image [pixels]
WHOLE = 200  # classes
PER_CLASS = 500, 50  # images for training and for validation
AGAIN = f"unpack {FOLDER}.zip again, or leave out its class from wnids.txt"


def default_dir(data_dir: str | Path) -> Path:
    """Return `$TINY_IMAGENET_DIR`, else `tiny-imagenet-200` in the folder of all data sets."""
    return Path(os.environ.get("TINY_IMAGENET_DIR") or Path(data_dir) / FOLDER).expanduser()


def find(folder: str | Path) -> Path | None:
    """Return the folder itself if it holds Tiny-ImageNet, else the folder in it that the archive unpacks to, else None."""
    given = Path(folder).expanduser()
    for path in (given, given / FOLDER):
        if all((path / part).exists() for part in ("wnids.txt", "train", "val")):
            return path.resolve()
    return None


def load(folder: str | Path) -> Source:
    """Return Tiny-ImageNet, or the part of it that is there.

    Classes are numbered in the order of wnids.txt, those without training images left out. Training images come by class, then by
    their number; validation images, which are the test split, as they are annotated, or where they were sorted into folders by
    their number, which is the same. Greyscale images become RGB.

    Args:
        folder: as `find` takes it.

    Raises:
        BadInput: when the folder is not one of Tiny-ImageNet, or an image is missing, unlabelled, damaged or not 64x64.
    """
    root = find(folder)
    if root is None:
        raise BadInput(
            f"--tiny_imagenet_dir={folder}: expected a folder with wnids.txt, train and val; unpack {FOLDER}.zip"
            f" ({ARCHIVE}) and name the folder {FOLDER} that is in it"
        )
    return cache.kept(root, _files(root), lambda: _decode(root))


def _files(folder):
    """{path in the folder: size and times} of all that is read; 110,000 files take a second."""
    stats = {"wnids.txt": (folder / "wnids.txt").stat()}
    unseen = [folder / "train", folder / "val"]
    while unseen:
        with os.scandir(unseen.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    unseen.append(entry.path)
                else:
                    stats[os.path.relpath(entry.path, folder)] = entry.stat()
    return stats


def _decode(folder):
    classes, train = _training(folder)
    validation = _validation(folder, classes)
    # A part is another data set with other numbers, and so is a set whose archive was not unpacked completely.
    counts = [len(train), len(validation)]
    name = NAME
    if counts != [len(classes) * count for count in PER_CLASS]:
        name += f"[{len(classes)} classes, {counts[0]} + {counts[1]} images]"
    elif len(classes) != WHOLE:
        name += f"[{len(classes)} classes]"
    return Source(
        name,
        *_read(train, "train"),
        *_read(validation, "validation"),
        len(classes),
        "validation",
        np.array(list(classes)),
    )


def _training(folder):
    """Return {wnid: class} and [(path, class)] of the training images."""
    classes, listed = {}, []
    # Each once, in the order of their first mention.
    for wnid in dict.fromkeys((folder / "wnids.txt").read_text(encoding="utf-8").split()):
        images = folder / "train" / wnid / "images"
        images = images if images.is_dir() else images.parent
        names = os.listdir(images) if images.is_dir() else []
        numbers = sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"{wnid}_(\d+)\.JPEG", name)))
        if numbers:
            classes[wnid] = len(classes)
            listed += [(images / f"{wnid}_{number}.JPEG", classes[wnid]) for number in numbers]
    if len(classes) < 2:
        raise BadInput(
            f"--tiny_imagenet_dir={folder}: expected images train/WNID/images/WNID_0.JPEG and so on of two classes of wnids.txt"
            f" or more, found {len(classes)}; unpack {FOLDER}.zip again"
        )
    return classes, listed


def _validation(folder, classes):
    """Return [(path, class)] of the validation images of these classes."""
    images, annotations = folder / "val" / "images", folder / "val" / "val_annotations.txt"
    if listed := _sorted(folder / "val", classes):
        return listed
    if not (images.is_dir() and annotations.is_file()):
        raise BadInput(f"{folder / 'val'}: expected images and val_annotations.txt, or a folder per class; {AGAIN}")
    labels = {}
    for number, line in enumerate(annotations.read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if not wnid:
            raise BadInput(f"{annotations}: expected an image, a tab and its class in line {number}; {AGAIN}")
        labels[name] = wnid
    there = set(os.listdir(images))
    unlabelled = sorted(name for name in there - labels.keys() if name.endswith(".JPEG") and name[0] != ".")
    if unlabelled:
        raise BadInput(f"{images / unlabelled[0]}: expected a line about it in {annotations.name}; {AGAIN}")
    # A part made by removing folders from train still has every class in val.
    listed = [(images / name, classes[wnid]) for name, wnid in labels.items() if wnid in classes]
    for path, _ in listed:
        if path.name not in there:
            raise BadInput(f"{path}: expected this image, which {annotations.name} names; {AGAIN}")
    if not listed:
        raise BadInput(f"{annotations}: expected images of the {len(classes)} classes in train, found none; {AGAIN}")
    return listed


def _sorted(validation, classes):
    """[(path, class)] of validation images that were sorted into a folder per class, in the order of their numbers as published."""
    found = []
    for wnid, label in classes.items():
        for place in (validation / wnid / "images", validation / wnid, validation / "images" / wnid):
            names = os.listdir(place) if place.is_dir() else []
            found += [
                (int(match[1]), place / name, label)
                for name in names
                if (match := re.fullmatch(r"(?:val|n\d+)_(\d+)\.JPEG", name))
            ]
    return [(path, label) for _, path, label in sorted(found)]


def _read(listed, split):
    x = np.empty((len(listed), SIZE, SIZE, 3), np.uint8)
    for i, (path, _) in enumerate(tqdm(listed, desc=f"decoding {NAME} {split}", unit="image", disable=None)):
        x[i] = _image(path)
    return x, np.array([label for _, label in listed], np.int32)


def _image(path):
    try:
        with Image.open(path) as image:
            if image.size != (SIZE, SIZE):
                width, height = image.size
                raise BadInput(f"{path}: expected an image of {SIZE}x{SIZE} pixels, found {width}x{height}; {AGAIN}")
            return np.asarray(image.convert("RGB"))  # a few are greyscale
    except (UnidentifiedImageError, OSError) as error:
        raise BadInput(f"{path}: expected a whole JPEG image, found: {error}; {AGAIN}") from None
