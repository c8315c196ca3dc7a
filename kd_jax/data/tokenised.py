"""Texts as rows of token ids, which lie on the devices during a run; batches are cut to what their longest text needs."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from kd_jax.config import Data, Training
from kd_jax.data import buckets, tokens
from kd_jax.data.arrays import digest, noisy, part
from kd_jax.data.dataset import Dataset, Feed, Given, Split, padded_batches
from kd_jax.data.order import order
from kd_jax.data.text import Texts
from kd_jax.errors import BadInput

IMAGE_DATA = ("image_size",)  # fields of `Data` that only images use
IMAGE_TRAINING = ("augment", "mixup", "cutmix")  # fields of `Training` that only images use


class TextFeed(Feed):
    """The batches of a run on texts, which also counts tokens.

    Args:
        rows_of, put: as for `Feed`.
        lengths: tokens of every training text, int [examples].
        cut_to: the lengths to which batches are cut, rising.
    """

    def __init__(self, rows_of, put, lengths: np.ndarray, cut_to: tuple[int, ...]):
        super().__init__(rows_of, put)
        self._lengths, self._cut_to = lengths, cut_to

    def pace(self, first: int, last: int, seconds: float) -> str:
        """Return the tokens per second of the steps from `first` up to `last`, all of one epoch."""
        epoch, at = divmod(first, self.steps_per_epoch)
        tokens_seen, _ = buckets.count(self._lengths, self.rows(epoch)[at : at + last - first], self._cut_to)
        return f" {tokens_seen.sum() / seconds:,.0f} tokens/s"

    def metrics(self, epoch: int, examples_per_second: float) -> dict[str, float]:
        """Return the tokens per second of an epoch, and the share of what was computed that was padding."""
        rows = self.rows(epoch)
        tokens_seen, places = (int(of_steps.sum()) for of_steps in buckets.count(self._lengths, rows, self._cut_to))
        return {
            "tokens_per_second": tokens_seen / rows.size * examples_per_second,
            "padding": 1 - tokens_seen / places,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class TokenisedTexts(Dataset):
    """Classified texts, or pairs of texts, as token ids.

    Attributes:
        vocabulary: the number of token ids.
        buckets: the lengths to which batches are cut, rising; the last is the length of the rows.
        tokenizer_json: contents of the tokenizer.json with which tokens were made.
        token_facts: what `study.json` says about the tokens: what the tokenizer is, and how many texts of each split were cut or
            are empty. `positions` in it is the length of the longest text that a network can read.
    """

    vocabulary: int
    buckets: tuple[int, ...]
    tokenizer_json: str
    token_facts: Mapping[str, Any]
    beside: str = ""
    evaluation_size: int = 100  # attention takes memory as the square of the length

    @property
    def network_settings(self) -> dict[str, Any]:
        """The number of token ids and the longest text, as keyword arguments of `models.build`."""
        return {"vocabulary": self.vocabulary, "positions": self.token_facts["positions"]}

    @property
    def tokenizer(self) -> str:
        """Contents of the tokenizer.json to be kept with a study."""
        return self.tokenizer_json

    @property
    def given(self) -> Given:
        """The `Given` with which the same data is loaded again from a study's work folder."""
        return Given(self.tokenizer_json, self.vocabulary, self.token_facts["positions"], self.beside)

    @property
    def positions(self) -> int:
        """The length of the rows, in tokens."""
        return self.buckets[-1]

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens of every training text, int64 [examples]."""
        return buckets.lengths(self.train.x)

    def facts(self, seed: int, batch_size: int) -> dict[str, Any]:
        """Return what `study.json` says about the data; see `Dataset.facts`."""
        further = {f"{name}_examples": len(split.y) for name, split in self.further.items()}
        rows = self.rows_of(seed, 1, batch_size)(0)
        tokens_seen, places = buckets.count(self.lengths, rows, self.buckets)
        padding = {
            "padding": float(1 - tokens_seen.sum() / places.sum()),
            "padding_uncut": float(1 - tokens_seen.sum() / (rows.size * self.buckets[-1])),
        }
        return super().facts(seed, batch_size) | further | {"tokens": {**self.token_facts, **padding}}

    def check(self, data: Data, training: Training) -> None:
        """Refuse what only images have, besides what `Dataset.check` refuses."""
        super().check(data, training)
        self._refuse(training, IMAGE_TRAINING, "texts", "images")
        self._refuse(data, IMAGE_DATA, "texts", "images")

    def shown(self, x: Any, rows: np.ndarray) -> np.ndarray:
        """Return the beginnings of some texts, as the tokens spell them; see `Dataset.shown`."""
        from kd_jax.data import views

        return tokens.spelt(self.tokenizer_json, x[rows], views.MOST)

    def for_devices(self, platform: str, count: int, batch_size: int) -> "TokenisedTexts":
        """Return the data with the buckets that are worth their compiling, on an accelerator; see `buckets.worthwhile`."""
        if platform == "cpu" or len(self.buckets) == 1:
            return self
        rows = self.rows_of(0, 0, batch_size)(0)  # the same for all seeds, which share a program
        return replace(self, buckets=buckets.worthwhile(self.lengths, rows, self.buckets, count))

    def example(self, dtype: Any = np.float32) -> np.ndarray:
        """Return a batch of one text of zeros, int32."""
        return super().example(np.int32)

    def clean_view(self, dtype: Any) -> Callable[[Any], Any]:
        """Return `view(x)`, which leaves token ids as they are, as int32."""
        import jax.numpy as jnp

        return lambda x: jnp.asarray(x, jnp.int32)

    def on_shortest(self, run: Callable[[Any], Any], x: Any, axis_name: str | None = None) -> Any:
        """Return `run` of a batch cut to the first bucket that holds its longest text; see `buckets.on_bucket`."""
        return buckets.on_bucket(run, x, self.buckets, axis_name)

    def rows_of(self, seed: int, stream: int, batch_size: int) -> Callable[[int], np.ndarray]:
        """Return the order of the training set, in which texts of similar length come into one batch; see `Dataset.rows_of`."""
        return partial(order, seed, stream, examples=len(self.train.y), batch_size=batch_size, lengths=self.lengths)

    def feed(
        self,
        rows_of: Callable[[int], np.ndarray],
        epochs: int,
        augment: str,
        key_words: tuple[int, ...],
        put: Any,
    ) -> TextFeed:
        """Return what the steps of a training run are given; see `Dataset.feed`."""
        return TextFeed(rows_of, put, self.lengths, self.buckets)

    def evaluation_items(self, split: Split, size: int, put: Any) -> Iterator[Any]:
        """Yield (item, weights) for all examples of a split in the order of their lengths; see `Dataset.evaluation_items`."""
        rows, weights = padded_batches(len(split.y), size)
        for of_batch in zip(buckets.by_length(split.x, rows), weights, strict=True):
            yield put(of_batch)

    def blocks(self, x: Any, size: int, rows: np.ndarray | None = None, pad: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (rows, token ids) in the order of lengths, each block cut to a bucket; see `Dataset.blocks`.

        Padding repeats the first row, which is then named again.
        """
        rows = np.arange(len(x)) if rows is None else rows
        rows = rows[buckets.by_length(x[rows], np.arange(len(rows)))]
        if pad:
            rows = np.append(rows, np.repeat(rows[:1], -len(rows) % size))
        for start in range(0, len(rows), size):
            block = rows[start : start + size]
            yield block, buckets.shortened(x[block], self.buckets)


def assemble(texts: Texts, data: Data, given: Given) -> TokenisedTexts:
    """Return the data set that a study asks for: a part of a published set, as tokens, with label noise on the training labels.

    Args:
        texts: the published set.
        data: says which part, which label noise and which tokens.
        given: what is fixed about the tokens.

    Raises:
        BadInput: when a part is larger than the whole, or a tokenizer cannot be read, is not a RoBERTa's, or does not fit the
            pre-trained weights.
    """
    counts = {"train": data.train_examples, "test": data.test_examples}
    strings, splits = {}, {}
    for name in texts.splits.tolist():
        of_split, y = texts.of(name)
        # The size of a part of the test set holds for every further test set that is larger than it.
        count = counts.get(name, data.test_examples if data.test_examples < len(y) else 0)
        splits[name] = part(np.empty((len(y), 0), np.uint16), y, count, f"{name}_examples")
        strings[name] = [of_split[i] for i in splits[name].ids.tolist()]
    splits["train"] = noisy(splits["train"], data, texts.classes)
    tokenizer, origin = tokens.choose(data, strings["train"], given)
    vocabulary = max(tokenizer.get_vocab().values()) + 1
    # The weights' own tokenizer may have fewer ids than they have rows, which are often filled up to a multiple of 64.
    own = given.tokenizer is not None or (not data.tokenizer and bool(given.beside))
    if own and given.vocabulary is not None:
        vocabulary = max(vocabulary, given.vocabulary)
    if given.vocabulary not in (None, vocabulary):
        raise BadInput(
            f"--tokenizer={origin}: expected the {given.vocabulary} token ids of the pre-trained weights, found {vocabulary};"
            " pass the tokenizer.json of the folder of --init_from"
        )
    encoded = {name: tokens.encode(tokenizer, of_split, data.max_length) for name, of_split in strings.items()}
    longest = max(len(ids) for ids, _ in encoded.values() for ids in ids)
    cut_to = buckets.buckets_of(data.max_length, longest)
    dtype = np.uint16 if vocabulary <= 2**16 else np.uint32
    for name, (ids, _) in encoded.items():
        splits[name] = splits[name]._replace(x=tokens.padded(ids, cut_to[-1], dtype))
    written = tokenizer.to_str()
    facts = {
        "max_length": data.max_length,
        "positions": given.positions or data.max_length,
        "vocabulary": vocabulary,
        "tokenizer": origin,
        "tokenizer_hash": hashlib.sha256(written.encode()).hexdigest(),
        "longest": longest,
        "mean_length": {name: float(buckets.lengths(split.x).mean()) for name, split in splits.items()},
        "cut": {name: int(cut.sum()) for name, (_, cut) in encoded.items()},
        "empty": {name: sum(not all(text) for text in of_split) for name, of_split in strings.items()},
        "published": dict(zip(texts.splits.tolist(), texts.published.tolist(), strict=True)),
        "note": texts.note,
    }
    train, test, *more = splits.values()
    return TokenisedTexts(
        name=texts.name,
        train=train,
        test=test,
        further=dict(zip(list(splits)[2:], more, strict=True)),
        classes=texts.classes,
        test_split=facts["published"]["test"],
        class_names=tuple(texts.class_names.tolist()),
        fingerprint=digest(*splits.values()),
        vocabulary=vocabulary,
        buckets=cut_to,
        tokenizer_json=written,
        token_facts=facts,
        beside=given.beside,
    )
