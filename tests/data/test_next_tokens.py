"""Rows of language models: which count, what they predict, what their tokens are called."""

import json

import numpy as np
import pytest

from kd_jax.data import next_tokens, outputs
from kd_jax.errors import BadInput

RNG = np.random.default_rng(0)


def by_loops(labels, mask, shift):
    """(rows, labels, sequences) of the positions that count, position by position."""
    found = []
    for s, (of_sequence, kept) in enumerate(zip(labels, mask, strict=True)):
        for t in range(len(of_sequence)):
            at = t + 1 if shift else t
            if at < len(of_sequence) and kept[t] and kept[at] and of_sequence[at] != -100:
                found.append((s * len(of_sequence) + t, of_sequence[at], s))
    return [list(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_the_positions_that_count_are_those_that_a_loop_finds(shift, flat):
    labels, mask = RNG.integers(0, 9, (6, 7)), np.arange(7) < RNG.integers(3, 8, (6, 1))
    labels[RNG.random((6, 7)) < 0.2] = -100
    rows, y, sequences = by_loops(labels, mask, shift)
    if flat:
        given = np.repeat(np.arange(6), 7) * 10
        found = next_tokens.positions(42, None, 9, labels.ravel(), mask.ravel(), given, shift)
    else:
        found = next_tokens.positions(42, (6, 7), 9, labels, mask.astype(int), None, shift)
    assert (found.rows.tolist(), found.labels.tolist()) == (rows, y)
    assert found.sequences.tolist() == np.unique(sequences, return_inverse=True)[1].tolist()


def test_windows_of_one_text_may_be_joined_and_without_anything_all_rows_count():
    joined = next_tokens.positions(12, (4, 3), 9, sequences=np.array([7, 7, 2, 2]))
    assert joined.sequences.tolist() == [1] * 6 + [0] * 6
    plain = next_tokens.positions(12, None, 9)
    assert (plain.rows.tolist(), plain.labels, plain.sequences) == (list(range(12)), None, None)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": np.zeros((3, 4), int)}, r"--labels: expected integers \[12\] or \[4, 3\], .* found \[3, 4\]"),
        ({"labels": np.full(12, -1)}, "position 0: expected a token from 0 to 8, or -100 to leave it out, found -1"),
        ({"labels": np.full(12, 9)}, "position 0: .* found 9"),
        ({"mask": np.full(12, 2)}, "--mask: expected 0 and 1, or booleans, found 2"),
        ({"sequences": np.zeros(5, int)}, "--sequences: expected integers"),
        ({"shift": True}, "--shift_labels: expected --labels"),
    ],
)
def test_what_does_not_fit_is_one_line(given, said):
    with pytest.raises(BadInput, match=said):
        next_tokens.positions(12, (4, 3), 9, **given)
    with pytest.raises(BadInput, match="or --sequences"):
        next_tokens.positions(12, None, 9, labels=np.zeros(12, int), shift=True)


def written(tmp_path, contents):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(contents), encoding="utf-8")
    return path


def test_names_of_byte_level_tokens_are_those_that_the_library_decodes(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=330, initial_alphabet=alphabet, special_tokens=["<s>"])
    tokenizer.train_from_iterator(["der Bär und die Bären im Wald\n" * 20], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    names = next_tokens.vocabulary(tmp_path / "tokenizer.json", "--names", size + 2)
    assert names[-2:] == [f"<{size}>", f"<{size + 1}>"]
    assert names[0] == "<s>"
    for number in range(1, size):
        assert names[number] == tokenizer.decode([number])
    assert " Bär" in names


@pytest.mark.parametrize(
    ("contents", "names"),
    [
        ({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁a", -1.5]]}}, ["<unk>", " a", "<2>"]),
        ({"model": {"type": "WordPiece", "vocab": {"ing": 1, "##ing": 0}}}, ["ing", " ing", "<2>"]),
        ({"model": {"vocab": {}}, "added_tokens": [{"id": 2, "content": "<pad>"}]}, ["<0>", "<1>", "<pad>"]),
    ],
)
def test_names_of_other_tokenizers(tmp_path, contents, names):
    assert outputs.class_names(written(tmp_path, contents), "--names", 3) == names


@pytest.mark.parametrize(
    "contents", [[], {}, {"model": {}}, {"model": {"vocab": 3}}, {"model": {"vocab": {"a": "x"}}}, {"model": None}]
)
def test_what_is_no_tokenizer_is_one_line(tmp_path, contents):
    with pytest.raises(BadInput, match=r"tokenizer\.json"):
        next_tokens.vocabulary(written(tmp_path, contents), "--names", 3)


def test_a_tokenizer_of_a_larger_model_is_refused(tmp_path):
    with pytest.raises(BadInput, match="expected at most 3 tokens, as the rows have, found id 5"):
        next_tokens.vocabulary(written(tmp_path, {"model": {"vocab": {"a": 5}}}), "--names", 3)


def test_a_token_is_shown_with_what_came_before_it_in_its_sequence():
    names, sequences = [" a", " b", " c", " d"], np.repeat([0, 1], 3)
    targets = np.array([1, 2, 3, 0, -1, 2])
    inputs = np.array([0, 1, 2, 3, 0, 1])
    by_inputs = next_tokens.context(names, sequences, inputs, targets)
    assert by_inputs(2) == ("text", " a b c⟦ d⟧")
    assert by_inputs(3) == ("text", " d⟦ a⟧")
    by_labels = next_tokens.context(names, sequences, None, targets)
    assert by_labels(2) == ("text", " b c⟦ d⟧")
    assert by_labels(5) == ("text", " a⟦ c⟧")
    long = next_tokens.context(names, None, np.zeros(100, int), None)(80)[1]
    assert long == "…" + " a" * next_tokens.CONTEXT
