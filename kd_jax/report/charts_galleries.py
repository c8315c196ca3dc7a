"""Single examples for the page: the most exaggerated ones, and wrong labels that were learnt by heart."""

from collections.abc import Mapping, Sequence

import numpy as np

from kd_jax.analysis import gallery
from kd_jax.analysis.gallery import OfRun
from kd_jax.report import charts
from kd_jax.report.charts_confidence import Examples

NOTE = """The examples below are chosen for being extreme, so they illustrate and prove nothing: any two models have a most
    different example. The slopes and their controls are the evidence."""
KINDS = {
    "less_sure": "the teacher is unsure, and the student less sure still",
    "surer": "the teacher is sure, and the student surer still",
    "memorised": "wrong labels that teacher and student fit",
    "resisted": "wrong labels that the teacher fits, and the student does not",
}


def galleries(
    runs: Sequence[OfRun],
    examples: Mapping[str, Examples],
    controls: Mapping[str, str | None],
    names: Sequence[str] = (),
) -> list[charts.Gallery]:
    """Return the most exaggerated examples and the wrong labels that were learnt by heart, of every student on every split.

    Args:
        runs, examples, names: as for `charts_confidence.chart`.
        controls: {student: the arm beside which it is shown, such as its control}.
    """
    made = []
    for arm, control in controls.items():
        for split, of_split in examples.items():
            own, other = ([run for run in runs if run.split == split and run.arm == name] for name in (arm, control))
            if not own:
                continue
            other = [run for run in other if run.against == own[0].against]
            found = gallery.gallery(own, other, of_split.labels, of_split.published)
            for kind, listed in found.items():
                seeds = f", mean of {len(own)} seeds" if len(own) > 1 else ""
                shown = [_card(each, of_split, own[0], control or "", names) for each in listed]
                made.append(charts.Gallery(f"{split}, {arm}: {KINDS[kind]}{seeds}", shown))
    return made


def _card(
    each: gallery.Example, examples: Examples, run: OfRun, control: str, names: Sequence[str]
) -> tuple[tuple[str, str] | None, str]:
    def named(index: int) -> str:
        return str(names[index]) if len(names) else str(index)

    arm, teacher = run.arm, run.against
    id_ = int(examples.ids[each.row])
    said = [f"{examples.unit} {id_}"]
    if examples.labels is not None:
        label = int(examples.labels[each.row])
        published = label if examples.published is None else int(examples.published[each.row])
        wrong = published != label
        said[0] += f", label {named(label)}" + (f" (published: {named(published)})" if wrong else "")
        if wrong:
            said.append(f"of that label: {teacher} {_p(each.teacher_label)}, {arm} {_p(each.student_label)}")
    said.append(
        f"{teacher} {named(each.teacher)} ({_p(each.teacher_p)}), {arm} {named(each.student)} ({_p(each.student_p)})"
    )
    spread = f" [{each.low:+.1f}, {each.high:+.1f}]" if each.low != each.high else ""
    control_said = f"; {control} {each.control:+.1f}" if np.isfinite(each.control) else ""
    said.append(f"{arm} less {teacher} {each.deviation:+.1f}{spread} nats{control_said}")
    return (examples.views.card(id_) if examples.views else None), "; ".join(said)


def _p(value: float) -> str:
    return "> 0.999" if value > 0.9995 else "< 0.001" if value < 0.0005 else f"{value:.3f}"
