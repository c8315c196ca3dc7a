"""What the estimates of a study say about the paper's claims, by fixed rules: the claims, which `decide` turns into verdicts."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from kd_jax.analysis import intervals
from kd_jax.analysis.claims import Claim, Part, withheld
from kd_jax.analysis.claims import decide as decide
from kd_jax.analysis.results import Estimate, Interval, Unlearned, index, paired
from kd_jax.plan import TEACHER

# Root mean square error, in progress, below which theory describes a run.
FOLLOWS = 0.05
ONE_SEED = "one seed, how others would differ is not known"
ONE_HOT = "the same network on one-hot labels"


def exaggeration_claims(
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    controls: Mapping[str, str | None] | None = None,
    unlearned: Sequence[Unlearned] = (),
    against: str = ONE_HOT,
    teachers: Mapping[str, str] | None = None,
    no_control: str = "",
    is_one_control: bool = False,
) -> list[Claim]:
    """Return the claims on every student's exaggeration of its teacher's low confidence, and on its gain in accuracy.

    A student exaggerates where its slope is above 1 and above the control's, which stands for "no exaggeration". One seed decides
    nothing: two trainings can differ surely, and still by chance, and the claims are about distillation, not about two networks.

    Args:
        estimates: the estimates of the study.
        baselines: {arm of a student: its one-hot arm}, over which its gain is.
        controls: {arm of a student: the arm that stands for another teacher of another seed, or None where there is none, so that
            nothing can be concluded}; None where it is the one-hot arm of each.
        unlearned: the runs that did not learn; nothing is concluded from their arms.
        against: what the arm over which the gain is is called.
        teachers: {arm of a student: its teacher's}, where that is not `teacher`.
        no_control: why a student has no control, in words.
        is_one_control: whether that arm and the control are one network, the same for all seeds.
    """
    table = index(estimates, "name", "arm", "split", "subset")
    drawn = []
    for student, onehot in baselines.items():
        who = student if len(baselines) > 1 else "the student"
        control = (controls or {}).get(student, onehot)
        teacher = (teachers or {}).get(student, TEACHER)
        kind = "one network for all seeds" if is_one_control else "same seed"
        if control != onehot:
            kind = f"trained as the teacher was, {kind}"
        for split in ("test", "train"):
            claims = _exaggeration(table, student, control, split, who, kind, is_one_control, no_control)
            drawn += [withheld(claim, {teacher, control or "", student}, unlearned) for claim in claims]
        whom = f" {who}" if len(baselines) > 1 else ""
        whose = f" from {teacher}" if len(set((teachers or {}).values())) > 1 else ""
        claims = _gain(table, student, against, whom, whose, is_one_control, teacher)
        drawn += [withheld(claim, (teacher, onehot, student), unlearned) for claim in claims]
    return drawn


def eigen_claims(
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    references: Mapping[str, str],
    unlearned: Sequence[Unlearned] = (),
    teachers: Mapping[str, str] | None = None,
    single: Collection[str] = (),
) -> list[Claim]:
    """Return the claims that distillation exaggerates the bias to the top: one for every student and layer with ratios.

    Supported when at every pair that counts the student's ratio is below 1 and below that of every null, seed by seed; contradicted
    when at every pair it is above 1. What is compared are logarithms of ratios: of two runs that differ by chance, either may be
    the larger, so the logarithm is 0 in the mean where the ratio is above 1.

    Args:
        estimates: the estimates of the study.
        baselines: {arm of a student: its one-hot arm}.
        references: {arm: the one-hot arm with which it was compared}; of these, those of a student's network that are no student
            are its nulls.
        unlearned: the runs that did not learn; nothing is concluded from their arms, and as nulls they are left out.
        teachers: {arm of a student: its teacher's}, where that is not `teacher`.
        single: the nulls that are one run, the same for all seeds.
    """
    ratios = {"weights": "eigen_ratio", "movement of the weights": "eigen_ratio_moved"}
    return _bias_claims(ratios, estimates, baselines, references, unlearned, teachers, single)


def function_bias_claims(
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    references: Mapping[str, str],
    unlearned: Sequence[Unlearned] = (),
) -> list[Claim]:
    """Return the same claims as `eigen_claims`, of the functions that networks compute; arguments as there."""
    ratios = {"groups of its tangent kernel's eigenvectors, function": "function_ratio"}
    return _bias_claims(ratios, estimates, baselines, references, unlearned)


def function_claims(
    estimates: Iterable[Estimate], baselines: Mapping[str, str], unlearned: Sequence[Unlearned] = ()
) -> list[Claim]:
    """Return two claims on every student whose function has a prediction: that linearisation, and the filter, describe it.

    Supported when the errors of the student and of its one-hot arm are below `FOLLOWS`; contradicted when one of them is above.

    Args:
        estimates, baselines, unlearned: as for `eigen_claims`.
    """
    drawn = []
    table = index(estimates, "name", "arm")
    for student, onehot in baselines.items():
        theories = {
            "linearisation_error": (
                f"the networks linearised at step 0 describe {student} and {onehot}",
                "The networks linearised at step 0",
            ),
            "filter_error": (
                f"the composed filter a(s) a(T) describes {student}, and a(t) {onehot}",
                "The filters of the theorem",
            ),
        }
        for name, (theory, subject) in theories.items():
            of_onehot, of_student = table.get((name, onehot)), table.get((name, student))
            if of_onehot is None or of_student is None:
                continue
            because = f"error of {student} {_shown(of_student.interval)}, of {onehot} {_shown(of_onehot.interval)}"
            drifts = [(arm, table.get(("kernel_drift", arm))) for arm in (student, onehot)]
            because += "".join(
                f"; the kernel of {arm} moves by {100 * drift.interval.estimate:.1f} %"
                for arm, drift in drifts
                if drift
            )
            errors = {arm: np.array(each.values) for arm, each in ((student, of_student), (onehot, of_onehot))}
            said = f"error of {student} {_short(of_student.interval, 3)}, of {onehot} {_short(of_onehot.interval, 3)}"
            both = f"how {student} and {onehot} learn"
            claim = Claim(
                f"{theory} (function, error of progress below {FOLLOWS:g})",
                because,
                {
                    "supported": f"{subject} describe {both}: {said}, below {FOLLOWS:g}.",
                    "contradicted": f"{subject} do not describe {both}: {said}, not below {FOLLOWS:g}.",
                    "inconclusive": f"Whether {_lowered(subject)} describe {both} is open: {said}, against {FOLLOWS:g}.",
                },
                name,
                student,
                tuple(Part(f"error of {arm} below {FOLLOWS:g}", FOLLOWS - of) for arm, of in errors.items()),
                tuple(Part(f"error of {arm} above {FOLLOWS:g}", of - FOLLOWS) for arm, of in errors.items()),
                any_opposite=True,
            )
            drawn.append(withheld(claim, ("teacher", onehot, student), unlearned))
    return drawn


def _bias_claims(
    ratios: Mapping[str, str],
    estimates: Iterable[Estimate],
    baselines: Mapping[str, str],
    references: Mapping[str, str],
    unlearned: Sequence[Unlearned],
    teachers: Mapping[str, str] | None = None,
    single: Collection[str] = (),
) -> list[Claim]:
    """Claims on the bias of {what was measured: name of its ratios}; the other arguments are those of `eigen_claims`."""
    drawn = []
    failed = {run.arm for run in unlearned}
    estimates = list(estimates)
    for what, name in ratios.items():
        of_name = [e for e in estimates if e.name == name and not e.no_verdict]
        for arm, layer in dict.fromkeys((e.arm, e.layer) for e in of_name if e.arm in baselines):
            same = [other for other, onehot in references.items() if onehot == baselines[arm]]
            nulls = [other for other in same if other not in baselines and other not in failed]
            of_layer = {(e.arm, e.directions): e for e in of_name if e.layer == layer}
            where = f"{layer}, {what}" if layer else what
            who = arm if len(baselines) > 1 else "the student"
            subject = f"the {what} of layer {layer}" if layer else "what the network computes"
            claim = _lag(name, of_layer, arm, nulls, single, where, subject, who)
            drawn.append(withheld(claim, ((teachers or {}).get(arm, TEACHER), baselines[arm], arm), unlearned))
    return drawn


def _lag(
    name: str,
    of_layer: Mapping[tuple[str, tuple[int, ...]], Estimate],
    arm: str,
    nulls: Collection[str],
    single: Collection[str],
    where: str,
    subject: str,
    who: str,
) -> Claim:
    """The claim that an arm lags at every pair, and more than every null, from {(arm, pair): estimate}."""
    pairs = [pair for of, pair in of_layer if of == arm]
    kind = "groups" if name == "function_ratio" else "directions"
    parts, opposite, weakest, held = [], [], (-1.0, pairs[0], ""), set()
    for pair in pairs:
        own = of_layer[arm, pair]
        at = f"{kind} {pair[0]} and {pair[1]}"
        found = [("", Part(f"ratio below 1, {at}", -_logarithms(own.values)))]
        for null in nulls:
            if (null, pair) in of_layer:
                student, other = paired(own, of_layer[null, pair])
                if len(student) > 1:
                    both = _logarithms(np.stack([student, other]))
                    which = "one run for all seeds" if null in single else "same seed"
                    what = f"ratio below that of {null}, {which}, {at}"
                    found.append((null, Part(what, both[1] - both[0], null in single)))
                    held.add((null, pair))
        parts += [part for _, part in found]
        opposite.append(Part(f"ratio above 1, {at}", _logarithms(own.values)))
        weakest = max(weakest, *((part.p_value, pair, null) for null, part in found), key=lambda each: each[0])
    told = [f"{kind} {', '.join(f'{first} and {second}' for first, second in pairs)}"]
    told[0] += f"; {of_layer[arm, pairs[0]].interval.count} seeds"
    for each in [arm, *nulls]:
        known = [of_layer.get((each, pair)) for pair in pairs]
        if any(known):
            told.append(f"{each} " + ", ".join("-" if found is None else _short(found.interval) for found in known))
    lacking = [null for null in nulls if not all((null, pair) in held for pair in pairs)]
    if lacking:
        told.append(f"without a range in common in two seeds, so not compared at every pair: {', '.join(lacking)}")
    _, pair, null = weakest
    ratio = of_layer[arm, pair].interval
    beside = f", of {null} {of_layer[null, pair].interval.estimate:.2f}" if null else ""
    said = f"ratio to the run without a teacher {_short(ratio)}{beside} ({kind} {pair[0]} and {pair[1]}), {ratio.count} seeds"
    bias, every = "the bias toward the top eigendirections", f"every null's{' that can be compared' if lacking else ''}"
    return Claim(
        f"{arm} exaggerates the bias toward the top eigendirections ({where}: ratio below 1 and every null's)",
        "; ".join(told),
        {
            "supported": f"In {subject}, {who} exaggerates {bias}: {said}, below {every}.",
            "contradicted": f"In {subject}, {who} does not exaggerate {bias} but weakens it: {said}.",
            "inconclusive": f"In {subject}, {who} was not shown to exaggerate {bias}: {said}.",
        },
        name,
        arm,
        tuple(parts),
        tuple(opposite),
    )


def _logarithms(ratios) -> np.ndarray:
    """Logarithms of ratios; of progress, which can be negative, the ratios less 1."""
    ratios = np.asarray(ratios, np.float64)
    return np.log(ratios) if (ratios > 0).all() else ratios - 1


POINTS = {"train": "training points", "test": "test points"}


def _exaggeration(
    table: Mapping[tuple, Estimate],
    student: str,
    control: str | None,
    split: str,
    who: str,
    kind: str,
    is_one_control: bool,
    no_control: str,
) -> list[Claim]:
    slope = table.get(("exaggeration_slope", student, split, "lowest_25"))
    of_control = table.get(("exaggeration_slope", control, split, "lowest_25"))
    if slope is None or (of_control is None and control is not None):
        return []
    interval = slope.interval
    because, numbers, unknown = f"slope {_shown(interval)}", f"slope {_short(interval)}", ""
    parts, opposite = (), ()
    if of_control is None:
        unknown = f"no control is exchangeable with the teacher: {no_control}"
    else:
        because += f"; control{f' {control}' if control != 'control' else ''} {_shown(of_control.interval)}"
        numbers += f", control {of_control.interval.estimate:.2f}"
        student_values, control_values = paired(slope, of_control)
        if is_one_control and len(of_control.values) == 1:  # beside one teacher, so that it is the same in all seeds
            student_values = np.array(slope.values)
            control_values = np.full(len(student_values), of_control.values[0])
        if len(student_values) < 2:
            unknown = ONE_SEED
        else:
            excess, values = student_values - control_values, np.array(slope.values)
            by = "one control for all seeds" if is_one_control else "same seed"
            because += f"; student minus control, {by}: {_shown(intervals.over_seeds(excess, shared=is_one_control))}"
            above = Part(f"slope above that of the control {control} ({kind})", excess, is_one_control)
            parts, opposite = (Part("slope above 1", values - 1), above), (Part("slope below 1", 1 - values),)
    if interval.high < 1:
        because += (
            "; a slope below 1 does not show that the student follows the teacher, regression to the mean does that"
        )
    if unknown:
        because += f"; {unknown}"
    points = POINTS.get(split, f"{split} points")
    what = "the teacher's low confidence"
    vague = f"On {points} {who} was not shown to exaggerate {what}: {numbers}."
    if interval.low > 1:
        vague = (
            f"On {points} the slope of {who} was not shown to exceed that of the control, a network that never met this teacher:"
            f" {numbers}."
        )
    if unknown:
        why = "from one seed" if unknown == ONE_SEED else "without a control that was trained as the teacher was"
        vague = f"Whether {who} exaggerates {what} on {points} cannot be told {why}: {numbers}."
    return [
        Claim(
            f"{student} exaggerates {what} ({split}, lowest 25 %: slope above 1, and above the control's)",
            because,
            {
                "supported": f"On {points} {who} exaggerates {what}: {numbers}.",
                "contradicted": f"On {points} {who} does not exaggerate {what}: {numbers}; below 1 it need not follow it either.",
                "inconclusive": vague,
            },
            "exaggeration_slope",
            student,
            parts,
            opposite,
            open=unknown,
            split=split,
        )
    ]


def _gain(
    table: Mapping[tuple, Estimate],
    student: str,
    against: str,
    whom: str,
    whose: str,
    is_one_control: bool,
    teacher: str,
) -> list[Claim]:
    gain = table.get(("accuracy_gain", student, "test", "all"))
    if gain is None:
        return []
    interval, values = gain.interval, np.array(gain.values)
    if len(values) > 1 and is_one_control:
        interval = intervals.over_seeds(values, shared=True)
    because = f"accuracy gain over {against} {_shown(interval)}"
    unknown = ONE_SEED if len(values) < 2 else ""
    if unknown:
        because += f"; {unknown}"
    elif not Part("", values).spread:
        unknown = "the same in all seeds, by chance: shares of a test set are whole counts"
        because += f"; {unknown}"
    fit = table.get(("accuracy", teacher, "train", "all"))
    if fit is not None:
        because += f"; the teacher fits {100 * fit.interval.estimate:.1f} % of the training labels"
    over = "" if against == ONE_HOT else f" over {against}"
    number = f"{signed_points(interval)}, {len(values)} seeds" if len(values) > 1 else signed_points(interval)
    if against == ONE_HOT:
        sentences = {
            "supported": f"Distillation{whose} helped{whom}: {number}.",
            "contradicted": f"Distillation{whose} hurt{whom}: {number}.",
            "inconclusive": f"Distillation{whose} did not measurably help{whom}: {number}.",
        }
    else:
        sentences = {
            "supported": f"The student is better than {against}: {number}.",
            "contradicted": f"The student is worse than {against}: {number}.",
            "inconclusive": f"The student is not measurably better than {against}: {number}.",
        }
    if len(values) < 2:
        sentences["inconclusive"] = (
            f"Whether distillation{whose} helps{whom} cannot be told from one seed: {number}{over}."
        )
    what = f"accuracy gain over {against}, {'one network for all seeds' if is_one_control else 'same seed'}"
    return [
        Claim(
            f"{student} has the better test accuracy for being distilled",
            because,
            sentences,
            "accuracy_gain",
            student,
            (Part(what, values, is_one_control),),
            (Part(what, -values, is_one_control),),
            open=unknown,
            split="test",
        )
    ]


def signed_points(interval: Interval) -> str:
    """Return a difference in accuracy in words, in points, which are hundredths.

    >>> signed_points(Interval(-0.0044, -0.009, 0.0001, 0.95, "seeds", 5))
    '-0.4 points of test accuracy [-0.9, 0.0]'
    """
    low, high = (f"{100 * end:.1f}".replace("-0.0", "0.0") for end in (interval.low, interval.high))
    estimate = f"{100 * interval.estimate:+.1f}".replace("-0.0", "+0.0")
    return f"{estimate} points of test accuracy [{low}, {high}]"


def _short(interval: Interval, digits: int = 2) -> str:
    return f"{interval.estimate:.{digits}f} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def _shown(interval: Interval) -> str:
    return f"{_short(interval, 3)} over {interval.count} {interval.resampled}"


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
