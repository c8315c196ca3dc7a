"""ResNet-18, ResNet-50 and MobileNet-v2: the published sizes, and torchvision's logits on the same weights."""

import json
import re
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import models
from kd_jax.models.initializers import he_fan_out, normal_hundredth
from kd_jax.models.mobilenet import STAGES, MobileNetV2
from kd_jax.models.resnet import ResNet

CLASSES = 10
GOLDEN = Path(__file__).parents[1] / "golden" / "torchvision_forward.json"
# Sides that are halved to even and to odd numbers, and differ, so that no other padding or order of axes gives the same.
SHAPE, SMALL_SHAPE = (2, 40, 49, 3), (2, 16, 13, 3)
PUBLISHED = {"resnet18": 11_689_512, "resnet50": 25_557_032, "mobilenetv2": 3_504_872}
# The same with a block or two of each kind, so that they compile in a second.
SHALLOW = [
    ResNet(blocks=(1, 1), classes=CLASSES),
    ResNet(blocks=(1,), classes=CLASSES, bottleneck=True, small=True),
    MobileNetV2(classes=CLASSES, stages=STAGES[:2]),
]


def shapes_of(name, classes=CLASSES, precision="float32"):
    model = models.build(name, classes, precision)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))


def drawn(name):
    """Return (images, variables) of a network in float64 NumPy; `golden/torchvision_forward.py` draws the same.

    One stream, frozen by NumPy for good, over the leaves in the order of their sorted paths, each number random: running
    statistics too.
    """
    rng = np.random.RandomState(0)
    x = rng.uniform(-2, 2, SMALL_SHAPE if name.endswith("_small") else SHAPE)
    return x, random_values(shapes_of(name), rng)


def random_values(shapes, rng):
    """Arrays of these shapes, such that activations stay within what float64 tells apart."""

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.5, 1.5, leaf.shape)
        bound = np.sqrt(6 / np.prod(leaf.shape[:-1])) if path[-1].key == "kernel" else 0.5
        return rng.uniform(-bound, bound, leaf.shape)

    return jax.tree.map_with_path(draw, shapes)


@pytest.mark.parametrize(
    "name",
    [
        *PUBLISHED,
        "resnet18_small",
        # Their blocks and their stems are in those above.
        pytest.param("resnet50_small", marks=pytest.mark.slow),
        pytest.param("mobilenetv2_small", marks=pytest.mark.slow),
    ],
)
def test_logits_are_torchvisions(float64, name):
    x, variables = drawn(name)
    logits = jax.jit(models.build(name, CLASSES, "float64").apply)(variables, x).logits
    expected = np.array(json.loads(GOLDEN.read_text())["logits"][name])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-11 * np.abs(expected).max())


# ---- sizes


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_the_number_of_parameters_is_the_published_one(name, published):
    assert models.parameter_count(shapes_of(name, classes=1000).params) == published


@pytest.mark.parametrize(("name", "stem"), [("resnet18", 64 * 3), ("resnet50", 64 * 3), ("mobilenetv2", 0)])
def test_a_small_images_network_differs_by_the_weights_of_its_stem_alone(name, stem):
    whole, small = shapes_of(name).params, shapes_of(f"{name}_small").params
    assert models.parameter_count(whole) - models.parameter_count(small) == stem * (7 * 7 - 3 * 3)
    assert jax.tree.structure(whole) == jax.tree.structure(small)
    assert {**whole, "stem": None} == {**small, "stem": None}


@pytest.mark.parametrize(
    ("name", "image"), [("resnet18", 224), ("resnet50_small", 56), ("mobilenetv2", 224), ("mobilenetv2_small", 56)]
)
def test_the_last_stage_sees_a_thirty_second_of_the_image_or_an_eighth(name, image):
    model = models.build(name, CLASSES)
    last = model.layers(np.zeros((1, 32, 32, 3), np.float32))[-2]
    x = jax.ShapeDtypeStruct((1, image, image, 3), jnp.float32)
    vectors = jax.eval_shape(lambda v, x: model.layer_inputs(v, x, last), shapes_of(name), x)
    assert vectors.shape[0] == 7 * 7


# ---- training and precision


@pytest.mark.parametrize("module", SHALLOW, ids=["plain", "bottleneck", "mobilenet"])
def test_training_moves_every_running_statistic_and_evaluation_none(module):
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype(np.float32)
    model = models.from_module(module)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    start = jax.tree.map(np.float32, random_values(shapes, np.random.RandomState(1)))
    apply = jax.jit(model.apply, static_argnames="train")
    trained, evaluated = apply(start, x, train=True).state, apply(start, x).state
    for before, after, kept in zip(*map(jax.tree.leaves, (start.model_state, trained, evaluated)), strict=True):
        assert (np.asarray(after) != before).all()
        np.testing.assert_array_equal(kept, before)


@pytest.mark.parametrize("name", PUBLISHED)
def test_initial_convolutions_have_he_fan_out_variance_and_the_head_deviation_one_hundredth(name):
    # Drawing a network takes seconds to compile; who draws is known without, and he_fan_out is tested on ResNet-8.
    drawing = {}

    def note(call, args, kwargs, context):
        if isinstance(context.module, nn.Dense | nn.Conv):
            drawing[context.module.name] = context.module.kernel_init
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        shapes_of(name)
    assert drawing.pop("head") is normal_hundredth
    assert set(drawing.values()) == {he_fan_out}
    assert np.std(normal_hundredth(jax.random.key(0), (1000,))) == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_bfloat16_is_the_arithmetic_and_float32_what_is_kept(name):
    variables = shapes_of(name, precision="bfloat16")
    model = models.build(name, CLASSES, "bfloat16")
    program, out = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=True), return_shape=True)(
        variables, jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, out))} == {jnp.dtype("float32")}
    products = re.findall(r":(\w+)\[[\d,]*\] = (?:conv_general_dilated|dot_general)\[", str(program))
    kernels = [leaf for leaf in jax.tree.leaves(variables.params) if leaf.ndim > 1]
    # A convolution that has other forms on other devices is there once for each.
    assert set(products) == {"bf16"}
    assert len(products) >= len(kernels)
