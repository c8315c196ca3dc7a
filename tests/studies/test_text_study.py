"""Whole studies of texts in small: the same run folder, resumption and analysis as of images, and what is particular to texts."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kd_jax import data
from kd_jax.config import BadInput, Study
from kd_jax.data import buckets, tokens
from kd_jax.data.order import order
from kd_jax.export import roberta
from kd_jax.extract import logits as extract
from kd_jax.extract import weights as weights_of_layers
from kd_jax.models import Variables, pretrained
from kd_jax.report import about
from kd_jax.studies import analyse, export, prepare, run
from kd_jax.studies import pretrained as initial
from kd_jax.studies import train as train_stage
from kd_jax.train import engine
from kd_jax.workdir import checkpoints, metrics_file, packing, records

pytestmark = pytest.mark.long

tokenizers = pytest.importorskip("tokenizers")
SAVED = Path(__file__).parents[1] / "golden" / "roberta_1x16"
STUDY = Study.from_flags(
    dataset="glue/mnli",
    train_examples=50,
    test_examples=16,
    teacher="roberta_1x8",
    student=("roberta_1x8",),
    dropout=0.2,
    epochs=3,
    batch_size=8,
    learning_rate=0.01,
    warmup=0.1,
    decay="linear",
    optimizer="adamw",
    weight_decay=0.01,
    decay_on="kernels",
    gradient_clip=1.0,
    temperature=2.0,
    vocabulary=340,
    max_length=24,
    checkpoints=6,
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, write_texts, sentences):
    """A made-up MNLI, its test labels hidden."""
    folder = tmp_path_factory.mktemp("data")

    def pairs(count, seed):
        made = sentences(2 * count, seed, most=7)
        return [(a, b, x) for (a, x), (b, _) in zip(made[::2], made[1::2], strict=True)]

    splits = {"train": pairs(60, 0), "validation_matched": pairs(20, 1), "validation_mismatched": pairs(20, 2)}
    splits["test_matched"] = splits["test_mismatched"] = [("a", "b", -1)]
    write_texts(folder, splits, name="glue/mnli/2.0.0", keys=("hypothesis", "premise"), classes=3)
    return folder


def train(study, workdir, data_dir):
    return train_stage.train("tested", study, workdir, data_dir, jax.devices()[:1])


@pytest.fixture(scope="module")
def done(tmp_path_factory, data_dir):
    """A finished study, trained and analysed once for this file."""
    workdir = tmp_path_factory.mktemp("done")
    assert train(STUDY, workdir, data_dir) == 3
    return workdir, analyse.analyze(workdir)


def bits(workdir):
    """{run: {step: digest}} of every trajectory, and what the metrics say but for the clock."""
    result = {}
    for folder in sorted((Path(workdir) / "runs").iterdir()):
        with checkpoints.trajectory(folder) as trajectory:
            result[folder.name] = {step: packing.tree_digest(trajectory.load(step)) for step in trajectory.steps()}
        clock = ("seconds", "examples_per_second", "tokens_per_second")
        lines = metrics_file.read(folder)
        result[folder.name, "metrics"] = [{k: v for k, v in line.items() if k not in clock} for line in lines]
    return result


def test_the_record_says_how_texts_were_read(done, data_dir):
    record = records.read_study(done[0])
    found = record["data"]["tokens"]
    assert "image_shape" not in record["data"]
    assert record["data"]["mismatched_examples"] == 16
    assert found["published"] == {"train": "train", "test": "validation_matched", "mismatched": "validation_mismatched"}
    assert found["vocabulary"] == tokens.load(done[0] / "tokenizer.json", "").get_vocab_size()
    assert 0 < found["padding"] < found["padding_uncut"] < 1
    assert record["peak_memory"]["host_bytes"] > 1e7
    said = " ".join([*about.data(record), about.memory(record)])
    for part in (
        "hidden (-1): validation_matched serves",
        "trained on the 50 training texts",
        "(train)",
        "at random",
        "GiB",
    ):
        assert part in said
    assert "hidden (-1): validation_matched serves" in (done[0] / "analysis" / "report.html").read_text()


def test_metrics_say_tokens_per_second_padding_and_the_mismatched_accuracy(done):
    dataset = prepare.open_study(done[0]).dataset
    for line in metrics_file.read(done[0] / "runs" / "student-seed0"):
        at = line["epoch"] - 1
        rows = np.array(order(0, 1, at, 50, 8, buckets.lengths(dataset.train.x)))
        sizes = (dataset.train.x != 1).sum(axis=1)[rows]
        places = sum(8 * min(b for b in dataset.buckets if b >= most) for most in sizes.max(axis=1))
        assert line["padding"] == pytest.approx(1 - sizes.sum() / places)
        assert line["tokens_per_second"] == pytest.approx(line["examples_per_second"] * sizes.mean())
        assert 0 <= line["mismatched_accuracy"] <= 1


def test_every_estimate_of_the_test_set_is_there_for_mismatched_too(done):
    workdir, found = done
    names = {
        split: {(e["name"], e["arm"], e["subset"]) for e in found["estimates"] if e.get("split") == split}
        for split in ("test", "mismatched")
    }
    assert {("accuracy", "teacher", "all"), ("accuracy_gain", "student", "all")} <= names["mismatched"] <= names["test"]
    (accuracy,) = (
        e["values"][0]
        for e in found["estimates"]
        if (e["name"], e["arm"], e.get("split")) == ("accuracy", "student", "mismatched")
    )
    assert accuracy == metrics_file.read(workdir / "runs" / "student-seed0")[-1]["mismatched_accuracy"]
    assert "mismatched accuracy" in (workdir / "analysis" / "table.md").read_text()


def test_the_embeddings_are_no_direction_but_the_first_attention_layer_is_followed(done):
    names = {path.name for path in (done[0] / "analysis" / "eigen").iterdir()}
    assert names == {f"{arm}-seed0-layer1_query.npz" for arm in ("teacher", "onehot", "student")}


def test_logits_of_the_analysis_are_those_of_the_last_checkpoint_in_order(done):
    opened = prepare.open_study(done[0])
    study, dataset = opened.study, opened.dataset
    variables = Variables(**checkpoints.load_variables(records.run_folder(done[0], "student-seed0"), 18))
    model = extract.model_of("roberta_1x8", dataset, study.networks.precision)
    with np.load(done[0] / "analysis" / "pairs" / "student-seed0-mismatched.npz") as arrays:
        expected = np.asarray(model.apply(variables, dataset.further["mismatched"].x).logits)
        np.testing.assert_allclose(arrays["student_logits"], expected, atol=1e-5)
        np.testing.assert_array_equal(arrays["ids"], dataset.further["mismatched"].ids)


@pytest.mark.long
def test_a_stopped_text_run_goes_on_to_the_same_bits(done, data_dir, tmp_path, monkeypatch):
    """Stopped in the middle of an epoch of the student, whose dropout and batches must go on where they were."""
    stop, real = SimpleNamespace(requested=False), run.ProgressLine.segment

    def segment(self, segment):
        stop.requested = self._run.name == "student-seed0" and segment.epoch == 1
        return real(self, segment)

    monkeypatch.setattr(train_stage, "stop_requests", lambda: nullcontext(stop))
    monkeypatch.setattr(run.ProgressLine, "segment", segment)
    with pytest.raises(train_stage.Stopped):
        train(STUDY, tmp_path, data_dir)
    monkeypatch.undo()
    assert records.kept_steps(records.run_folder(tmp_path, "student-seed0"))[-1] < 18
    assert train(STUDY, tmp_path, data_dir) == 1
    assert bits(tmp_path) == bits(done[0])


def test_the_analysis_needs_the_stored_tokenizer_alone(done, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "train", lambda *_: pytest.fail("trained again"))
    dataset = prepare.open_study(done[0]).dataset
    assert dataset.tokenizer == (done[0] / "tokenizer.json").read_text()
    workdir = tmp_path / "copy"
    shutil.copytree(done[0], workdir)
    assert train(STUDY, workdir, data_dir) == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": "mlp_8"}, "model 'mlp_8': expected images, found texts"),
        ({"student": ("resnet8",)}, "model 'resnet8': expected images, found texts"),
        ({"mixup": 0.2}, "--mixup=0.2: expected 0 for texts"),
        ({"init_from": ("nowhere",)}, "--init_from=nowhere: expected a folder with config.json"),
    ],
)
def test_what_does_not_fit_texts_is_refused_before_anything_is_written(data_dir, tmp_path, changes, said):
    with pytest.raises(BadInput) as caught:
        train(STUDY.replaced(**changes), tmp_path / "work", data_dir)
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "work").exists()


# ---- pre-trained weights


def test_an_exported_roberta_is_what_pre_trained_weights_are_read_from(done, data_dir, tmp_path):
    """Under transformers' names every tensor comes back; `tests/golden/exported_roberta.py` holds the folder to transformers."""
    out = export.export(done[0], "student-seed0", "hf", out=tmp_path / "out")
    folder = records.run_folder(done[0], "student-seed0")
    trained = Variables(**checkpoints.load_variables(folder, records.kept_steps(folder)[-1]))
    found, report = pretrained.load(out, "roberta_1x8", jax.tree.map(np.zeros_like, trained))
    jax.tree.map(np.testing.assert_array_equal, found, trained)
    assert not report.missing + report.unused
    said = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert (said["num_labels"], said["id2label"]) == (3, {"0": "0", "1": "1", "2": "2"})
    assert (said["hidden_dropout_prob"], said["attention_probs_dropout_prob"]) == (0.2, 0.0)
    of_tokens = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert (of_tokens["model_max_length"], of_tokens["pad_token"], of_tokens["cls_token"]) == (24, "<pad>", "<s>")
    # The library's own forms of texts and pairs are ours, so those of whoever loads the folder are.
    theirs, own = (tokenizers.Tokenizer.from_file(str(path / "tokenizer.json")) for path in (out, done[0]))
    pair = ("a good film", "dull and bright")
    assert theirs.encode(*pair).ids == tokens.encode(own, [pair], 24)[0][0]
    # It serves as the start of another study.
    study = STUDY.replaced(init_from=(str(out),), epochs=1)
    prepared = prepare.prepare("tested", study, tmp_path / "next", data_dir, jax.devices()[:1])
    assert set(prepared.record["init_from"]) == {"roberta_1x8"}


def test_a_tokenizer_without_forms_of_its_own_gets_robertas(done, tmp_path):
    params = checkpoints.load_variables(records.run_folder(done[0], "student-seed0"), 0)["params"]
    bare = json.loads((done[0] / "tokenizer.json").read_text(encoding="utf-8")) | {"post_processor": None}
    roberta.write(tmp_path, params, ["no", "yes", "both"], json.dumps(bare), 24, 0.0, {})
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.encode("a film").ids[0] == 0
    assert theirs.encode("a", "b").ids.count(2) == 3


def test_a_program_of_texts_reads_any_length_with_the_same_logits(done, tmp_path):
    out = export.export(done[0], "student-seed0", "stablehlo", out=tmp_path / "out")
    program = jax.export.deserialize(bytearray((out / "model.jax_export").read_bytes()))
    opened = prepare.open_study(done[0])
    folder = records.run_folder(done[0], "student-seed0")
    trained = Variables(**checkpoints.load_variables(folder, records.kept_steps(folder)[-1]))
    x = opened.dataset.test.x.astype(np.int32)
    expected = extract.make_logits("roberta_1x8", opened.dataset, "float32")(trained, opened.dataset.test.x)
    np.testing.assert_allclose(program.call(x), expected, atol=1e-5)
    shortest = x[(x != 1).sum(1).argmin()]
    length = (shortest != 1).sum()
    row = np.flatnonzero((x == shortest).all(1))[0]
    np.testing.assert_allclose(program.call(shortest[None, :length])[0], expected[row], atol=1e-5)


@pytest.fixture
def weights(tmp_path):
    """A folder as users download one: the golden network of one layer of width 16 and 50 ids, with a tokenizer, without a head."""
    folder = tmp_path / "weights"
    folder.mkdir()
    stored = load_file(SAVED / "model.safetensors")
    save_file({k: v for k, v in stored.items() if not k.startswith("classifier")}, folder / "model.safetensors")
    shutil.copy(SAVED / "config.json", folder)
    library = tokenizers
    tokenizer = library.Tokenizer(library.models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = [*tokens.SPECIAL, *(f"<{i}>" for i in range(46))]
    tokenizer.train_from_iterator([], library.trainers.BpeTrainer(vocab_size=50, special_tokens=special))
    assert tokenizer.get_vocab_size() == 50
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    return folder


def test_a_network_that_fits_starts_from_the_weights_and_another_at_random(weights, data_dir):
    study = STUDY.replaced(teacher="roberta_1x16", init_from=(str(weights),), max_length=20)
    dataset = data.load(study.data, data_dir, initial.given(study.networks, study.data))
    described = initial.describe(study.networks, dataset)
    assert list(described) == ["roberta_1x16"]
    assert initial.make(described, "roberta_1x8", dataset) is None
    start = initial.make(described, "roberta_1x16", dataset)
    state = engine.build("float32", study.training, dataset, "roberta_1x16", jax.devices()[:1], initialise=start).start(
        jax.random.key(0)
    )
    stored = load_file(weights / "model.safetensors")
    np.testing.assert_array_equal(
        state.params["layer1_query"]["kernel"], stored["roberta.encoder.layer.0.attention.self.query.weight"].T
    )
    assert (np.asarray(state.params["head_out"]["kernel"]) != 0).any()  # drawn, for the file has no head


def test_the_record_says_what_starts_where_and_opens_without_the_weights(weights, data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "build", lambda *_, **__: 1 / 0)  # the record is written, nothing trained
    study = STUDY.replaced(teacher="roberta_1x16", init_from=(str(weights),), max_length=20)
    with pytest.raises(ZeroDivisionError):
        train(study, tmp_path / "work", data_dir)
    record = records.read_study(tmp_path / "work")
    assert (record["data"]["tokens"]["positions"], record["data"]["tokens"]["vocabulary"]) == (24, 50)
    said = " ".join(about.data(record))
    assert "roberta_1x16 starts from the weights in" in said
    assert "No pre-trained weights: roberta_1x8 starts at random" in said
    shutil.rmtree(weights)
    dataset = prepare.open_study(tmp_path / "work").dataset
    assert weights_of_layers.layer_names(dataset, "roberta_1x16")[0] == "layer1_query"


def started(weights, data_dir):
    """The network of one layer with the weights of a folder, in full: {path: array}."""
    study = STUDY.replaced(teacher="roberta_1x16", init_from=(str(weights),), max_length=20)
    dataset = data.load(study.data, data_dir, initial.given(study.networks, study.data))
    start = initial.make(initial.describe(study.networks, dataset), "roberta_1x16", dataset)
    fresh = engine.build("float32", study.training, dataset, "roberta_1x16", jax.devices()[:1], initialise=start)
    return fresh.start(jax.random.key(0)).params


def leaves(params):
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def test_weights_in_shards_are_those_in_one_file(weights, data_dir):
    whole = leaves(started(weights, data_dir))
    stored = load_file(weights / "model.safetensors")
    names = sorted(stored)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, keys in parts.items():
        save_file({key: stored[key] for key in keys}, weights / file)
    index = {"weight_map": {key: file for file, keys in parts.items() for key in keys}}
    (weights / "model.safetensors.index.json").write_text(json.dumps(index))
    (weights / "model.safetensors").unlink()
    found = leaves(started(weights, data_dir))
    assert found.keys() == whole.keys()
    assert all(np.array_equal(found[key], whole[key]) for key in whole)
    (weights / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BadInput, match=r"expected a folder with model-00002-of-00002\.safetensors"):
        started(weights, data_dir)
    (weights / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(BadInput, match=r"expected names of files in model\.safetensors\.index\.json"):
        started(weights, data_dir)


def test_an_embedding_with_more_rows_than_its_tokenizer_has_ids_is_read_whole(weights, data_dir):
    stored = load_file(weights / "model.safetensors")
    key = next(key for key in stored if key.endswith("word_embeddings.weight"))
    filled = np.concatenate([stored[key], np.ones((14, 16), np.float32)])
    save_file({**stored, key: filled}, weights / "model.safetensors")
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps(config | {"vocab_size": 64}))
    np.testing.assert_array_equal(started(weights, data_dir)["tokens"]["embedding"], filled)


def test_weights_and_tokenizers_of_other_kinds_say_how_to_convert_them(weights, data_dir):
    (weights / "tokenizer.json").unlink()
    for name in ("vocab.json", "merges.txt"):
        (weights / name).write_text("{}")
    with pytest.raises(BadInput, match=r"found vocab\.json and merges\.txt beside; convert them .*AutoTokenizer"):
        started(weights, data_dir)
    (weights / "model.safetensors").rename(weights / "pytorch_model.bin")
    with pytest.raises(BadInput, match=r"found pytorch_model\.bin; convert it .*AutoModel"):
        pretrained.weight_files(weights)


def test_a_head_whose_classes_are_in_another_order_is_refused(weights):
    config = json.loads((weights / "config.json").read_text())
    (weights / "config.json").write_text(json.dumps(config | {"id2label": {"0": "Positive", "1": "Negative"}}))
    with pytest.raises(
        BadInput, match="classes negative, positive, in this order, found positive, negative as id2label"
    ):
        pretrained.check_labels(weights, ("negative", "positive"))
    pretrained.check_labels(weights, ("positive", "negative"))
    pretrained.check_labels(weights, ("bad", "good"))  # of other data: nothing can be said
    pretrained.check_labels(weights, ())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "expected weights of a network of the study, found 1 layers of width 16; pass --teacher=roberta_1x16"),
        ({"max_length": 25}, "--max_length=25: expected at most 24, the positions of"),
        (
            {"teacher": "roberta_1x16", "tokenizer": "trained"},
            "expected the 50 token ids of the pre-trained weights, found",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_anything_is_written(weights, data_dir, tmp_path, changes, said):
    if changes.get("tokenizer"):
        changes = {**changes, "tokenizer": str(tmp_path / "mine.json")}
        (tmp_path / "mine.json").write_text(tokens.train(["a b"], 300).to_str())
    with pytest.raises(BadInput) as caught:
        train(
            STUDY.replaced(**{"init_from": (str(weights),), "max_length": 20, **changes}), tmp_path / "work", data_dir
        )
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "work").exists()


def test_weights_for_images_are_refused(weights, tmp_path):
    study = Study.from_flags(
        dataset="digits", teacher="mlp_8", student=("mlp_8",), batch_size=8, init_from=(str(weights),)
    )
    with pytest.raises(BadInput, match="--max_length=20: expected 128 for images, digits"):
        train(study.replaced(max_length=20), tmp_path / "work", tmp_path)


def test_a_teacher_from_elsewhere_brings_its_tokenizer_and_the_length_that_it_can_read(
    done, data_dir, tmp_path, weights
):
    """A tokenizer trained on another part of the texts would have other tokens; another one is refused, and longer texts."""

    def prepared(**changes):
        study = STUDY.replaced(**{"teacher_from": str(done[0]), "teacher": "", "train_examples": 20} | changes)
        return prepare.prepare("tested", study, tmp_path / "work", data_dir, jax.devices()[:1])

    there = records.read_study(done[0])["data"]["tokens"]
    found = prepared(max_length=16)
    assert found.study.networks.teacher == STUDY.networks.teacher
    assert found.dataset.tokenizer == records.read_tokenizer(done[0])
    assert found.dataset.network_settings == {"vocabulary": there["vocabulary"], "positions": there["positions"]}
    same = tmp_path / "same.json"
    same.write_text(records.read_tokenizer(done[0]))
    prepared(tokenizer=str(same))
    with pytest.raises(
        BadInput, match=r"--tokenizer=.*: expected the teacher's own beside --teacher_from; leave it out"
    ):
        prepared(tokenizer=str(weights / "tokenizer.json"))
    with pytest.raises(
        BadInput, match=rf"--max_length={there['positions'] + 1}: expected at most {there['positions']}, the"
    ):
        prepared(max_length=there["positions"] + 1)
    with pytest.raises(BadInput, match=r"expected a teacher with the 50 token ids and .* of --init_from, found"):
        prepared(init_from=(str(weights),), max_length=16)
    assert not (tmp_path / "work").exists()
