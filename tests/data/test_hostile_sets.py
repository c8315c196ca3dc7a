"""Prepared sets from strangers: `features.json` names classes, which TFDS imports by any name."""

import json
import sys

import pytest

from kd_jax.data import text, tfds
from kd_jax.errors import BadInput

OWN = "tensorflow_datasets.core.features.text_feature.Text"
TEXTS = {"train": [("a", 0), ("b", 1), ("c", 0)], "test": [("d", 1), ("e", 0)]}


@pytest.fixture
def folder(tmp_path, write_texts):
    return write_texts(tmp_path, TEXTS)


def renamed(folder, change):
    path = folder / "features.json"
    contents = json.loads(path.read_text(encoding="utf-8"))
    change(contents)
    path.write_text(json.dumps(contents), encoding="utf-8")


def by_another_key(contents):
    feature = contents["featuresDict"]["features"]["text"]
    feature["python_class_name"] = feature.pop("pythonClassName").replace(OWN, "antigravity_is_imported.Text")


def legacy(contents):
    contents.clear()
    contents |= {"type": "antigravity_is_imported.FeaturesDict", "content": {}}


@pytest.mark.parametrize(
    "change",
    [
        lambda contents: contents["featuresDict"]["features"]["text"].update(
            pythonClassName="antigravity_is_imported.Text"
        ),
        lambda contents: contents.update(pythonClassName="os.system"),
        lambda contents: contents.update(pythonClassName="tensorflow_datasets.testing.x"),
        lambda contents: contents.update(pythonClassName="tensorflow_datasets.core.features/../x.Y"),
        by_another_key,
        legacy,
    ],
)
def test_only_features_of_tfds_are_made(tmp_path, folder, change, monkeypatch):
    (tmp_path / "antigravity_is_imported.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    renamed(folder, change)
    with pytest.raises(BadInput, match=r"features of TFDS in .*features\.json"):
        tfds.builder_of(folder)
    with pytest.raises(BadInput) as caught:
        tfds.load(str(folder), tmp_path)
    assert "\n" not in str(caught.value)
    assert "antigravity_is_imported" not in sys.modules


@pytest.mark.parametrize("contents", ["", "garbage", "[" * 100_000, "[]", "{}", "3", '{"featuresDict": 3}'])
def test_what_describes_no_features_is_one_line(tmp_path, folder, contents):
    (folder / "features.json").write_text(contents)
    with pytest.raises(BadInput) as caught:
        tfds.load(str(folder), tmp_path)
    assert "\n" not in str(caught.value)
    (folder / "dataset_info.json").write_text(contents)
    with pytest.raises(BadInput):
        tfds.load(str(folder), tmp_path)
    tfds.available(tmp_path)


def test_a_set_that_is_whole_is_read(tmp_path, folder):
    assert isinstance(tfds.load(str(folder), tmp_path), text.Texts)
