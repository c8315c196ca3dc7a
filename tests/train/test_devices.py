"""How many devices share a batch, and who drives the loop, changes nothing but rounding."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from kd_jax import losses, models
from kd_jax.config import BadInput, Study
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.data.order import order
from kd_jax.plan import arms as arms_of
from kd_jax.plan import make_plan
from kd_jax.train import devices as parallel
from kd_jax.train import engine, epoch, hosts, loop, optimizer
from kd_jax.train import state as states
from kd_jax.train.loop import train_run
from kd_jax.train.step import make_step

STUDY = Study.from_flags(
    dataset="made",
    teacher="resnet8",
    student=("resnet8",),
    augment="crop_flip",
    label_noise=0.2,
    epochs=2,
    batch_size=8,
    learning_rate=0.1,
    warmup=0.25,
    weight_decay=5e-4,
    precision="float64",
)


def made(study, seed=0, examples=20, size=8):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (2 * examples, size, size, 3)).astype(np.uint8)
    y = rng.integers(0, 3, 2 * examples).astype(np.int32)
    return assemble(Source("made", x[:examples], y[:examples], x[examples:], y[examples:], 3, "test"), study.data)


def build(study, dataset, devices, distilled=False):
    taught = engine.Teacher.of(study) if distilled else None
    return engine.build("float64", study.training, dataset, study.networks.student[0], devices, taught)


def trained(study, dataset, devices, teacher=None):
    """Return (state, totals of the last epoch, test totals) after a whole run."""
    built = build(study, dataset, devices, teacher is not None)
    run = make_plan(study, len(dataset.train.y)).run("onehot" if teacher is None else "student", 0)
    outcome = train_run(built, run, teacher)
    test = built.evaluate(outcome.state.variables, dataset.test, built.replicate(dataset.resident(dataset.test)))
    return jax.device_get(outcome.state), outcome.totals, test


def largest_difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max() for x, y in pairs)


@pytest.mark.long
@pytest.mark.parametrize("distilled", [False, True])
def test_four_devices_equal_one(float64, distilled):
    dataset = made(STUDY)
    teacher = None
    if distilled:
        model = models.build("resnet8", 3, "float64")
        teacher = jax.device_get(model.init(jax.random.key(7), np.zeros((1, 8, 8, 3))))
    one = trained(STUDY, dataset, jax.devices()[:1], teacher)
    four = trained(STUDY, dataset, jax.devices()[:4], teacher)
    assert largest_difference(one, four) < 1e-9
    start = build(STUDY, dataset, jax.devices()[:1]).start(
        jax.random.split(jax.random.fold_in(jax.random.key(0), 1))[0]
    )
    assert largest_difference(start.params, one[0].params) > 1e-3  # it did train


@pytest.mark.long
def test_losses_that_relate_the_examples_of_a_batch_see_all_of_it_on_four_devices(float64):
    """The network, what the losses learn and remember, and the totals: an error in any of the losses would be in all of them."""
    study = STUDY.replaced(
        teacher="cnn_3x2",
        student=("cnn_2x2",),
        augment="none",
        learning_rate=0.01,
        weight=0.5,
        distillation="dist+fitnets+at+rkd+crd",
        features=("stage1",),
        crd_negatives=7,
        crd_width=4,
    )
    dataset = made(study)
    model = models.build("cnn_3x2", 3, "float64")
    teacher = jax.device_get(model.init(jax.random.key(7), np.zeros((1, 8, 8, 3))))
    one, four = (trained(study, dataset, jax.devices()[:count], teacher) for count in (1, 4))
    for expected, found in zip(jax.tree.leaves(one), jax.tree.leaves(four), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert set(one[0].loss_params) == {"fitnets", "crd"}
    start = jax.device_get(build(study, dataset, jax.devices()[:1], True).start(jax.random.key(0)))
    assert jax.tree.structure(start) == jax.tree.structure(one[0])
    moved = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(a - b).max(), start.loss_params, one[0].loss_params))
    assert min(moved) > 1e-4  # every part of the projector and of both embeddings was trained


@pytest.mark.parametrize("model", ["mlp_16", pytest.param("resnet8", marks=pytest.mark.long)])
def test_a_loop_on_the_device_equals_one_dispatch_a_step(float64, monkeypatch, model):
    study = STUDY.replaced(teacher=model, student=(model,), augment="none", train_examples=16)
    dataset = made(study)
    both = []
    for loops in (True, False):
        monkeypatch.setattr(parallel, "loops_on_device", lambda *_, loops=loops: loops)
        both.append(trained(study, dataset, jax.devices()[:2]))
    assert largest_difference(*both) < 1e-12


def first_step(batch_norm, count):
    """Return (variables after one step of a ResNet-8, the data, the rows of the batch, the study)."""
    study = STUDY.replaced(augment="none", weight_decay=0.0, momentum=0.0, warmup=0.0, epochs=1, train_examples=8)
    dataset, here = made(study), jax.devices()[:count]
    built = engine.build("float64", study.training, dataset, "resnet8", here, batch_norm=batch_norm)
    state, rows = built.start(jax.random.key(0)), dataset.rows_of(0, 0, 8)
    feed = built.feed(rows, jax.random.key(1))
    state, _ = built.advance(state, built.zero(), built.constants(jax.random.key(1), None), feed, 0, 1)
    return jax.device_get(state.variables), dataset, rows(0)[0], study


@pytest.mark.long
def test_local_statistics_are_those_of_each_devices_part_of_the_batch(float64):
    after, dataset, rows, study = first_step("local", 2)
    model = models.build("resnet8", 3, "float64")
    x, y = dataset.clean_view(np.float64)(dataset.train.x[rows]), dataset.train.y[rows]
    start = build(study, dataset, jax.devices()[:1]).start(jax.random.key(0)).variables

    def loss(params, part):
        outputs = model.apply(models.Variables(params, start.model_state), x[part], train=True)
        return losses.one_hot(outputs.logits, y[part]).mean(), outputs.state

    # By hand: the mean of the gradients, and of the statistics, of the two halves.
    halves = [jax.grad(loss, has_aux=True)(start.params, part) for part in (slice(0, 4), slice(4, 8))]
    grads, state = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    expected = jax.tree.map(lambda p, g: p - study.training.learning_rate * g, start.params, grads), state
    assert largest_difference(expected, (after.params, after.model_state)) < 1e-12
    whole, *_ = first_step("global", 2)
    assert largest_difference(whole, after) > 1e-6


class Seen(loop.Sink):
    """Counts the steps of every segment."""

    def __init__(self):
        self.steps = []

    def segment(self, segment):
        self.steps.append(segment.steps)


def test_where_a_run_pauses_changes_no_bit_of_it(monkeypatch):
    study = STUDY.replaced(
        teacher="mlp_16", student=("mlp_16",), augment="none", precision="float32", batch_size=2, checkpoints=2
    )
    dataset, found = made(study), []
    for most, expected in ((1, [1] * 20), (4, [1, 4, 4, 1, 4, 4, 2]), (32, [1, 9, 10])):
        monkeypatch.setattr(parallel, "SEGMENT_STEPS", most)
        built, seen = engine.build("float32", study.training, dataset, "mlp_16", jax.devices()[:1]), Seen()
        outcome = train_run(built, make_plan(study, 20).run("teacher", 0), sinks=[seen])
        assert seen.steps == expected
        found.append([np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(outcome.state)])
    assert found[0] == found[1] == found[2]


def test_segments_depend_on_the_work_of_a_step_and_are_one_step_where_each_is_dispatched():
    devices, params = jax.devices()[:1], {"kernel": np.zeros((1000, 1000))}
    assert parallel.segment_steps(devices, False, params, 1) == 1
    assert parallel.segment_steps(devices, True, params, 1) == parallel.SEGMENT_STEPS
    steps = parallel.segment_steps(devices, True, params, 2000)
    assert 1 < steps < parallel.SEGMENT_STEPS
    assert parallel.segment_steps(devices, True, params, 4000) == steps // 2
    assert parallel.segment_steps(devices, True, params, 10**9) == 1


@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, False), (True, True)])
def test_hosts_agree_on_what_any_of_them_wants(monkeypatch, flags):
    assert hosts.agree(flags[0]) is flags[0]  # alone
    monkeypatch.setattr(hosts._State, "count", 2)
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.array([own, flags[1]]))
    assert hosts.agree(flags[0]) is any(flags)


@pytest.mark.long
def test_a_vmapped_seed_equals_that_seed_alone(float64):
    study = STUDY.replaced(teacher="mlp_16", student=("mlp_16",))
    dataset = made(study)
    model = models.build("mlp_16", 3, "float64")
    descent = optimizer.make_optimizer(study.training, 4)
    train_on = epoch.make_train_on(
        make_step(model.apply, losses.label_objective(), descent),
        dataset.batch,
        dataset.random_view("crop_flip", np.float64),
    )
    x = np.zeros((1, 8, 8, 3))

    def run(key, rows):
        carry = states.create(model, descent, key, x), epoch.zero_totals(np.float64)
        constants = epoch.Constants(jax.tree.map(jnp.asarray, dataset.resident(dataset.train)), key, None)
        return jax.lax.scan(lambda carry, row: (train_on(*carry, constants, row), None), carry, rows)[0]

    keys = jax.random.split(jax.random.key(3), 3)
    rows = np.stack([order(seed, 1, 0, 20, 8) for seed in range(3)])
    together = jax.vmap(run)(keys, rows)
    alone = run(keys[1], rows[1])
    assert largest_difference(jax.tree.map(lambda leaf: leaf[1], together), alone) < 1e-12


def test_evaluation_counts_every_example_once(float64):
    study = STUDY.replaced(teacher="mlp_16", student=("mlp_16",), batch_size=4)
    dataset = made(study, examples=1203)
    built = build(study, dataset, jax.devices()[:3])
    state = built.start(jax.random.key(0))
    totals = built.evaluate(state.variables, dataset.test, built.replicate(dataset.resident(dataset.test)))
    model = models.build("mlp_16", 3, "float64")
    x = (dataset.test.x - dataset.mean) / dataset.std
    logits = np.asarray(model.apply(jax.device_get(state.variables), x).logits)
    y = dataset.test.y
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]
    assert totals["count"] == 1203
    assert totals["correct"] == (logits.argmax(1) == y).sum()
    np.testing.assert_allclose(totals["loss"], nll.sum(), rtol=1e-12)


def test_each_epoch_visits_every_example_at_most_once_and_leaves_out_only_the_remainder():
    for at in range(3):
        rows = order(5, 1, at, 23, 4)
        assert rows.shape == (5, 4)
        assert len(np.unique(rows)) == 20
        np.testing.assert_array_equal(rows, order(5, 1, at, 23, 4))
    assert (order(5, 1, 0, 23, 4) != order(5, 1, 1, 23, 4)).any()
    assert (order(5, 0, 0, 23, 4) != order(5, 1, 0, 23, 4)).any()


def test_a_batch_that_does_not_split_evenly_is_refused_with_one_that_does():
    with pytest.raises(BadInput, match=r"--batch_size=6: .*4 devices; pass 4"):
        parallel.check_batch(6, jax.devices()[:4])
    with pytest.raises(BadInput, match="pass 4"):
        parallel.check_batch(2, jax.devices()[:4])
    parallel.check_batch(8, jax.devices()[:4])


def test_a_platform_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match=r"--platform=gpu: expected one of .*cpu"):
        parallel.select("gpu")


def test_a_student_and_its_twin_share_their_streams_and_the_teacher_has_its_own():
    teacher, onehot, student = arms_of(STUDY)
    assert (onehot.init, onehot.order) == (student.init, student.order)
    assert teacher.init != onehot.init
    assert teacher.order != onehot.order


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp_256x256", (1, 8, 8, 1)),
        pytest.param("cnn", (1, 16, 16, 3), marks=pytest.mark.long),
        pytest.param("resnet20", (1, 32, 32, 3), marks=pytest.mark.long),
        pytest.param("resnet18_small", (1, 64, 64, 3), marks=pytest.mark.long),
        pytest.param("mobilenetv2_small", (1, 64, 64, 3), marks=pytest.mark.long),
    ],
)
def test_an_initialisation_that_is_compiled_with_less_effort_has_the_same_bits(name, shape):
    network = models.build(name, 10, "float32")
    for key in (jax.random.key(0), jax.random.key(7)):
        quickly, usually = (
            make(network.init)(key, np.zeros(shape, np.float32))
            for make in (lambda init: parallel.jit_once(init, jax.devices()), jax.jit)
        )
        for ours, theirs in zip(jax.tree.leaves(quickly), jax.tree.leaves(usually), strict=True):
            np.testing.assert_array_equal(ours, theirs)


PROGRAM = """
import resource, threading
import jax, jax.numpy as jnp
from kd_jax.train import devices

# A thread that has allocated before, as that of `stopping` has.
threading.Thread(target=lambda: [bytes(5000) for _ in range(9)]).start()
devices.select("cpu")
fill = jax.jit(lambda x: jnp.full(2**24, x))  # 64 MB, 16,384 pages
for _ in range(30):
    began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill(1.0).block_until_ready()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is told to keep memory")
@pytest.mark.parametrize("kept", [True, False])
def test_memory_that_a_program_on_cpu_returns_is_there_for_the_next_one(kept):
    env = {name: value for name, value in os.environ.items() if name not in parallel.ALLOCATION}
    env |= {} if kept else {"MALLOC_MMAP_THRESHOLD_": str(2**20)}  # a user's own setting stays
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=env, check=True)
    # What small pieces are put into is not whole again, so it takes a few calls until there is room for all.
    last = np.median([int(word) for word in ran.stdout.split()][-10:])
    if kept:
        assert last < 100
    elif "[always]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text():
        assert last > 16_000
