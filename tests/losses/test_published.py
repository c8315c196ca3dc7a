"""The losses of papers against what PyTorch computes in the form of their published code, in float64."""

import json
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses
from kd_jax.config import Distillation
from kd_jax.losses import contrast, features
from kd_jax.losses.types import Learned
from kd_jax.models import Outputs

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "distillation_losses.json").read_text(encoding="utf-8"))
BATCH, CLASSES, EXAMPLES, NEGATIVES, WIDTH = 6, 5, 9, 4, 3
CLOSE = 1e-9


def made(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def out(logits=None, **named):
    return Outputs(jnp.zeros((BATCH, CLASSES)) if logits is None else jnp.asarray(logits), named, {})


def compare(golden, loss, x, rtol=CLOSE):
    """Whether the mean of a loss, a function of x [batch, ...], has the golden value and slopes."""
    check(golden, *jax.jit(jax.value_and_grad(lambda x: loss(x).mean()))(x), rtol)


def check(golden, value, slope, rtol=CLOSE):
    """Whether a loss and its gradient are the golden ones."""
    assert float(value) == pytest.approx(golden["loss"], rel=rtol)
    found = [(np.asarray(slope) * np.asarray(made(seed, *slope.shape))).sum() for seed in (1000, 1001)]
    np.testing.assert_allclose(found, golden["along"], rtol=rtol, atol=1e-9 * np.abs(golden["along"]).max())


@pytest.mark.parametrize("case", GOLDEN["dist"])
def test_dist(case, float64):
    settings = Distillation(
        distillation="dist", dist_beta=case["beta"], dist_gamma=case["gamma"], temperature=case["tau"]
    )
    teacher = out(3 * made(1, BATCH, CLASSES))
    compare(case, lambda z: losses.dist(out(z), teacher, {}, settings), 3 * made(0, BATCH, CLASSES))


@pytest.mark.parametrize("case", GOLDEN["kd_standardised"])
def test_kd_on_standardised_logits_is_the_divergence_and_the_teachers_entropy(case, float64):
    settings, tau = Distillation(distillation="kd_standardised", temperature=case["tau"]), case["tau"]
    teacher = 3 * made(1, BATCH, CLASSES)
    p = jax.nn.softmax(losses.standardised(teacher) / tau)
    entropy = -(tau**2) * (p * jnp.log(p)).sum(-1)
    loss = losses.DISTILLATION["kd_standardised"]
    compare(case, lambda z: loss(out(z), out(teacher), {}, settings) - entropy, 3 * made(0, BATCH, CLASSES), 1e-8)


def maps(seed, channels, size):
    return jnp.maximum(made(seed, BATCH, size, size, channels), 0)


@pytest.mark.parametrize("number", range(len(GOLDEN["maps"])))
def test_attention_transfer_also_of_maps_of_two_sizes(number, float64):
    case = GOLDEN["maps"][number]
    ours, theirs = case["sizes"]
    teacher = out(stage1=maps(20 + number, 5, theirs))
    for golden in case["at"]:
        settings = Distillation(distillation="at", at_power=golden["power"], at_weight=1, weight=0.5)
        compare(golden, lambda f, of=settings: losses.at(out(stage1=f), teacher, {}, of), maps(10 + number, 3, ours))


@pytest.mark.parametrize("number", range(len(GOLDEN["maps"])))
def test_fitnets_also_of_maps_of_two_sizes(number, float64):
    case = GOLDEN["maps"][number]
    ours, theirs = case["sizes"]
    x, teacher = maps(10 + number, 3, ours), out(stage1=maps(20 + number, 5, theirs))
    settings = Distillation(distillation="fitnets", fitnets_weight=1, weight=0.5)
    init = partial(features.init_fitnets, labels=None, settings=settings)
    learned = jax.eval_shape(init, jax.random.key(0), out(stage1=x), teacher)
    kernel = learned.params["pair1"]["kernel"]
    seed = 100 + 10 * number
    own = {"kernel": made(seed, *kernel.shape), "scale": made(seed + 1, 5), "bias": made(seed + 2, 5)}
    assert jax.tree.map(np.shape, own) == jax.tree.map(np.shape, learned.params["pair1"])
    learned = Learned({"pair1": own}, {})

    def loss(f):
        return losses.fitnets(out(stage1=f), teacher, {}, settings, learned)[0]

    compare(case["fitnets"], loss, x)


@pytest.mark.parametrize("case", GOLDEN["rkd"])
def test_rkd(case, float64):
    settings = Distillation(distillation="rkd", rkd_distance=case["distance"], rkd_angle=case["angle"], weight=0.5)
    teacher = out(penultimate=made(41, BATCH, 4))
    compare(case, lambda v: losses.rkd(out(penultimate=v), teacher, {}, settings), made(40, BATCH, 7))


def test_crd_with_its_memory_over_three_steps(float64, monkeypatch):
    settings = Distillation(distillation="crd", crd_weight=1, crd_width=WIDTH, crd_negatives=NEGATIVES, weight=0.5)
    student, teacher = out(penultimate=made(60, BATCH, 7)), out(penultimate=made(70, BATCH, 4))
    labels = np.arange(EXAMPLES) % 2
    init = jax.jit(partial(contrast.init_crd, labels=labels, settings=settings))
    fresh = init(jax.random.key(0), student, teacher)
    assert np.abs(fresh.params["student"]["kernel"]).max() <= 1 / np.sqrt(7)
    params = {
        name: {"kernel": made(50 + i, size, WIDTH), "bias": made(52 + i, WIDTH)}
        for i, (name, size) in enumerate((("student", 7), ("teacher", 4)))
    }
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh.params)
    memory = {"student": 0.5 * made(54, EXAMPLES, WIDTH), "teacher": 0.5 * made(55, EXAMPLES, WIDTH)}
    assert jax.tree.map(jnp.shape, memory) == jax.tree.map(jnp.shape, fresh.state["memory"])
    state = fresh.state | {"memory": memory}
    monkeypatch.setattr(contrast, "negatives", lambda drawn, *_: drawn)

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def step(v, teacher, batch, state):
        loss, state = losses.crd(out(penultimate=v), teacher, batch, settings, Learned(params, state))
        return loss.mean(), state

    for number, golden in enumerate(GOLDEN["crd"]["steps"]):
        ids = np.array(golden["ids"])
        batch = {"ids": ids, "y": labels[ids], "draws": np.array(golden["negatives"])}
        (value, state), slope = step(
            made(60 + number, BATCH, 7), out(penultimate=made(70 + number, BATCH, 4)), batch, state
        )
        check(golden, value, slope)
    end = GOLDEN["crd"]["end"]
    names = ("student", "teacher")
    np.testing.assert_allclose([state["scale"][name] for name in names], end["scale"], rtol=CLOSE)
    np.testing.assert_allclose([state["memory"][name] for name in names], end["memory"], rtol=CLOSE)
