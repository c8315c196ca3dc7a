"""A run and what it reports to: in which order, what is saved, how it is stopped and goes on."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kd_jax.config import Study
from kd_jax.data.arrays import Source
from kd_jax.data.images import assemble
from kd_jax.errors import Diverged, Stopped
from kd_jax.plan import make_plan
from kd_jax.train import devices, engine, hosts
from kd_jax.train.loop import Sink, train_run

STUDY = Study.from_flags(
    dataset="made",
    teacher="linear",
    student=("linear",),
    augment="crop",
    epochs=3,
    batch_size=4,
    learning_rate=0.05,
    checkpoints=3,
)
EXAMPLES = 20  # five steps an epoch; checkpoints at 0, 1, 7 or 8, and 15


class Recorder(Sink):
    """Takes down what it is told.

    Args:
        wanted: segments, counted from 1, after which it wants a save.
    """

    def __init__(self, wanted=()):
        self.told, self.kept, self.saved, self.lines = [], {}, {}, []
        self._wanted, self._segments = wanted, 0

    def start(self, run, step):
        self.told.append(("start", run.name, step))

    def epoch(self, line):
        self.told.append(("epoch", line["epoch"]))
        self.lines.append(line)

    def segment(self, segment):
        self.told.append(("segment", segment.step))
        assert segment.totals["count"] == 4 * (segment.step - 5 * segment.epoch)
        self._segments += 1

    def keep(self, step, variables):
        self.told.append(("keep", step))
        self.kept[step] = variables

    def wants_save(self):
        return self._segments in self._wanted

    def save(self, step, state, totals):
        self.told.append(("save", step))
        self.saved[step] = state, totals

    def end(self, step):
        self.told.append(("end", step))


def built(study=STUDY):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (EXAMPLES, 6, 6, 1)).astype(np.uint8), rng.integers(0, 3, EXAMPLES)
    dataset = assemble(Source("made", x, y, x, y, 3, "test"), study.data)
    run = make_plan(study, EXAMPLES).run("student" if study.distillation.switch else "onehot", 0)
    return engine.build("float32", study.training, dataset, "linear", jax.devices()[:1]), run


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_sinks_are_told_in_order_and_see_the_network_at_every_step_of_the_trajectory():
    compiled, run = built()
    recorder = Recorder()
    outcome = train_run(compiled, run, sinks=[recorder])
    steps = run.length.checkpoint_steps
    expected = [("start", "onehot-seed0", 0), ("keep", 0)]
    for step in sorted({*steps, 5, 10, 15} - {0}):
        expected += [("epoch", step // 5)] if step % 5 == 0 else []
        expected += [("segment", step)] + [("keep", step)] * (step in steps)
    assert recorder.told == [*expected, ("save", 15), ("end", 15)]
    assert bits(recorder.kept[15]) == bits(outcome.state.variables)
    assert bits(recorder.kept[0]) != bits(recorder.kept[1])
    assert outcome.line is recorder.lines[-1]
    # The test set is the training set here.
    assert recorder.lines[0]["train_loss"] != recorder.lines[0]["test_loss"]


def test_a_run_goes_on_from_any_save_to_the_same_bits(monkeypatch):
    monkeypatch.setattr(devices, "SEGMENT_STEPS", 1)
    compiled, run = built()
    whole = Recorder(wanted=range(1, 16))
    expected = train_run(compiled, run, sinks=[whole])
    for step in (3, 5, 8, 15):
        again = Recorder()
        found = train_run(compiled, run, sinks=[again], restore=lambda like, step=step: whole.saved[step])
        assert again.told[0] == ("start", "onehot-seed0", step)
        assert bits(found.state) == bits(expected.state)
        assert [line["train_loss"] for line in again.lines] == [
            line["train_loss"] for line in whole.lines[len(whole.lines) - len(again.lines) :]
        ]
    assert found.line is None  # it had been finished


def test_told_to_stop_it_saves_once_and_says_where():
    compiled, run = built()
    stop, recorder = SimpleNamespace(requested=False), Recorder()

    class AfterTheFirstSegment(Sink):
        def segment(self, segment):
            stop.requested = True

    with pytest.raises(Stopped, match="onehot-seed0 saved at step 1 of 15"):
        train_run(compiled, run, sinks=[recorder, AfterTheFirstSegment()], stop=stop)
    assert recorder.told[-1] == ("save", 1)
    assert recorder.saved[1][1]["count"] == 4  # of the epoch that is not finished


@pytest.mark.parametrize("stops", [True, False])
def test_what_another_host_wants_this_one_does_at_the_same_step(monkeypatch, stops):
    """A host hears a signal, or its clock says that a save is due: this one saves as well, and stops if it was a signal."""
    compiled, run = built()
    asked, recorder = [], Recorder()

    def agree(flag):
        asked.append(flag)
        return flag or len(asked) == 2 or (stops and len(asked) == 3)  # in the second segment

    monkeypatch.setattr(hosts, "agree", agree)
    if stops:
        with pytest.raises(Stopped):
            train_run(compiled, run, sinks=[recorder])
        assert asked == [False, False, False]
    else:
        train_run(compiled, run, sinks=[recorder])
    segments = [told for told in recorder.told if told[0] == "segment"]
    assert next(iter(recorder.saved)) == segments[1][1]


def test_a_loss_that_is_no_number_is_said_before_any_sink_hears_of_the_epoch():
    compiled, run = built(STUDY.replaced(learning_rate=1e30, loss="mse"))
    recorder = Recorder()
    with pytest.raises(Diverged, match=r"onehot-seed0: the loss is (nan|inf).*lower --learning_rate"):
        train_run(compiled, run, sinks=[recorder])
    assert recorder.lines == []


def test_weights_that_are_no_numbers_after_the_last_step_are_not_kept():
    """The loss of the last step is that before its update, so it is finite; nothing but the weights shows what went wrong."""
    compiled, run = built()

    def advance(state, totals, constants, feed, step, end):
        state, totals = compiled.advance(state, totals, constants, feed, step, end)
        if end == run.length.total_steps:
            state = state._replace(params=jax.tree.map(lambda leaf: leaf + np.inf, state.params))
        return state, totals

    recorder = Recorder()
    with pytest.raises(Diverged, match="onehot-seed0: its weights are no finite numbers at step 15; lower --learning"):
        train_run(compiled._replace(advance=advance), run, sinks=[recorder])
    assert 15 not in recorder.kept
    assert 15 not in recorder.saved


def test_a_network_is_kept_as_it_was_at_its_step_though_the_next_steps_overwrite_it(monkeypatch):
    """What sinks hold is not changed by the steps that were taken since, which are given the memory of the state."""
    monkeypatch.setattr(devices, "SEGMENT_STEPS", 1)
    compiled, run = built()
    whole = Recorder(wanted=range(1, 16))
    train_run(compiled, run, sinks=[whole])
    for step in set(run.length.checkpoint_steps) - {0}:
        assert bits(whole.kept[step]) == bits(whole.saved[step][0].kept)


def test_what_is_kept_is_told_before_a_state_behind_it_is_saved():
    compiled, run = built()
    recorder = Recorder(wanted=range(1, 16))
    train_run(compiled, run, sinks=[recorder])
    told = recorder.told
    for step in recorder.saved:
        before = [what[1] for what in told[: told.index(("save", step))] if what[0] == "keep"]
        assert before == [kept for kept in run.length.checkpoint_steps if kept <= step]
