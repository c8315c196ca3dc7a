"""Several runs as lanes of one program: each comes to what it comes to alone, whatever becomes of the others."""

from functools import cache
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kd_jax import models
from kd_jax.config import Study
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.errors import Diverged, Stopped
from kd_jax.plan import GivenTeacher, make_plan
from kd_jax.train import ahead, devices, engine, teachers
from kd_jax.train.loop import Sink, train_run, train_runs

STUDY = Study.from_flags(
    dataset="made",
    teacher="mlp_8",
    student=("mlp_6",),
    augment="crop_flip",
    label_noise=0.2,
    epochs=2,
    batch_size=4,
    learning_rate=0.1,
    momentum=0.9,
    warmup=0.25,
    weight_decay=5e-4,
    temperature=2.0,
    weight=0.7,
    checkpoints=3,
    precision="float64",
    seeds=3,
)
EXAMPLES, CLASSES = 20, 3
SEEDS = range(3)


def made(study):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2 * EXAMPLES, 6, 6, 3)).astype(np.uint8)
    y = rng.integers(0, CLASSES, 2 * EXAMPLES).astype(np.int32)
    parts = x[:EXAMPLES], y[:EXAMPLES], x[EXAMPLES:], y[EXAMPLES:]
    return assemble(Source("made", *parts, CLASSES, "test"), study.data)


@cache  # what is compiled serves several tests
def built(study, lanes, distilled=False, count=1, model=""):
    taught = engine.Teacher.of(study) if distilled else None
    name = model or study.networks.student[0]
    devices = jax.devices()[:count]
    return engine.build(study.networks.precision, study.training, made(study), name, devices, taught, lanes=lanes)


def runs_of(study, arm, given=None):
    return [make_plan(study, EXAMPLES, given=given).run(arm, seed) for seed in SEEDS]


def frozen(study):
    """A teacher for each seed, none like another."""
    model = models.build(study.networks.teacher, CLASSES, "float64")
    return [jax.device_get(model.init(jax.random.key(100 + seed), np.zeros((1, 6, 6, 3)))) for seed in SEEDS]


class Recorder(Sink):
    """Keeps what it is told; `wants` are the steps at which it wants a save."""

    def __init__(self, wants=()):
        self.kept, self.saved, self.lines, self.steps, self._wants = {}, {}, [], [], wants

    def epoch(self, line):
        self.lines.append({name: value for name, value in line.items() if "second" not in name})

    def segment(self, segment):
        self.steps.append(segment.step)

    def keep(self, step, variables):
        self.kept[step] = variables

    def wants_save(self):
        return self.steps[-1] in self._wants

    def save(self, step, state, totals):
        self.saved[step] = state, totals


def close(found, expected):
    """Equal but for rounding in float64."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def far(a, b):
    """Whether two trees differ by more than rounding, in every array of more than one number that training moves."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.abs(x - y).max() > 1e-6 for x, y in pairs if np.size(x) > 1)


def compare(together, alone, runs, of_runs):
    """Hold lanes against runs alone: the state, sums, lines, the trajectory, what is saved."""
    told, states = [Recorder() for _ in runs], []
    outcomes = train_runs(together, runs, of_runs, [[one] for one in told])
    for run, teacher, outcome, heard in zip(runs, of_runs, outcomes, told, strict=True):
        single = Recorder()
        expected = train_run(alone, run, teacher, [single])
        close(outcome.state, jax.device_get(expected.state))
        close(outcome.totals, expected.totals)
        assert heard.steps == single.steps
        close(heard.lines, single.lines)
        close(heard.kept, single.kept)
        close(heard.saved, single.saved)
        states.append(outcome.state)
    assert far(states[0].params, states[1].params)
    assert far(states[1].params, states[2].params)


OF_LABELS = {
    "plain": STUDY,
    "averaged": STUDY.replaced(ema=0.9, accumulate=2, optimizer="adamw", gradient_clip=0.5),
    "mixed": STUDY.replaced(mixup=0.4, label_smoothing=0.1, augment="none"),
    "linear": STUDY.replaced(student=("balanced_6",), loss="mse", optimizer="sgd"),
}


@pytest.mark.long
@pytest.mark.parametrize("case", list(OF_LABELS))
def test_each_lane_comes_to_what_its_run_comes_to_alone(float64, case):
    study = OF_LABELS[case]
    runs = runs_of(study, "onehot")
    compare(built(study, 3), built(study, 0), runs, [None] * 3)


@pytest.mark.parametrize("loss", ["kd", pytest.param("dkd+dist+rkd", marks=pytest.mark.long)])
def test_each_lane_learns_from_its_own_teacher(float64, loss):
    study = STUDY.replaced(distillation=loss, label_noise=0.0, learning_rate=0.1 if loss == "kd" else 0.002)
    assert not engine.lanes_obstacle(made(study), "mlp_6", engine.Teacher.of(study))
    compare(built(study, 3, True), built(study, 0, True), runs_of(study, "student"), frozen(study))


@pytest.mark.long
def test_answers_of_a_file_are_those_of_all_lanes(float64):
    study = STUDY.replaced(teacher="", teacher_logits="answers.npz", label_noise=0.0, augment="none")
    logits = np.random.default_rng(1).normal(size=(EXAMPLES, CLASSES))
    runs = runs_of(study, "student", GivenTeacher({}, "a digest", ("train",)))
    compare(built(study, 3, True), built(study, 0, True), runs, [teachers.Table(logits)] * 3)


@pytest.mark.long
@pytest.mark.parametrize(("model", "count"), [("resnet8", 1), ("cnn_4", 1), ("mlp_6", 2)])
def test_convolutions_statistics_and_shared_batches_have_lanes_too(float64, model, count):
    study = STUDY.replaced(student=(model,), epochs=1, learning_rate=0.02)
    compare(built(study, 3, count=count), built(study, 0, count=count), runs_of(study, "onehot"), [None] * 3)


def test_lanes_go_on_from_any_save_to_the_same_bits(float64):
    compiled, runs = built(STUDY, 3), runs_of(STUDY, "onehot")
    whole = [Recorder(wants=(1, 5)) for _ in runs]
    expected = train_runs(compiled, runs, [None] * 3, [[one] for one in whole])
    for step in (1, 5):
        again = [Recorder() for _ in runs]
        restores = [lambda like, one=one, step=step: one.saved[step] for one in whole]
        found = train_runs(compiled, runs, [None] * 3, [[one] for one in again], restores=restores)
        for a, b, heard, first in zip(found, expected, again, whole, strict=True):
            leaves = zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True)
            assert all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in leaves)
            assert heard.steps == [at for at in first.steps if at > step]
            assert heard.lines == first.lines[len(first.lines) - len(heard.lines) :]
    # What a lane saved, a run alone can go on from, and the other way round.
    alone = train_run(built(STUDY, 0), runs[1], restore=lambda like: whole[1].saved[5])
    close(jax.device_get(alone.state), expected[1].state)
    with pytest.raises(ValueError, match="unpack"):
        train_runs(compiled, runs, [None] * 3, [[]] * 3, restores=[lambda like: whole[0].saved[5], None, None])


def broken(compiled, lane, at):
    """An engine of which the weights of a lane are infinite after a step."""

    def advance(state, totals, constants, feed, step, end):
        state, totals = compiled.advance(state, totals, constants, feed, step, end)
        if step < at <= end:
            state = state._replace(params=jax.tree.map(lambda leaf: leaf.at[lane].add(np.inf), state.params))
        return state, totals

    return compiled._replace(advance=advance)


@pytest.mark.parametrize("at", [3, 10])
def test_a_lane_that_diverges_ends_alone(float64, at):
    """In an epoch, where its loss says so at the end of it, and after the last step, where its weights do."""
    runs, told = runs_of(STUDY, "onehot"), []
    heard = [Recorder() for _ in runs]
    sinks = [[one] for one in heard]
    wrong = broken(built(STUDY, 3), 1, at)
    found = train_runs(wrong, runs, [None] * 3, sinks, diverged=lambda *args: told.append(args))
    ((run, error),) = told
    assert run is runs[1]
    assert str(error).startswith("onehot-seed1: ")
    assert "lower --learning_rate" in str(error)
    assert found[1] is None
    assert all(np.isfinite(leaf).all() for one in heard for leaf in jax.tree.leaves(one.kept))
    assert 10 not in heard[1].saved
    for seed in (0, 2):
        single = Recorder()
        expected = train_run(built(STUDY, 0), runs[seed], sinks=[single])
        close(found[seed].state, jax.device_get(expected.state))
        close(heard[seed].lines, single.lines)
        close(heard[seed].saved, single.saved)


@pytest.mark.long
def test_where_a_lane_that_diverges_is_an_error_the_others_are_saved(float64):
    runs = runs_of(STUDY, "onehot")
    heard = [Recorder() for _ in runs]
    with pytest.raises(Diverged, match="onehot-seed2: its weights are no finite numbers at step 1;"):
        train_runs(broken(built(STUDY, 3), 2, 1), runs, [None] * 3, [[one] for one in heard])
    assert [list(one.saved) for one in heard] == [[5], [5], []]  # what is kept is looked at in the next pause
    restores = [lambda like, one=one: one.saved[5] for one in heard[:2]]
    again = train_runs(built(STUDY, 2), runs[:2], [None] * 2, [[]] * 2, restores=restores)
    close(again[0].state, jax.device_get(train_run(built(STUDY, 0), runs[0]).state))


def test_lanes_that_are_told_to_stop_save_all(float64):
    runs, stop = runs_of(STUDY, "onehot"), SimpleNamespace(requested=True)
    heard = [Recorder() for _ in runs]
    with pytest.raises(Stopped, match="onehot-seed0, onehot-seed1, onehot-seed2 saved at step 1 of 10"):
        train_runs(built(STUDY, 3), runs, [None] * 3, [[one] for one in heard], stop)
    assert [list(one.saved) for one in heard] == [[1]] * 3
    assert heard[1].saved[1][1]["count"] == 4


def test_what_lanes_cannot_do_is_known_before():
    data, kd = made(STUDY), engine.Teacher.of(STUDY)
    assert engine.lanes_obstacle(data, "resnet8", kd) == ""
    assert engine.lanes_obstacle(data, "mlp_6", kd._replace(in_table=True)) == "the teacher's answers are a table"
    assert engine.lanes_obstacle(data, "mlp_6", kd._replace(loss="kd+crd")) == "the loss learns"
    assert engine.lanes_obstacle(data, "package.module:Net") == "the network is one's own"
    streamed = SimpleNamespace(is_resident=False, positions=1)
    assert engine.lanes_obstacle(streamed, "mlp_6") == "examples are streamed"
    texts = SimpleNamespace(is_resident=True, positions=9)
    assert engine.lanes_obstacle(texts, "roberta_1x16") == "texts differ in length"


def test_what_is_compiled_ahead_for_lanes_is_what_training_calls(monkeypatch, float64):
    """`kd-jax plan` lowers programs from shapes alone; they are those of the arrays that a training of three seeds passes."""
    called, parallel = {}, devices._parallel

    def recording(function, *settings, **more):
        program = parallel(function, *settings, **more)

        def call(*arguments):
            called.setdefault(function.__name__, described(arguments))
            return program(*arguments)

        call.lower = program.lower
        return call

    def described(tree):
        return [(tuple(leaf.shape), str(leaf.dtype)) for leaf in jax.tree.leaves(tree)]

    monkeypatch.setattr(devices, "_parallel", recording)
    of, runs, taught = built.__wrapped__(STUDY, 3, distilled=True), runs_of(STUDY, "student"), frozen(STUDY)
    train_runs(of, runs, taught, [()] * 3)
    teacher = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), taught[0])
    step = ahead.lower_step(of, teacher, STUDY.training.batch_size, jax.devices()[:1])
    evaluation, _ = ahead.lower_evaluation(of, jax.devices()[:1])
    assert [described(lowered.args_info) for lowered in (step, evaluation)] == [called["loop"], called["on_shard"]]
