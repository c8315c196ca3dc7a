"""The paper's 30 settings in one list, each with the study that runs it and what was reported of it. This is data, not code."""

from typing import NamedTuple

from kd_jax.config import Study
from kd_jax.recipes import images, reported, texts
from kd_jax.recipes.reported import Accuracy


class Size(NamedTuple):
    """How large a data set is, as published.

    Attributes:
        train, test: the numbers of examples of the split that is trained on and of the one that is tested on.
        classes: the number of classes.
        example: the shape of an example as a network of the settings sees it: [height, width, channels], or [tokens] at most.
    """

    train: int
    test: int
    classes: int
    example: tuple[int, ...]


# The test split is the validation split where the labels of the published test split are hidden.
SIZES = {
    "cifar10": Size(50_000, 10_000, 10, (32, 32, 3)),
    "cifar100": Size(50_000, 10_000, 100, (32, 32, 3)),
    "tiny_imagenet": Size(100_000, 10_000, 200, (64, 64, 3)),
    "imagenet2012": Size(1_281_167, 50_000, 1000, (224, 224, 3)),
    "glue/mnli": Size(392_702, 9_815, 3, (texts.MAX_LENGTH["glue/mnli"],)),
    "glue/qqp": Size(363_846, 40_430, 2, (texts.MAX_LENGTH["glue/qqp"],)),
    "imdb_reviews": Size(25_000, 25_000, 2, (texts.MAX_LENGTH["imdb_reviews"],)),
    "ag_news_subset": Size(120_000, 7_600, 4, (texts.MAX_LENGTH["ag_news_subset"],)),
}
VOCABULARY = 50_265  # token ids of RoBERTa's own tokenizer


class PaperSetting(NamedTuple):
    """One of the paper's settings.

    Attributes:
        number: its number, as `kd-jax settings` has it.
        kind: `images` or `texts`.
        recipe: the name of the recipe, for images; empty for texts.
        study: the study that its command runs.
        command: the words of that command.
        size: of its data.
        reported: accuracies that the paper reports of it; None where we know of none.
    """

    number: int
    kind: str
    recipe: str
    study: Study
    command: tuple[str, ...]
    size: Size
    reported: Accuracy | None

    @property
    def name(self) -> str:
        """Data and networks, as one line: `cifar100, 20% noise: resnet56 -> resnet20`."""
        return name_of(self.study, self.study.networks.student[0])


def name_of(study: Study, student: str) -> str:
    """Return data and networks of a study as one line."""
    noise = f", {study.data.label_noise:.0%} noise" if study.data.label_noise else ""
    return f"{study.data.dataset}{noise}: {study.networks.teacher} -> {student}"


def settings() -> list[PaperSetting]:
    """Return the paper's 18 settings of images and 12 of texts.

    >>> [(each.number, each.name) for each in settings()][4]
    (5, 'cifar100: resnet56 -> resnet56')
    """
    listed = [("images", each.recipe, each) for each in images.SETTINGS]
    listed += [("texts", "", each) for each in texts.SETTINGS]
    return [
        PaperSetting(
            number,
            kind,
            recipe,
            of.study,
            tuple(of.command),
            SIZES[of.dataset],
            _reported(of.study) if recipe else None,
        )
        for number, (kind, recipe, of) in enumerate(listed, 1)
    ]


def _reported(study: Study) -> Accuracy | None:
    key = (study.data.dataset, study.data.label_noise > 0, study.networks.teacher, study.networks.student[0])
    known = {(each.dataset, each.is_noisy, each.teacher, each.student): each for each in reported.ACCURACIES}
    return known.get(key)
