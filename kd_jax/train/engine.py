"""The compiled functions of a kind of run, put together once and shared by all seeds."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kd_jax import losses, models
from kd_jax.config import Distillation, Study, Training, parse_switch
from kd_jax.data import Dataset, Split
from kd_jax.data.dataset import Feed
from kd_jax.data.images import Images
from kd_jax.data.numbers import Numbers
from kd_jax.errors import BadInput
from kd_jax.models import Model, Variables
from kd_jax.plan import GivenTeacher
from kd_jax.train import devices as parallel
from kd_jax.train import epoch, optimizer, state, table, teachers
from kd_jax.train.mixing import make_mix
from kd_jax.train.state import TrainState
from kd_jax.train.step import make_step


class Teacher(NamedTuple):
    """What students learn from, besides labels.

    Attributes:
        model: the name of the teacher's network; None where its answers come from a table.
        distillation: weight, temperature and switch of the distillation loss.
        loss: the name of the distillation loss, a key of `losses.DISTILLATION`.
        standardised: (mean, std) of the images that a network was trained on elsewhere; None where they are the data's own.
        in_table: whether the answers of the network are looked up in a table of all of them; see `table`.
    """

    model: str | None
    distillation: Distillation
    loss: str
    standardised: tuple[Any, Any] | None = None
    in_table: bool = False

    @classmethod
    def of(cls, study: Study, given: GivenTeacher | None = None, in_table: bool = False) -> "Teacher":
        """Return the teacher of a study; `given` is that of its plan."""
        model = None if study.distillation.teacher_logits else study.networks.teacher
        standardised = given.standardised if given else None
        return cls(model, study.distillation, study.distillation_loss, standardised, in_table)

    def function(self, build_model: Callable[[str], Model], dataset: Dataset, dtype: Any) -> teachers.Teach:
        """Return the teacher as a function of a batch; see `teachers`.

        Args:
            build_model: `build_model(name)` returns the `Model` of a network.
            dataset: the data.
            dtype: the dtype of the logits.
        """
        if self.model is None or self.in_table:
            return teachers.from_table(dataset.classes, dtype)
        return teachers.from_network(build_model(self.model).apply, dataset.on_shortest, self.adapt(dataset))

    def adapt(self, dataset: Dataset) -> Callable[[jax.Array], jax.Array] | None:
        """Return what makes the network's input of the student's; see `teachers.from_network`."""
        if self.standardised is None or not isinstance(dataset, Images | Numbers):
            return None
        return teachers.restandardised(dataset.mean, dataset.std, *self.standardised)


class Engine(NamedTuple):
    """What `loop.train_run` needs to train a network on a data set.

    An engine with lanes trains so many runs of one kind at the same time, as one program. State, totals, variables and all that is
    made of them then have a leading axis, a run for each of its indices; the examples on the device are shared, and the batches of
    the runs lie side by side, [batch, lanes]. What is computed in one lane depends on no other.

    Attributes:
        dataset: the data.
        segment_steps: the steps between two moments at which the program reports, saves and may stop.
        start: `start(key) -> TrainState` at step 0, on all devices; with lanes of a key for each.
        zero: `zero() -> totals` of no examples, on all devices.
        replicate: puts a whole tree on every device.
        constants: `constants(key, teacher) -> epoch.Constants` of a run, on all devices; what the teacher reads may be None. With
            lanes, lists of them; answers that are not a network's are those of the first teacher for all.
        feed: `feed(rows_of, key) -> data.dataset.Feed`, what the steps of a run are given; with lanes, of lists of them.
        advance: the function that `devices.make_advance` returned.
        evaluate: `evaluate(variables, split, resident) -> totals` over all examples of a split, NumPy scalars; `resident` is
            `replicate(dataset.resident(split))`.
        learning_rate: `learning_rate(step) -> float`.
        kd_weight: `kd_weight(step) -> float`, the weight of the distillation loss; None for a run on one-hot labels.
        shapes: the shapes and dtypes of the state, a `TrainState` of them.
        on_device_loop: whether many steps run as one loop on the device.
        answers: what `table.make_answers` returned, to fill the teacher's table; None where there is none.
        lanes: how many runs are trained at the same time; 0 for one, without an axis of lanes.
    """

    dataset: Dataset
    segment_steps: int
    start: Callable[..., TrainState]
    zero: Callable[[], dict]
    replicate: Callable[[Any], Any]
    constants: Callable[[Any, Any], epoch.Constants]
    feed: Callable[[Any, Any], Feed]
    advance: Callable
    evaluate: Callable[[Variables, Split, Any], dict]
    learning_rate: Callable[[int], float]
    kd_weight: Callable[[int], float] | None
    shapes: TrainState
    on_device_loop: bool
    answers: Callable[[Variables, Callable[[int, int], None]], teachers.Table] | None = None
    lanes: int = 0

    def together(self, trees: Sequence[Any]) -> Any:
        """Return trees, one for each run, as the engine has them; NumPy arrays where there are lanes."""
        return _stacked(trees) if self.lanes else trees[0]

    def shapes_of(self, shapes: Any) -> Any:
        """Return shapes and dtypes of one run as the engine has them."""
        return _of_lanes(shapes, self.lanes) if self.lanes else shapes

    def apart(self, tree: Any) -> list[Any]:
        """Return what the engine has as a tree for each run, NumPy arrays."""
        tree = jax.device_get(tree)
        if not self.lanes:
            return [tree]
        return [jax.tree.map(lambda leaf, lane=lane: np.asarray(leaf[lane]), tree) for lane in range(self.lanes)]


def build(
    precision: str,
    training: Training,
    dataset: Dataset,
    model_name: str,
    devices: Sequence[Any],
    teacher: Teacher | None = None,
    initialise: Callable[[Variables], Variables] | None = None,
    batch_norm: str = "global",
    lanes: int = 0,
) -> Engine:
    """Return the `Engine` of a network, on one-hot labels or distilled.

    Args:
        precision: the arithmetic of the networks, `Networks.precision`.
        training: how the network is trained.
        dataset: the data.
        model_name: the network that is trained.
        devices: devices of one platform.
        teacher: what it learns from besides labels; None to train on one-hot labels.
        initialise: makes the variables to start from out of the random ones; None to start from those.
        batch_norm: over which examples statistics are taken, `Networks.batch_norm`. The running ones are averaged over devices in
            either case.
        lanes: how many runs are trained at the same time; 0 for one, without an axis of lanes. See `lanes_obstacle`.
    """
    dataset = dataset.for_devices(devices[0].platform, len(devices), training.batch_size)
    dtype = models.PARAMETER_DTYPES[precision]
    build_model = partial(models.build, classes=dataset.classes, precision=precision, **dataset.network_settings)
    axis_name = parallel.AXIS if batch_norm == "global" else None
    model = build_model(model_name, axis_name=axis_name, dropout=training.dropout)
    steps_per_epoch = len(dataset.train.y) // training.batch_size
    total_steps = training.epochs * steps_per_epoch
    schedule = optimizer.learning_rate_schedule(training, total_steps)
    descent = optimizer.make_optimizer(training, total_steps)
    example = dataset.example(dtype)
    objective, teach, weight = losses.label_objective(training.loss, training.label_smoothing), None, None
    answers, teacher_rows = None, {}
    learn, loss_draws, on_shortest = None, False, dataset.on_shortest
    if teacher is not None:
        taught = teacher.distillation
        weight = losses.kd_weight(taught.weight, parse_switch(taught.switch), steps_per_epoch)
        objective = losses.distillation_objective(
            weight, teacher.loss, taught, training.loss, training.label_smoothing, parallel.AXIS
        )
        teach = teacher.function(build_model, dataset, dtype)
        if teacher.in_table and teacher.model is not None:
            of_views = dataset.view_count(training.augment), dataset.view_numbers(training.augment)
            teacher_rows = {"teacher_rows": teachers.rows_of_views(*of_views)}
            network = build_model(teacher.model)
            row = table.width(dataset.classes, devices[0].platform)
            answers = table.make_answers(network.apply, dataset, training.augment, dtype, teacher.adapt(dataset), row)
        learn, loss_draws = _learn(teacher, build_model, model_name, dataset, example), losses.draws(teacher.loss)
        if losses.relates(teacher.loss):
            on_shortest = partial(dataset.on_shortest, axis_name=parallel.AXIS)
    view = dataset.random_view(training.augment, dtype)
    train_on = epoch.make_train_on(
        make_step(
            model.apply,
            objective,
            descent,
            parallel.AXIS,
            on_shortest,
            learn is not None,
            training.ema,
            training.accumulate,
        ),
        dataset.batch,
        view,
        teach,
        make_mix(training, dataset.batch, view, dataset.classes, len(dataset.train.y)),
        model.draws(example),
        loss_draws,
        **teacher_rows,
    )
    evaluate_on = epoch.make_evaluate_on(
        model.apply,
        dataset.batch,
        dataset.clean_view(dtype),
        losses.LABEL_LOSSES[training.loss],
        dataset.on_shortest,
    )
    if lanes:
        of_networks = teacher is not None and teacher.model is not None  # other answers are the same for all
        axis: Any = 0
        shared = epoch.Constants(None, axis, axis if of_networks else None)
        train_on = jax.vmap(train_on, in_axes=(0, 0, shared, 1))
        evaluate_on = jax.vmap(evaluate_on, in_axes=(0, None, None, None))
    replicate = partial(parallel.replicate, devices=devices)
    put = parallel.Put(devices)
    create = partial(state.create, model, descent, learn=learn, with_average=training.ema > 0)
    begin = parallel.jit_once(create, devices)
    of_one = jax.eval_shape(create, jax.random.key(0), example)
    on_device_loop = dataset.is_resident and parallel.loops_on_device(devices, of_one.params)
    evaluate_items = parallel.make_evaluate(evaluate_on, devices)

    def begun(key):
        fresh = begin(key, example)
        if initialise is not None:
            # The optimiser starts from zeros, whatever the weights; an average starts from the weights.
            start = initialise(fresh.variables)
            fresh = fresh._replace(params=start.params, model_state=start.model_state)
            fresh = fresh if fresh.average is None else fresh._replace(average=fresh.variables)
        return fresh

    def start(*keys):
        # One after the other, so that a lane begins with the bits of a run alone.
        return replicate(_stacked([begun(key) for key in keys]) if lanes else begun(*keys))

    def zero():
        nothing = epoch.zero_totals(dtype)
        return replicate(_stacked([nothing] * lanes) if lanes else nothing)

    def constants(key, teacher):
        if lanes:
            key, teacher = jnp.stack(key), _stacked(teacher) if of_networks else teacher[0]
        return replicate(epoch.Constants(dataset.resident(dataset.train), key, teacher))

    def feed(rows_of, key):
        if lanes:  # lanes are for examples that lie on the devices, of which no view is drawn on the host
            orders, key = rows_of, key[0]
            rows_of = lambda epoch: np.stack([order(epoch) for order in orders], axis=-1)  # noqa: E731
        words = tuple(int(word) for word in np.ravel(jax.random.key_data(key)))
        return dataset.feed(rows_of, training.epochs, training.augment, words, put)

    def evaluate(variables, split, resident):
        size = parallel.evaluation_batch(devices, dataset.evaluation_size)
        return evaluate_items(variables, resident, dataset.evaluation_items(split, size, put))

    return Engine(
        dataset=dataset,
        segment_steps=parallel.segment_steps(
            devices, on_device_loop, of_one.params, training.batch_size * dataset.positions * max(lanes, 1)
        ),
        start=start,
        zero=zero,
        replicate=replicate,
        constants=constants,
        feed=feed,
        advance=parallel.make_advance(train_on, devices, on_device_loop),
        evaluate=parallel.with_program(evaluate, evaluate_items.program),
        learning_rate=lambda at: float(np.asarray(schedule(at))),
        kd_weight=None if weight is None else lambda at: float(np.asarray(weight(at))),
        shapes=_of_lanes(of_one, lanes) if lanes else of_one,
        on_device_loop=on_device_loop,
        answers=answers,
        lanes=lanes,
    )


def lanes_obstacle(dataset: Dataset, model_name: str, teacher: Teacher | None = None) -> str:
    """Return, in words, why runs of one kind cannot be trained as lanes of one program; empty where they can.

    Args:
        dataset: the data.
        model_name: the network that is trained.
        teacher: what it learns from besides labels; None for one-hot labels.
    """
    names = [model_name] if teacher is None or teacher.model is None else [model_name, teacher.model]
    if not dataset.is_resident:
        return "examples are streamed"
    if dataset.positions > 1:
        return "texts differ in length"  # each batch is cut to its longest, and what a batch is cut to is chosen for all lanes
    if any(models.is_foreign(name) for name in names):
        return "the network is one's own"
    if teacher is not None and losses.initialiser(teacher.loss, teacher.distillation) is not None:
        return "the loss learns"
    if teacher is not None and teacher.in_table:
        return "the teacher's answers are a table"
    return ""


def _of_lanes(shapes: Any, lanes: int) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((lanes, *leaf.shape), leaf.dtype), shapes)


def _stacked(trees: Sequence[Any]) -> Any:
    """Trees with a leading axis, one of them at each of its indices; NumPy arrays."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(list(trees)))


def check(study: Study, dataset: Dataset) -> None:
    """Refuse a distillation loss that the networks of a study do not allow; nothing is computed.

    Raises:
        BadInput: in one line, naming the option.
    """
    teacher = Teacher.of(study)
    if study.distillation.teacher_table == "on":
        hindrance = "a teacher that is a network" if teacher.model is None else ""
        hindrance = hindrance or table.obstacle(dataset, study.training, teacher.loss)
        if hindrance:
            raise BadInput(f"--teacher_table=on: expected {hindrance}; pass --teacher_table=auto")
    if not losses.compares_features(teacher.loss):
        return
    dtype = models.PARAMETER_DTYPES[study.networks.precision]
    build_model = partial(
        models.build, classes=dataset.classes, precision=study.networks.precision, **dataset.network_settings
    )
    example = dataset.example(dtype)
    theirs = _outputs(build_model(teacher.model), example)
    for name in study.networks.student:
        ours = _outputs(build_model(name), example)
        losses.check(teacher.loss, teacher.distillation, ours, theirs, dataset.train.y)


def _outputs(model, example):
    """The shapes of what a network returns for a batch of one example."""

    def run(key, x):
        return model.apply(model.init(key, x), x)

    return jax.eval_shape(run, jax.random.key(0), example)


def _learn(teacher, build_model, model_name, dataset, example):
    """The `learn` of `state.create`; None for a loss that does not learn."""
    init = losses.initialiser(teacher.loss, teacher.distillation)
    if init is None:
        return None
    ours, theirs = (_outputs(build_model(name), example) for name in (model_name, teacher.model))
    return lambda key: init(key, ours, theirs, dataset.train.y)
