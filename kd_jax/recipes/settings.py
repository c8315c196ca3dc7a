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
FURTHER_SIZES = {  # sets that no setting has
    "mnist": Size(60_000, 10_000, 10, (28, 28, 1)),
    "fashion_mnist": Size(60_000, 10_000, 10, (28, 28, 1)),
    "svhn_cropped": Size(73_257, 26_032, 10, (32, 32, 3)),
    "glue/sst2": Size(67_349, 872, 2, (texts.MAX_LENGTH["glue/sst2"],)),
}
VOCABULARY = 50_265  # token ids of RoBERTa's own tokenizer
# (network, data set) -> floating-point operations of one example forward, as XLA counts them in the lowered program (jax 0.10.2).
# A text is taken at its full length. `tests/recipes/test_settings.py` counts them again.
FORWARD_FLOPS = {
    ("resnet56", "cifar10"): 230_181_488,
    ("resnet20", "cifar10"): 74_760_168,
    ("mobilenetv2_small", "cifar10"): 182_758_384,
    ("resnet56", "cifar100"): 230_193_088,
    ("resnet20", "cifar100"): 74_771_776,
    ("mobilenetv2_small", "cifar100"): 182_988_864,
    ("resnet50_small", "tiny_imagenet"): 10_124_173_312,
    ("resnet18_small", "tiny_imagenet"): 4_151_184_128,
    ("mobilenetv2_small", "tiny_imagenet"): 733_776_320,
    ("resnet18", "imagenet2012"): 3_372_934_912,
    ("resnet50", "imagenet2012"): 7_946_727_424,
    ("roberta_base", "glue/mnli"): 22_707_046_400,
    ("roberta_medium", "glue/mnli"): 6_871_071_232,
    ("roberta_small", "glue/mnli"): 3_436_202_496,
    ("roberta_base", "imdb_reviews"): 98_242_445_312,
    ("roberta_medium", "imdb_reviews"): 30_779_619_328,
    ("roberta_small", "imdb_reviews"): 15_391_782_912,
    ("roberta_base", "glue/qqp"): 22_707_044_352,
    ("roberta_medium", "glue/qqp"): 6_871_070_208,
    ("roberta_small", "glue/qqp"): 3_436_201_472,
    ("roberta_base", "ag_news_subset"): 22_707_048_448,
    ("roberta_medium", "ag_news_subset"): 6_871_072_256,
    ("roberta_small", "ag_news_subset"): 3_436_203_520,
}


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
