"""Next-token distributions of language models: which rows count, which sequence each is of, what the tokens are called.

Rows are the positions of sequences, in their order. An array [sequences, length, ...] is read as [sequences * length, ...].
"""

import json
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_jax.errors import BadInput

IGNORED = -100  # the label of a position that does not count, as in PyTorch's losses and Hugging Face's models
CONTEXT = 24  # tokens before a token that are shown
Layout = tuple[int, int]


class Positions(NamedTuple):
    """The positions that are judged.

    Attributes:
        rows: which rows of the arrays count, rising, int64 [tokens].
        labels: the token that comes next there, int64 [tokens]; None without labels.
        sequences: the sequence of each, int64 [tokens]; None where it is not known.
    """

    rows: np.ndarray
    labels: np.ndarray | None
    sequences: np.ndarray | None


def positions(
    count: int,
    layout: Layout | None,
    classes: int,
    labels: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    sequences: np.ndarray | None = None,
    shift: bool = False,
) -> Positions:
    """Return which positions are judged, after a check: those that the mask keeps and whose label is not `IGNORED`.

    >>> logits = (2, 3)  # two sequences of three positions
    >>> found = positions(6, logits, 9, labels=np.array([[5, 6, 7], [8, 4, -100]]), shift=True)
    >>> found.rows.tolist(), found.labels.tolist(), found.sequences.tolist()
    ([0, 1, 3], [6, 7, 4], [0, 0, 1])

    Args:
        count: rows of the arrays.
        layout: (sequences, length), if the logits have that shape.
        classes: the size of the vocabulary.
        labels: int [rows] or [sequences, length].
        mask: bool, or integers 0 and 1, of the same shape: whether a position counts.
        sequences: int [rows], [sequences, length], or with a layout [sequences]: positions of equal numbers depend on each other.
        shift: whether the labels are the inputs themselves, as Hugging Face's models take them: the token at a position is what the
            row before it predicts.

    Raises:
        BadInput: in one line, for shapes and numbers that do not fit.
    """
    y = None if labels is None else _of_rows("labels", labels, count, layout).astype(np.int64)
    kept = np.ones(count, bool)
    if mask is not None:
        of_rows = _of_rows("mask", mask, count, layout)
        if not np.isin(of_rows, (0, 1)).all():
            raise BadInput(f"--mask: expected 0 and 1, or booleans, found {of_rows[~np.isin(of_rows, (0, 1))][0]}")
        kept = of_rows.astype(bool)
    own = None if layout is None else np.repeat(np.arange(layout[0]), layout[1])
    if sequences is not None and layout is not None and sequences.shape == (layout[0],):
        sequences = np.repeat(sequences, layout[1])
    given = None if sequences is None else _of_rows("sequences", sequences, count, layout)
    if y is not None:
        _check_tokens(y, classes)
    if shift:
        y, kept = _shifted(y, kept, given if own is None else own)
    if y is not None:
        kept = kept & (y != IGNORED)
    rows = np.flatnonzero(kept)
    groups = own if given is None else given
    return Positions(
        rows,
        None if y is None else y[rows],
        None if groups is None else np.unique(groups[rows], return_inverse=True)[1].astype(np.int64),
    )


def _of_rows(name: str, array: np.ndarray, count: int, layout: Layout | None) -> np.ndarray:
    if array.shape != (count,) and array.shape != layout:
        expected = f"[{count}]" + (f" or {list(layout)}" if layout else "")
        raise BadInput(f"--{name}: expected integers {expected}, one for each position, found {list(array.shape)}")
    return array.reshape(-1)


def _check_tokens(y: np.ndarray, classes: int) -> None:
    wrong = ((y < 0) & (y != IGNORED)) | (y >= classes)
    if wrong.any():
        row = int(wrong.argmax())
        raise BadInput(
            f"--labels: position {row}: expected a token from 0 to {classes - 1}, or {IGNORED} to leave it out, found {y[row]};"
            " of the most probable tokens alone, pass --classes, the size of the vocabulary"
        )


def _shifted(y: np.ndarray | None, kept: np.ndarray, sequences: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(labels, kept) of the rows that predict them: a position counts if it and the next one of its sequence do."""
    if y is None or sequences is None:
        what = "--labels" if y is None else "logits [sequences, length, vocabulary] or --sequences"
        raise BadInput(f"--shift_labels: expected {what}, so that it is known which token comes next")
    last = np.append(sequences[1:] != sequences[:-1], True)
    following, kept_next = np.append(y[1:], IGNORED), np.append(kept[1:], False)
    return np.where(last, IGNORED, following), kept & kept_next & ~last


# ---- what tokens are called


def vocabulary(path: Path | str, flag: str, classes: int) -> list[str]:
    """Return the tokens as they stand in a text, by their ids, from a tokenizer.json; ids that it lacks are `<id>`.

    Args:
        path: the file, of Hugging Face's tokenizers. Their library is not needed.
        flag: what messages call it.
        classes: the size of the vocabulary: models often have more rows than their tokenizer has tokens.

    Raises:
        BadInput: when it cannot be read, is no tokenizer, or has tokens beyond the vocabulary.
    """
    try:
        contents = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{flag}: expected a tokenizer.json: {' '.join(str(error).split())[:200]}") from None
    try:
        named = _tokens(contents)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        raise BadInput(f"{flag}: expected the tokenizer.json of Hugging Face's tokenizers, with model.vocab") from None
    if named and (largest := max(named)) >= classes:
        raise BadInput(
            f"{flag}: expected at most {classes} tokens, as the rows have, found id {largest}; pass its model's"
        )
    return [named.get(number, f"<{number}>") for number in range(classes)]


def _tokens(contents: Any) -> dict[int, str]:
    model = contents["model"]
    words = model["vocab"]
    pairs = (
        [(str(word), int(number)) for word, number in words.items()]
        if isinstance(words, dict)
        else [(str(each[0]), number) for number, each in enumerate(words)]
    )
    kinds = {each.get("type") for key in ("decoder", "pre_tokenizer") for each in _parts(contents.get(key))}
    if "ByteLevel" in kinds:
        plain: Callable[[str], str] = _of_bytes
    elif model.get("type") == "WordPiece":
        plain = _of_pieces
    else:
        plain = _of_words
    named = {number: plain(word) for word, number in pairs}
    named |= {int(each["id"]): str(each["content"]) for each in contents.get("added_tokens") or []}
    if any(number < 0 for number in named):
        raise ValueError
    return named


def _parts(part: Any) -> list[Any]:
    """A decoder or pre-tokenizer, or those that a sequence is made of."""
    if not part:
        return []
    return [part, *chain(part.get("decoders") or [], part.get("pretokenizers") or [])]


def _of_words(token: str) -> str:
    return token.replace("\u2581", " ")


def _of_pieces(token: str) -> str:
    return token[2:] if token.startswith("##") else f" {token}"


def _of_bytes(token: str) -> str:
    """The text of a token of byte-level BPE, where a character stands for each byte (Radford et al., 2019)."""
    if not all(character in BYTES for character in token):
        return token
    return bytes(BYTES[character] for character in token).decode("utf-8", errors="replace")


def _byte_characters() -> dict[str, int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_characters()


def visible(token: str) -> str:
    """Return a token with its white space and control characters seen.

    >>> visible(" the"), visible("\\n")
    ('␣the', '\\\\n')
    """
    shown = "".join("␣" if c == " " else c if c.isprintable() else c.encode("unicode_escape").decode() for c in token)
    return shown or "(empty)"


# ---- a token in its context


def context(
    names: Sequence[str], sequences: np.ndarray | None, inputs: np.ndarray | None, targets: np.ndarray | None
) -> Callable[[int], tuple[str, str]]:
    """Return `view(row)`, which gives the tokens up to a position and, in brackets, the one that came next.

    Args:
        names: the tokens as they stand in a text.
        sequences: the sequence of each row, int [rows]; None where all rows are one text.
        inputs: the token that is read at each row, int [rows], negative where it is not known; None to take the labels of the rows
            before.
        targets: the token that comes next, int [rows], negative where it is not known; None where it is known nowhere.
    """

    def name(token: int) -> str:
        return names[token] if 0 <= token < len(names) else ""

    def view(row: int) -> tuple[str, str]:
        first = row
        while first > max(row - CONTEXT + 1, 0) and (sequences is None or sequences[first - 1] == sequences[row]):
            first -= 1
        known = targets[first:row] if inputs is None and targets is not None else ()
        text = "".join(name(int(token)) for token in (known if inputs is None else inputs[first : row + 1]))
        following = name(int(targets[row])) if targets is not None else ""
        begins = first == 0 or (sequences is not None and sequences[first - 1] != sequences[row])
        return "text", f"{'' if begins else '…'}{text}" + (f"⟦{following}⟧" if following else "")

    return view
