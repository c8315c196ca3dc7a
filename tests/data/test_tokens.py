"""Tokenizers and rows of tokens: RoBERTa's ids and forms, checked against the library's own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kd_jax import data
from kd_jax.config import BadInput, Data
from kd_jax.data import buckets, tokens

tokenizers = pytest.importorskip("tokenizers")
ROOT = Path(__file__).parents[2]
TEXTS = [
    "the film is good",
    "the plot of the film is bad",
    "naïve 映画 🎬",
    "good good good",
    "is the story good ?",
] * 4


@pytest.fixture(autouse=True)
def _cache_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def made(tmp_path, write_texts):
    """`made(splits, keys=..., **values)` is the data of a set with these splits."""

    def make(splits, keys=("text",), given=None, **values):
        write_texts(tmp_path, splits, keys=keys)
        return data.load(Data(dataset="texts", **{"vocabulary": 300, **values}), tmp_path, given)

    return make


# ---- the trained tokenizer


def test_a_trained_tokenizer_has_robertas_special_ids_and_every_text_comes_back():
    tokenizer = tokens.train(TEXTS, 320)
    assert [tokenizer.id_to_token(i) for i in range(5)] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert 261 < tokenizer.get_vocab_size() <= 320  # all bytes and some merges
    for text in [*TEXTS, "never seen: Zürich\t漢字 🎉"]:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
        assert tokens.SPECIAL["<unk>"] not in tokenizer.encode(text).ids


def test_training_gives_the_same_tokenizer_in_another_process_with_other_threads():
    program = f"from kd_jax.data import tokens; print(tokens.train({TEXTS!r}, 320).to_str())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert other.stdout.strip() == tokens.train(TEXTS, 320).to_str(), other.stderr


def test_it_is_trained_on_the_training_texts_of_the_study_alone(made):
    splits = {"train": [("aaaa bbbb " * 3, 0), ("cccc dddd " * 3, 1)] * 10, "test": [("zzzz yyyy " * 3, 0)] * 20}
    vocabulary = tokenizers.Tokenizer.from_str(made(splits).tokenizer).get_vocab()
    assert "aaaa" in vocabulary
    assert "zz" not in vocabulary


# ---- rows


def test_single_texts_and_pairs_have_the_form_of_the_librarys_roberta():
    tokenizer = tokens.train(TEXTS, 320)
    pairs = [("the film is good", "bad"), ("", "x"), ("good " * 9, "the plot is bad"), ("is it ?", "no " * 20)]
    pairs += [("ab " * n, "cd " * m) for n in (3, 6, 7) for m in (3, 6, 7, 11)]
    for length in (8, 11, 14, 15, 64):
        tokenizer.enable_truncation(length, strategy="longest_first")
        singles = [tokenizer.encode(text).ids for text in TEXTS]
        together = [tokenizer.encode(*pair).ids for pair in pairs]
        cut = [bool(tokenizer.encode(*pair).overflowing) for pair in pairs]
        tokenizer.no_truncation()
        assert tokens.encode(tokenizer, [(text,) for text in TEXTS], length)[0] == singles
        found, found_cut = tokens.encode(tokenizer, pairs, length)
        assert found == together
        assert found_cut.tolist() == cut
    a, b = (tokenizer.encode(text, add_special_tokens=False).ids for text in pairs[0])
    assert found[0] == [0, *a, 2, 2, *b, 2]


def test_rows_are_as_long_as_the_bucket_of_the_longest_text_and_padded_at_the_end(made):
    dataset = made({"train": [("good", 0), ("is the film good", 1)], "test": [("bad " * 5, 1)]}, max_length=64)
    assert dataset.buckets == tuple(b for b in (8, 16, 32, 64) if b <= dataset.train.x.shape[1])
    assert dataset.buckets[-1] == dataset.train.x.shape[1] == dataset.test.x.shape[1]
    assert dataset.train.x.dtype == np.uint16
    for row in [*dataset.train.x, *dataset.test.x]:
        length = buckets.lengths(row[None])[0]
        assert (row[0], row[length - 1]) == (0, 2)
        assert (row[:length] != 1).all()
        assert (row[length:] == 1).all()


@pytest.mark.parametrize(
    ("most", "longest", "expected"),
    [
        (64, 64, (8, 16, 32, 64)),
        (64, 12, (8, 16)),
        (50, 40, (8, 16, 32, 50)),
        (8, 3, (8,)),
        (512, 129, (8, 16, 32, 64, 128, 256)),
    ],
)
def test_buckets_are_powers_of_two_up_to_the_longest_text(most, longest, expected):
    assert buckets.buckets_of(most, longest) == expected


def test_long_and_empty_texts_are_counted(made):
    splits = {"train": [("good " * 30, 0), ("", 1), ("bad", 1)], "test": [("x " * 50, 0), (" ", 1), ("bad " * 20, 1)]}
    dataset = made(splits, max_length=10)
    facts = dataset.token_facts
    assert (facts["cut"], facts["empty"]) == ({"train": 1, "test": 2}, {"train": 1, "test": 1})
    assert buckets.lengths(dataset.train.x).tolist() == [10, 2, buckets.lengths(dataset.train.x)[2]]
    assert dataset.train.x[1, :2].tolist() == [0, 2]


def test_a_text_that_spells_out_special_tokens_does_not_end_early(made):
    dataset = made({"train": [("good <pad> film", 0), ("bad", 1)], "test": [("</s>", 0)]})
    row = dataset.train.x[0]
    assert (row[: buckets.lengths(row[None])[0]] != 1).all()
    assert row[buckets.lengths(row[None])[0] - 1] == 2
    assert 3 in row


def test_a_part_of_the_texts_keeps_their_places_and_labels_may_be_made_wrong(tmp_path, write_texts):
    splits = {"train": [(f"t{i}", "u", i % 3) for i in range(30)], "validation_matched": [("a", "b", 0)] * 9}
    splits["validation_mismatched"] = [("b", "c", 1)] * 8 + [("d", "e", 2)]
    write_texts(tmp_path, splits, name="glue/mnli/2.0.0", keys=("hypothesis", "premise"), classes=3)
    asked = Data(dataset="glue/mnli", train_examples=20, test_examples=9, label_noise=0.5, vocabulary=300)
    dataset = data.load(asked, tmp_path)
    tokenizer = tokenizers.Tokenizer.from_str(dataset.tokenizer)
    for row, number in zip(dataset.train.x, dataset.train.ids, strict=True):
        assert tokenizer.decode(row.tolist()) == f"ut{number}"
    np.testing.assert_array_equal(dataset.train.true_y, dataset.train.ids % 3)
    assert (dataset.train.y != dataset.train.true_y).sum() == 10
    assert {name: len(split.y) for name, split in dataset.splits.items()} == {"train": 20, "test": 9, "mismatched": 9}
    assert dataset.further["mismatched"].y[-1] == 2


def test_the_kept_tokenizer_gives_the_same_tokens_whatever_would_be_trained_now(made, tmp_path):
    splits = {"train": [(text, i % 2) for i, text in enumerate(TEXTS)], "test": [("the film", 0)]}
    first = made(splits)
    asked = Data(dataset="texts", vocabulary=300)
    again = data.load(asked, tmp_path, tokens.Given(tokenizer=first.tokenizer))
    assert again.fingerprint == first.fingerprint
    np.testing.assert_array_equal(again.train.x, first.train.x)
    other = tokens.train(["qq ww ee"] * 5, 300)
    assert data.load(asked, tmp_path, tokens.Given(tokenizer=other.to_str())).fingerprint != first.fingerprint


# ---- tokenizers that are given


def test_a_given_tokenizer_is_taken_without_its_own_cuts_and_padding(made, tmp_path):
    tokenizer = tokens.train(["completely other words"] * 9, 290)
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=30)
    (tmp_path / "mine.json").write_text(tokenizer.to_str())
    dataset = made(
        {"train": [("other words here", 0), ("b", 1)], "test": [("c", 0)]}, tokenizer=str(tmp_path / "mine.json")
    )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = tokenizer.encode("other words here").ids
    assert dataset.train.x[0, : len(ids)].tolist() == ids
    assert dataset.vocabulary == tokenizer.get_vocab_size()
    assert dataset.token_facts["tokenizer"].endswith("mine.json")


def test_tokenizers_that_are_none_or_no_robertas_are_refused_in_one_line(tmp_path):
    bert = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    (tmp_path / "bert.json").write_text(bert.to_str())
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 3}))
    for name, said in (
        ("bert.json", "expected RoBERTa's special tokens <s> 0.*found <s> None"),
        ("broken.json", r"expected a tokenizer.json \("),
        ("config.json", r"expected a tokenizer.json \("),
        ("absent.json", "expected a tokenizer.json; name such a file"),
    ):
        with pytest.raises(BadInput, match=f"--tokenizer=.*{name}: {said}") as caught:
            tokens.load(str(tmp_path / name), "--tokenizer")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"expected a tokenizer.json \("),
        ("{}", r"expected a tokenizer.json \("),
        ("[1]", r"expected a tokenizer.json \("),
        ("[" * 100_000, r"expected a tokenizer.json \("),
        (tokenizers.Tokenizer(tokenizers.models.BPE()).to_str(), "expected RoBERTa's special tokens"),
    ],
)
def test_a_damaged_tokenizer_of_a_work_folder_is_named_with_its_file(text, said):
    given = tokens.Given(tokenizer=text, place="runs/x/tokenizer.json")
    with pytest.raises(BadInput, match=f"^runs/x/tokenizer.json: {said}.*; restore the file or start in") as caught:
        tokens.choose(Data(), [("a",)], given)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_another_size_than_the_weights_is_refused(made, tmp_path):
    with pytest.raises(BadInput, match="expected the 50265 token ids of the pre-trained weights, found"):
        made({"train": [("a", 0), ("b", 1)], "test": [("c", 0)]}, given=tokens.Given(vocabulary=50265))


def test_without_the_library_the_fix_is_named(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BadInput, match=r"pip install 'kd_jax\[text\]'"):
        made({"train": [("a", 0), ("b", 1)], "test": [("c", 0)]})


# ---- loaded once


def test_equal_requests_get_the_same_object_and_texts_are_tokenised_once(tmp_path, write_texts, monkeypatch):
    """Also the request of an analysis, which gives the tokenizer that training made."""
    write_texts(tmp_path, {"train": [(text, i % 2) for i, text in enumerate(TEXTS)], "test": [("the film", 0)]})
    done, real = [], tokens.encode
    monkeypatch.setattr(tokens, "encode", lambda *args: done.append(1) or real(*args))
    loader, asked = data.Loader(held=2), Data(dataset="texts", vocabulary=300)
    first = loader.load(asked, tmp_path)
    assert len(done) == 2  # both splits
    assert loader.load(Data(dataset="texts", vocabulary=300), str(tmp_path), data.Given()) is first
    assert loader.load(asked, tmp_path, first.given) is first
    assert first.given.tokenizer == first.tokenizer
    assert len(done) == 2
    noisy = loader.load(Data(dataset="texts", vocabulary=300, label_noise=0.5), tmp_path)
    assert noisy.fingerprint != first.fingerprint
    other = tokens.train(["qq ww ee"] * 5, 300).to_str()
    assert loader.load(asked, tmp_path, data.Given(tokenizer=other)).tokenizer == other


def test_a_loader_holds_no_more_than_it_is_told_and_shares_whole_sets(tmp_path):
    loader = data.Loader(held=2)
    clean, noisy = (loader.load(Data(dataset="digits", label_noise=share), tmp_path) for share in (0.0, 0.1))
    assert clean.train.x is noisy.train.x
    assert loader.load(Data(dataset="digits"), tmp_path) is clean
    loader.load(Data(dataset="digits", label_noise=0.2), tmp_path)
    assert loader.load(Data(dataset="digits"), tmp_path) is clean  # asked for last
    assert loader.load(Data(dataset="digits", label_noise=0.1), tmp_path) is not noisy
