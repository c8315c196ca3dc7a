"""Real data: embedded digits, Tiny-ImageNet, any TFDS set of classified images, texts or numbers, or arrays of one's own.

`load` returns a `Dataset`, the one interface that training and extraction use; see `dataset`.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from kd_jax.config import Data, Study, shown
from kd_jax.data import (
    breast_cancer,
    digits,
    encoded,
    images,
    loader,
    numbers,
    streamed,
    text,
    tfds,
    tiny_imagenet,
    tokenised,
)
from kd_jax.data.arrays import Source
from kd_jax.data.dataset import Dataset, Given, Split
from kd_jax.data.own import from_arrays
from kd_jax.errors import BadInput

__all__ = [
    "Dataset",
    "Given",
    "Loader",
    "Published",
    "Source",
    "Split",
    "check",
    "default_data_dir",
    "folder_of",
    "from_arrays",
    "in_memory_name",
    "load",
    "loading",
    "usual_label",
]

Published = Source | encoded.Encoded | text.Texts
"""A set as its maker published it, before a study takes its part of it."""
IN_MEMORY = "memory:"  # how the name of a set begins that was given as arrays, and is nowhere on disk

EMBEDDED = {"digits": digits.load, "breast_cancer": breast_cancer.load}  # sets that come with scikit-learn

default_data_dir = tfds.default_data_dir


def folder_of(dataset: str, data_dir: Path | None = None, tiny_imagenet_dir: Path | None = None) -> Path:
    """Return the folder in which a set is looked for, as `load` takes it.

    Args:
        dataset: the name of the set.
        data_dir: the folder of prepared TFDS sets, by default `default_data_dir()`.
        tiny_imagenet_dir: the folder of Tiny-ImageNet, by default `tiny_imagenet.default_dir(data_dir)`.
    """
    data_dir = data_dir or default_data_dir()
    return (tiny_imagenet_dir or tiny_imagenet.default_dir(data_dir)) if dataset == tiny_imagenet.NAME else data_dir


def load(data: Data, data_dir: str | Path, given: Given | None = None, workers: int = 0) -> Dataset:
    """Return the data that a study asks for, reduced and with its label noise; a function of the arguments alone.

    Options that the data has no use for are not looked at; `check` refuses them.

    Args:
        data: says which examples, which labels and which tokens.
        data_dir: the folder of prepared TFDS sets; for `tiny_imagenet` its own folder, or the one around it; for those of
            `EMBEDDED` it is not looked at.
        given: what is fixed about the tokens of texts; None for a new study without pre-trained weights.
        workers: the number of processes that decode a streamed set; 0 for threads of this process.

    Raises:
        BadInput: when there is no such set, it cannot be prepared, it has neither images nor texts with classes, or a part of it is
            asked for that is larger than the whole.
    """
    loader.check_workers(workers)
    return _assembled(_source(data, data_dir), data, given or Given(), workers)


def check(dataset: Dataset, study: Study, has_dropout: tuple[bool, bool] = (False, False)) -> None:
    """Refuse what a study asks for and its data has no use for, in the students' training and in the teacher's.

    Args:
        dataset: the data.
        study: the configuration.
        has_dropout: whether networks of one's own have dropout, whatever the data: those of the students, that of the teacher.

    Raises:
        BadInput: in one line, naming the option.
    """
    students, teacher = (
        replace(training, dropout=0.0) if has else training
        for training, has in zip((study.training, study.teacher_training), has_dropout, strict=True)
    )
    dataset.check(study.data, students)
    try:
        dataset.check(study.data, teacher)
    except BadInput as error:
        raise BadInput(f"--teacher_with={shown(study.distillation.teacher_with)}: {error}") from None


def usual_label(data: Data) -> Data:
    """Return the data of a study that an earlier version trained, which asked for no label: the one that it took."""
    return replace(data, label=text.USUAL)


def in_memory_name(published: Published) -> str:
    """Return the name under which a study records a set that was given in Python."""
    return f"{IN_MEMORY}{published.name}"


def loading(published: Published) -> Callable[..., Dataset]:
    """Return a function like `load` that takes a set that is at hand, whatever the name of the data.

    It serves studies on data that were given in Python; where a study names another set, `BadInput` is raised.
    """

    def load(data: Data, data_dir: str | Path, given: Given | None = None, workers: int = 0) -> Dataset:
        loader.check_workers(workers)
        if data.dataset != (name := in_memory_name(published)):
            raise BadInput(
                f"data: expected the study's {data.dataset}, found {name}; leave it out or pass the right one"
            )
        return _assembled(published, data, given or Given(), workers)

    return load


class Loader:
    """Loads data as `load` does, and returns the same object for equal requests.

    It holds the data sets that were asked for last, and the last published set, whose arrays data sets of it share where they take
    all of it. A request that gives the tokenizer that was trained for an earlier request is equal to that one, so texts are
    tokenised once although training asks without a tokenizer and analysis with the one in the work folder.

    Args:
        held: the largest number of data sets to hold.
    """

    def __init__(self, held: int = 4):
        self._held = held
        self._datasets: dict[tuple, Dataset] = {}  # the oldest first
        self._published: tuple = (None, None)

    def load(self, data: Data, data_dir: str | Path, given: Given | None = None, workers: int = 0) -> Dataset:
        """Return the data that a study asks for; arguments and errors are those of the function `load`."""
        loader.check_workers(workers)
        given = given or Given()
        where = str(Path(data_dir).expanduser().absolute()), workers
        dataset = self._datasets.get((data, given, *where))
        if dataset is None:
            dataset = _assembled(self._source(data, data_dir), data, given, workers)
        for request in ((data, dataset.given, *where), (data, given, *where)):
            self._datasets.pop(request, None)
            self._datasets[request] = dataset
        while len({id(held) for held in self._datasets.values()}) > self._held:
            del self._datasets[next(iter(self._datasets))]
        return dataset

    def _source(self, data, data_dir):
        request = data.dataset, data.label, data.text, str(Path(data_dir).expanduser().absolute())
        if self._published[0] != request:
            self._published = None, None  # so that two sets are never in memory
            self._published = request, _source(data, data_dir)
        return self._published[1]


def _assembled(source, data, given, workers):
    if isinstance(source, text.Texts):
        return tokenised.assemble(source, data, given)
    if isinstance(source, encoded.Encoded):
        return streamed.assemble(source, data, workers)
    if numbers.are(source.train_x):
        return numbers.assemble(source, data)
    return images.assemble(source, data)


def _source(data, data_dir):
    name = data.dataset
    asked = data.text or data.label not in ("", text.USUAL)
    if asked and (name in EMBEDDED or name == tiny_imagenet.NAME):
        flag = "text" if data.text else "label"
        raise BadInput(
            f"--{flag}={shown(getattr(data, flag))}: expected none for {name}, which has one label; leave it out"
        )
    if name.startswith(IN_MEMORY):
        raise BadInput(
            f"--dataset={name}: expected a set on disk, this one was given in Python; pass it again: kd_jax.analyze(workdir,"
            " data=...), or use kd-jax import once to give it a name"
        )
    if name in EMBEDDED:
        return EMBEDDED[name]()
    return (
        tiny_imagenet.load(data_dir) if name == tiny_imagenet.NAME else tfds.load(name, data_dir, data.label, data.text)
    )
