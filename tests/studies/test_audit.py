"""An audit: its numbers are those that a study has of the same logits, its findings are what was put in."""

import csv
import json
import re

import jax
import numpy as np
import pytest
from matplotlib.text import Text
from scipy import stats
from scipy.special import log_softmax, softmax

import kd_jax
from kd_jax.analysis import audit as questions
from kd_jax.analysis.examples import beside
from kd_jax.cli import commands
from kd_jax.config import Study
from kd_jax.errors import BadInput
from kd_jax.report import audit_figures
from kd_jax.studies import analyse
from kd_jax.studies import train as train_stage

CLASSES = 5


def models(count=400, seed=0, slope=1.5):
    """(labels, logits of a teacher, of a student whose confidence is `slope` times as large, of an independent control)."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, count)
    signal = np.eye(CLASSES)[y] * rng.gamma(2, 1.2, (count, 1))
    teacher = signal + rng.normal(size=(count, CLASSES))
    control = signal + rng.normal(size=(count, CLASSES))
    return y, teacher, slope * teacher + 0.1 * rng.normal(size=teacher.shape), control


@pytest.mark.long
def test_an_audit_of_a_studys_logits_has_the_studys_numbers(tmp_path, no_figures):
    study = Study.from_flags(
        dataset="digits", train_examples=300, teacher="mlp_16", student=("mlp_16",), epochs=3, batch_size=50, seeds=2
    )
    train_stage.train("tested", study, tmp_path / "study", "unused", jax.devices()[:1])
    summary = analyse.analyze(tmp_path / "study")
    of_study = {
        (e["name"], e["arm"], e["subset"], e.get("rank", 0)): e
        for e in summary["estimates"]
        if e.get("split") == "test"
    }

    def logits(arm, which):
        folder = tmp_path / "study" / "analysis" / "pairs"
        return [np.load(folder / f"{arm}-seed{seed}-test.npz")[which] for seed in (0, 1)]

    labels = np.load(tmp_path / "study" / "analysis" / "pairs" / "student-seed0-test.npz")["labels"]
    found = kd_jax.audit(
        logits("student", "teacher_logits"),
        logits("student", "student_logits"),
        labels,
        control=logits("onehot", "student_logits"),
    )
    assert len(found.estimates) > 30
    for estimate in found.estimates:
        arm = "onehot" if estimate.arm == "control" else estimate.arm
        expected = of_study[estimate.name, arm, estimate.subset, estimate.rank]
        assert (estimate.interval.estimate, estimate.interval.low, estimate.values) == (
            expected["estimate"],
            expected["low"],
            tuple(expected["values"]),
        )
    study_verdicts = [verdict for verdict in summary["verdicts"] if "test" in verdict["claim"]]
    assert summary["answer"][0] == study_verdicts[0]["sentence"]
    assert found.verdicts[0].sentence in found.summary["answer"]


def test_what_was_put_in_is_found(tmp_path):
    y, teacher, student, control = models(2000)
    found = kd_jax.audit(teacher, student, y, control=control)
    slope = found.estimate("exaggeration_slope", subset="all", split="test").interval
    assert 1.4 < slope.estimate < 1.6
    rescaled = found.summary["audit"]["rescaled"]
    assert rescaled["temperature"]["estimate"] == pytest.approx(1.5, rel=0.01)
    assert rescaled["removed"] > 0.9
    assert found.summary["audit"]["entropy"]["teacher"] == pytest.approx(
        -(softmax(teacher, axis=1) * log_softmax(teacher, axis=1)).sum(axis=1).mean()
    )


def test_logits_probabilities_and_log_probabilities_are_one_audit():
    y, teacher, student, _ = models()
    as_logits = kd_jax.audit(teacher, student, y)
    as_p = kd_jax.audit(softmax(teacher, axis=1), softmax(student, axis=1), y, kind="probabilities")
    for a, b in zip(as_logits.estimates, as_p.estimates, strict=True):
        assert a.interval.estimate == pytest.approx(b.interval.estimate, rel=1e-6)


def test_one_teacher_may_stand_beside_several_students_and_its_interval_is_over_examples():
    y, teacher, *_ = models()
    students = [models(seed=0, slope=slope)[2] for slope in (1.2, 1.3, 1.4)]
    found = kd_jax.audit(teacher, students, y)
    assert found.estimate("accuracy", split="test").interval.resampled == "seeds"
    assert found.estimate("accuracy", "teacher", split="test").interval.resampled == "examples"


def test_one_control_of_several_students_is_one_network_and_its_chance_is_in_the_gain():
    y, teacher, *_, control = models()
    students = [models(seed=0, slope=slope)[2] for slope in (1.2, 1.3, 1.4)]
    students[0][:3] = -students[0][:3]  # so that accuracies differ
    alone, found = kd_jax.audit(teacher, control, y), kd_jax.audit(teacher, students, y, control=control)
    own = {(e.name, e.split, e.subset, e.rank): e for e in found.estimates if e.arm == "control"}
    same = {(e.name, e.split, e.subset, e.rank): e for e in alone.estimates if e.arm == "student"}
    assert len(own) > 20
    for about, estimate in own.items():
        assert (estimate.interval, estimate.values) == (same[about].interval, same[about].values)
        assert estimate.interval.resampled == "examples"
    gain = found.estimate("accuracy_gain", split="test")
    expected = stats.t.ppf(0.975, 2) * np.std(gain.values, ddof=1) * np.sqrt(1 + 1 / 3)
    assert gain.interval.high - gain.interval.estimate == pytest.approx(expected)
    slopes = np.array(found.estimate("exaggeration_slope", split="test", subset="lowest_25").values)
    over = stats.ttest_1samp(slopes - own["exaggeration_slope", "test", "lowest_25", 0].values[0], 0)
    of_part = 2 * stats.t.sf(over.statistic / np.sqrt(3 + 1), 2)  # the control's own chance: 1/3 + 1 instead of 1/3
    p_value = next(each.p_value for each in found.verdicts if each.name == "exaggeration_slope")
    assert p_value == pytest.approx(max(of_part, 2 * stats.t.sf(stats.ttest_1samp(slopes, 1).statistic, 2)))
    assert "The control is one for all seeds; its own intervals are over examples." in str(found)


def test_what_is_of_the_first_seed_alone_says_so_on_the_page(tmp_path, words_of, monkeypatch):
    monkeypatch.setattr("kd_jax.report.audit_figures.drawn", lambda *_: {})
    y, teacher, *_ = models()
    students = [models(seed=0, slope=slope)[2] for slope in (1.2, 1.3)]
    for number, given in (("one", students[0]), ("two", students)):
        kd_jax.audit(teacher, given, y, out=tmp_path / number)
    one, two = (words_of((tmp_path / name / "report.html").read_text(encoding="utf-8")) for name in ("one", "two"))
    assert "it is the first" not in one
    assert two.count("Of several seeds it is the first.") >= 4  # scale, calibration, classes, confusions
    assert "Where the student is far surer than its teacher, the first of several seeds" in two


def test_titles_are_within_their_figures_and_name_what_is_one_of_several(tmp_path, words_of, monkeypatch):
    made, real = {}, audit_figures.drawn
    monkeypatch.setattr(audit_figures, "drawn", lambda *of: made.update(real(*of)) or made)
    y, teacher, *_, control = models()
    students = [models(seed=0, slope=slope)[2] for slope in (1.2, 1.3, 1.4)]
    kd_jax.audit(teacher, students, y, control=control, out=tmp_path / "out")
    for name in ("slopes", "slopes_by_rank"):
        figure = made[name]
        figure.draw_without_rendering()
        (title,) = (text for text in figure.findobj(Text) if text.get_text().startswith("Mean and 95%"))
        assert "The control is one for all seeds" in " ".join(title.get_text().split())
        extent = title.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.bbox.width
    titles = [axes.get_title() for axes in made["reliability"].axes]
    assert [title.endswith(", the first of 3") for title in titles] == [False, True]
    words = words_of((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "gain over control" in words
    assert "one-hot" not in words.partition("What came out")[0]


def test_without_a_control_exaggeration_is_never_supported_and_without_labels_nothing_is_said_of_accuracy():
    _, teacher, student, _ = models(2000)
    found = kd_jax.audit(teacher, student)
    (verdict,) = found.verdicts
    assert verdict.verdict == "inconclusive"
    assert "no control was given" in verdict.because
    assert not {"accuracy", "nll", "ece", "brier"} & {estimate.name for estimate in found.estimates}
    assert found.summary["audit"]["calibration"] == {}


def test_classes_confusions_and_examples_are_those_that_loops_find():
    y, teacher, _, control = models(300, seed=3)
    said = beside(teacher, control, y)
    top, other = teacher.argmax(1), control.argmax(1)
    for found in questions.classes(said, CLASSES):
        rows = [i for i in range(300) if top[i] == found.index]
        assert found.count == len(rows)
        assert found.agreement == pytest.approx(np.mean([other[i] == top[i] for i in rows]))
        assert found.deviation == pytest.approx(np.mean([said.pair.y[i] - said.pair.x[i] for i in rows]))
        assert found.student_accuracy == pytest.approx(np.mean([other[i] == y[i] for i in rows]))
    counts = {}
    for a, b in zip(top, other, strict=True):
        if a != b:
            counts[a, b] = counts.get((a, b), 0) + 1
    found = questions.confusions(said, CLASSES, most=3)
    assert [each.count for each in found] == sorted(counts.values(), reverse=True)[:3]
    assert all(counts[each.teacher, each.student] == each.count for each in found)
    below, above = questions.extremes(said, y, most=4)
    deviation = said.pair.y - said.pair.x
    assert [each.row for each in below] == np.argsort(deviation)[:4].tolist()
    assert [each.row for each in above] == np.argsort(-deviation)[:4].tolist()


def test_advice_rests_on_its_number():
    y, teacher, student, _ = models(3000)
    perfect = teacher + 30 * np.eye(CLASSES)[y]
    on_train = kd_jax.audit(perfect, 3 * student, y, split="train")
    assert "Stop the teacher earlier" in on_train.advice[0].advice
    assert not any("Stop" in each.advice for each in kd_jax.audit(perfect, 3 * student, y, split="test").advice)
    (divide,) = [each for each in on_train.advice if "Divide the student's logits" in each.advice]
    temperature = on_train.summary["audit"]["calibration"]["student"]["temperature"]["estimate"]
    assert f"by {temperature:.2f}" in divide.advice
    assert all(each.source and re.search(r"\d", each.because + each.source) for each in on_train.advice)


def test_rows_of_probability_one_are_counted_and_left_out_of_slopes():
    _, teacher, student, _ = models(1000)
    p = softmax(student, axis=1)
    p[:3] = np.eye(CLASSES)[teacher[:3].argmax(1)]
    found = kd_jax.audit(softmax(teacher, axis=1), p, kind="probabilities")
    assert "3 of 1000 rows have a probability of exactly 0 or 1" in found.warnings[0]
    assert np.isfinite(found.estimate("exaggeration_slope", split="test").interval.estimate)


def test_nothing_is_said_of_temperatures_where_no_temperature_makes_a_divergence_or_a_likelihood_finite(tmp_path):
    y, teacher, student, _ = models()
    p, of_teacher = softmax(student, axis=1), softmax(teacher, axis=1)
    p[np.arange(20), (y[:20] + 1) % CLASSES] = 0  # not the label
    found = kd_jax.audit(of_teacher, p / p.sum(1, keepdims=True), y, kind="probabilities")
    assert found.summary["audit"]["rescaled"] == {}
    assert set(found.summary["audit"]["calibration"]) == {"teacher", "student"}
    assert not {"kl", "kl_scale", "kl_temperature"} & {each.name for each in found.estimates}
    assert not any("factor on its logits" in each.advice for each in found.advice)
    p[np.arange(20), y[:20]] = 0
    found = kd_jax.audit(of_teacher, p / p.sum(1, keepdims=True), y, kind="probabilities", out=tmp_path / "audit")
    assert set(found.summary["audit"]["calibration"]) == {"teacher"}
    assert {each.arm for each in found.estimates if each.name == "nll"} == {"teacher"}
    assert (tmp_path / "audit" / "report.html").is_file()  # without the ECE of the student


def test_the_command_writes_a_whole_report(tmp_path, capsys):
    y, teacher, student, control = models()
    for name, array in {"t": teacher, "s": student, "c": control, "y": y}.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "names.txt").write_text("\n".join(["Bär", "<cat>", "dog", "emu", "fox"]), encoding="utf-8")
    (tmp_path / "texts.txt").write_text("\n".join(f"example <{i}>" for i in range(400)), encoding="utf-8")
    words = [f"--teacher={tmp_path}/t.npy", f"--student={tmp_path}/s.npy", f"--control={tmp_path}/c.npy"]
    words += [f"--labels={tmp_path}/y.npy", f"--names={tmp_path}/names.txt", f"--examples={tmp_path}/texts.txt"]
    out = tmp_path / "out"
    assert commands.main(["audit", *words, f"--out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "teacher (t.npy)" in printed
    assert f"report: {out}/report.html" in printed
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "&lt;cat&gt;" in page
    assert "<cat>" not in page
    assert "example &lt;" in page
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    with open(out / "table.csv", encoding="utf-8") as stream:
        assert len(list(csv.reader(stream))) == len(summary["estimates"]) + 1
    # Again it replaces its own report, and nothing else's.
    assert commands.main(["audit", *words, f"--out={out}"]) == 0
    capsys.readouterr()
    assert commands.main(["audit", *words, f"--out={tmp_path}"]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err


def bad(what):
    y, teacher, student, control = models(50)
    given = {"teacher": teacher, "student": student, "labels": y, "control": control}
    if what == "shapes":
        given["student"] = student[:, :4]
    if what == "lengths":
        given["control"] = control[:40]
    if what == "one class":
        given = {"teacher": teacher[:, :1], "student": student[:, :1]}
    if what == "few":
        given = {"teacher": teacher[:7], "student": student[:7]}
    if what == "nan":
        given["student"] = np.where(np.arange(50)[:, None] == 17, np.nan, student)
    if what == "seeds":
        given["teacher"] = [teacher, teacher]
        given["student"] = [student, student, student]
    if what == "names":
        given["names"] = ["a", "b"]
    return given


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("shapes", r"student: expected \[50, 5\] .* found \[50, 4\]"),
        ("lengths", r"control: expected \[50, 5\] .* found \[40, 5\]"),
        ("one class", "expected two classes or more"),
        ("few", "expected at least 8 examples, found 7"),
        ("nan", "student: row 17, column 0: expected a finite number, found nan"),
        ("seeds", "expected one file or 3, one for each --student, found 2"),
        ("names", "expected 5 names, one per class, found 2"),
    ],
)
def test_what_cannot_be_judged_is_one_line_and_leaves_nothing(tmp_path, what, said):
    with pytest.raises(BadInput, match=said) as caught:
        kd_jax.audit(**bad(what), out=tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_teacher_that_is_equally_sure_of_everything_has_no_slope_and_that_is_said():
    y, teacher, student, _ = models(50)
    constant = np.eye(CLASSES)[teacher.argmax(1)] * 2.0
    found = kd_jax.audit(constant, student, y)
    assert any("equally sure of every example" in warning for warning in found.warnings)
    assert not any(estimate.name == "exaggeration_slope" for estimate in found.estimates)


def independent(count, seed, scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=(count, 4))


def test_of_students_whose_confidence_hardly_varies_nothing_is_concluded():
    """Their slope is near 0 whatever they learnt, which contradicts nothing."""
    teachers = [independent(400, seed) for seed in range(3)]
    found = kd_jax.audit(teachers, [0.02 * independent(400, 10 + seed) for seed in range(3)])
    assert found.verdicts[0].verdict == "inconclusive"
    assert "student did not learn (its confidence hardly varies)" in found.verdicts[0].because
    assert [(run["arm"], run["seed"], run["reason"]) for run in found.summary["unlearned"]] == [
        ("student", seed, "flat") for seed in range(3)
    ]
    assert "student 2: its confidence varies by" in found.summary["warnings"][1]
    lively = kd_jax.audit(teachers, [0.5 * teachers[seed] + 0.1 * independent(400, 10 + seed) for seed in range(3)])
    assert lively.verdicts[0].verdict == "contradicted"
    assert lively.summary["unlearned"] == []
    # One control beside one teacher is named once, however many students there are.
    one = kd_jax.audit(teachers[0], teachers, control=0.02 * independent(400, 20))
    assert [(run["arm"], run["seed"]) for run in one.summary["unlearned"]] == [("control", 0)]


def test_models_that_are_copies_of_each_other_are_named():
    a, b, c = (independent(50, seed) for seed in range(3))
    assert not any(
        "say the same" in said
        for said in kd_jax.audit([a, b], [b, c], control=independent(50, 3)).summary["warnings"][1:]
    )
    said = kd_jax.audit([a, a], [b, c], control=a).summary["warnings"][0]
    assert said.startswith("teacher 1, control and teacher 2 say the same of every example")
    said = kd_jax.audit(a, [a, b]).summary["warnings"][0]
    assert said.startswith("teacher and student 1 say the same of every example")
    assert not kd_jax.audit(a, [b, c]).summary["warnings"]


def test_a_label_of_probability_zero_makes_no_noise(recwarn):
    teacher = independent(60, 0)
    impossible = teacher.copy()
    impossible[::7, 3] = -np.inf
    y = np.arange(60) % 4
    for models in (
        (impossible, impossible + 0.1 * independent(60, 1)),
        ([impossible, teacher], [teacher, teacher + 1]),
    ):
        found = kd_jax.audit(*models, y)
        assert not [e for e in found.estimates if e.name == "nll" and not np.isfinite(e.interval.low)]
        assert any("its NLL is infinite" in said for said in found.summary["warnings"])
    assert not [each for each in recwarn if "numpy" in str(each.filename)]


def test_of_the_most_probable_classes_alone_there_are_no_ranks_beyond_them(tmp_path):
    """Of the classes that were left out no order is known; with all classes there are as many ranks as classes."""
    y, teacher, student, _ = models(200)
    log_p = log_softmax(teacher, axis=1)
    indices = np.argsort(-log_p, axis=1)[:, :3]
    values = np.take_along_axis(log_p, indices, axis=1)
    np.savez(tmp_path / "teacher.npz", log_probabilities=values, indices=indices)
    whole, cut = (kd_jax.audit(given, student, y) for given in (teacher, str(tmp_path / "teacher.npz")))
    ranks = [{e.rank: e for e in found.estimates if e.name == "exaggeration_slope_rank"} for found in (whole, cut)]
    assert [list(each) for each in ranks] == [[1, 2, 3, 4, 5], [1, 2, 3]]
    for rank in (1, 2, 3):
        assert ranks[1][rank].values == pytest.approx(ranks[0][rank].values, rel=1e-6)
