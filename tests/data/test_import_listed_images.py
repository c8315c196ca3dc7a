"""`kd-jax import` of images that a table lists: which file a name means, which label it gets, and what is refused."""

import csv

import numpy as np
import pytest

from kd_jax.data.importing import Options, import_set
from kd_jax.errors import BadInput
from tests.data.test_importing import examples, picture, refused, save


def table(path, rows, header=("id", "breed")):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def listed(root, names, where="", part="train"):
    """Write images and a table of their names and breeds; return {name: pixels}."""
    made = {name: picture(seed=number) for number, name in enumerate(names)}
    for name, image in made.items():
        save(root / where / f"{name}.png", image)
    rows = [(name, ("collie", "pug")[number % 2]) for number, name in enumerate(names)]
    return made, table(root / f"{part}.csv", rows)


def imported(root, source, **options):
    asked = {"image_column": "id", "label_column": "breed"} | options
    return import_set(source, "mine", root / "sets", Options(**asked))


def refuses(root, source, said, **options):
    return refused(root, source, said, **{"image_column": "id", "label_column": "breed"} | options)


def test_each_row_is_its_own_image_with_its_own_label(tmp_path):
    names = [f"img{number:02d}" for number in np.random.default_rng(0).permutation(20)]
    made, source = listed(tmp_path / "in", names, "pictures/of dogs")
    found = imported(tmp_path, source)
    assert found.class_names == ("collie", "pug")
    assert {split: counts.tolist() for split, counts in found.counts.items()} == {"train": [8, 8], "test": [2, 2]}
    seen = set()
    for split in found.counts:
        for example in examples(found, split):
            file = example["file_name"].decode()
            name = file.removeprefix("pictures/of dogs/").removesuffix(".png")
            np.testing.assert_array_equal(example["image"], made[name])
            assert found.class_names[example["label"]] == ("collie", "pug")[names.index(name) % 2]
            seen.add(name)
    assert seen == set(names)


@pytest.mark.parametrize("name", ["a/1.png", "./a/1.png", "a/1", "in/a/1.png", "1", "1.png", "a\\1.png"])
def test_a_name_is_found_with_and_without_its_folders_and_suffix(tmp_path, name):
    _, _ = listed(tmp_path / "all" / "in" / "a", ["1"])
    _, _ = listed(tmp_path / "all" / "in" / "b", ["2", "3", "4"])
    source = table(tmp_path / "all" / "in.csv", [(name, "pug"), ("2", "pug"), ("3", "pug"), ("4", "collie")])
    found = imported(tmp_path, source)
    files = {example["file_name"].decode() for split in found.counts for example in examples(found, split)}
    assert files == {"in/a/1.png", "in/b/2.png", "in/b/3.png", "in/b/4.png"}


def test_of_two_images_of_one_name_each_part_has_that_of_its_folder(tmp_path):
    root = tmp_path / "in"
    for number, part in enumerate(("train", "test")):
        for name in "1234":
            save(root / part / f"{name}.png", picture(seed=10 * number + int(name)))
        table(root / f"{part}.csv", [(name, "collie" if name in "12" else "pug") for name in "1234"])
    found = imported(tmp_path, root)
    for number, part in enumerate(("train", "test")):
        for example in examples(found, part):
            name = int(example["file_name"].decode().removeprefix(f"{part}/").removesuffix(".png"))
            np.testing.assert_array_equal(example["image"], picture(seed=10 * number + name))
    assert not [note for note in found.notes if "in another" in note]


def test_an_image_of_both_parts_is_said(tmp_path):
    listed(tmp_path / "in", "123456")
    table(tmp_path / "in" / "test.csv", [("1", "collie"), ("4", "pug")])
    assert "2 images are in the training part and in another" in imported(tmp_path, tmp_path / "in").notes


def test_the_folder_of_the_images_may_be_elsewhere(tmp_path):
    _, source = listed(tmp_path / "in", "123456", "../elsewhere")
    refuses(
        tmp_path,
        source,
        r"named as in column id, found none of 6 of 6 rows, the first '1' \(train.csv, line 2\).*--image_dir",
    )
    found = imported(tmp_path, source, image_dir=str(tmp_path / "elsewhere"))
    assert sum(counts.sum() for counts in found.counts.values()) == 6


def test_a_row_without_an_image_is_left_out_and_more_are_refused(tmp_path):
    _, source = listed(tmp_path / "in", "123456")
    (tmp_path / "in" / "3.png").unlink()
    found = imported(tmp_path, source)
    breeds = {
        example["file_name"].decode()[0]: found.class_names[example["label"]]
        for split in found.counts
        for example in examples(found, split)
    }
    assert breeds == {"1": "collie", "2": "pug", "4": "pug", "5": "collie", "6": "pug"}
    assert f"left out 1 rows of the train part whose image is not below {tmp_path / 'in'}" in found.notes
    (tmp_path / "in" / "4.png").unlink()
    with pytest.raises(BadInput, match="none of 2 of 6 rows, the first '3'"):
        import_set(source, "other", tmp_path / "sets", Options(image_column="id", label_column="breed"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [("1", "pug"), ("2", "collie"), ("1.png", "pug")],
            r"line 4: expected each image once, found 1.png in train.csv, line 2 too",
        ),
        ([("", "pug")], "line 2: expected the name of an image in id, found nothing"),
        ([("../1", "pug")], r"line 2: expected names below .*, found \.\./1; pass --image_dir"),
        ([("/1.png", "pug")], "line 2: expected names below .*, found /1.png; pass --image_dir"),
        ([("twice", "pug")], r"line 2: expected one image called twice below .*, found twice.jpg, twice.png"),
        ([("1", "pug"), ("2", "")], "line 3: expected a label in breed, found none"),
    ],
)
def test_rows_that_cannot_be_meant_are_named(tmp_path, rows, said):
    listed(tmp_path / "in", "123456")
    for suffix in ("png", "jpg"):
        save(tmp_path / "in" / f"twice.{suffix}", picture())
    refuses(tmp_path, table(tmp_path / "in" / "train.csv", rows), said)


def test_flags_that_do_not_belong_together_are_refused(tmp_path):
    _, source = listed(tmp_path / "in", "123456")
    refuses(tmp_path, source, "--text_column=breed: expected none for a table of images", text_column="breed")
    refuses(tmp_path, source, "--image_column=file: expected a column of the train part", image_column="file")
    refuses(tmp_path, source, "--image_dir=x: expected --image_column beside it", image_column="", image_dir="x")
    refuses(tmp_path, source, "--image_dir=.*: expected the folder of the images", image_dir=str(tmp_path / "none"))
    table(tmp_path / "in" / "test.csv", [("1",)], ("id",))
    refuses(
        tmp_path,
        tmp_path / "in",
        "column of the test part of .*; add it to that part, or pass the file of the training part",
    )


def test_a_column_of_names_of_images_is_hinted_at(tmp_path):
    source = table(tmp_path / "in.csv", [("1.png", "pug"), ("2.png", "collie")])
    refused(tmp_path, source, "or pass --image_column id if it names images", label_column="breed")
