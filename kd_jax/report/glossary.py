"""Words that a newcomer to the page lacks, each with its meaning, and where they stand in a text."""

import re
from typing import NamedTuple

from markupsafe import Markup, escape


class Word(NamedTuple):
    """A word of the page.

    Attributes:
        name: the word, as the list of words has it.
        pattern: a regular expression of its forms in a text.
        meaning: what it means, in sentences.
    """

    name: str
    pattern: str
    meaning: str

    @property
    def key(self) -> str:
        """The end of the id of its entry."""
        return re.sub(r"\W+", "-", self.name.lower()).strip("-")


WORDS = (
    Word(
        "arm", r"arms?", "The runs of a study that are trained in one way, one run for each seed, such as all students."
    ),
    Word(
        "one-hot",
        r"one-?hot(?: twin| labels)?",
        "Trained on the labels alone, without a teacher. The one-hot twin of a student has the same network, the same initial"
        " weights and the same order of data, so the two differ by the teacher and nothing else.",
    ),
    Word(
        "control",
        r"controls?",
        "A network that has never met the teacher: one that was trained as the teacher was, from another seed. It shows what"
        " the same measurement gives where there is no distillation.",
    ),
    Word(
        "null",
        r"nulls?",
        "A run that differs from the one-hot run by something that is no teacher: another order of data, another initialisation,"
        " another learning rate. An effect of distillation has to be larger than what these do.",
    ),
    Word(
        "slope",
        r"slopes?",
        "Of the line fitted to the student's confidence over the teacher's, one point per example. 1: as confident as the teacher."
        " Above 1: the student is surer where the teacher is sure and less sure where it is not; it exaggerates.",
    ),
    Word(
        "lowest quarter",
        r"lowest (?:quarter|25 %)",
        "The quarter of the examples about whose class the teacher is least sure.",
    ),
    Word(
        "highest quarter",
        r"highest (?:quarter|25 %)",
        "The quarter of the examples about whose class the teacher is surest.",
    ),
    Word(
        "confidence",
        r"confidences?",
        "How sure a network is of a class: the probability p that it gives to it, or its log-odds log p/(1-p).",
    ),
    Word(
        "direction",
        r"(?:eigen)?directions?",
        "An eigenvector of the covariance of a layer's inputs. Along direction 0, the top, the inputs vary most; gradient descent"
        " learns along it first.",
    ),
    Word(
        "ECE",
        r"ECE",
        "Expected calibration error: how far, on average, the confidence of the predictions is from the share of them that is"
        " right. 0 is best.",
    ),
    Word(
        "NLL",
        r"NLL",
        "Negative log-likelihood: the mean of -log p of the right class. Lower is better; it punishes being sure and wrong.",
    ),
    Word(
        "KL",
        r"KL",
        "Kullback-Leibler divergence: how far the student's probabilities are from the teacher's. 0 where they are the same.",
    ),
    Word("agreement", r"agreement", "The share of examples for which student and teacher name the same class."),
    Word("nats", r"nats", "The unit of logarithms to base e. A difference of 1 nat is a factor of 2.72 in the odds."),
    Word(
        "seed",
        r"seeds?",
        "The number from which all random choices of a run follow: initial weights, order of data. Runs of several seeds show"
        " how much chance alone moves a result.",
    ),
    Word(
        "interval",
        r"intervals?",
        "The range that would hold the true value in 95 of 100 repetitions of the whole study (or in the share that is stated)."
        " ± gives half its width, [low, high] its ends.",
    ),
    Word(
        "gain",
        r"gains?",
        "Test accuracy of the student less that of its twin without a teacher; in an audit, less the control's.",
    ),
    Word("logits", r"logits?", "What a network puts out for each class before it is turned into probabilities."),
    Word("distilled", r"distill?ed|distillation", "Trained to give the teacher's probabilities, not only the labels."),
    Word(
        "temperature",
        r"temperatures?",
        "The number by which logits are divided before they become probabilities. Above 1 all classes become more alike.",
    ),
    Word(
        "label noise",
        r"(?:noisy|clean) points",
        "Noisy: training points whose label is wrong by design. Clean: all others.",
    ),
)
_EACH = {f"w{number}": word for number, word in enumerate(WORDS)}
_ANY = re.compile(
    r"(?<![\w/=.-])(?:" + "|".join(f"(?P<{key}>{word.pattern})" for key, word in _EACH.items()) + r")(?![\w=]|-\w)"
)


class Marker:
    """Marks the words in the texts of one page, the first time that each occurs in a section."""

    def __init__(self) -> None:
        self._in_section: set[str] = set()
        self.used: dict[str, Word] = {}

    def section(self) -> str:
        """Begin a section, in which words are marked again; returns nothing to show."""
        self._in_section = set()
        return ""

    def mark(self, text: str) -> Markup:
        """Return a text as HTML, in which a word is a button that shows its meaning."""
        parts, end = [], 0
        for match in _ANY.finditer(text):
            word = _EACH[match.lastgroup or ""]
            if word.name in self._in_section:
                continue
            self._in_section.add(word.name)
            self.used[word.name] = word
            parts += [escape(text[end : match.start()]), _button(word, match.group())]
            end = match.end()
        return Markup("").join([*parts, escape(text[end:])])

    def listed(self) -> list[Word]:
        """Return the words that were marked, in the order of the alphabet."""
        return sorted(self.used.values(), key=lambda word: word.name.lower())


def _button(word: Word, text: str) -> Markup:
    return Markup('<button type="button" class="term" popovertarget="word-{}">{}</button>').format(word.key, text)
