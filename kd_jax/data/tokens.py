"""From texts to what a RoBERTa reads: a tokenizer, trained here or given, and lists of token ids.

A text is `<s> A </s>`, a pair `<s> A </s></s> B </s>` (Liu et al. 2019); the ids 0 to 3 are RoBERTa's, for <s>, <pad>, </s>, <unk>.
The tokenizer is Hugging Face's Rust library, from a local file or trained on the training texts: no hub, no network.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_jax.config import Data
from kd_jax.data.buckets import PAD
from kd_jax.data.dataset import Given
from kd_jax.errors import BadInput

SPECIAL = {"<s>": 0, "<pad>": PAD, "</s>": 2, "<unk>": 3}
START, END, UNKNOWN = SPECIAL["<s>"], SPECIAL["</s>"], SPECIAL["<unk>"]
MASK = "<mask>"  # may have any id: RoBERTa's own is the last
BLOCK = 10_000  # texts tokenised at a time


def padded(ids: Sequence[Sequence[int]], length: int, dtype: Any) -> np.ndarray:
    """Return lists of token ids as rows [examples, length], padded at the end.

    >>> padded([[0, 7, 2], [0, 2]], 4, np.uint16).tolist()
    [[0, 7, 2, 1], [0, 2, 1, 1]]
    """
    x = np.full((len(ids), length), PAD, dtype)
    for row, of_text in zip(x, ids, strict=True):
        row[: len(of_text)] = of_text
    return x


def encode(tokenizer: Any, texts: Sequence[tuple[str, ...]], max_length: int) -> tuple[list[list[int]], np.ndarray]:
    """Return (ids, cut): the token ids of each example, special ones included, and bool [examples], whether it was cut.

    Of a pair the longer text loses tokens, at its end, until both fit.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        texts: for each example one string, or two.
        max_length: the length of the longest result.
    """
    rows, cut = [], np.zeros(len(texts), bool)
    for start in range(0, len(texts), BLOCK):
        block = texts[start : start + BLOCK]
        columns = [
            [encoding.ids for encoding in tokenizer.encode_batch_fast(list(column), add_special_tokens=False)]
            for column in zip(*block, strict=True)
        ]
        for i, parts in enumerate(zip(*columns, strict=True), start):
            fitting = fit([len(ids) for ids in parts], max_length - 2 * len(parts))
            cut[i] = sum(map(len, parts)) > sum(fitting)
            joined = [START]
            for number, (ids, size) in enumerate(zip(parts, fitting, strict=True)):
                joined += [*([END] if number else []), *ids[:size], END]
            # A text may spell out <pad>, which would end it.
            rows.append([UNKNOWN if token == PAD else token for token in joined] if PAD in joined else joined)
    return rows, cut


def spelt(tokenizer_json: str, x: np.ndarray, most: int) -> np.ndarray:
    """Return the beginnings of texts as their tokens spell them, str [examples]; the two of a pair are joined by ` | `.

    Args:
        tokenizer_json: contents of the tokenizer.json with which tokens were made.
        x: rows of token ids [examples, length], as `padded` makes them.
        most: the length of the longest result.
    """
    tokenizer = _library().Tokenizer.from_str(tokenizer_json)
    found = []
    for row in x:
        parts, part = [], []
        for token in row[row != PAD].tolist()[1:]:  # the first one is <s>
            if token != END:
                part.append(token)
            elif part:
                parts.append(tokenizer.decode(part).strip())
                part = []
        text = " | ".join(parts)
        found.append(text if len(text) <= most else f"{text[: most - 1]}\u2026")
    return np.array(found, np.str_)


def fit(sizes: Sequence[int], room: int) -> Sequence[int]:
    """Return the sizes to which one text or two are cut to have room, the longer one first; the library's `longest_first`.

    >>> fit([9, 4], 10)
    [6, 4]

    Args:
        sizes: the tokens of each text.
        room: the tokens that they may have together.
    """
    if sum(sizes) <= room:
        return sizes
    if len(sizes) == 1:
        return [room]
    first, second = sizes
    short = min(*sizes, room // 2)
    return [room - short, short] if first > second else [short, room - short]


# ---- tokenizers


def choose(data: Data, texts: Sequence[tuple[str, ...]], given: Given) -> tuple[Any, str]:
    """Return (tokenizer, a description of where it is from) for a study.

    It is the one that the study's work folder holds, else the one that the study names, else the one beside its pre-trained
    weights, else one that is trained here.

    Args:
        data: what the study says about its tokens.
        texts: the training texts.
        given: what is fixed about the tokens.

    Raises:
        BadInput: when a tokenizer cannot be read, or is not a RoBERTa's.
    """
    path = data.tokenizer or given.beside
    origin = path or f"trained on the {len(texts)} training texts"
    if given.tokenizer is not None:
        tokenizer = _read(given.tokenizer, given.place, "restore the file or start in another --workdir")
    elif path:
        tokenizer = load(path, "--tokenizer" if data.tokenizer else "--init_from")
    else:
        tokenizer = train((part for text in texts for part in text), data.vocabulary)
    # What the file says about these would cut or pad twice.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, origin


def load(path: str | Path, flag: str) -> Any:
    """Return the tokenizer of a tokenizer.json.

    Args:
        path: the file.
        flag: the option that named it, for messages.

    Raises:
        BadInput: when it cannot be read, or its special tokens have other ids than RoBERTa's.
    """
    given = Path(path).expanduser()
    if not given.is_file():
        if (given.parent / "vocab.json").is_file() and (given.parent / "merges.txt").is_file():
            raise BadInput(
                f"{flag}={path}: expected a tokenizer.json, found vocab.json and merges.txt beside; convert them with transformers:"
                ' AutoTokenizer.from_pretrained("DIR").save_pretrained("DIR")'
            )
        raise BadInput(f"{flag}={path}: expected a tokenizer.json; name such a file, of Hugging Face's tokenizers")
    try:
        text = given.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{flag}={path}: expected a tokenizer.json ({error}); download it again") from None
    return _read(text, f"{flag}={path}", "download it again, or pass the tokenizer of a RoBERTa")


def _read(text: str, place: str, fix: str) -> Any:
    """The tokenizer that a text describes; `place` and `fix` are for messages."""
    try:
        tokenizer = _library().Tokenizer.from_str(text)
    except BadInput:
        raise
    except Exception as error:  # the library raises plain `Exception`
        reason = str(error).splitlines()[0]
        raise BadInput(f"{place}: expected a tokenizer.json ({reason}); {fix}") from None
    found = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    if found != SPECIAL:
        raise BadInput(f"{place}: expected RoBERTa's special tokens {_listed(SPECIAL)}, found {_listed(found)}; {fix}")
    return tokenizer


def _listed(ids):
    return ", ".join(f"{token} {number}" for token, number in ids.items())


def train(texts: Iterable[str], size: int) -> Any:
    """Return a byte-level BPE (Radford et al. 2019) trained on texts: the same for the same texts in the same order.

    Args:
        texts: the training texts.
        size: the largest number of tokens. Pieces that occur only once become none.
    """
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    tokenizer.post_processor = library.processors.RobertaProcessing(
        ("</s>", END), ("<s>", START), add_prefix_space=False
    )
    trainer = library.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*SPECIAL, MASK],
        initial_alphabet=sorted(library.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _library():
    try:
        import tokenizers
    except ImportError:
        raise BadInput(
            "--dataset: texts need the package tokenizers, which is not installed; pip install 'kd_jax[text]'"
        ) from None
    return tokenizers
