"""What losses on relations and features do not see, by property; their gradients by finite differences."""

from dataclasses import fields
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kd_jax import losses
from kd_jax.config import LOSSES, BadInput, Distillation, LossSettings, Study
from kd_jax.losses import contrast, features
from kd_jax.losses.types import Learned
from kd_jax.models import Outputs
from kd_jax.plan import arms, run_key

BATCH, CLASSES, EXAMPLES = 6, 5, 12
LABELS = np.arange(EXAMPLES) % 4
EQUAL = {"dist": "logits", "kd_standardised": "logits", "at": "maps", "rkd": "penultimate"}


def made(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def outputs(seed, **named):
    """What a network returns: logits, maps of a stage, and a vector per example."""
    parts = {"logits": 2 * made(seed, BATCH, CLASSES), "maps": made(seed + 1, BATCH, 4, 4, 3)}
    parts |= {"penultimate": made(seed + 2, BATCH, 7)} | named
    logits, maps, penultimate = (jnp.asarray(parts[name]) for name in ("logits", "maps", "penultimate"))
    return Outputs(logits, {"stage1": maps, "penultimate": penultimate}, {})


def settings_of(name, **more):
    return Distillation(**{"distillation": name, "weight": 0.5, "temperature": 2.0, **more})


def batch():
    ids = np.random.default_rng(3).permutation(EXAMPLES)[:BATCH]
    return {"ids": jnp.asarray(ids), "y": jnp.asarray(LABELS[ids]), "draws": jax.random.split(jax.random.key(4), BATCH)}


def loss_of(name, student, teacher, learned=None, **more):
    """A loss [batch] and its state; with fresh parameters where it learns and none are given."""
    settings, loss = settings_of(name, **more), losses.DISTILLATION[name]
    if loss.init is None:
        return loss(student, teacher, batch(), settings), {}
    learned = learned or loss.init(jax.random.key(0), student, teacher, LABELS, settings)
    return loss(student, teacher, batch(), settings, learned)


@cache
def fresh_of(name, settings):
    """What a loss that learns starts from."""
    init = losses.DISTILLATION[name].init
    return jax.jit(lambda: init(jax.random.key(0), outputs(0), outputs(10), LABELS, settings))()


@cache
def compiled(name):
    return jax.jit(lambda student, teacher: loss_of(name, student, teacher)[0])


def value(name, student, teacher):
    return np.asarray(compiled(name)(student, teacher))


@pytest.mark.parametrize("name", EQUAL)
def test_a_student_equal_to_its_teacher_is_at_the_minimum(name, float64):
    teacher = outputs(0)
    least = value(name, teacher, teacher)
    if name != "kd_standardised":  # that is the teacher's entropy
        np.testing.assert_allclose(least, 0, atol=1e-5)  # 1e-8 beside the norms of `dist`

    def mean(student):
        return loss_of(name, student, teacher)[0].mean()

    slope = jax.jit(jax.grad(mean, allow_int=True))(teacher)
    np.testing.assert_allclose(slope.logits, 0, atol=1e-6)
    for feature in slope.features.values():
        np.testing.assert_allclose(feature, 0, atol=1e-8)
    for seed in (10, 20, 30):
        assert value(name, outputs(seed), teacher).mean() > least.mean() + 0.01


@pytest.mark.parametrize("name", ["kd_standardised", "dkd_standardised"])
def test_standardised_logits_have_neither_shift_nor_size(name, float64):
    student, teacher = outputs(0), outputs(10)
    expected = value(name, student, teacher)
    shift, size = made(1, BATCH, 1), np.exp(made(2, BATCH, 1))
    for factor in (0.1, 1.0, 1e3):
        moved = outputs(0, logits=factor * size * np.asarray(student.logits) + shift)
        np.testing.assert_allclose(value(name, moved, teacher), expected, rtol=1e-4)
    scaled = losses.standardised(student.logits)
    np.testing.assert_allclose(scaled.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(np.std(scaled, axis=1, ddof=1), 1, rtol=1e-6)
    plain = name.removesuffix("_standardised")
    assert (
        np.abs(value(plain, outputs(0, logits=3 * student.logits), teacher) - value(plain, student, teacher)).max()
        > 0.1
    )


def test_logits_that_are_all_equal_have_a_finite_gradient():
    flat = outputs(0, logits=np.zeros((BATCH, CLASSES)))
    for name in ("kd_standardised", "dkd_standardised", "dist"):
        slope = jax.grad(lambda z, name=name: loss_of(name, Outputs(z, {}, {}), outputs(10))[0].sum())
        assert np.isfinite(jax.jit(slope)(flat.logits)).all()


def of_probabilities(p, settings):
    """Outputs whose probabilities at the temperature are p."""
    return outputs(0, logits=settings.temperature * np.log(p))


def test_dist_sees_neither_a_shift_nor_a_positive_factor_of_probabilities(float64):
    """Of an example's for inter; of a class's for intra. Rows of p must be probabilities, so factors come with shifts."""
    inter, intra = (
        settings_of("dist", dist_beta=1.0, dist_gamma=0.0),
        settings_of("dist", dist_beta=0.0, dist_gamma=1.0),
    )
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(CLASSES), (2, BATCH))
    teacher = of_probabilities(q, inter)
    share = rng.uniform(0.1, 0.9, (BATCH, 1))
    moved = share * p + (1 - share) / CLASSES  # a factor and a shift per row
    a, b = (losses.dist(of_probabilities(each, inter), teacher, {}, inter) for each in (p, moved))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    shift = rng.dirichlet(np.ones(CLASSES))
    moved = 0.3 * p + 0.7 * shift  # one factor, and a shift per column
    a, b = (losses.dist(of_probabilities(each, intra), teacher, {}, intra) for each in (p, moved))
    np.testing.assert_allclose(a, b, rtol=1e-5)
    opposite = losses.dist(
        of_probabilities(2 / CLASSES - np.full_like(p, 0.1) - 0.1 * p, inter), of_probabilities(p, inter), {}, inter
    )
    np.testing.assert_allclose(opposite, 2 * inter.temperature**2, rtol=1e-5)  # correlation -1


def test_attention_maps_have_no_size_and_no_sign(float64):
    student, teacher = outputs(0), outputs(10)
    expected = value("at", student, teacher)
    assert expected.shape == (BATCH,)
    size = np.exp(made(2, BATCH, 1, 1, 1))
    moved = outputs(0, maps=-7 * size * student.features["stage1"])
    np.testing.assert_allclose(value("at", moved, teacher), expected, rtol=1e-9)
    mixed = outputs(0, maps=np.asarray(student.features["stage1"])[..., ::-1])  # the order of channels
    np.testing.assert_allclose(value("at", mixed, teacher), expected, rtol=1e-9)
    zeros = outputs(0, maps=np.zeros((BATCH, 4, 4, 3)))
    slope = jax.grad(lambda f: loss_of("at", Outputs(zeros.logits, {"stage1": f}, {}), teacher)[0].sum())
    assert np.isfinite(jax.jit(slope)(zeros.features["stage1"])).all()


def test_rkd_sees_neither_rotation_nor_shift_nor_size(float64):
    student, teacher = outputs(0), outputs(10)
    expected = value("rkd", student, teacher)
    rotation, _ = np.linalg.qr(made(5, 7, 7))
    moved = outputs(0, penultimate=1e3 * student.features["penultimate"] @ rotation + made(6, 7))
    np.testing.assert_allclose(value("rkd", moved, teacher), expected, rtol=1e-8)
    bent = outputs(0, penultimate=np.abs(student.features["penultimate"]))
    assert np.abs(value("rkd", bent, teacher) - expected).max() > 0.1


def test_examples_at_one_place_have_no_direction_and_so_no_huge_gradient():
    twins = outputs(0, penultimate=10 + np.repeat(made(0, BATCH // 2, 7), 2, axis=0))

    def total(vectors):
        return losses.rkd(
            Outputs(twins.logits, {"penultimate": vectors}, {}), outputs(10), {}, settings_of("rkd")
        ).sum()

    slope = np.asarray(jax.jit(jax.grad(total))(twins.features["penultimate"]))
    assert 0 < np.abs(slope).max() < 100


def test_a_projector_that_fits_makes_the_loss_of_fitnets_zero(float64):
    student, teacher = outputs(0), outputs(10)
    maps = np.asarray(student.features["stage1"])
    kernel, bias = made(7, 1, 1, 3, 3), made(8, 3)
    made_maps = maps @ kernel[0, 0]
    mean, spread = made_maps.mean((0, 1, 2)), np.sqrt(made_maps.var((0, 1, 2)) + 1e-5)
    teacher = outputs(10, maps=made_maps + bias)
    learned = Learned({"pair1": {"kernel": kernel, "scale": spread, "bias": mean + bias}}, {})
    found, _ = loss_of("fitnets", student, teacher, learned)
    np.testing.assert_allclose(found, 0, atol=1e-20)


def test_negatives_have_another_label_are_uniform_and_belong_to_the_key(float64):
    fresh = fresh_of("crd", settings_of("crd"))
    keys, y = jax.random.split(jax.random.key(1), 4), jnp.arange(4)
    draw = jax.jit(contrast.negatives, static_argnums=4)
    found = np.asarray(draw(keys, y, fresh.state["rows"], fresh.state["first"], 3000))
    for label in range(4):
        assert (LABELS[found[label]] != label).all()
        counts = np.bincount(found[label], minlength=EXAMPLES)[label != LABELS]
        assert ((counts - 3000 / 9) ** 2 / (3000 / 9)).sum() < 30  # chi squared of 8 degrees: above this 1 in 5,000
    again = draw(keys[::-1], y[::-1], fresh.state["rows"], fresh.state["first"], 3000)
    np.testing.assert_array_equal(again[::-1], found)


def test_crd_is_least_where_embeddings_agree_with_the_memory_of_their_own_example(float64):
    """With embeddings and memories along one axis per example there is nothing else to see."""
    settings = settings_of("crd", crd_width=EXAMPLES, crd_negatives=50)
    fresh = fresh_of("crd", settings)
    memory = {"student": jnp.eye(EXAMPLES), "teacher": jnp.eye(EXAMPLES)}
    state = fresh.state | {"memory": memory, "scale": {"student": jnp.ones(()), "teacher": jnp.ones(())}}
    right = np.eye(EXAMPLES)[batch()["ids"]]
    layer = {"kernel": jnp.eye(EXAMPLES), "bias": jnp.zeros(EXAMPLES)}
    learned = Learned({"student": layer, "teacher": layer}, state)

    @jax.jit
    def of(embeddings):
        found = outputs(0, penultimate=embeddings)
        return losses.crd(found, found, batch(), settings, learned)[0]

    best = of(right)
    noise = 50 / EXAMPLES + 1e-7
    own, other = np.exp(1 / 0.07), 1.0
    expected = 0.8 * 2 * (np.log1p(noise / own) + 50 * np.log1p((other + 1e-7) / (noise - 1e-7)))
    np.testing.assert_allclose(best, expected, rtol=1e-9)
    assert (np.asarray(of(np.roll(right, 1, axis=0))) > best).all()


FLOAT_LOSSES = ["kd_standardised", "dkd_standardised", "dist", "fitnets", "at", "rkd", "crd"]


@pytest.mark.parametrize("name", FLOAT_LOSSES)
def test_gradients_are_those_of_finite_differences(name, float64):
    """With respect to all that a student returns and all that a loss learns, along random directions."""
    student, teacher = outputs(0), outputs(10)
    loss = losses.DISTILLATION[name]
    start = fresh_of(name, settings_of(name)) if loss.init else Learned({}, {})
    if name == "crd":  # at the first step the constant Z is set by the loss itself, without a gradient
        start = start._replace(
            state=start.state | {"scale": {"student": jnp.full((), 9.0), "teacher": jnp.full((), 7.0)}}
        )

    @jax.jit
    @jax.value_and_grad
    def mean(moved):
        (logits, named), params = moved
        return loss_of(name, Outputs(logits, named, {}), teacher, Learned(params, start.state))[0].mean()

    moved = (student.logits, student.features), start.params
    _, slope = mean(moved)
    assert any(np.abs(leaf).max() > 1e-6 for leaf in jax.tree.leaves(slope))
    for seed in range(3):
        direction = jax.tree.map(lambda leaf, seed=seed: made(seed, *leaf.shape), moved)
        ends = [mean(jax.tree.map(lambda x, d, step=step: x + step * d, moved, direction))[0] for step in (1e-6, -1e-6)]
        expected = sum((a * b).sum() for a, b in zip(*map(jax.tree.leaves, (slope, direction)), strict=True))
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float(expected), rel=1e-4, abs=1e-6)


def test_no_gradient_reaches_a_teachers_features_and_logits(float64):
    name = "+".join(FLOAT_LOSSES)
    settings, student, teacher = settings_of(name), outputs(0), outputs(10)
    own = {each: fresh_of(each, settings_of(each)) for each in ("fitnets", "crd")}
    learned = Learned({each: of.params for each, of in own.items()}, {each: of.state for each, of in own.items()})
    objective = losses.distillation_objective(losses.kd_weight(0.5), name, settings)

    def total(student, teacher):
        return objective(student, batch() | {"teacher": teacher}, 0, learned)[0].sum()

    ours, theirs = jax.jit(jax.grad(total, argnums=(0, 1)))(student, teacher)
    assert all(np.asarray(leaf).any() for leaf in jax.tree.leaves(ours))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(theirs))


def test_losses_joined_by_a_plus_are_added(float64):
    student, teacher = outputs(0), outputs(10)
    settings = settings_of("kd+crd+at")
    init = losses.initialiser("kd+crd+at", settings)
    learned = jax.jit(lambda: init(jax.random.key(0), student, teacher, LABELS))()
    assert set(learned.params) == set(learned.state) == {"crd"}
    objective = losses.distillation_objective(losses.kd_weight(1.0), "kd+crd+at", settings)
    found, state = jax.jit(lambda: objective(student, batch() | {"teacher": teacher}, 0, learned))()
    own = Learned(learned.params["crd"], learned.state["crd"])
    contrasted, expected_state = jax.jit(lambda: losses.crd(student, teacher, batch(), settings, own))()
    expected = contrasted + value("kd", student, teacher) + value("at", student, teacher)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_array_equal(state["crd"]["memory"]["student"], expected_state["memory"]["student"])


# ---- which features are compared


def shapes(**named):
    return Outputs(jnp.zeros((1, CLASSES)), {name: jnp.zeros((1, *shape)) for name, shape in named.items()}, {})


THREE = {"stage1": (8, 8, 4), "stage2": (4, 4, 8), "stage3": (2, 2, 16), "penultimate": (16,)}


def test_by_default_stages_go_in_the_order_of_their_numbers_and_hints_are_in_the_middle():
    ten = {f"stage{n}": (4, 4, 2) for n in range(1, 11)} | {"penultimate": (2,)}
    settings = settings_of("at")
    assert features.pairs(shapes(**THREE), shapes(**THREE), settings, "stages", "at") == [
        (f"stage{n}", f"stage{n}") for n in (1, 2, 3)
    ]
    names = [pair[0] for pair in features.pairs(shapes(**ten), shapes(**ten), settings, "stages", "at")]
    assert names == [f"stage{n}" for n in range(1, 11)]
    assert features.pairs(shapes(**THREE), shapes(**ten), settings, "middle", "fitnets") == [("stage2", "stage5")]
    chosen = settings_of("at", features=("stage1:stage2", "stage3"))
    assert features.pairs(shapes(**THREE), shapes(**THREE), chosen, "stages", "at") == [
        ("stage1", "stage2"),
        ("stage3", "stage3"),
    ]


VECTORS = {"hidden1": (8,), "penultimate": (8,)}


@pytest.mark.parametrize(
    ("name", "more", "ours", "theirs", "message"),
    [
        ("at", {}, VECTORS, VECTORS, r"--distillation=at: expected features of images.*hidden1 \[8\]"),
        ("at", {}, THREE, VECTORS, r"as many stages in both.*student has stage1, .*teacher has hidden1, penultimate"),
        ("fitnets", {}, {"penultimate": (8,)}, THREE, r"--features penultimate:stage1"),
        ("fitnets", {"features": ("stage1:hidden1",)}, THREE, VECTORS, r"two vectors, or two maps.*stage1 \[8x8x4\]"),
        ("fitnets", {"features": ("stage3:stage1",)}, THREE, THREE, r"stage3 \[2x2x16\] and stage1 \[8x8x4\]"),
        (
            "rkd",
            {"features": ("stage9",)},
            THREE,
            THREE,
            r"--features=stage9: .*student, found stage9; it has stage1, ",
        ),
        ("rkd", {"features": ("stage1:no",)}, THREE, THREE, r"a feature of the teacher, found no; it has stage1, "),
        (
            "rkd",
            {},
            {},
            THREE,
            r"--distillation=rkd: expected a feature of the student, found penultimate; it has none",
        ),
        ("crd", {"features": ("stage1", "stage2")}, THREE, THREE, r"--features=stage1 stage2: expected one pair"),
    ],
)
def test_features_that_cannot_be_compared_are_refused_with_those_that_there_are(name, more, ours, theirs, message):
    with pytest.raises(BadInput, match=message) as caught:
        losses.check(name, settings_of(name, **more), shapes(**ours), shapes(**theirs), LABELS)
    assert "\n" not in str(caught.value)


def test_a_training_set_of_one_label_has_no_negatives():
    with pytest.raises(BadInput, match="--distillation=crd: expected training examples of two labels"):
        losses.check("kd+crd", settings_of("kd+crd"), shapes(**THREE), shapes(**THREE), np.full(9, 3))


# ---- as settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distillation": "hints"}, "--distillation=hints: expected one of auto, kd, mse, dkd, .*joined by"),
        ({"distillation": "kd+"}, r"--distillation=kd\+: expected one of"),
        ({"distillation": "kd+kd"}, r"--distillation=kd\+kd: expected one of"),
        ({"distillation": "auto+at"}, r"--distillation=auto\+at: expected one of"),
        ({"distillation": "crd", "weight": 1.0}, "--weight=1.0: expected less than 1 beside --distillation=crd"),
        (
            {"distillation": "at+rkd", "weight": 1.0},
            r"--weight=1.0: expected less than 1 beside --distillation=at\+rkd",
        ),
        ({"features": ("stage1",)}, r"--features=stage1: expected one of --distillation=fitnets\|at\|rkd\|crd beside"),
        ({"distillation": "at", "features": ("stage1:",)}, "--features=stage1:: expected names, or STUDENT:TEACHER"),
        ({"distillation": "at", "features": (":stage1",)}, "--features=:stage1: expected names, or STUDENT:TEACHER"),
        ({"distillation": "at", "features": ("stage1", "stage1")}, "--features=stage1 stage1: expected names"),
        ({"distillation": "at", "at_power": 0.5}, "--at_power=0.5: expected a number of at least 1"),
        ({"distillation": "kd", "at_power": 3.0}, "--at_power=3.0: expected --distillation=at beside it"),
        ({"distillation": "crd", "crd_negatives": -1}, "--crd_negatives=-1: expected a whole number"),
        ({"distillation": "crd", "crd_momentum": 1.0}, "--crd_momentum=1.0: expected a number from 0 to below 1"),
        ({"distillation": "crd", "crd_temperature": 0.0}, "--crd_temperature=0.0: expected a number above 0"),
        ({"distillation": "crd", "crd_width": 1}, "--crd_width=1: expected a whole number of at least 2"),
        ({"distillation": "crd", "crd_weight": -1.0}, "--crd_weight=-1.0: expected a number of at least 0"),
        ({"distillation": "dist", "dist_gamma": float("nan")}, "--dist_gamma=nan: expected a number of at least 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values, message):
    with pytest.raises(BadInput, match=message) as caught:
        Distillation(**{"weight": 0.5, **values})
    assert "\n" not in str(caught.value)


def test_losses_on_features_may_have_the_whole_weight_beside_others_or_for_a_time():
    assert Distillation(distillation="kd+crd", weight=1.0).settings_of("kd+crd")["crd_width"] == 128
    Distillation(distillation="crd", weight=1.0, switch="kd:onehot@2")
    assert Distillation(distillation="dkd_standardised", dkd_beta=2.0, weight=0.5).settings_of("dkd_standardised") == {
        "dkd_alpha": 1.0,
        "dkd_beta": 2.0,
    }


class Recorded:
    """Settings that note what is read of them."""

    def __init__(self, settings, read):
        self.settings, self.read = settings, read

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.settings, name)


@pytest.mark.parametrize("name", list(LOSSES))
def test_a_loss_reads_the_settings_that_its_entry_names_and_no_others(name):
    """The keys of runs hold those; one that were left out would let two different runs pass for one."""
    read, entry = set(), LOSSES[name]
    settings = Recorded(settings_of(name), read)
    losses.check(name, settings, outputs(0), outputs(10), LABELS)
    shared = {"temperature"} if entry.temperature else {"features"} if entry.features else set()
    assert read == {*entry.settings, *shared}


def test_every_setting_belongs_to_a_loss():
    own = {each.name for each in fields(LossSettings)} - {"distillation", "features", "temperature"}
    assert own == {name for entry in LOSSES.values() for name in entry.settings}


@pytest.mark.parametrize(
    "change", [{"crd_negatives": 7}, {"at_weight": 2.0}, {"features": ("stage1",)}, {"distillation": "crd"}]
)
def test_what_a_loss_reads_tells_runs_of_students_apart_and_no_others(change):
    study = Study.from_flags(distillation="at+crd", weight=0.5)
    other = study.replaced(**change)
    same = {arm.name: run_key(study, arm, 0) == run_key(other, arm, 0) for arm in arms(study)}
    assert same == {arm.name: not arm.teacher for arm in arms(study)}
