"""mixup and CutMix: shares of Beta(alpha, alpha), labels by the very shares of the pixels, draws by (key, step, example) alone."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.plan import make_plan
from kd_jax.train import engine, epoch, mixing, state, teachers
from kd_jax.train.loop import train_run

EXAMPLES, CLASSES, SHAPE = 24, 3, (8, 8, 1)
STUDY = Study.from_flags(
    dataset="made",
    teacher="linear",
    student=("linear",),
    augment="crop",
    epochs=1,
    batch_size=8,
    learning_rate=0.1,
    weight=0.5,
    precision="float64",
)
IDS = np.arange(4000)
compiled_draw = jax.jit(mixing.draw, static_argnums=5)


def draw(key=0, step=3, ids=IDS, examples=50, alpha=0.4):
    partners, shares, keys = compiled_draw(jax.random.key(key), step, ids, examples, alpha, jnp.float32)
    return np.asarray(partners), np.asarray(shares), np.asarray(jax.random.key_data(keys))


# ---- draws


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_have_the_beta_distribution(alpha):
    _, shares, _ = draw(alpha=alpha)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_a_partner_is_any_other_example_with_equal_chance():
    partners, _, _ = draw(examples=5)
    counts = np.bincount((partners - IDS) % 5, minlength=5)
    assert counts[0] == 0
    assert stats.chisquare(counts[1:]).pvalue > 1e-3


def test_a_draw_depends_on_key_step_and_example_and_not_on_the_batch():
    whole = draw()
    order = np.random.default_rng(0).permutation(len(IDS))
    shuffled, part = draw(ids=IDS[order]), draw(ids=IDS[17:30])
    for found, again, cut in zip(whole, shuffled, part, strict=True):
        np.testing.assert_array_equal(again, found[order])
        np.testing.assert_array_equal(cut, found[17:30])
    for other in (draw(key=1), draw(step=4), draw(ids=IDS + 1)):
        assert (other[1] != whole[1]).mean() > 0.9


# ---- images


def pasted(shape, shares, seed=0):
    """Which pixels are the partner's, bool [images, height, width], and what the label keeps."""
    keys = jax.random.split(jax.random.key(seed), len(shares))
    zeros, ones = np.zeros((*shape, 2), np.float32), np.ones((*shape, 2), np.float32)
    views, kept = jax.jit(jax.vmap(mixing.paste, (None, None, 0, 0)))(zeros, ones, jnp.asarray(shares), keys)
    assert set(np.unique(views)) <= {0, 1}
    np.testing.assert_array_equal(views[..., 0], views[..., 1])
    return np.asarray(views[..., 0]) == 1, np.asarray(kept)


def test_a_box_takes_just_the_share_of_the_pixels_that_the_label_gives_away():
    inside, kept = pasted((8, 16), np.linspace(0, 1, 500, dtype=np.float32))
    np.testing.assert_array_equal(1 - kept, inside.mean(axis=(1, 2)))  # exact: 128 pixels
    for box in inside:
        rows, columns = box.any(axis=1), box.any(axis=0)
        np.testing.assert_array_equal(box, rows[:, None] & columns)
        for along in (rows, columns):
            assert (np.diff(np.flatnonzero(along)) == 1).all()  # one piece


def test_a_box_has_the_images_proportions_and_about_the_drawn_area_unless_the_edge_cuts_it():
    shares = np.random.default_rng(0).uniform(size=2000).astype(np.float32)
    inside, kept = pasted((32, 64), shares)
    height, width = inside.any(axis=2).sum(axis=1), inside.any(axis=1).sum(axis=1)
    whole = [np.floor(size * np.sqrt(1 - shares)) for size in (32, 64)]
    assert (height <= whole[0]).all()
    assert (width <= whole[1]).all()
    uncut = (height == whole[0]) & (width == whole[1])
    assert uncut.sum() > 200
    np.testing.assert_allclose(kept[uncut], shares[uncut], atol=1 / 32 + 1 / 64)
    assert (kept >= shares - 1e-6).all()


def test_a_box_lies_anywhere():
    """Its centre is each pixel equally often; a box of one pixel is its centre."""
    inside, kept = pasted((4, 4), np.full(4000, 0.9, np.float32))
    assert (kept == 15 / 16).all()
    assert stats.chisquare(inside.sum(axis=0).ravel()).pvalue > 1e-3


# ---- batches


def rows_of_arrays(resident, rows):
    """(ids, x, y) of examples that lie in two arrays."""
    return rows, *(array[rows] for array in resident)


@pytest.mark.parametrize("changes", [{"mixup": 0.4}, {"cutmix": 1.0}])
def test_image_and_label_are_mixed_in_one_share_with_a_view_of_the_partner(float64, changes):
    study = STUDY.replaced(**changes)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (EXAMPLES, *SHAPE)).astype(np.uint8), rng.integers(0, CLASSES, EXAMPLES)
    constants, step = epoch.Constants((jnp.asarray(x), jnp.asarray(y)), jax.random.key(5), None), 4

    def view(key, step, ids, x):
        """Pixels that tell whose view, and of which step, they are."""
        return jnp.asarray(1000 * ids + 300 * (step == 4))[:, None, None, None] + jnp.asarray(x, float)

    mix = mixing.make_mix(study.training, rows_of_arrays, view, CLASSES, EXAMPLES)

    @jax.jit
    def mixed_and_drawn(rows):
        alpha = study.training.mixup or study.training.cutmix
        drawn = mixing.draw(constants.key, step, rows, EXAMPLES, alpha, jnp.float64)
        ids, stored, labels = rows_of_arrays(constants.resident, rows)
        return mix(constants, step, ids, view(constants.key, step, ids, stored), labels), drawn[:2]

    rows = np.array([3, 20, 0, 11, 7, 9, 1, 2])
    mixed, (partners, share) = jax.device_get(mixed_and_drawn(rows))
    own, other = (np.asarray(view(None, step, ids, x[ids])) for ids in (rows, partners))
    if study.training.mixup:
        wide = share[:, None, None, None]
        np.testing.assert_allclose(mixed["x"], wide * own + (1 - wide) * other, rtol=1e-12)
    else:
        theirs = mixed["x"] // 1000 == partners[:, None, None, None]
        np.testing.assert_array_equal(mixed["x"], np.where(theirs, other, own))
        share = 1 - theirs.mean(axis=(1, 2, 3))
        assert len(np.unique(share)) > 3
    labels = np.eye(CLASSES)[y]
    expected = share[:, None] * labels[rows] + (1 - share)[:, None] * labels[partners]
    np.testing.assert_allclose(mixed["targets"], expected, atol=1e-15)
    assert (mixed["targets"][np.arange(8), mixed["y"]] >= 0.5).all()  # the dominant label
    assert mixed["y"].dtype == y.dtype
    among_others, _ = jax.device_get(mixed_and_drawn(np.append(rows[4:], [23, 22, 21, 19])))
    for name, whole in mixed.items():
        np.testing.assert_array_equal(among_others[name][:4], whole[4:])


def test_a_teacher_sees_what_its_student_sees_and_only_the_label_knows_the_mix():
    seen = []

    def step(before, batch):
        seen.append(batch)
        return before, {"loss": 1.0, "correct": 1, "count": 2}

    def teacher_apply(variables, x, train):
        seen.append(x)
        return models.Outputs(variables, {}, {})

    def mix(constants, step, ids, x, y):
        return {"x": x + 1, "y": ids, "targets": 2 * x}

    constants = epoch.Constants((jnp.arange(5.0), jnp.arange(5)), None, jnp.array([[7.0]]))
    begin = state.TrainState(jnp.zeros((), jnp.int32), None, None, None)
    train_on = epoch.make_train_on(
        step, rows_of_arrays, lambda key, step, ids, x: x, teachers.from_network(teacher_apply), mix
    )
    train_on(begin, epoch.zero_totals(jnp.float32), constants, np.array([3, 1]))
    teacher_x, batch = seen
    assert teacher_x is batch["x"]
    np.testing.assert_array_equal(batch["x"], [4, 2])
    np.testing.assert_array_equal(batch["targets"], [6, 2])


def test_a_study_without_mixing_has_no_mix():
    assert mixing.make_mix(STUDY.training, None, None, CLASSES, EXAMPLES) is None


@cache
def trained(study, devices):
    """(state, totals) after an epoch of a student, of which the mixes are a part."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (EXAMPLES, *SHAPE)).astype(np.uint8), rng.integers(0, CLASSES, EXAMPLES)
    dataset = assemble(Source("made", x, y, x, y, CLASSES, "test"), study.data)
    teacher = models.build("linear", CLASSES, "float64").init(jax.random.key(7), np.zeros((1, *SHAPE)))
    taught = engine.Teacher.of(study)
    built = engine.build("float64", study.training, dataset, "linear", jax.devices()[:devices], taught)
    outcome = train_run(built, make_plan(study, EXAMPLES).run("student", 0), teacher)
    return jax.device_get((outcome.state, outcome.totals))


@pytest.mark.long
@pytest.mark.parametrize(
    "changes", [{"mixup": 0.4, "label_smoothing": 0.1}, pytest.param({"cutmix": 1.0}, marks=pytest.mark.slow)]
)
def test_four_devices_equal_one(float64, changes):
    def difference(a, b):
        return max(np.abs(x - y).max() for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

    study = STUDY.replaced(**changes)
    assert difference(trained(study, 1), trained(study, 4)) < 1e-10
    assert difference(trained(study, 1), trained(STUDY, 1)) > 1e-3  # it did mix
