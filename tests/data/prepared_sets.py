"""Tiny prepared TFDS sets, written without TensorFlow, and how one that cannot be read is refused."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from kd_jax.config import BadInput
from kd_jax.data import tfds

features = tensorflow_datasets.features


def png(image):
    stream = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(stream, "png")
    return stream.getvalue()


def write_set(data_dir, splits, name="tiny/1.0.0", file_format="array_record", declared=None, others=None, **more):
    """Write a prepared set as TFDS does, without TensorFlow, and return its folder.

    Args:
        splits: {split: (x uint8 [examples, height, width, channels], y)}.
        name: set, configuration if any, version.
        declared: its features, those of `x` and `y` first; by default an image and one of three classes.
        others: {feature: value in every example} of further features.
        more: further entries of `dataset_info.json`.
    """
    first = next(iter(splits.values()))[0]
    declared = declared or {"image": features.Image(shape=first.shape[1:]), "label": features.ClassLabel(num_classes=3)}
    image, label, *_ = declared
    declared = features.FeaturesDict(declared)
    folder = data_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    declared.save_config(str(folder))
    serializer = ExampleSerializer(declared.get_serialized_info())
    set_name, *config, version = name.split("/")
    listed = []
    for split, (x, y) in splits.items():
        writer = ArrayRecordWriter(str(folder / f"{set_name}-{split}.{file_format}-00000-of-00001"), "group_size:1")
        for pixels, value in zip(x, y, strict=True):
            encoded = png(pixels) if isinstance(declared[image], features.Image) else pixels
            writer.write(serializer.serialize_example({image: encoded, label: value, **(others or {})}))
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        listed.append(
            {"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": [str(len(y))]},
        )
    info = {"name": set_name, "version": version, "fileFormat": file_format, "splits": listed, **more}
    if config:
        info["configName"] = config[0]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def write_bytes(data_dir, splits, declared):
    """Write a set of encoded images, or of anything else that is serialised as it is: {split: (x, y)}."""
    folder = data_dir / "tiny" / "1.0.0"
    (key, label), described = declared, features.FeaturesDict(declared)
    folder.mkdir(parents=True)
    described.save_config(str(folder))
    serializer = ExampleSerializer(described.get_serialized_info())
    listed = []
    for split, (x, y) in splits.items():
        writer = ArrayRecordWriter(str(folder / f"tiny-{split}.array_record-00000-of-00001"), "group_size:1")
        for value, number in zip(x, y, strict=True):
            writer.write(serializer.serialize_example({key: value, label: number}))
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        listed.append({"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": [str(len(y))]})
    info = {"name": "tiny", "version": "1.0.0", "fileFormat": "array_record", "splits": listed}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def examples(count, shape=(5, 4, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape)).astype(np.uint8), rng.integers(0, 3, count)


def tiny(data_dir, seed=0, **more):
    """Write a set of seven training and three test images; return its folder and splits."""
    splits = {"train": examples(7, seed=seed), "test": examples(3, seed=seed + 100)}
    return write_set(data_dir, splits, **more), splits


def refused(name, data_dir):
    """The one line that tells the user why."""
    with pytest.raises(BadInput) as caught:
        tfds.load(name, data_dir)
    message = str(caught.value)
    assert message.startswith("--dataset")
    assert "expected" in message
    assert "\n" not in message
    return message
