"""Four CPU devices, one cache of compiled programs and one of decoded data for every test, set before anything imports JAX; and
small data sets."""

import atexit
import html
import io
import json
import os
import re
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4".strip()
os.environ["JAX_PLATFORMS"] = "cpu"
if "PYTEST_XDIST_WORKER" not in os.environ:
    # What is compiled is kept for all tests of a session, its workers and the programs that they start: XLA takes seconds for a
    # transformer on a CPU, and the same small networks are compiled in many tests.
    compiled = tempfile.mkdtemp(prefix="kd_jax-compiled-")
    atexit.register(shutil.rmtree, compiled, ignore_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    # Not in the cache folder of whoever runs the tests.
    decoded = tempfile.mkdtemp(prefix="kd_jax-decoded-")
    atexit.register(shutil.rmtree, decoded, ignore_errors=True)
    os.environ["KD_JAX_CACHE"] = decoded

from dataclasses import asdict

import jax
import numpy as np
import pytest
from PIL import Image

from kd_jax.analysis import verdicts
from kd_jax.analysis.intervals import of_error, over_seeds
from kd_jax.analysis.results import Estimate
from kd_jax.config import to_json, versions
from kd_jax.plan import arms as arms_of


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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def sentences():
    """`sentences(count, seed=0, most=12)`: made-up ones of words from a list, with the label that their last word decides."""
    words = "the a film plot of and is was not very good bad slow bright dull warm story acting"

    def make(count, seed=0, most=12):
        rng = np.random.default_rng(seed)
        found = []
        for length in rng.integers(1, most + 1, count):
            label = int(rng.integers(2))
            found.append((" ".join([*rng.choice(words.split(), length), ("good", "bad")[label]]), label))
        return found

    return make


# ---- sets of images of many sizes


def encode(pixels, mode="RGB", kind="jpeg"):
    """Bytes of an image, uint8 [height, width, 3], in one of Pillow's colour modes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **({"quality": 95} if kind == "jpeg" else {}))
    return stream.getvalue()


def photographs(count, seed=0):
    """[pixels uint8 [height, width, 3]] of several sizes: real ones where there is a Tiny-ImageNet, else smooth noise."""
    rng = np.random.default_rng(seed)
    places = (os.environ.get("TINY_IMAGENET_DIR"), Path(__file__).parents[2] / "shared" / "tiny-imagenet-20")
    real = [path for place in places if place for path in sorted(Path(place).glob("val/images/*.JPEG"))[:count]]
    found = []
    for i in range(count):
        size = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        if i < len(real):
            image = Image.open(real[i]).convert("RGB")
        else:
            image = Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8))
        found.append(np.asarray(image.resize(size, Image.Resampling.BICUBIC)))
    return found


def write_streamed(data_dir, splits, name="many/1.0.0", classes=3, shards=2):
    """Write a prepared set of images of many sizes as TFDS lays out ImageNet, without TensorFlow, and return its folder.

    Args:
        splits: {split: (encoded images, labels)}.
    """
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    declared = tfds.features.FeaturesDict(
        {
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=classes),
        }
    )
    folder = Path(data_dir) / name
    folder.mkdir(parents=True)
    declared.save_config(str(folder))
    serializer = ExampleSerializer(declared.get_serialized_info())
    set_name, version = name.split("/")
    listed = []
    for split, (images, labels) in splits.items():
        parts = np.array_split(np.arange(len(labels)), shards)
        for shard, ids in enumerate(parts):
            path = folder / f"{set_name}-{split}.array_record-{shard:05}-of-{shards:05}"
            writer = ArrayRecordWriter(str(path), "group_size:1")
            for i in ids:
                example = {"file_name": f"{i}.JPEG", "image": images[i], "label": labels[i]}
                writer.write(serializer.serialize_example(example))
            writer.close()
        listed.append(
            {
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                "name": split,
                "numBytes": "1",
                "shardLengths": [str(len(part)) for part in parts],
            }
        )
    info = {"name": set_name, "version": version, "fileFormat": "array_record", "splits": listed}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    return folder


def encodings(pixels):
    """The images as ImageNet has them: JPEG, but a few in grey, in CMYK, or PNG."""
    kinds = [("RGB", "jpeg")] * 5 + [("L", "jpeg"), ("CMYK", "jpeg"), ("P", "png")]
    return [encode(image, *kinds[i % len(kinds)]) for i, image in enumerate(pixels)]


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """A set named `many`: 70 training and 13 validation images of many sizes and encodings, in three classes.

    A namespace of `data_dir`, `folder`, `train`, `validation` (encoded, labels), and what makes others: `write`, `encode`.
    """
    data_dir = tmp_path_factory.mktemp("streamed")
    images, rng = encodings(photographs(83)), np.random.default_rng(0)
    labels = rng.integers(0, 3, 83)
    train, validation = (images[:70], labels[:70]), (images[70:], labels[70:])
    folder = write_streamed(data_dir, {"train": train, "validation": validation})
    return SimpleNamespace(
        data_dir=data_dir, folder=folder, train=train, validation=validation, write=write_streamed, encode=encode
    )


@pytest.fixture
def write_analysed():
    """`write_analysed(folder, study, numbers, fingerprint="a", **data)` writes the records of a study as if it had been trained and
    analysed, and returns its folder. `numbers` are {(name, arm, split, subset): values of the seeds}; without any there is no
    analysis. `data` replaces what the record says of the data, and `starts` are the networks with pre-trained weights.
    """

    def write(folder, study, numbers=(), fingerprint="a", starts=(), warnings=(), **data):
        length = {"steps_per_epoch": 1, "total_steps": 2, "checkpoint_steps": [0, 2]}
        listed = [asdict(arm) | length for arm in arms_of(study)]
        of_data = {"name": study.data.dataset, "data_dir": "", "fingerprint": fingerprint, "classes": 10}
        of_data |= {"train_examples": 100, "test_examples": 50, "test_split": "test", "wrong_labels": 0}
        record = {"schema": 2, "study": "cifar_kd", "config": to_json(study), "arms": listed, "steps_per_epoch": 1}
        record |= {"data": of_data | data, "init_from": {name: {} for name in starts}, "versions": versions()}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "study.json").write_text(json.dumps(record))
        if not numbers:
            return folder
        estimates = []
        for (name, arm, split, subset), values in numbers.items():
            interval = over_seeds(values) if len(values) > 1 else of_error(values[0], 0.01, 50)
            estimates.append(Estimate(name, arm, interval, tuple(values), split=split, subset=subset))
        baselines = {arm["name"]: arm["baseline"] for arm in listed if arm["baseline"]}
        controls = {arm["name"]: arm["control"] for arm in listed if arm["baseline"]}
        drawn = verdicts.decide(verdicts.exaggeration_claims(estimates, baselines, controls))
        summary = {
            "estimates": [each.to_json() for each in estimates],
            "verdicts": [each.to_json() for each in drawn],
            "warnings": list(warnings),
            "unlearned": [],
            "study": record,
        }
        (folder / "analysis").mkdir(exist_ok=True)
        (folder / "analysis" / "summary.json").write_text(json.dumps(summary))
        (folder / "analysis" / "report.html").write_text("")
        return folder

    return write


@pytest.fixture(autouse=True)
def no_timing(monkeypatch):
    """What networks cost to run is measured as briefly as it can be: the figures are of no interest here."""
    if "kd_jax.studies.cost" in sys.modules:
        monkeypatch.setattr(sys.modules["kd_jax.studies.cost"], "SECONDS", 0.0)


@pytest.fixture
def no_figures(monkeypatch):
    """Studies write no report: it is drawn in other tests, and takes most of the time of such small ones."""

    from kd_jax.studies import analyse, sweep

    def write(workdir, folder=None, with_figures=True):
        ((folder or Path(workdir) / "analysis") / "report.html").write_text("")

    monkeypatch.setattr(analyse, "write_report", write)
    monkeypatch.setattr(sweep, "write_study_report", write)


@pytest.fixture
def words_of():
    """`words_of(page)`: the words of a page of HTML as one text, without tags."""

    def words_of(page):
        text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
        return re.sub(r" ([.,;:)])", r"\1", " ".join(html.unescape(text).split()))

    return words_of
