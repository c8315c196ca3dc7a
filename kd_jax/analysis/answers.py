"""What a study found, in one to three sentences that answer its question first."""

from collections.abc import Iterable, Sequence

from kd_jax.analysis.across import StudentResult
from kd_jax.analysis.intervals import over_seeds
from kd_jax.analysis.results import Estimate, Verdict, index
from kd_jax.analysis.verdicts import signed_points

MOST = 3  # sentences
NOTHING = "No claim could be examined: the numbers that it takes are not there; the warnings say why."
# What is answered first: names of quantities. Eigendirections are the question of one study, and beside the point in others.
BY_STUDY = {"eigenspace": ("eigen_ratio", "function_ratio", "accuracy_gain")}
ORDER = ("accuracy_gain", "exaggeration_slope", "function_ratio", "eigen_ratio")


def of_study(verdicts: Sequence[Verdict], study: str = "") -> list[str]:
    """Return the answer of a study: of one student whether it gained, and whether it exaggerates; of several a sentence for each.

    Args:
        verdicts: its verdicts.
        study: its name, which decides what is answered first.
    """
    order = BY_STUDY.get(study, ORDER)
    students = list(dict.fromkeys(each.arm for each in verdicts if each.name in order))
    found = {name: [each for each in verdicts if each.name == name] for name in order}
    first = next((of for name in order if (of := found[name])), [])
    if len(students) > 1:
        by_arm = {each.arm: each for each in reversed(first)}
        if len(by_arm) > MOST:
            return [_counted([by_arm[arm] for arm in students if arm in by_arm])]
        return [by_arm[arm].sentence for arm in students if arm in by_arm] or [NOTHING]
    sentences = []
    for name in order:
        # On training points a student sees its teacher's answers; test points are for studies without those.
        of = sorted(found[name], key=lambda each: each.split != "train")
        sentences += [each.sentence for each in of[:1] if each.sentence]
    return sentences[:2] or [NOTHING]


def of_audit(
    verdicts: Sequence[Verdict], estimates: Iterable[Estimate], split: str, unit: str = "examples"
) -> list[str]:
    """Return the answer of an audit: whether the student exaggerates, how often it names its teacher's class, and its gain.

    Args:
        verdicts, estimates: those of the audit.
        split: the split that the examples are from.
        unit: what an example is called: `examples` or `tokens`.
    """
    said = {each.name: each.sentence for each in verdicts if each.sentence}
    sentences = [said[name] for name in ("exaggeration_slope",) if name in said]
    agreement = index(estimates, "name", "arm", "split", "subset").get(("agreement", "student", split, "all"))
    if agreement is not None:
        share, low, high = (
            f"{100 * end:.1f}" for end in (agreement.interval.estimate, agreement.interval.low, agreement.interval.high)
        )
        sentences.append(f"Student and teacher name the same class for {share} % [{low}, {high}] of the {unit}.")
    if "accuracy_gain" in said:
        sentences.append(said["accuracy_gain"])
    return sentences or [NOTHING]


def of_sweep(verdicts: Sequence[Verdict], measured: Sequence[StudentResult]) -> list[str]:
    """Return the answer of a sweep: on what the gain depends, what becomes of it when the loss is switched, else how it varies.

    Args:
        verdicts: those about all variants together.
        measured: the student of every variant.
    """
    switched = [each for each in verdicts if each.name == "gain_recovered"]
    rest = [each.sentence for each in verdicts if each.name != "gain_recovered"]
    sentences = [each.sentence for each in switched] if len(switched) < MOST else [_counted(switched)]
    sentences = (sentences + rest)[:MOST]
    gains = [each for each in measured if each.learned and len(each.gain) > 1]
    if len(sentences) < MOST and len(gains) > 1:
        gains.sort(key=lambda each: float(each.gain.mean()))
        one_student = len({each.arm for each in gains}) == 1
        least, most = (
            f"{signed_points(over_seeds(each.gain))} ({each.folder if one_student else f'{each.folder}, {each.arm}'})"
            for each in (gains[0], gains[-1])
        )
        among = f"Over {len(gains)} variants" if one_student else "Over variants and students"
        sentences.append(f"{among} the gain of distillation goes from {least} to {most}.")
    return sentences or [NOTHING]


def _counted(verdicts: Sequence[Verdict]) -> str:
    """How many verdicts of one kind are supported, contradicted and open, as a sentence."""
    what = {
        "accuracy_gain": ("helped", "hurt", "students"),
        "gain_recovered": ("keep at least half of the gain", "keep less", "switched students"),
    }
    supported, contradicted, those = what.get(verdicts[0].name, ("are as claimed", "are the opposite", "students"))
    number = {kind: sum(each.verdict == kind for each in verdicts) for kind in ("supported", "contradicted")}
    rest = len(verdicts) - sum(number.values())
    return f"Of {len(verdicts)} {those}, {number['supported']} {supported}, {number['contradicted']} {contradicted}, {rest} open."
