"""Floats as examples: standardised, not augmented, trained on by networks for vectors and refused by those with convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import data, models
from kd_jax.config import BadInput, Data, Study
from kd_jax.data import numbers
from kd_jax.data.arrays import Source

NETWORKS = ("linear", "mlp_8", "balanced_8", "features_16")


def made(shape=(5,), examples=120, classes=3, seed=0):
    """A `Source` of floats on scales from 1e-3 to 1e6, far from 0."""
    rng = np.random.default_rng(seed)
    scales = 10.0 ** np.linspace(-3, 6, shape[-1])

    def split(count):
        y = rng.integers(0, classes, count).astype(np.int32)
        x = scales * (7 + y.reshape(-1, *[1] * len(shape)) + rng.normal(size=(count, *shape)))
        return x.astype(np.float32), y

    return Source("made", *split(examples), *split(examples // 2), classes, "test", np.array(["x", "y", "z"]))


def assembled(source, **asked):
    return numbers.assemble(source, Data(dataset="made", **asked))


@pytest.mark.parametrize(("shape", "axes"), [((5,), 0), ((4, 6, 2), (0, 1, 2))])
def test_numbers_are_standardised_per_feature_or_channel_with_the_training_sets_mean_and_deviation(shape, axes):
    source = made(shape)
    found = assembled(source)
    x = source.train_x.astype(np.float64)
    np.testing.assert_allclose(found.mean, x.mean(axes), rtol=1e-12)
    np.testing.assert_allclose(found.std, x.std(axes), rtol=1e-9)
    view = np.asarray(found.clean_view(np.float32)(found.train.x), np.float64)
    np.testing.assert_allclose(view.mean(axes), 0, atol=1e-4)
    np.testing.assert_allclose(view.std(axes), 1, rtol=1e-4)
    expected = (source.test_x - x.mean(axes)) / x.std(axes)
    np.testing.assert_allclose(found.clean_view(np.float32)(found.test.x), expected, atol=1e-4)


def test_a_feature_that_does_not_vary_is_0_and_makes_no_nan():
    source = made()
    source.train_x[:, 1] = 0.1  # in binary no finite fraction: sums of it are rounded
    source.test_x[:, 1] = 0.1
    found = assembled(source)
    assert found.std[1] == 1
    view = np.asarray(found.clean_view(np.float32)(found.train.x))
    assert (view[:, 1] == 0).all()
    assert np.isfinite(view).all()


def test_a_part_and_label_noise_are_those_of_any_data_and_the_record_says_what_it_is():
    source = made()
    found = assembled(source, train_examples=50, label_noise=0.2)
    np.testing.assert_array_equal(found.train.x, source.train_x[found.train.ids])
    assert (found.train.y != found.train.true_y).sum() == 10
    facts = found.facts(0, 10)
    assert facts["example_shape"] == [5]
    assert facts["class_names"] == ["x", "y", "z"]
    np.testing.assert_allclose(facts["mean"], found.mean)
    assert assembled(source).fingerprint != assembled(made(seed=1)).fingerprint


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_with_its_row_and_column(value):
    source = made()
    source.test_x[31, 2] = value
    with pytest.raises(
        BadInput, match=rf"made: expected finite numbers, found {value} in row 31, column 2, of the test split"
    ):
        assembled(source)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augment": "crop"}, "--augment=crop: expected none for numbers, made; it is for images; pass --augment=none"),
        ({"cutmix": 1.0}, "--cutmix=1.0: expected 0 for numbers, made"),
        ({"image_size": 32}, "--image_size=32: expected 0 for numbers, made; it is for images"),
        ({"dropout": 0.1}, "--dropout=0.1: expected 0 for numbers, made; it is for texts"),
        ({"vocabulary": 300}, "--vocabulary=300: expected 8000 for numbers, made"),
        ({"teacher_with": ("augment=crop",)}, "--teacher_with=augment=crop: --augment=crop: expected none for numbers"),
    ],
)
def test_what_only_images_or_texts_have_is_refused_by_name(changes, said):
    study = Study.from_flags(batch_size=1, **changes)
    with pytest.raises(BadInput) as caught:
        data.check(assembled(made()), study)
    assert str(caught.value).startswith(said)


def test_mixup_is_allowed():
    data.check(assembled(made()), Study.from_flags(batch_size=1, mixup=0.2))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_for_vectors_take_them_as_they_take_an_image_of_as_many_pixels(name):
    found = assembled(made())
    model = models.build(name, found.classes, **found.network_settings)
    x = found.clean_view(jnp.float32)(found.train.x[:9])
    variables = model.init(jax.random.key(0), found.example())
    logits = model.apply(variables, x).logits
    assert logits.shape == (9, 3)
    np.testing.assert_array_equal(logits, model.apply(variables, x.reshape(9, 5, 1, 1)).logits)
    first = model.layers(found.example())[0]
    assert model.layer_inputs(variables, x, first).shape == (9, model.fan_in(found.example(), first))


@pytest.mark.parametrize("name", ["cnn_4x4", "resnet8", "resnet18_small", "mobilenetv2_small", "roberta_tiny"])
def test_networks_with_convolutions_and_for_texts_are_refused_for_vectors_and_convolutions_welcome_for_arrays(name):
    found = assembled(made())
    with pytest.raises(
        BadInput, match=rf"model '{name}': expected (images|texts), found vectors of numbers; .*mlp_256x256"
    ):
        models.build(name, found.classes, **found.network_settings)
    if name == "cnn_4x4":
        found = assembled(made((6, 4, 2)))
        model = models.build(name, found.classes, **found.network_settings)
        assert jax.eval_shape(model.init, jax.random.key(0), found.example()).params
