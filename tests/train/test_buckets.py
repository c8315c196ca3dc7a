"""Batches of similar length, cut to what their longest text needs: other time, same numbers."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data import buckets
from kd_jax.data.arrays import digest, part
from kd_jax.data.order import order
from kd_jax.data.tokenised import TokenisedTexts
from kd_jax.data.tokens import padded
from kd_jax.extract.logits import make_logits
from kd_jax.plan import make_plan
from kd_jax.train import engine, epoch
from kd_jax.train.loop import train_run

STUDY = Study.from_flags(
    dataset="made",
    teacher="roberta_1x16",
    student=("roberta_1x16",),
    epochs=2,
    batch_size=8,
    learning_rate=0.01,
    warmup=0.2,
    optimizer="adamw",
    weight_decay=0.1,
    decay_on="kernels",
    decay="linear",
    gradient_clip=0.5,
    dropout=0.3,
    max_length=30,
    precision="float64",
)
BUCKETS = (8, 30)


def made(examples=43, tests=23, seed=0, longest=30):
    """Texts of random tokens, most of them short."""
    rng = np.random.default_rng(seed)

    def split(count):
        sizes = np.clip(rng.geometric(0.12, count) + 2, 3, longest)
        ids = [[0, *rng.integers(5, 40, size - 2), 2] for size in sizes]
        return part(padded(ids, BUCKETS[-1], np.uint16), rng.integers(0, 3, count), 0, "")

    train, test = split(examples), split(tests)
    return TokenisedTexts(
        name="made",
        train=train,
        test=test,
        classes=3,
        test_split="test",
        fingerprint=digest(train, test),
        vocabulary=40,
        buckets=BUCKETS,
        tokenizer_json="",
        token_facts={"positions": 30},
        evaluation_size=6,
    )


def network(dropout=0.0):
    return models.build("roberta_1x16", 3, "float64", vocabulary=40, positions=30, dropout=dropout)


def trained(study, dataset, devices, teacher, uncut=False):
    """Return (state, totals of the last epoch, test totals) after a whole run of a student."""
    if uncut:
        dataset = replace(dataset, buckets=BUCKETS[-1:])
    built = engine.build("float64", study.training, dataset, "roberta_1x16", devices, engine.Teacher.of(study))
    outcome = train_run(built, make_plan(study, len(dataset.train.y)).run("student", 0), teacher)
    test = built.evaluate(outcome.state.variables, dataset.test, built.replicate(dataset.resident(dataset.test)))
    return jax.device_get(outcome.state), outcome.totals, test


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max() for x, y in pairs)


# ---- order


def test_every_text_of_an_epoch_is_used_once_and_the_order_depends_on_the_arguments_alone():
    lengths = np.random.default_rng(1).integers(3, 60, 1003)
    first = order(5, 1, 0, 1003, 4, lengths)
    assert first.shape == (250, 4)
    assert len(np.unique(first)) == 1000
    np.testing.assert_array_equal(first, order(5, 1, 0, 1003, 4, lengths))
    for other in (order(5, 1, 1, 1003, 4, lengths), order(5, 0, 0, 1003, 4, lengths)):
        assert (first != other).any()
    # Those that fill no batch are the same as without lengths: which texts are used does not depend on them.
    assert set(first.ravel()) == set(order(5, 1, 0, 1003, 4).ravel())


def test_batches_of_similar_length_need_less_padding_and_are_not_sorted():
    lengths = np.random.default_rng(1).integers(3, 64, 6400)

    def padding(rows):  # to the longest of each batch, whatever the buckets
        return 1 - sum(lengths[row].sum() for row in rows) / sum(lengths[row].max() * len(row) for row in rows)

    grouped = order(0, 1, 0, 6400, 32, lengths)
    assert padding(grouped) < 0.1 < 0.4 < padding(order(0, 1, 0, 6400, 32))
    longest = lengths[grouped].max(axis=1)
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


def test_counted_are_the_tokens_and_the_places_of_the_buckets():
    lengths, rows = np.array([3, 8, 9, 2, 30, 17]), np.array([[0, 1], [2, 3], [4, 5]])
    tokens, places = buckets.count(lengths, rows, BUCKETS)
    assert tokens.tolist() == [11, 11, 47]
    assert places.tolist() == [2 * 8, 2 * 30, 2 * 30]


# ---- fewer buckets on accelerators


def cost(lengths, rows, chosen, shares):
    """What the steps of an epoch take, in tokens."""
    per_step = [min(b for b in chosen if b >= lengths[row].max()) * len(row) / shares for row in rows]
    return np.mean(per_step) + buckets.FIXED_TOKENS


@pytest.mark.parametrize("shares", [1, 8])
@pytest.mark.parametrize(("mean", "seed"), [(6, 0), (25, 1), (60, 2)])
def test_an_accelerator_has_the_buckets_that_save_most_and_none_that_saves_less_than_it_is_worth(mean, seed, shares):
    rng = np.random.default_rng(seed)
    given = (8, 16, 32, 64, 100)
    lengths = np.clip(rng.geometric(1 / mean, 6400), 3, 100)
    rows = order(0, 0, 0, 6400, 64, lengths)
    chosen = buckets.worthwhile(lengths, rows, given, shares)
    assert set(chosen) <= set(given)
    assert chosen[-1] == given[-1]
    of_as_many = [(*some, given[-1]) for some in itertools.combinations(given[:-1], len(chosen) - 1)]
    least = cost(lengths, rows, chosen, shares)
    assert least == pytest.approx(min(cost(lengths, rows, each, shares) for each in of_as_many))
    if len(chosen) < len(given):
        one_more = [(*some, given[-1]) for some in itertools.combinations(given[:-1], len(chosen))]
        assert min(cost(lengths, rows, each, shares) for each in one_more) > (1 - buckets.WORTH) * least
    if len(chosen) > 1:
        one_less = [(*some, given[-1]) for some in itertools.combinations(given[:-1], len(chosen) - 2)]
        assert least <= (1 - buckets.WORTH) * min(cost(lengths, rows, each, shares) for each in one_less)


def test_texts_of_one_length_need_one_bucket_and_two_lengths_apart_two():
    rows = np.arange(640).reshape(10, 64)
    assert buckets.worthwhile(np.full(640, 100), rows, (8, 16, 32, 64, 128)) == (128,)
    apart = np.repeat([30, 120], 320)
    assert buckets.worthwhile(apart, rows, (8, 16, 32, 64, 128)) == (32, 128)


def test_on_a_cpu_texts_keep_all_their_buckets():
    dataset = replace(made(), buckets=(8, 16, 30))
    assert dataset.for_devices("cpu", 1, 8) is dataset
    fewer = dataset.for_devices("tpu", 1, 8)
    assert fewer.buckets == buckets.worthwhile(dataset.lengths, dataset.rows_of(0, 0, 8)(0), (8, 16, 30))
    assert len(fewer.buckets) < 3


# ---- cut batches


@pytest.mark.parametrize("lengths", [(3, 8), (3, 9), (16, 16), (17, 2), (30, 30)])
def test_the_smallest_bucket_that_holds_the_longest_text_is_taken(lengths):
    x = padded([[0] * length for length in lengths], 30, np.uint16)
    expected = min(bucket for bucket in BUCKETS if bucket >= max(lengths))
    assert buckets.shortened(x, BUCKETS).shape[1] == expected
    ran = jax.jit(lambda x: buckets.on_bucket(lambda x: np.int32(x.shape[1]), x, BUCKETS))(x)
    assert ran == expected


@pytest.mark.long
def test_a_distilled_run_is_the_same_in_buckets_at_full_length_and_on_four_devices(float64):
    """Up to rounding, with dropout on: so losses and gradients are. Devices take different branches where the longest texts of
    their shards have different buckets."""
    dataset = made()
    teacher = jax.device_get(network().init(jax.random.key(7), dataset.train.x[:1]))
    one = trained(STUDY, dataset, jax.devices()[:1], teacher)
    assert largest_difference(one, trained(STUDY, dataset, jax.devices()[:1], teacher, uncut=True)) < 1e-9
    four = trained(STUDY, dataset, jax.devices()[:4], teacher)
    assert largest_difference(one, four) < 1e-9
    state, totals, test = four
    assert totals["count"] == 40
    # Every text of the test set is counted once.
    logits, y = np.asarray(network().apply(state.variables, dataset.test.x).logits), dataset.test.y
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    assert (test["count"], test["correct"]) == (23, (logits.argmax(1) == y).sum())
    np.testing.assert_allclose(test["loss"], nll.sum(), rtol=1e-9)


@pytest.mark.long
def test_devices_that_talk_about_their_examples_take_one_bucket(float64):
    """Losses that relate the examples of a batch gather them inside the branch of a bucket."""
    study = STUDY.replaced(distillation="rkd+crd", weight=0.5, crd_negatives=7, crd_width=4)
    dataset = made()
    teacher = jax.device_get(network().init(jax.random.key(7), dataset.train.x[:1]))
    one, four = (trained(study, dataset, jax.devices()[:count], teacher) for count in (1, 4))
    for expected, found in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


# ---- dropout


def test_dropout_keys_follow_key_step_and_example_alone():
    def bits(seed, step, ids):
        return jax.random.key_data(epoch.dropout_keys(jax.random.key(seed), step, np.array(ids)))

    np.testing.assert_array_equal(bits(0, 3, [5, 9, 2])[2], bits(0, 3, [2])[0])
    distinct = np.concatenate([bits(0, 3, [5, 9]), bits(0, 4, [5, 9]), bits(1, 3, [5, 9])])
    assert len(np.unique(distinct, axis=0)) == 6


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_keys_are_drawn_for_each_example_of_a_batch_where_there_is_dropout(dropout):
    seen = {}

    def step(state, batch):
        seen.update(batch)
        return state, {}

    dataset = made()
    view = dataset.random_view("none", np.float32)
    train_on = epoch.make_train_on(step, dataset.batch, view, draws=dropout)
    key, rows = jax.random.key(3), np.array([4, 0, 11])
    state = type("State", (), {"step": 6})()
    train_on(state, {}, epoch.Constants(dataset.resident(dataset.train), key, None), rows)
    np.testing.assert_array_equal(seen["x"], dataset.train.x[rows])
    assert seen["x"].dtype == np.int32
    assert ("keys" in seen) == bool(dropout)
    if dropout:
        assert (seen["keys"] == epoch.dropout_keys(key, 6, rows)).all()


# ---- evaluation


@pytest.mark.long
def test_logits_come_back_in_the_order_of_the_examples(float64):
    dataset = replace(made(), evaluation_size=5)
    variables = network().init(jax.random.key(1), dataset.train.x[:1])
    found = make_logits("roberta_1x16", dataset, "float64")(variables, dataset.train.x)
    alone = jax.jit(lambda row: network().apply(variables, row[None]).logits)
    expected = np.concatenate([np.asarray(alone(row)) for row in dataset.train.x])
    np.testing.assert_allclose(found, expected, atol=1e-12)
