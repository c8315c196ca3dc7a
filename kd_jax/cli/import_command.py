"""`kd-jax import`: data of one's own becomes a set that every study takes by name."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from kd_jax.data.importing import Imported

NAMED = 5  # classes that are named
REDUCED = {"train_examples": 1000, "test_examples": 500}  # what `--small` asks for
BATCH = 32  # its examples in a batch


def import_data(
    source: tyro.conf.Positional[str],
    name: str,
    data_dir: Path | None = None,
    image_size: int = 0,
    text_column: str = "",
    pair_column: str = "",
    image_column: str = "",
    image_dir: str = "",
    label_column: str = "",
    ignore_columns: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    image_key: str = "",
    label_key: str = "",
    test_share: float = 0.2,
):
    """Turn data of your own into a set that every study takes as --dataset=NAME.

    SOURCE is a folder of images by class (CLASS/IMAGE, or train/CLASS/IMAGE beside test or val), a .npz file or .npy files, a table
    of texts, numbers or names of images (.csv, .tsv, .jsonl, .parquet, or a folder of train and test ones), CIFAR or MNIST as
    published, a prepared TFDS folder of tfrecord files, a folder that Hugging Face's datasets saved, or hf:NAME, or hf:NAME:CONFIG,
    of its Hub.

    Args:
        source: What to import.
        name: What to call it.
        data_dir: Folder of prepared sets to write it to [default: $TFDS_DATA_DIR, else ~/tensorflow_datasets].
        image_size: Cut the largest square out of the centre of each image and resize it to this side, so that studies of small
            images take them [pixels; 0: leave them; images of many sizes are then streamed].
        text_column: Column of the texts of a table [none: its columns are numbers].
        pair_column: Column of the second text, for pairs of texts.
        image_column: Column of the names of image files; they may lack folders in front, and the suffix.
        image_dir: Folder around these images [default: that of the table].
        label_column: Column of the classes, names or numbers.
        ignore_columns: Columns of a table of numbers that are no features.
        columns: Names of all columns, for a .csv or .tsv without a line of names.
        image_key: Name of the array of images or numbers in a .npz [default: x_train, train_images or such].
        label_key: Name of the array of labels in a .npz [default: y_train, train_labels or such].
        test_share: Share of every class that becomes the test set where the source has none; which examples is a fixed rule.
    """
    from kd_jax.data.importing import Options, import_set

    options = Options(
        image_size=image_size,
        image_key=image_key,
        label_key=label_key,
        text_column=text_column,
        pair_column=pair_column,
        image_column=image_column,
        image_dir=image_dir,
        label_column=label_column,
        ignore_columns=ignore_columns,
        columns=columns,
        test_share=test_share,
    )
    found = import_set(source, name, data_dir, options)
    for line in summary(found):
        print(line)
    print(f"next: {next_command(found, data_dir)}")


def summary(found: Imported) -> list[str]:
    """Return lines about a set that was imported."""
    lines = [f"{found.name}: {found.about}"]
    for split, counts in found.counts.items():
        absent = f", {(counts == 0).sum()} classes without any" if (counts == 0).any() else ""
        lines.append(f"  {split}: {counts.sum():,} examples, {counts.min():,} to {counts.max():,} of a class{absent}")
    names = found.class_names
    if names:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        lines.append(f"  {len(names)} classes: {', '.join(names[:NAMED])}{more}")
    lines += [f"  {note}" for note in found.notes]
    return [*lines, f"  in {found.folder}"]


def next_command(found: Imported, data_dir: Path | None) -> str:
    """Return a command that runs a study on a set that was imported."""
    study = {"streamed": "imagenet_kd --recipe=imagenet", "texts": "text_kd", "numbers": "tabular_kd"}.get(
        found.kind, "cifar_kd"
    )
    words = ["kd-jax", "run", *study.split(), "--small", f"--dataset={found.name}"]
    sizes = {f"{split}_examples": int(counts.sum()) for split, counts in found.counts.items()}
    sizes.setdefault("test_examples", sizes.get("validation_examples", 0))
    words += [
        f"--{flag}=0" for flag, asked in REDUCED.items() if 0 < sizes.get(flag, 0) < asked and found.kind != "numbers"
    ]
    if 0 < sizes.get("train_examples", 0) < BATCH:
        words.append(f"--batch_size={sizes['train_examples'] // 2}")
    if data_dir:
        words.append(f"--data_dir={data_dir}")
    return shlex.join(words)
