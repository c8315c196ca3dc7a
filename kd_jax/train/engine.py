"""The compiled functions of a kind of run, put together once and shared by all its seeds."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from kd_jax import losses, models
from kd_jax.config import parse_switch
from kd_jax.data.streamed import is_streamed
from kd_jax.train import buckets, epoch, state, streamed
from kd_jax.train import devices as parallel
from kd_jax.train.mixing import make_mix
from kd_jax.train.step import make_step, whole


class Engine(NamedTuple):
    """What a run needs.

    Attributes:
        start: `start(key) -> TrainState` at step 0, on all devices.
        feed: `feed(split, key, teacher=None, rows_of=None)`, a context manager of what `advance` and `evaluate` take; `rows_of` is
            that of `fit`, for training.
        advance: of `devices.make_advance`.
        evaluate: of `devices.make_evaluate`.
        place: puts a tree on all devices.
        zero: `zero() -> totals` of no examples, on all devices.
        learning_rate: `learning_rate(step) -> float`.
        kd_weight: `kd_weight(step) -> float`, the weight of the distillation loss; None for a run on one-hot labels.
        speed: `speed(feed) -> dict` of what was measured of a streamed feed, see `streamed.StreamedFeed.speed`; else empty.
    """

    start: Callable
    feed: Callable
    advance: Callable
    evaluate: Callable
    place: Callable
    zero: Callable
    learning_rate: Callable
    kd_weight: Callable | None
    speed: Callable


def build(study, dataset, model_name, teacher_name, devices, initialise=None):
    """Return the `Engine` of a network, on one-hot labels or distilled.

    Args:
        study: a `kd_jax.config.Study`.
        dataset: a `kd_jax.data.Dataset`.
        model_name: the network that is trained.
        teacher_name: the teacher's network; None to train on one-hot labels.
        devices: of one platform.
        initialise: `initialise(variables) -> variables`, what to start from instead of the random ones; None for those.
    """
    dtype = models.PARAMETER_DTYPES[study.precision]
    model = models.build(
        model_name, dataset.classes, study.precision, parallel.AXIS, **dataset.build, dropout=study.dropout
    )
    steps_per_epoch = len(dataset.train.y) // study.batch_size
    total_steps = study.epochs * steps_per_epoch
    schedule = state.learning_rate_schedule(study, total_steps)
    optimizer = state.make_optimizer(study, total_steps)
    if teacher_name is None:
        objective, teacher_apply, weight = losses.label_objective(study.loss, study.label_smoothing), None, None
    else:
        weight = losses.kd_weight(study.weight, parse_switch(study.switch), steps_per_epoch)
        objective = losses.distillation_objective(
            weight, study.distillation_loss, study.distillation, study.loss, study.label_smoothing
        )
        teacher_apply = models.build(teacher_name, dataset.classes, study.precision, **dataset.build).apply
    shorten, rows, batch = whole, epoch.padded_rows, parallel.EVALUATION_BATCH
    if dataset.tokens:
        shorten = partial(buckets.shorten, buckets=dataset.tokens.buckets)
        rows, batch = epoch.sorted_rows, buckets.EVALUATION_BATCH
    step = make_step(model.apply, objective, optimizer, parallel.AXIS, shorten)
    view = epoch.make_view(dataset, study, dtype)
    mix = make_mix(study, view, dataset.classes)
    train_on = epoch.make_train_on(step, view, teacher_apply, mix, shorten, study.dropout if dataset.tokens else 0)
    clean_view = epoch.make_clean_view(dataset, dtype)
    place = partial(parallel.replicate, devices=devices)
    example = clean_view(dataset.train.x[:1])
    begin = jax.jit(partial(state.create, model, optimizer))
    shapes = jax.eval_shape(begin, jax.random.key(0), example)
    evaluate_on = epoch.make_evaluate_on(model.apply, clean_view, losses.LABEL_LOSSES[study.loss], shorten)
    streams = is_streamed(dataset.train)
    if streams:
        feed = partial(streamed.open_feed, epochs=study.epochs, augment=study.augment, devices=devices)
        advance = parallel.make_advance_streamed(streamed.on_batch(train_on), devices)
        evaluate = parallel.make_evaluate_streamed(streamed.on_evaluation_batch(evaluate_on), devices)
    else:
        feed = partial(epoch.open_feed, place=place)
        advance = parallel.make_advance(train_on, devices, parallel.loops_on_device(devices, shapes.params))
        evaluate = parallel.make_evaluate(evaluate_on, devices, rows, batch)

    def start(key):
        fresh = begin(key, example)
        # The optimiser starts from zeros, whatever the weights.
        return place(fresh if initialise is None else fresh._replace(params=initialise(fresh.variables).params))

    return Engine(
        start=start,
        feed=feed,
        advance=advance,
        evaluate=evaluate,
        place=place,
        zero=lambda: place(epoch.zero_totals(dtype)),
        learning_rate=lambda at: float(np.asarray(schedule(at))),
        kd_weight=None if weight is None else lambda at: float(np.asarray(weight(at))),
        speed=lambda feed: feed.speed() if streams else {},
    )
