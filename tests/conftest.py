"""Four CPU devices for every test: set before anything imports JAX."""

import json
import os
from contextlib import contextmanager

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import pytest


@contextmanager
def _float64():
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.fixture
def float64():
    """JAX in 64 bits for one test."""
    with _float64():
        yield


@pytest.fixture
def write_texts():
    """`write_texts(data_dir, splits, name="texts/1.0.0", keys=("text",), classes=2)` writes a prepared set as TFDS does, without
    TensorFlow, and returns its folder; splits are {split: [(text, ..., label)]}, and -1 is a hidden label."""
    import tensorflow_datasets
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    features = tensorflow_datasets.features

    def write(data_dir, splits, name="texts/1.0.0", keys=("text",), classes=2, file_format="array_record"):
        declared = {key: features.Text() for key in keys}
        declared |= {"idx": features.Scalar(dtype=np.int32), "label": features.ClassLabel(num_classes=classes)}
        declared = features.FeaturesDict(declared)
        folder = data_dir / name
        folder.mkdir(parents=True)
        declared.save_config(str(folder))
        serializer = ExampleSerializer(declared.get_serialized_info())
        set_name, *config, version = name.split("/")
        listed = []
        for split, examples in splits.items():
            writer = ArrayRecordWriter(str(folder / f"{set_name}-{split}.{file_format}-00000-of-00001"), "group_size:1")
            for number, (*texts, label) in enumerate(examples):
                example = dict(zip(keys, (text.encode() for text in texts), strict=True))
                writer.write(serializer.serialize_example({**example, "idx": number, "label": label}))
            writer.close()
            template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
            listed.append(
                {"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": [str(len(examples))]}
            )
        info = {"name": set_name, "version": version, "fileFormat": file_format, "splits": listed}
        if config:
            info["configName"] = config[0]
        (folder / "dataset_info.json").write_text(json.dumps(info))
        return folder

    return write


@pytest.fixture
def sentences():
    """`sentences(count, seed=0, most=12)`: made-up ones of words from a list, with the label that their last word decides."""
    words = [
        "the",
        "a",
        "film",
        "plot",
        "of",
        "and",
        "is",
        "was",
        "not",
        "very",
        "good",
        "bad",
        "slow",
        "bright",
        "dull",
        "warm",
        "story",
        "acting",
    ]

    def make(count, seed=0, most=12):
        rng = np.random.default_rng(seed)
        found = []
        for length in rng.integers(1, most + 1, count):
            label = int(rng.integers(2))
            found.append((" ".join([*rng.choice(words, length), ("good", "bad")[label]]), label))
        return found

    return make
