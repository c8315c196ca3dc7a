"""What the paper reports of its settings, and what others report of the same networks. This is data, not code.

All numbers here are reported, [R] in the words of `recipes.images`; where something beside a number is recollected, [?], a field
says so. None of them was measured with this program.
"""

from typing import NamedTuple

PAPER = (
    "Nagarajan, Menon, Bhojanapalli, Mobahi and Kumar, On student-teacher deviations in distillation: does it pay to disobey?,"
    " NeurIPS 2023, arXiv 2301.12923"
)


class Accuracy(NamedTuple):
    """Test accuracies that the paper reports of a setting.

    Attributes:
        dataset, teacher, student: as of `recipes.images.Setting`.
        is_noisy: whether training labels are wrong by design; by how many is recollected [?].
        teacher_accuracy, student_accuracy: in percent, of the teacher and of the student that it taught.
        seeds: how many runs they are of.
        recipe: the recipe that they most likely belong to [?].
    """

    dataset: str
    is_noisy: bool
    teacher: str
    student: str
    teacher_accuracy: float
    student_accuracy: float
    seeds: int
    recipe: str

    @property
    def gain(self) -> float:
        """What the student has more than its teacher [points]; in self-distillation that is the network without distillation."""
        return self.student_accuracy - self.teacher_accuracy


ACCURACIES = (
    Accuracy("cifar100", False, "resnet56", "resnet56", 72.52, 74.55, 1, "cifar_v1"),
    Accuracy("cifar100", True, "resnet56", "resnet56", 69.8, 72.7, 1, "cifar_v1"),
)


class Count(NamedTuple):
    """In how many of its settings the paper reports a student that exaggerates its teacher's low confidence.

    Attributes:
        kind: `images` or `texts`.
        split: the split of the data on which it was seen.
        found, settings: in how many settings, of how many.
        what: what was seen.
    """

    kind: str
    split: str
    found: int
    settings: int
    what: str


COUNTS = (
    Count("images", "test", 18, 18, "low-confidence underfitting"),
    Count("images", "train", 13, 18, "low-confidence underfitting"),
    Count("texts", "test", 7, 12, "a slope above 1"),
)


class Elsewhere(NamedTuple):
    """A test accuracy of a network of the settings that another project reports, under its own recipe.

    Attributes:
        dataset, network: what was trained on what.
        teacher: the network that taught it; empty for none.
        accuracy: in percent.
        source: who reports it.
    """

    dataset: str
    network: str
    teacher: str
    accuracy: float
    source: str


ELSEWHERE = (
    Elsewhere("cifar100", "resnet56", "", 72.34, "RepDistiller"),
    Elsewhere("cifar100", "resnet20", "", 69.06, "RepDistiller"),
    Elsewhere("cifar100", "resnet20", "resnet56", 70.66, "RepDistiller"),
    Elsewhere("cifar10", "resnet20", "", 91.92, "torchdistill"),
    Elsewhere("cifar10", "resnet56", "", 93.57, "torchdistill"),
)
