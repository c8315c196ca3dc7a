"""`kd-jax import` of images and arrays: what comes out, pixel by pixel, and what is refused without leaving anything behind."""

import io
import os

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from kd_jax import data
from kd_jax.config import Data
from kd_jax.data import importing, pixels
from kd_jax.data.arrays import held_out
from kd_jax.data.importing import Options, import_set, pictures
from kd_jax.errors import BadInput

RNG = np.random.default_rng(0)


def picture(height=6, width=5, channels=3, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)
    return x if channels > 1 else x[..., 0]


def save(path, image, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **more)


def folder(root, classes=("ant", "bee"), count=5, **shape):
    """Write PNGs by class; return {class: [pixels]}."""
    made = {name: [picture(seed=100 * i + j, **shape) for j in range(count)] for i, name in enumerate(classes)}
    for name, images in made.items():
        for j, image in enumerate(images):
            save(root / name / f"{j}.png", image)
    return made


def examples(imported, split):
    """The examples of a split as TFDS reads them."""
    source = tensorflow_datasets.builder_from_directory(str(imported.folder)).as_data_source(split)
    return [source[i] for i in range(len(source))]


def stored(imported, split="train"):
    """{file name: bytes of the image as stored}."""
    builder = tensorflow_datasets.builder_from_directory(str(imported.folder))
    source = builder.as_data_source(split, decoders={"image": tensorflow_datasets.decode.SkipDecoding()})
    return {source[i]["file_name"].decode(): source[i]["image"] for i in range(len(source))}


def refused(root, source, said, name="mine", **options):
    """The import is refused in one line, and nothing is left behind."""
    with pytest.raises(BadInput, match=said) as caught:
        import_set(source, name, root / "sets", Options(**options))
    assert "\n" not in str(caught.value)
    assert not list((root / "sets").rglob("*"))
    return str(caught.value)


# ---- folders of images


def test_a_folder_by_class_is_its_pixels_with_a_fifth_of_each_class_held_out(tmp_path):
    made = folder(tmp_path / "in", count=10)
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert {split: counts.tolist() for split, counts in imported.counts.items()} == {"train": [8, 8], "test": [2, 2]}
    assert imported.class_names == ("ant", "bee")
    assert "no test part: 4 examples, 20% of each class" in imported.notes[-1]
    taken = held_out(np.repeat([0, 1], 10))
    seen = {}
    for split in ("train", "test"):
        for example in examples(imported, split):
            seen[example["file_name"].decode()] = split
            name, file = example["file_name"].decode().split("/")
            np.testing.assert_array_equal(example["image"], made[name][int(file[0])])
            assert imported.class_names[example["label"]] == name
    names = [f"{name}/{j}.png" for name in ("ant", "bee") for j in range(10)]
    assert [seen[name] for name in names] == ["test" if held else "train" for held in taken]
    dataset = data.load(Data(dataset="mine"), tmp_path / "sets")
    assert dataset.class_names == ("ant", "bee")
    assert dataset.train.x.shape == (16, 6, 5, 3)
    assert (imported.folder / "label.labels.txt").read_text().split() == ["ant", "bee"]


@pytest.mark.parametrize("names", [("train", "test"), ("Training", "val"), ("train", "valid"), ("train", "dev")])
def test_parts_are_found_by_the_names_people_give_them(tmp_path, names):
    made = {name: folder(tmp_path / "in" / name, count=3, height=2 + i, width=2 + i) for i, name in enumerate(names)}
    for part in made:
        made[part] = folder(tmp_path / "in" / part, count=3)
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert list(imported.counts) == ["train", "test" if names[1] == "test" else "validation"]
    assert [counts.tolist() for counts in imported.counts.values()] == [[3, 3], [3, 3]]
    assert data.load(Data(dataset="mine"), tmp_path / "sets").test_split == list(imported.counts)[1]
    assert not [note for note in imported.notes if "no test part" in note]


def test_a_folder_around_the_folder_of_classes_is_refused_and_that_is_named(tmp_path):
    folder(tmp_path / "in" / "data")
    refused(
        tmp_path, tmp_path / "in", f"expected two folders of classes or more, found data alone; pass {tmp_path}/in/data"
    )
    folder(tmp_path / "parts" / "data" / "train")
    folder(tmp_path / "parts" / "data" / "test")
    refused(tmp_path, tmp_path / "parts", f"found data alone; pass {tmp_path}/parts/data")


def test_a_class_called_train_is_a_class(tmp_path):
    folder(tmp_path / "in", ("car", "plane", "train"))
    assert import_set(tmp_path / "in", "mine", tmp_path / "sets").class_names == ("car", "plane", "train")


def test_classes_that_are_numbers_are_in_the_order_of_their_values_and_so_are_files(tmp_path):
    folder(tmp_path / "in", ("10", "9", "1"), count=12)
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert imported.class_names == ("1", "9", "10")
    names = [example["file_name"].decode() for example in examples(imported, "train")]
    assert names == sorted(names, key=lambda name: [int(part.removesuffix(".png")) for part in name.split("/")])


def test_hidden_files_and_those_that_are_no_images_are_left_out_and_counted_and_folders_go_deep(tmp_path):
    made = folder(tmp_path / "in")
    for path in (".DS_Store", "ant/._0.png", "ant/Thumbs.db", "ant/notes.txt", "bee/notes.txt", "bee/raw"):
        (tmp_path / "in" / path).write_bytes(b"x")
    (tmp_path / "in" / "__MACOSX").mkdir()
    save(tmp_path / "in" / "ant" / "deep" / "er" / "0.png", made["ant"][0])
    (tmp_path / "in" / "bee" / "loop").symlink_to(tmp_path / "in" / "bee")
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert sum(counts.sum() for counts in imported.counts.values()) == 11
    assert "left out 5 files that are hidden or no images (hidden, .txt and 1 more)" in imported.notes[0] or (
        "left out 5 files that are hidden or no images (" in imported.notes[0]
    )


def test_a_part_without_classes_is_left_out_and_said(tmp_path):
    folder(tmp_path / "in" / "train")
    save(tmp_path / "in" / "test" / "0.png", picture())
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert imported.notes[0] == "left out test: it has no folders of classes, so no labels"
    assert imported.counts["test"].tolist() == [1, 1]


def test_names_that_are_not_in_utf8_are_shown_as_far_as_they_can_be(tmp_path):
    folder(tmp_path / "in")
    odd = os.fsencode(tmp_path / "in") + b"/caf\xe9"
    os.rename(os.fsencode(tmp_path / "in" / "ant"), odd)
    os.rename(odd + b"/0.png", odd + b"/\xff.png")
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert imported.class_names == ("bee", "caf\ufffd")
    assert "caf\ufffd/\ufffd.png" in stored(imported) | stored(imported, "test")


def test_images_are_read_a_few_ahead_and_no_more():
    asked = []
    items = pictures._ahead(lambda row: asked.append(row) or row * row, np.arange(1000))
    for row in range(5):
        assert next(items) == (row, row * row)
    assert len(asked) <= 4 * pictures.THREADS + 5
    items.close()


# ---- pixels


def turned(image, orientation):
    """What an image of an EXIF orientation is to be seen as, by the table of the standard (0th row, 0th column)."""
    return {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.swapaxes(0, 1),
        6: image.swapaxes(0, 1)[:, ::-1],
        7: image[::-1, ::-1].swapaxes(0, 1),
        8: image.swapaxes(0, 1)[::-1],
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "jpeg"])
def test_an_image_is_turned_as_exif_says(orientation, kind):
    image = np.kron(picture(2, 3, seed=1), np.ones((16, 16, 1), np.uint8))  # of blocks, which a JPEG keeps
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    more = {"png": {}, "webp": {"lossless": True}, "tiff": {}, "jpeg": {"quality": 100, "subsampling": 0}}[kind]
    Image.fromarray(image).save(stream, kind, exif=exif, **more)
    head = pixels.head(io.BytesIO(stream.getvalue()))
    expected = turned(image, orientation)
    assert (head.height, head.width) == expected.shape[:2]
    assert head.turned == (orientation != 1 and kind != "tiff")  # Pillow turns that by itself
    assert head.plain == (orientation == 1 and kind in ("png", "jpeg"))
    found = pixels.pixels(io.BytesIO(stream.getvalue()), 3).astype(int)
    assert abs(found - expected).max() <= (8 if kind == "jpeg" else 0)


def encoded(image, kind="png", **more):
    stream = io.BytesIO()
    image.save(stream, kind, **more)
    return stream.getvalue()


def odd_images():
    """{name: (bytes, expected pixels as float [height, width, 3], plain, grey)}."""
    rgb, grey, alpha = picture(seed=1), picture(channels=1, seed=2), picture(channels=1, seed=3)
    share = alpha[..., None] / 255
    three = np.repeat(grey[..., None], 3, 2)
    deep = np.random.default_rng(4).integers(0, 65536, (6, 5)).astype(np.uint16)
    deep.flat[:3] = 0, 65535, 128 * 257
    indices = picture(channels=1, seed=5) % 4
    colours = np.random.default_rng(6).integers(0, 256, (4, 3)).astype(np.uint8)
    palette = Image.fromarray(indices, "P")
    palette.putpalette(colours.ravel().tolist())
    clear = palette.copy()
    clear.info["transparency"] = 2
    cmyk = picture(channels=4, seed=7)
    bits = (grey > 127).astype(np.uint8) * 255
    white = np.where(indices[..., None] == 2, 255, colours[indices])
    inks = cmyk.astype(float)
    return {
        "grey": (encoded(Image.fromarray(grey)), three, True, True),
        "bmp": (encoded(Image.fromarray(rgb), "bmp"), rgb, False, False),
        "webp": (encoded(Image.fromarray(rgb), "webp", lossless=True), rgb, False, False),
        "rgba": (encoded(Image.fromarray(np.dstack([rgb, alpha]))), rgb * share + 255 * (1 - share), False, False),
        "la": (encoded(Image.fromarray(np.dstack([grey, alpha]))), three * share + 255 * (1 - share), False, True),
        "16 bits": (encoded(Image.fromarray(deep)), np.repeat(deep[..., None] / 257, 3, 2), False, True),
        "16 bits tiff": (encoded(Image.fromarray(deep), "tiff"), np.repeat(deep[..., None] / 257, 3, 2), False, True),
        "palette": (encoded(palette), colours[indices], True, False),
        "clear palette": (encoded(clear), white, False, False),
        "gif": (encoded(palette, "gif"), colours[indices], False, False),
        "cmyk": (
            encoded(Image.fromarray(cmyk, "CMYK"), "tiff"),
            (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255,
            False,
            False,
        ),
        "1 bit": (encoded(Image.fromarray(bits).convert("1")), np.repeat(bits[..., None], 3, 2), True, True),
    }


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize("name", odd_images())
def test_odd_images_become_the_colours_they_show(name):
    file, expected, plain, grey = odd_images()[name]
    head = pixels.head(io.BytesIO(file))
    assert (head.plain, head.grey) == (plain, grey)
    most = 0.5 if name.startswith("16") else 1.0  # rounded once, or by Pillow in between
    assert abs(pixels.pixels(io.BytesIO(file), 3).astype(float) - expected).max() <= most
    if grey:
        assert abs(pixels.pixels(io.BytesIO(file), 1)[..., 0].astype(float) - expected[..., 0]).max() <= 1


def test_grey_images_have_one_channel_and_one_colour_image_makes_them_all_three(tmp_path):
    made = folder(tmp_path / "grey", channels=1)
    imported = import_set(tmp_path / "grey", "grey", tmp_path / "sets")
    assert data.load(Data(dataset="grey"), tmp_path / "sets").train.x.shape[1:] == (6, 5, 1)
    assert imported.about == "5x6 grey"
    folder(tmp_path / "both", channels=1)
    save(tmp_path / "both" / "ant" / "0.png", picture())
    imported = import_set(tmp_path / "both", "both", tmp_path / "sets", Options(test_share=0.1))
    (other,) = (example["image"] for example in examples(imported, "train") if example["file_name"] == b"bee/4.png")
    np.testing.assert_array_equal(other, np.repeat(made["bee"][4][..., None], 3, 2))


def test_images_of_many_sizes_are_streamed_and_keep_their_bytes_where_every_reader_takes_them(tmp_path):
    root = tmp_path / "in"
    for j in range(5):
        save(root / "ant" / f"{j}.jpg", picture(20 + j, 30), quality=80)
        save(root / "bee" / f"{j}.jpg", picture(30, 20 + j), quality=80)
    deep = (np.arange(400).reshape(20, 20) * 160).astype(np.uint16)
    save(root / "bee" / "deep.png", deep)
    save(root / "bee" / "grey.png", picture(9, 9, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "bee" / "turned.jpg", np.kron(picture(2, 3), np.ones((16, 16, 1), np.uint8)), exif=exif, quality=100)
    imported = import_set(root, "mine", tmp_path / "sets")
    assert imported.kind == "streamed"
    assert "20 to 32 wide" not in imported.about
    assert imported.about.startswith("colour, of ")
    files = stored(imported) | stored(imported, "test")
    assert len(files) == 13
    for name in ("ant/1.jpg", "bee/4.jpg", "bee/grey.png"):
        assert files[name] == (root / name).read_bytes()
    np.testing.assert_array_equal(
        np.asarray(Image.open(io.BytesIO(files["bee/deep.png"]))), np.repeat((deep / 257).round()[..., None], 3, 2)
    )
    assert Image.open(io.BytesIO(files["bee/turned.jpg"])).size == (32, 48)
    assert {"1 images of 16 bits became 8", "1 images turned as EXIF says"} <= set(imported.notes)
    dataset = data.load(Data(dataset="mine", image_size=8), tmp_path / "sets")
    assert dataset.train.x[:2].shape == (2, 8, 8, 3)
    assert dataset.class_names == ("ant", "bee")


def test_images_of_one_size_that_would_not_fit_in_memory_are_streamed(tmp_path, monkeypatch):
    folder(tmp_path / "in")
    monkeypatch.setattr(pictures, "IN_MEMORY", 10 * 6 * 5 * 3 - 1)
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert (imported.kind, imported.about) == (
        "streamed",
        "5x6 colour, too large to lie in memory, so they are streamed",
    )


def test_image_size_cuts_the_centre_and_resizes(tmp_path):
    root = tmp_path / "in"
    flat = np.full((30, 60, 3), 7, np.uint8)
    flat[:, 15:45] = 200  # the largest square in the centre
    for j in range(3):
        save(root / "ant" / f"{j}.png", flat)
        save(root / "bee" / f"{j}.png", flat.swapaxes(0, 1))
    imported = import_set(root, "mine", tmp_path / "sets", Options(image_size=8))
    assert (imported.kind, imported.about) == ("images", "8x8 colour")
    for example in examples(imported, "train"):
        assert example["image"].shape == (8, 8, 3)
        assert (example["image"] == 200).all()
    assert any(note.startswith("images brought to 8x8") for note in imported.notes)


# ---- what cannot be read


def test_an_unreadable_file_is_left_out_and_named(tmp_path):
    folder(tmp_path / "in", count=60, height=30, width=30)
    whole = (tmp_path / "in" / "ant" / "3.png").read_bytes()
    (tmp_path / "in" / "ant" / "3.png").write_bytes(whole[: len(whole) // 2])  # a whole head, half the pixels
    imported = import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert sum(counts.sum() for counts in imported.counts.values()) == 119
    assert "left out 1 unreadable images: ant/3.png (" in imported.notes[-1]
    assert "ant/3.png" not in stored(imported) | stored(imported, "test")
    (tmp_path / "in" / "bee" / "7.png").write_bytes(b"")  # no head
    said = refused(tmp_path / "more", tmp_path / "in", "expected at most 1% unreadable images, found 2 of 120")
    assert "ant/3.png (" in said
    assert "bee/7.png (no image)" in said


def test_a_class_of_which_no_training_image_can_be_read_is_refused(tmp_path):
    folder(tmp_path / "in" / "train", count=40, height=30, width=30)
    folder(tmp_path / "in" / "test", count=40, height=30, width=30)
    for path in (tmp_path / "in" / "train" / "bee").iterdir():
        if path.name != "0.png":
            path.unlink()
    path = tmp_path / "in" / "train" / "bee" / "0.png"
    path.write_bytes(path.read_bytes()[:-300])
    refused(
        tmp_path, tmp_path / "in", "expected training examples of every class, found none of 'bee' that can be read"
    )


def test_two_images_of_one_name_in_a_class_are_refused_and_in_two_parts_are_not(tmp_path):
    folder(tmp_path / "in")
    save(tmp_path / "in" / "ant" / "0.jpg", picture())
    said = refused(tmp_path, tmp_path / "in", r"expected one image of a name in a class")
    assert "0.jpg" in said
    assert "0.png" in said


def test_folders_that_are_no_set_are_refused(tmp_path):
    refused(tmp_path, tmp_path / "absent", "found no such file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path, tmp_path / "empty", "expected a folder per class with images")
    folder(tmp_path / "one", ("ant",))
    refused(tmp_path, tmp_path / "one", "expected two classes or more, found ant")
    folder(tmp_path / "no_train" / "train")
    folder(tmp_path / "no_train" / "test", ("ant", "bee", "cat"))
    refused(tmp_path, tmp_path / "no_train", "expected training examples of every class, found none of 'cat'")
    folder(tmp_path / "hollow")
    (tmp_path / "hollow" / "cat").mkdir()
    refused(tmp_path, tmp_path / "hollow", "expected training examples of every class, found none of 'cat'")
    folder(tmp_path / "mixed" / "train")
    folder(tmp_path / "mixed" / "holiday")
    refused(tmp_path, tmp_path / "mixed", "expected parts named train, .* found also holiday")
    (tmp_path / "file.docx").write_text("x")
    refused(tmp_path, tmp_path / "file.docx", "found a file named file.docx")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text_column": "a"}, "--text_column=a: expected none for a folder of images"),
        ({"columns": ("a", "b")}, "--columns=a b: expected none for a folder of images"),
        ({"image_size": 1}, "--image_size=1: expected 0 .* or at least 2"),
        ({"test_share": 1.0}, "--test_share=1.0: expected a share above 0 and below 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, said):
    folder(tmp_path / "in")
    refused(tmp_path, tmp_path / "in", said, **options)


def written(folder):
    """Who each file is and when it was last written; a time of access, which reading changes, is not part of it."""
    stats = ((path, path.stat()) for path in folder.rglob("*"))
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats}


def test_names_that_are_taken_or_hide_another_set_are_refused(tmp_path):
    folder(tmp_path / "in")
    refused(tmp_path, tmp_path / "in", r"--name=a/b: expected letters, digits", name="a/b")
    refused(tmp_path, tmp_path / "in", r"--name=\.\.: expected letters", name="..")
    refused(tmp_path, tmp_path / "in", r"--name=digits: .* a set of kd_jax's own; pass --name=my_digits", name="digits")
    refused(tmp_path, tmp_path / "in", r"--name=cifar10: .* would hide the set cifar10 of TFDS", name="cifar10")
    import_set(tmp_path / "in", "mine", tmp_path / "sets")
    before = written(tmp_path / "sets")
    with pytest.raises(BadInput, match=r"--name=mine: expected a name that is free, found a set in .*mine/1\.0\.0"):
        import_set(tmp_path / "in", "mine", tmp_path / "sets")
    assert written(tmp_path / "sets") == before


def test_our_own_names_are_all_refused():
    assert {*data.EMBEDDED, "tiny_imagenet"} == set(importing.OURS)
