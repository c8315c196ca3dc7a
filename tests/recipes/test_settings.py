"""The paper's settings in one list: their sizes and what a network of theirs costs."""

import jax
import jax.numpy as jnp
import pytest

from kd_jax import models
from kd_jax.recipes.settings import FORWARD_FLOPS, SIZES, VOCABULARY, settings


def counted(network, size):
    """Operations of one example forward, as XLA counts them; nothing is run."""
    is_text = len(size.example) == 1
    model = models.build(network, size.classes, vocabulary=VOCABULARY if is_text else None)
    x = jax.ShapeDtypeStruct((1, *size.example), jnp.int32 if is_text else jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), x)
    lowered = jax.jit(lambda variables, x: model.apply(variables, x, train=False).logits).lower(variables, x)
    return lowered.cost_analysis()["flops"]


def check(pairs):
    for network, dataset in pairs:
        # Versions of XLA count elementwise operations differently.
        assert FORWARD_FLOPS[network, dataset] == pytest.approx(counted(network, SIZES[dataset]), rel=0.05)


def test_operations_are_what_xla_counts_and_close_to_those_of_the_convolutions_by_hand():
    check([("resnet20", "cifar100")])
    # Two per multiplication with addition; ResNet-20 has 40.6 million of these in its convolutions, fewer at the borders.
    assert 0.85 < FORWARD_FLOPS["resnet20", "cifar10"] / (2 * 40.6e6) < 1
    # ResNet-18 and -50 on 224x224: 1.8 and 4.1 thousand million.
    assert 0.9 < FORWARD_FLOPS["resnet18", "imagenet2012"] / (2 * 1.8e9) < 1
    assert 0.9 < FORWARD_FLOPS["resnet50", "imagenet2012"] / (2 * 4.1e9) < 1


@pytest.mark.long
def test_the_operations_of_all_networks_are_what_xla_counts():
    check(FORWARD_FLOPS)


def test_every_setting_has_a_size_and_operations():
    of = settings()
    assert [setting.number for setting in of] == list(range(1, 31))
    used = {(name, s.study.data.dataset) for s in of for name in (s.study.networks.teacher, *s.study.networks.student)}
    assert used == set(FORWARD_FLOPS)
    assert {s.study.data.dataset for s in of} == set(SIZES)


def test_the_sizes_of_the_data_are_those_of_the_recipes_comments():
    steps = {name: SIZES[name].train // 64 for name in ("glue/mnli", "glue/qqp", "imdb_reviews", "ag_news_subset")}
    assert {name: 4 * of for name, of in steps.items() if "glue" in name} == {"glue/mnli": 24_540, "glue/qqp": 22_740}
    assert (64 * steps["imdb_reviews"], 13 * steps["ag_news_subset"]) == (24_960, 24_375)
