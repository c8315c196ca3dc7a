"""From texts to what a RoBERTa reads: a tokenizer, trained here or given, and rows of token ids as long as the longest text.

A text is `<s> A </s>`, a pair `<s> A </s></s> B </s>` (Liu et al. 2019); ids are RoBERTa's, 0 to 3 for <s>, <pad>, </s>, <unk>. The
tokenizer is Hugging Face's Rust library, from a local file or trained on the training texts: no hub, no network.
"""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kd_jax.config import BadInput
from kd_jax.data.arrays import Dataset, digest, part, with_noise

SPECIAL = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
START, PAD, END, UNKNOWN = SPECIAL.values()
MASK = "<mask>"  # no id of its own is expected: RoBERTa's own is the last
BUCKETS = (8, 16, 32, 64, 128, 256, 512)  # lengths to which a batch may be cut
BLOCK = 10_000  # texts tokenized at a time


class Given(NamedTuple):
    """What is fixed before texts are read.

    Attributes:
        tokenizer: contents of the tokenizer.json that the study's work folder holds; None for a new study.
        vocabulary: number of token ids that pre-trained weights have; None without such.
        positions: tokens of the longest text that they can read; None for as many as `Study.max_length`.
    """

    tokenizer: str | None = None
    vocabulary: int | None = None
    positions: int | None = None


class Tokens(NamedTuple):
    """What is particular to a data set of texts.

    Attributes:
        vocabulary: number of token ids.
        buckets: lengths to which batches are cut, rising; the last is that of the rows.
        tokenizer: contents of its tokenizer.json.
        facts: for the study's record: what the tokenizer is, and how many texts were cut or are empty, per split.
    """

    vocabulary: int
    buckets: tuple[int, ...]
    tokenizer: str
    facts: dict

    @property
    def build(self):
        """What `models.build` must know, as keyword arguments."""
        return {"vocabulary": self.vocabulary, "positions": self.facts["positions"]}


def assemble(texts, study, given=None):
    """Return the `Dataset` of a study of texts.

    Args:
        texts: a `data.text.Texts`.
        study: a `kd_jax.config.Study`.
        given: a `Given`.

    Raises:
        BadInput: when a part is larger than the whole, a tokenizer cannot be read, is no RoBERTa's or not that of the weights, or
            the study asks for what only images have.
    """
    given = given or Given()
    for flag, off in (("augment", "none"), ("mixup", 0), ("cutmix", 0), ("image_size", 0)):
        if getattr(study, flag) != off:
            raise BadInput(f"--{flag}={getattr(study, flag)}: expected {off} for texts, {texts.name}; it is for images")
    counts = {"train": study.train_examples, "test": study.test_examples}
    strings, splits = {}, {}
    for name in texts.splits.tolist():
        of_split, y = texts.of(name)
        # A part of the test set is one of every further test set that is larger.
        count = counts.get(name, study.test_examples if study.test_examples < len(y) else 0)
        splits[name] = part(np.empty((len(y), 0), np.uint16), y, count, f"{name}_examples")
        strings[name] = [of_split[i] for i in splits[name].ids.tolist()]
    splits["train"] = with_noise(splits["train"], study, texts.classes)
    tokenizer, origin = _tokenizer(study, strings["train"], given.tokenizer)
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    if given.vocabulary not in (None, vocabulary):
        raise BadInput(
            f"--tokenizer={origin}: expected the {given.vocabulary} token ids of the pre-trained weights, found {vocabulary};"
            " pass the tokenizer.json of the folder of --init_from"
        )
    encoded = {name: encode(tokenizer, of_split, study.max_length) for name, of_split in strings.items()}
    longest = max(len(ids) for ids, _ in encoded.values() for ids in ids)
    buckets = buckets_of(study.max_length, longest)
    dtype = np.uint16 if vocabulary <= 2**16 else np.uint32
    for name, (ids, _) in encoded.items():
        splits[name] = splits[name]._replace(x=padded(ids, buckets[-1], dtype))
    written = tokenizer.to_str()
    facts = {
        "max_length": study.max_length,
        "positions": given.positions or study.max_length,
        "vocabulary": vocabulary,
        "tokenizer": origin,
        "tokenizer_hash": hashlib.sha256(written.encode()).hexdigest(),
        "longest": longest,
        "mean_length": {name: float(lengths(split.x).mean()) for name, split in splits.items()},
        "cut": {name: int(cut.sum()) for name, (_, cut) in encoded.items()},
        "empty": {name: sum(not all(text) for text in of_split) for name, of_split in strings.items()},
        "published": dict(zip(texts.splits.tolist(), texts.published.tolist(), strict=True)),
        "note": texts.note,
    }
    train, test, *more = splits.values()
    return Dataset(
        texts.name,
        train,
        test,
        texts.classes,
        None,
        None,
        facts["published"]["test"],
        digest(*splits.values()),
        Tokens(vocabulary, buckets, written, facts),
        dict(zip(list(splits)[2:], more, strict=True)),
    )


def lengths(x):
    """Tokens of each text that are no padding, int64 [examples], of rows [examples, length]."""
    return (np.asarray(x) != PAD).sum(axis=1)


def buckets_of(max_length, longest):
    """The lengths to which batches may be cut: of `BUCKETS` and `max_length` those up to the first that holds the longest text."""
    up_to = sorted({length for length in BUCKETS if length < max_length} | {max_length})
    return tuple(up_to[: 1 + next(i for i, length in enumerate(up_to) if length >= longest)])


def padded(ids, length, dtype):
    """Lists of token ids as rows [examples, length], padded at the end."""
    x = np.full((len(ids), length), PAD, dtype)
    for row, of_text in zip(x, ids, strict=True):
        row[: len(of_text)] = of_text
    return x


def encode(tokenizer, texts, max_length):
    """Return (ids, cut): a list of token ids per example, special ones included, and bool [examples], where texts were cut.

    Of a pair the longer text loses tokens, at its end, until both fit.

    Args:
        tokenizer: of the library.
        texts: list of tuples of one string, or two.
        max_length: the longest result.
    """
    found, cut = [], np.zeros(len(texts), bool)
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
            found.append([UNKNOWN if token == PAD else token for token in joined] if PAD in joined else joined)
    return found, cut


def fit(sizes, room):
    """Return the sizes of one text or two, the longer one reduced first, so that they have room; as the library's `longest_first`.

    Args:
        sizes: tokens of each.
        room: tokens in all.
    """
    if sum(sizes) <= room:
        return sizes
    if len(sizes) == 1:
        return [room]
    first, second = sizes
    short = min(*sizes, room // 2)
    return [room - short, short] if first > second else [short, room - short]


# ---- tokenizers


def _tokenizer(study, texts, kept):
    """(tokenizer, where it is from) of a study: the one that its folder holds, the one it names, the weights' own, or a new one."""
    library = _library()
    name = study.tokenizer or (str(Path(study.init_from[0]) / "tokenizer.json") if study.init_from else "")
    origin = name or f"trained on the {len(texts)} training texts"
    if kept is not None:
        tokenizer = library.Tokenizer.from_str(kept)
    elif name:
        tokenizer = load(name, "--tokenizer" if study.tokenizer else "--init_from")
    else:
        tokenizer = train((part for text in texts for part in text), study.vocabulary)
    # What the file says about these would cut or pad twice.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, origin


def load(path, flag):
    """Return the tokenizer of a tokenizer.json.

    Args:
        path: the file.
        flag: that named it, for messages.

    Raises:
        BadInput: when it cannot be read, or its special tokens have other ids than RoBERTa's.
    """
    given = Path(path).expanduser()
    if not given.is_file():
        raise BadInput(f"{flag}={path}: expected a tokenizer.json; name such a file, of Hugging Face's tokenizers")
    try:
        tokenizer = _library().Tokenizer.from_str(given.read_text())
    except Exception as error:  # the library raises plain `Exception`
        reason = str(error).splitlines()[0]
        raise BadInput(f"{flag}={path}: expected a tokenizer.json ({reason}); download it again") from None
    found = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    if found != SPECIAL:
        raise BadInput(
            f"{flag}={path}: expected RoBERTa's special tokens {_listed(SPECIAL)}, found {_listed(found)};"
            " pass the tokenizer of a RoBERTa"
        )
    return tokenizer


def _listed(ids):
    return ", ".join(f"{token} {number}" for token, number in ids.items())


def train(texts, size):
    """Return a byte-level BPE (Radford et al. 2019) trained on texts: the same for the same texts in the same order.

    Args:
        texts: iterable of strings.
        size: number of tokens, at most; pieces that occur once are none.
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
            "--dataset: texts need the package tokenizers, which is not installed; pip install '.[text]'"
        ) from None
    return tokenizers
