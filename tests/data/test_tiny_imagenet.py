"""Tiny-ImageNet from its own folder: a tiny one written here, and the real part where there is one."""

import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_jax import data
from kd_jax.config import BadInput, Data
from kd_jax.data import tiny_imagenet

WNIDS = ("n03", "n01", "n02")  # not in the alphabet's order
PLACES = (
    os.environ.get("TINY_IMAGENET_DIR"),
    Path(__file__).parents[3] / "shared" / "tiny-imagenet-20",  # beside the repository
)
NUMBERS = (0, 2, 10, 100)  # as strings they are in another order


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TINY_IMAGENET_DIR", raising=False)


def write_image(path, level, mode="RGB", size=(64, 64)):
    """Write an image of one level, which JPEG keeps within rounding."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (level, 255 - level, 7) if mode == "RGB" else level).save(path, "jpeg")


def annotate(folder, rows):
    lines = [f"{name}\t{wnid}\t0\t1\t62\t63\n" for name, wnid in rows]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))


@pytest.fixture
def folder(tmp_path):
    """Three classes of four training images, and three for validation; the red level says which: 50 x class + number / 4."""
    folder = tmp_path / "tiny-imagenet-200"
    for label, wnid in enumerate(WNIDS):
        for number in reversed(NUMBERS):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", 50 * label + number // 4)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
    rows = [("val_10.JPEG", "n01"), ("val_9.JPEG", "n03"), ("val_0.JPEG", "n02")]
    for level, (name, _) in enumerate(rows):
        write_image(folder / "val" / "images" / name, 100 + 20 * level)
    annotate(folder, rows)
    write_image(folder / "test" / "images" / "test_0.JPEG", 1)
    # n04 was left out of this part, but not out of the list.
    (folder / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in (WNIDS[0], "n04", *WNIDS[1:])))
    (folder / "words.txt").write_text("n01\tfish\n")
    return folder


def _by_class(folder, place):
    """Sort the validation images into a folder per class, as many do for other programs."""
    lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
    for name, wnid, *_ in (line.split("\t") for line in lines):
        target = folder / "val" / place.format(wnid) / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "val" / "images" / name).rename(target)


@pytest.mark.parametrize("place", ["{}", "{}/images", "images/{}"])
@pytest.mark.parametrize("keeps_annotations", [True, False])
def test_validation_images_in_a_folder_per_class_are_the_same_set(folder, place, keeps_annotations):
    annotate(
        folder, rows := [("val_0.JPEG", "n02"), ("val_9.JPEG", "n03"), ("val_10.JPEG", "n01")]
    )  # in the published order
    whole = data.load(Data(dataset="tiny_imagenet"), folder)
    _by_class(folder, place)
    if not keeps_annotations:
        (folder / "val" / "val_annotations.txt").unlink()
    assert tiny_imagenet.find(folder) == folder.resolve()
    found = data.load(Data(dataset="tiny_imagenet"), folder)
    np.testing.assert_array_equal(found.test.y, whole.test.y)
    np.testing.assert_array_equal(found.test.y, [[*WNIDS].index(wnid) for _, wnid in rows])
    assert found.fingerprint == whole.fingerprint


def test_training_images_may_lie_in_the_folders_of_their_classes(folder):
    whole = data.load(Data(dataset="tiny_imagenet"), folder)
    for images in sorted((folder / "train").glob("*/images")):
        for path in images.iterdir():
            path.rename(images.parent / path.name)
        images.rmdir()
    assert data.load(Data(dataset="tiny_imagenet"), folder).fingerprint == whole.fingerprint


def test_neither_annotations_nor_folders_of_classes_are_told(folder):
    (folder / "val" / "val_annotations.txt").unlink()
    with pytest.raises(BadInput, match=r"val: expected images and val_annotations.txt, or a folder per class"):
        data.load(Data(dataset="tiny_imagenet"), folder)


def reds(x):
    return np.rint(x[..., 0].mean((1, 2))).astype(int).tolist()


def refused(call, *words):
    with pytest.raises(BadInput) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    for word in words:
        assert word in message, message


# ---- what is read


def test_images_come_by_class_then_number_and_classes_in_the_order_of_the_list(folder):
    source = tiny_imagenet.load(folder)
    assert source.train_y.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    expected = [50 * label + number // 4 for label in range(3) for number in NUMBERS]
    np.testing.assert_allclose(reds(source.train_x), expected, atol=1)
    assert (source.classes, source.test_split) == (3, "validation")
    assert source.train_x.dtype == source.test_x.dtype == np.uint8
    assert source.train_y.dtype == source.test_y.dtype == np.int32


def test_validation_images_come_as_they_are_annotated(folder):
    source = tiny_imagenet.load(folder)
    assert source.test_y.tolist() == [1, 0, 2]
    np.testing.assert_allclose(reds(source.test_x), [100, 120, 140], atol=1)


def test_the_order_does_not_depend_on_the_file_system(folder, monkeypatch):
    before = tiny_imagenet.load(folder)
    folder.chmod(0o555)
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(real(path), reverse=True))
    monkeypatch.setattr(tiny_imagenet.cache, "kept", lambda folder, files, decode: decode())
    for one, other in zip(tiny_imagenet.load(folder), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_greyscale_image_has_three_equal_channels(folder):
    write_image(folder / "train" / "n01" / "images" / "n01_2.JPEG", 77, mode="L")
    image = tiny_imagenet.load(folder).train_x[5]
    assert image.shape == (64, 64, 3)
    assert (image == image[..., :1]).all()
    np.testing.assert_allclose(image, 77, atol=1)


def test_a_part_is_called_a_part(folder, monkeypatch):
    assert tiny_imagenet.load(folder).name == "tiny_imagenet[3 classes, 12 + 3 images]"
    monkeypatch.setattr(tiny_imagenet, "PER_CLASS", (4, 1))
    folder.joinpath("wnids.txt").touch()
    os.utime(folder / "wnids.txt", ns=(1, 1))
    assert tiny_imagenet.load(folder).name == "tiny_imagenet[3 classes]"
    monkeypatch.setattr(tiny_imagenet, "WHOLE", 3)
    os.utime(folder / "wnids.txt", ns=(2, 2))
    assert tiny_imagenet.load(folder).name == "tiny_imagenet"


def test_validation_images_of_classes_that_were_left_out_are_left_out(folder):
    (folder / "wnids.txt").write_text("n02\nn01\n")
    source = tiny_imagenet.load(folder)
    assert (source.classes, source.test_y.tolist()) == (2, [1, 0])
    np.testing.assert_allclose(reds(source.test_x), [100, 140], atol=1)


def test_what_a_file_manager_leaves_behind_is_not_an_image(folder):
    images = folder / "train" / "n01" / "images"
    for path in (images / "._n01_0.JPEG", images / ".DS_Store", folder / "val" / "images" / "._val_0.JPEG"):
        path.write_bytes(b"not an image")
    assert len(tiny_imagenet.load(folder).train_y) == 12


# ---- the decoded copy


def test_it_is_decoded_once_and_anew_when_a_file_changes_or_is_added(folder, monkeypatch):
    decoded = []
    real = tiny_imagenet._decode
    monkeypatch.setattr(tiny_imagenet, "_decode", lambda folder: decoded.append(1) or real(folder))
    before = tiny_imagenet.load(folder)
    again = tiny_imagenet.load(folder)
    assert len(decoded) == 1
    assert not list(folder.glob("kd_jax-*"))
    for one, other in zip(again, before, strict=True):
        np.testing.assert_array_equal(one, other)
    changed = folder / "train" / "n01" / "images" / "n01_10.JPEG"
    write_image(changed, 200)
    os.utime(changed, ns=(1, 1))  # coarse clocks: be sure that the time differs
    np.testing.assert_allclose(reds(tiny_imagenet.load(folder).train_x)[6], 200, atol=1)
    write_image(folder / "train" / "n01" / "images" / "n01_11.JPEG", 90)
    assert len(tiny_imagenet.load(folder).train_y) == 13
    assert len(decoded) == 3


def test_a_read_only_folder_stays_as_it_is(folder, tmp_path):
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    tiny_imagenet.load(folder)
    assert sorted(folder.iterdir()) == before
    assert len(list((tmp_path / "cache").glob("*.npz"))) == 1


# ---- where it is looked for


def test_the_folder_is_the_flags_then_the_environments_then_that_of_all_data(folder, tmp_path, monkeypatch):
    assert data.folder_of("tiny_imagenet", tmp_path) == folder
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert data.folder_of("tiny_imagenet") == folder
    monkeypatch.setenv("TINY_IMAGENET_DIR", "/elsewhere")
    assert data.folder_of("tiny_imagenet", tmp_path) == Path("/elsewhere")
    assert data.folder_of("tiny_imagenet", tmp_path, "flag") == "flag"
    assert data.folder_of("cifar10", None, "flag") == tmp_path


def test_the_folder_around_it_will_do(folder, tmp_path):
    assert tiny_imagenet.find(folder) == tiny_imagenet.find(tmp_path) == folder
    assert tiny_imagenet.find(tmp_path / "cache") is None


def test_a_study_of_it_is_a_study_of_its_images(folder):
    asked = Data(dataset="tiny_imagenet")
    dataset = data.load(asked, folder)
    assert dataset.train.x.shape == (12, 64, 64, 3)
    assert dataset.test_split == "validation"
    assert data.load(replace(asked, train_examples=5), folder).train.x.shape == (5, 64, 64, 3)


# ---- what cannot be read


def test_an_absent_or_another_folder_is_refused_with_what_to_unpack(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        refused(
            lambda path=path: tiny_imagenet.load(path), f"--tiny_imagenet_dir={path}", "tiny-imagenet-200.zip", "unpack"
        )


def test_a_folder_without_images_is_refused(folder):
    (folder / "wnids.txt").write_text("n09\n")
    refused(lambda: tiny_imagenet.load(folder), str(folder), "found 0")


def test_an_image_of_another_size_is_named(folder):
    path = folder / "train" / "n02" / "images" / "n02_10.JPEG"
    write_image(path, 9, size=(64, 32))
    refused(lambda: tiny_imagenet.load(folder), str(path), "64x64", "found 64x32")
    assert not list(folder.glob("kd_jax-*"))


@pytest.mark.parametrize("cut", [0, 300])
def test_a_damaged_image_is_named(folder, cut):
    path = folder / "train" / "n02" / "images" / "n02_10.JPEG"
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(stream, "jpeg")
    path.write_bytes(stream.getvalue()[: len(stream.getvalue()) - cut] if cut else b"")
    refused(lambda: tiny_imagenet.load(folder), str(path), "whole JPEG")


def test_a_validation_image_without_an_annotation_is_named(folder):
    annotate(folder, [("val_10.JPEG", "n01"), ("val_9.JPEG", "n03")])
    refused(lambda: tiny_imagenet.load(folder), "val_0.JPEG", "val_annotations.txt")


def test_an_annotation_without_an_image_is_named(folder):
    (folder / "val" / "images" / "val_9.JPEG").unlink()
    refused(lambda: tiny_imagenet.load(folder), str(folder / "val" / "images" / "val_9.JPEG"))


def test_a_line_that_is_no_annotation_is_named(folder):
    (folder / "val" / "val_annotations.txt").write_text("val_10.JPEG\tn01\t0\t0\t9\t9\nval_9.JPEG n03\n")
    refused(lambda: tiny_imagenet.load(folder), "line 2")


def test_annotations_of_other_classes_alone_are_refused(folder):
    annotate(folder, [(f"val_{number}.JPEG", "n09") for number in (0, 9, 10)])
    refused(lambda: tiny_imagenet.load(folder), "3 classes", "found none")


# ---- real data


@pytest.mark.slow
def test_the_real_part_reads_as_its_files_say():
    folder = next((found for place in PLACES if place and (found := tiny_imagenet.find(place))), None)
    if folder is None:
        pytest.skip("no part of Tiny-ImageNet on this machine")
    wnids = (folder / "wnids.txt").read_text().split()
    if len(wnids) != 20:
        pytest.skip("another part than that of the first 20 classes")
    source = tiny_imagenet._decode(folder)
    assert (source.name, source.classes, source.test_split) == ("tiny_imagenet[20 classes]", 20, "validation")
    assert source.train_x.shape == (10_000, 64, 64, 3)
    assert source.test_x.shape == (1_000, 64, 64, 3)
    assert np.bincount(source.train_y).tolist() == [500] * 20
    assert np.bincount(source.test_y).tolist() == [50] * 20
    # Straight from the files, each split's every 97th, and all that are greyscale.
    paths = [folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG" for wnid in wnids for number in range(500)]
    lines = (folder / "val" / "val_annotations.txt").read_text().splitlines()
    paths += [folder / "val" / "images" / line.split("\t")[0] for line in lines]
    assert [wnids[label] for label in source.test_y] == [line.split("\t")[1] for line in lines]
    greyscale = 0
    for i, (path, found) in enumerate(zip(paths, [*source.train_x, *source.test_x], strict=True)):
        with Image.open(path) as image:
            if image.mode == "L":
                greyscale += 1
                np.testing.assert_array_equal(found, np.repeat(np.asarray(image)[..., None], 3, axis=2))
            elif i % 97 == 0:
                np.testing.assert_array_equal(found, np.asarray(image))
    assert greyscale == 153
