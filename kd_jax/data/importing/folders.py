"""A folder of images by class: CLASS/IMAGE, or PART/CLASS/IMAGE with parts such as train, test and val."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from kd_jax.data.importing.contents import PARTS, Contents, Options, check_trained, listed
from kd_jax.data.importing.pictures import Pictures, contents
from kd_jax.errors import BadInput

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".gif",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)
JUNK = ("thumbs.db", "desktop.ini", "__macosx")


def read(folder: Path, options: Options) -> Contents:
    """Return the images of a folder; classes are sub-folders, in which images may lie at any depth.

    Hidden files, and files that are no images by their name, are left out and counted.

    Raises:
        BadInput: when there are none, two images of a class have one name, or a class has no training images.
    """
    options.only("a folder of images", "image_size")
    parts, notes = _parts(folder)
    ignored: Counter[str] = Counter()
    by_part = {
        part: {shown(path.name): _of_class(path, ignored) for path in classes} for part, classes in parts.items()
    }
    for part, of_class in by_part.items():
        by_part[part] = {name: images for name, images in of_class.items() if images or part == "train"}
    names = _sorted(set().union(*by_part.values()))
    if not any(images for of_class in by_part.values() for images in of_class.values()):
        raise BadInput(
            f"{folder}: expected a folder per class with images ({', '.join(SUFFIXES[:5])}, ...), found none; pass the"
            " folder around the classes, or around train and test"
        )
    number = {name: i for i, name in enumerate(names)}
    files, labels = {}, {}
    for part, of_class in by_part.items():
        found = [(path, number[name]) for name in names for path in of_class.get(name, [])]
        files[part] = [path for path, _ in found]
        labels[part] = np.array([label for _, label in found], np.int32)
    if len(names) == 1 and len(_folders(inner := parts["train"][0])) > 1:
        raise BadInput(f"{folder}: expected two folders of classes or more, found {names[0]} alone; pass {inner}")
    check_trained(labels["train"], names, str(folder))
    if ignored:
        kinds = listed([kind for kind, _ in ignored.most_common()])
        notes.append(f"left out {sum(ignored.values()):,} files that are hidden or no images ({kinds})")
    pictures = Pictures(
        {part: [shown(path.relative_to(folder)) for path in paths] for part, paths in files.items()},
        labels,
        names,
        lambda part, row: files[part][row].open("rb"),
    )
    return contents(pictures, options, notes)


def _parts(folder):
    """({part: folders of classes}, notes). A folder `train` with folders in it is a part, else all folders are classes."""
    folders = _folders(folder)
    named = {path: PARTS.get(path.name.lower()) for path in folders}
    train = [path for path, part in named.items() if part == "train"]
    if not (train and _folders(train[0])):
        return {"train": folders}, []
    others = [path.name for path, part in named.items() if part is None]
    if others:
        raise BadInput(
            f"{folder}: expected parts named {', '.join(PARTS)} beside {train[0].name}, found also {listed(others)}; move it"
            " elsewhere"
        )
    parts, notes = {}, []
    for path, part in named.items():
        if part in parts:
            raise BadInput(f"{path}: expected one folder of the {part} part, found two; join them")
        classes = _folders(path)
        if classes:
            parts[part] = classes
        else:
            notes.append(f"left out {path.name}: it has no folders of classes, so no labels")
    return {"train": parts.pop("train"), **parts}, notes


def shown(path: Path) -> str:
    """Return a name in UTF-8; file systems hold any bytes."""
    return os.fsencode(path).decode(errors="replace")


def _folders(folder):
    return sorted(path for path in folder.iterdir() if path.is_dir() and not _is_hidden(path.name))


def _is_hidden(name):
    return name.startswith((".", "._")) or name.lower() in JUNK


def images(folder: Path, ignored: Counter[str] | None = None) -> list[Path]:
    """Return the images below a folder, by their suffixes, at any depth, in the order of their names, numbers by value.

    Args:
        folder: the folder.
        ignored: counts what is left out, {kind of file: how many}.
    """
    ignored = Counter() if ignored is None else ignored
    found, seen = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder around it
            folders[:] = []
            continue
        seen.add(real)
        for name in files:
            suffix = os.path.splitext(name)[1].lower()
            if _is_hidden(name):
                ignored["hidden"] += 1
            elif suffix not in SUFFIXES:
                ignored[suffix or "no suffix"] += 1
            else:
                found.append(Path(place, name))
    return sorted(found, key=lambda path: [_natural(part) for part in path.relative_to(folder).parts])


def _of_class(folder, ignored):
    """The images of a class, each of another name; others are counted in `ignored`."""
    found = images(folder, ignored)
    names: dict[Path, Path] = {}
    for path in found:
        other = names.setdefault(path.with_suffix(""), path)
        if other is not path:
            raise BadInput(
                f"{path}: expected one image of a name in a class, found also {other.name} beside it; rename or remove one of them"
            )
    return found


def _natural(name):
    """A key by which 2.png comes before 10.png."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"([0-9]+)", name)]


def _sorted(names):
    """Names in order, those of whole numbers by value."""
    if all(name.isascii() and name.isdigit() for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)
