"""Text sets as TFDS prepares them: which texts, which labels, which split is the test set."""

import socket

import numpy as np
import pytest

from kd_jax import data
from kd_jax.config import BadInput, Data, Study
from kd_jax.data import text, tfds, tokenised
from kd_jax.data.arrays import held_out

tokenizers = pytest.importorskip("tokenizers")
PAIRS = {
    "train": [("a b", "c", 0), ("d", "e f", 1), ("g", "h", 2)],
    "validation_matched": [("i", "j", 1)],
    "validation_mismatched": [("k", "l", 2), ("m", "n", 0)],
    "test_matched": [("o", "p", -1)],
    "test_mismatched": [("q", "r", -1)],
}


@pytest.fixture(autouse=True)
def _cache_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))


def test_single_texts_and_labels_read_as_written_but_for_outer_space_and_again_from_their_copy(tmp_path, write_texts):
    splits = {"train": [(" naïve film ", 1), ("", 0)], "test": [("bad\nplot", 1), ("“quoted”", 0)]}
    folder = write_texts(tmp_path, splits)
    first = tfds.load("texts", tmp_path)
    for texts in (first, tfds.load("texts", tmp_path), tfds.load(str(folder), tmp_path)):
        assert texts.of("train")[0] == [("naïve film",), ("",)]
        assert texts.of("test")[0] == [("bad\nplot",), ("“quoted”",)]
        np.testing.assert_array_equal(texts.of("test")[1], [1, 0])
        assert (texts.name, texts.classes, texts.note) == ("texts", 2, "")
    assert list((tmp_path / "cache").glob("kd_jax-*.npz"))
    assert not list(folder.glob("kd_jax-*"))


def test_hidden_labels_are_never_used_the_validation_split_serves_instead_and_it_is_said(tmp_path, write_texts):
    splits = {"train": [("a", 0), ("b", 1)], "validation": [("c", 1)], "test": [("d", -1), ("e", -1)]}
    write_texts(tmp_path, splits, name="glue/sst2/2.0.0", keys=("sentence",))
    texts = tfds.load("glue/sst2", tmp_path)
    assert texts.of("test")[0] == [("c",)]
    assert dict(zip(texts.splits, texts.published, strict=True)) == {"train": "train", "test": "validation"}
    assert texts.note == "the labels of split test are hidden (-1): validation serves as the test set"
    assert texts.y.min() >= 0


def test_visible_test_labels_are_preferred_to_a_validation_split(tmp_path, write_texts):
    write_texts(tmp_path, {"train": [("a", 0)], "validation": [("b", 1)], "test": [("c", 1)]})
    texts = tfds.load("texts", tmp_path)
    assert texts.of("test")[0] == [("c",)]
    assert not texts.note


def test_mnli_is_tested_on_matched_and_further_on_mismatched_with_the_premise_first(tmp_path, write_texts):
    write_texts(tmp_path, PAIRS, name="glue/mnli/2.0.0", keys=("hypothesis", "premise"), classes=3)
    texts = tfds.load("glue/mnli", tmp_path)
    assert texts.splits.tolist() == ["train", "test", "mismatched"]
    assert texts.of("test")[0] == [("j", "i")]  # written as hypothesis, premise
    assert texts.of("mismatched")[0] == [("l", "k"), ("n", "m")]
    np.testing.assert_array_equal(texts.of("mismatched")[1], [2, 0])
    assert "test_matched are hidden" in texts.note


@pytest.mark.parametrize(
    ("keys", "first"), [(("question2", "question1"), 1), (("sentence1", "sentence2"), 0), (("description", "title"), 1)]
)
def test_the_order_of_a_pair_is_that_of_its_names(tmp_path, write_texts, keys, first):
    write_texts(tmp_path, {"train": [("x", "y", 0)], "test": [("x", "y", 1)]}, keys=keys)
    assert tfds.load("texts", tmp_path).of("train")[0] == [("xy"[first], "xy"[1 - first])]


@pytest.mark.parametrize(
    ("splits", "keys", "said"),
    [
        (
            {"train": [("a", 0)], "test": [("b", -1)]},
            ("text",),
            "expected a test or validation split with visible labels",
        ),
        ({"train": [("a", -1)], "test": [("b", 0)]}, ("text",), "expected a train split with visible labels"),
        ({"test": [("b", 0)]}, ("text",), "expected a train split"),
        ({"train": [("a", "b", "c", 0)], "test": [("a", "b", "c", 0)]}, ("x", "y", "z"), "one text or two"),
    ],
)
def test_a_set_without_what_it_takes_is_refused_in_one_line(tmp_path, write_texts, splits, keys, said):
    write_texts(tmp_path, splits, keys=keys)
    with pytest.raises(BadInput, match=said) as caught:
        tfds.load("texts", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("hidden", [[], [("hidden", -1)]])
def test_without_a_test_set_with_labels_a_part_of_the_training_texts_is_held_out(tmp_path, write_texts, hidden):
    texts = [(f"text {number}", number % 2) for number in range(20)]
    write_texts(tmp_path, {"train": texts, **({"test": hidden} if hidden else {})})
    found = tfds.load("texts", tmp_path)
    assert found.published.tolist() == ["train", "held-out"]
    taken = held_out(np.array([label for _, label in texts]))
    for split, part in (("train", ~taken), ("test", taken)):
        examples = [texts[row] for row in np.flatnonzero(part)]
        assert found.of(split)[0] == [(text,) for text, _ in examples]
        np.testing.assert_array_equal(found.of(split)[1], [label for _, label in examples])
    assert taken.sum() == 4
    assert ("a part of train serves as the test set" in found.note) == bool(hidden)


def test_another_file_format_is_refused_with_the_conversion(tmp_path, write_texts):
    write_texts(tmp_path, {"train": [("a", 0)]}, file_format="tfrecord")
    with pytest.raises(BadInput, match="expected files of format array_record, found tfrecord; convert"):
        tfds.load("texts", tmp_path)


def test_imdb_is_found_by_its_bare_name(tmp_path, write_texts):
    write_texts(tmp_path, {"train": [("a", 0)], "test": [("b", 1)]}, name="imdb_reviews/plain_text/1.0.0")
    assert tfds.load("imdb_reviews", tmp_path).name == "imdb_reviews/plain_text"


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("glue/stsb", "; where there is: .*tfds build glue/stsb"),
        ("glue/mnli", ".*; where there is, save https://dl.fbaipublicfiles.com/.*/MNLI.zip as "),
        ("imdb_reviews", ".*; where there is, save http://ai.stanford.edu/.*/aclImdb_v1.tar.gz as "),
        ("ag_news_subset", ".*; where there is, save https://drive.google.com/.* as .*/ag_news_csv.tar.gz"),
    ],
)
def test_an_absent_set_is_known_and_how_to_prepare_it_is_said(tmp_path, monkeypatch, name, fix):
    def refuse(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(BadInput, match=f"no network to download it{fix}"):
        tfds.load(name, tmp_path)


@pytest.mark.parametrize(
    "flags", [{"augment": "crop"}, {"mixup": 0.2}, {"cutmix": 1.0}, {"image_size": 32}, {"teacher_with": ("mixup=1",)}]
)
def test_what_only_images_have_is_refused_for_texts(tmp_path, write_texts, flags):
    write_texts(tmp_path, {"train": [("a", 0), ("b", 1)], "test": [("b", 1), ("c", 0)]})
    study = Study.from_flags(dataset="texts", batch_size=1, **flags)
    dataset = data.load(study.data, tmp_path)
    with pytest.raises(BadInput, match=f"^--{next(iter(flags))}=.*for texts"):
        data.check(dataset, study)


@pytest.mark.long
def test_real_sst2_has_its_published_sizes_and_fits_in_64_tokens_but_for_six_texts(real_set):
    folder = real_set("glue/sst2/2.0.0")
    texts = tfds.load(str(folder), folder)
    assert texts.sizes.tolist() == [67349, 872]
    assert texts.published.tolist() == ["train", "validation"]
    assert texts.of("train")[1].mean() == pytest.approx(0.5578, abs=1e-4)
    assert not list(folder.glob("kd_jax-*.npz"))  # it is read-only
    dataset = tokenised.assemble(texts, Data(max_length=64), data.Given())
    facts = dataset.token_facts
    assert (facts["vocabulary"], facts["cut"], facts["empty"]) == (
        8000,
        {"train": 5, "test": 1},
        {"train": 0, "test": 0},
    )
    tokenizer = tokenizers.Tokenizer.from_str(dataset.tokenizer)
    assert tokenizer.decode(dataset.train.x[0].tolist()) == "for the uninitiated plays better on video with the sound"


@pytest.mark.parametrize(
    ("declared", "supervised", "found"),
    [
        ({"text": "text", "label": 2}, None, (["text"], "label")),
        ({"id": "text", "text": "text", "label": 2}, None, (["text"], "label")),
        (
            {"id": "text", "hypothesis": "text", "premise": "text", "label": 2},
            None,
            (["premise", "hypothesis"], "label"),
        ),
        ({"id": "text", "label": 2}, None, (["id"], "label")),
        ({"text": "string", "label": 2}, None, (["text"], "label")),
        ({"id": "string", "text": "text", "label": 2}, None, (["text"], "label")),
        (
            {"title": "text", "description": "text", "label": 4},
            ("description", "label"),
            (["title", "description"], "label"),
        ),
        ({"a": "text", "b": "text", "c": "text", "label": 2}, ("b", "label"), (["b"], "label")),
        ({"text": "text", "language": 3, "stars": 2}, ("text", "stars"), (["text"], "stars")),
        ({"text": "text", "language": 3, "label": 2}, None, (["text"], "label")),
    ],
)
def test_which_texts_and_label_are_taken(declared, supervised, found):
    features = pytest.importorskip("tensorflow_datasets").features
    kinds = {"text": features.Text(), "string": features.Tensor(shape=(), dtype=np.str_)}
    for keys in (list(declared), list(declared)[::-1]):
        made = {key: kinds.get(declared[key]) or features.ClassLabel(num_classes=declared[key]) for key in keys}
        assert text._keys(made, "", supervised) == found


def test_three_texts_of_which_none_is_supervised_are_refused():
    features = pytest.importorskip("tensorflow_datasets").features
    made = {key: features.Text() for key in "abc"} | {"label": features.ClassLabel(num_classes=2)}
    with pytest.raises(BadInput, match="expected one text or two and a class label, found a, b, c, label"):
        text._keys(made, "set")


def _two_labels(folder, supervised=None, names=("coarse", "fine")):
    """A set with two class labels, of 2 and 4 classes, and three texts."""
    import json

    import tensorflow_datasets

    features = tensorflow_datasets.features
    declared = {name: features.ClassLabel(num_classes=count) for name, count in zip(names, (2, 4), strict=True)}
    declared |= {key: features.Text() for key in ("question", "answer", "why")}
    made = folder / "odd" / "1.0.0"
    made.mkdir(parents=True)
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    described = features.FeaturesDict(declared)
    described.save_config(str(made))
    serializer = ExampleSerializer(described.get_serialized_info())
    listed = []
    for split in ("train", "test"):
        writer = ArrayRecordWriter(str(made / f"odd-{split}.array_record-00000-of-00001"), "group_size:1")
        for row in range(8):
            values = {names[0]: row % 2, names[1]: row % 4, "question": b"q", "answer": b"a", "why": b"w"}
            writer.write(serializer.serialize_example(values))
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        listed.append({"filepathTemplate": template, "name": split, "numBytes": "1", "shardLengths": ["8"]})
    info = {"name": "odd", "version": "1.0.0", "fileFormat": "array_record", "splits": listed}
    if supervised:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": "question"}, {"featureKey": supervised}]}}
    (made / "dataset_info.json").write_text(json.dumps(info))


def test_of_several_labels_and_texts_the_study_says_which(tmp_path):
    _two_labels(tmp_path)
    with pytest.raises(BadInput, match=r"expected one class label, found coarse, fine; say which: --label=coarse or"):
        tfds.load("odd", tmp_path, "", ("question",))
    for label, classes in (("coarse", 2), ("fine", 4), (text.USUAL, 2)):
        found = tfds.load("odd", tmp_path, label, ("why", "question"))
        assert (found.classes, found.of("train")[0][0]) == (classes, ("w", "q"))
        np.testing.assert_array_equal(found.of("test")[1], np.arange(8) % classes)
    with pytest.raises(BadInput, match=r"--label=colour: expected a class label of odd/1.0.0 .*: coarse, fine"):
        tfds.load("odd", tmp_path, "colour", ("question",))
    with pytest.raises(BadInput, match=r"--text=because: expected a text of odd/1.0.0 .*: answer, question, why"):
        tfds.load("odd", tmp_path, "fine", ("because",))
    with pytest.raises(BadInput, match="say which texts with --text"):
        tfds.load("odd", tmp_path, "fine")


@pytest.mark.parametrize(
    ("names", "supervised", "classes"), [(("coarse", "fine"), "fine", 4), (("a", "label"), None, 4)]
)
def test_a_supervised_label_or_one_that_is_called_so_is_taken(tmp_path, names, supervised, classes):
    _two_labels(tmp_path, supervised, names)
    assert tfds.load("odd", tmp_path, "", ("question",)).classes == classes


@pytest.mark.parametrize(("flags", "said"), [({"label": "x"}, "--label=x"), ({"text": ("a",)}, "--text=a")])
def test_an_embedded_set_has_one_label(flags, said):
    with pytest.raises(BadInput, match=f"{said}: expected none for digits, which has one label"):
        data.load(Data(dataset="digits", **flags), "unused")
