"""One run of a study, from its newest checkpoint to its end, and being told to stop on the way."""

import signal
import time
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial

import jax
import numpy as np

from kd_jax.data.order import order
from kd_jax.errors import Diverged as Diverged
from kd_jax.errors import Stopped as Stopped
from kd_jax.plan import run_name
from kd_jax.train import buckets
from kd_jax.train.fit import fit
from kd_jax.workdir import checkpoints, records

RESUME_SECONDS = 30.0  # at most about this much work is lost to a crash


class Training:
    """One run: joins training, which knows no disk, to its folder, which knows no training."""

    def __init__(self, workdir, study, dataset, arm, seed, length, progress, stop):
        self.name = run_name(arm, seed)
        self.folder = records.run_folder(workdir, self.name)
        self.study, self.dataset, self.arm, self.seed = study, dataset, arm, seed
        self.length, self.progress, self.stop = length, progress, stop
        self.lengths = buckets.lengths(dataset.train.x) if dataset.tokens else None
        size = len(dataset.train.y)
        # Plain, for processes that read images are given it; kept, for texts are counted in it as well.
        rows_of = partial(order, seed, arm.order, examples=size, batch_size=study.batch_size, lengths=self.lengths)
        self.rows_of = lru_cache(maxsize=2)(rows_of) if dataset.tokens else rows_of

    def train(self, built, teacher):
        """Train it to its end, from its newest checkpoint if it has one.

        Args:
            built: of `engine.build`.
            teacher: the frozen teacher's `Variables`, or None.

        Raises:
            Stopped: told to stop, saved.
            Diverged: the loss is not finite.
        """
        init_key, _ = self._keys(self.arm.init)
        _, view_key = self._keys(self.arm.order)
        train, *others = self.dataset.splits.values()
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            ExitStack() as opened,
            built.feed(train, view_key, teacher, self.rows_of) as feed,
            checkpoints.trajectory(self.folder, write=True) as trajectory,
            checkpoints.resume(self.folder) as resume,
        ):
            tests = [opened.enter_context(built.feed(split, view_key)) for split in others]
            fresh = built.start(init_key), built.zero()
            restored = resume.load_newest_like(jax.device_get(fresh))
            state, totals = built.place(restored) if restored is not None else fresh
            step = int(state.step)
            records.rewind_metrics(self.folder, step)
            self.progress.skip(step)
            self._report(0, step // self.length.steps_per_epoch, None)
            keep = set(self.length.checkpoint_steps)
            if step in keep:
                trajectory.save(step, jax.device_get(state.variables))
            saved = began = paused = time.monotonic()
            first = step  # that was not taken before the clock of this epoch began
            stops = sorted(keep)
            for pause in fit(state, totals, built.advance, feed, self.rows_of, self.study.epochs, stops, built.zero):
                metrics = None
                if pause.ends_epoch:
                    metrics = self._metrics(built, pause, tests, time.monotonic() - began, pause.step - first)
                    metrics |= built.speed(feed)
                    records.append_metrics(self.folder, metrics)
                    began, first = time.monotonic(), pause.step
                speed = self._speed(pause.epoch, step, pause.step, time.monotonic() - paused)
                self._report(pause.step - step, pause.epoch, pause.totals, metrics, speed)
                step = pause.step
                if step in keep:
                    trajectory.save(step, jax.device_get(pause.state.variables))
                due = time.monotonic() - saved > RESUME_SECONDS
                if due or self.stop.requested or step == self.length.total_steps:
                    # An epoch that ends here starts again from nothing.
                    sums = built.zero() if pause.ends_epoch else pause.totals
                    resume.save(step, jax.device_get((pause.state, sums)))
                    saved = time.monotonic()
                paused = time.monotonic()
                if self.stop.requested:
                    raise Stopped(f"{self.name} saved at step {step} of {self.length.total_steps}")

    def _keys(self, stream):
        return jax.random.split(jax.random.fold_in(jax.random.key(self.seed), stream))

    def _count(self, at, start, stop):
        """(tokens, places) in the steps from `start` to `stop` of the run, all of one epoch."""
        first = at * self.length.steps_per_epoch
        rows = self.rows_of(at)[start - first : stop - first]
        return [int(of.sum()) for of in buckets.count(self.lengths, rows, self.dataset.tokens.buckets)]

    def _speed(self, at, start, stop, seconds):
        """How fast texts went by, for the progress line."""
        return f" {self._count(at, start, stop)[0] / seconds:,.0f} tokens/s" if self.dataset.tokens else ""

    def _metrics(self, built, pause, tests, seconds, steps):
        """A line of `metrics.jsonl`; `seconds` is how long the last `steps` took, which after a restart are not the whole epoch."""
        totals = jax.device_get(pause.totals)
        test, *further = [built.evaluate(pause.state.variables, feed) for feed in tests]
        line = {
            "epoch": pause.epoch + 1,
            "step": pause.step,
            "learning_rate": built.learning_rate(pause.step - 1),
            "train_loss": float(totals["loss"] / totals["count"]),
            "train_accuracy": float(totals["correct"] / totals["count"]),
            "test_loss": float(test["loss"] / test["count"]),
            "test_accuracy": float(test["correct"] / test["count"]),
            "seconds": seconds,
            "examples_per_second": steps * self.study.batch_size / seconds,
        }
        if built.kd_weight is not None:
            line["kd_weight"] = built.kd_weight(pause.step - 1)
        for name, found in zip(self.dataset.further, further, strict=True):
            line[f"{name}_loss"] = float(found["loss"] / found["count"])
            line[f"{name}_accuracy"] = float(found["correct"] / found["count"])
        if self.dataset.tokens:
            tokens, places = self._count(pause.epoch, pause.step - self.length.steps_per_epoch, pause.step)
            line["tokens_per_second"] = tokens / int(totals["count"]) * line["examples_per_second"]
            line["padding"] = 1 - tokens / places
        if not np.isfinite(line["train_loss"]):
            raise Diverged(
                f"{self.name}: the loss is {line['train_loss']} in epoch {line['epoch']}; lower --learning_rate or raise --warmup"
            )
        return line

    def _report(self, steps, at, totals, metrics=None, speed=""):
        detail = f"epoch {at + 1 if totals else at}/{self.study.epochs}"
        if totals is not None:
            totals = jax.device_get(totals)
            detail += f" loss {totals['loss'] / totals['count']:.3f} accuracy {totals['correct'] / totals['count']:.3f}"
        if metrics is not None:
            detail += f" test {metrics['test_accuracy']:.3f}"
            if "input_wait" in metrics:
                rates = metrics["input_examples_per_second"], metrics["step_examples_per_second"]
                detail += " input {:.0f}/s, steps {:.0f}/s".format(*rates)
        detail += speed
        last = metrics is not None and metrics["step"] == self.length.total_steps
        self.progress.advance(steps, self.name, detail, always=last)


class _Stop:
    requested = False


@contextmanager
def stop_requests():
    """Turn the first SIGTERM or SIGINT into a request to save and stop; a second SIGINT interrupts at once."""
    stop = _Stop()

    def request(number, frame):
        stop.requested = True
        signal.signal(signal.SIGINT, previous[signal.SIGINT])

    previous = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def complete(built, run, folder, dataset, teacher, progress, stop):
    Training(folder.parents[1], run.training, dataset, run.arm, run.seed, run.length, progress, stop).train(
        built, teacher
    )
