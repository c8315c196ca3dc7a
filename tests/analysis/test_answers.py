"""What a study found, first: one to three sentences."""

import numpy as np

from kd_jax.analysis import across, answers, intervals
from kd_jax.analysis.results import Estimate, Verdict


def verdict(name, arm="student", split="", kind="supported"):
    return Verdict("", kind, "", f"{name} of {arm} {split}.", name=name, arm=arm, split=split)


STUDY = [
    verdict("exaggeration_slope", split="test"),
    verdict("exaggeration_slope", split="train"),
    verdict("accuracy_gain", split="test"),
    verdict("eigen_ratio"),
]


def test_one_student_is_answered_by_its_gain_and_its_exaggeration_on_training_points():
    assert answers.of_study(STUDY) == ["accuracy_gain of student test.", "exaggeration_slope of student train."]
    assert answers.of_study(STUDY[:1]) == ["exaggeration_slope of student test."]


def test_the_study_of_eigendirections_answers_its_own_question_first():
    assert answers.of_study(STUDY, "eigenspace")[0] == "eigen_ratio of student ."


def test_several_students_have_a_sentence_each_and_many_are_counted():
    several = [verdict("accuracy_gain", arm) for arm in ("student", "student_b", "student_c")]
    assert answers.of_study([*several, *STUDY[:2]]) == [each.sentence for each in several]
    many = [*several, verdict("accuracy_gain", "student_d", kind="inconclusive")]
    assert answers.of_study(many) == ["Of 4 students, 3 helped, 0 hurt, 1 open."]


def test_a_study_without_verdicts_says_so():
    assert answers.of_study([]) == [answers.NOTHING]


def test_an_audit_is_answered_by_exaggeration_agreement_and_gain():
    hits = intervals.of_proportion(np.arange(200) < 180)
    agreement = Estimate("agreement", "student", hits, (0.9,), split="test", subset="all")
    found = answers.of_audit([STUDY[0], STUDY[2]], [agreement], "test", "tokens")
    assert found == [
        "exaggeration_slope of student test.",
        "Student and teacher name the same class for 90.0 % [85.1, 93.4] of the tokens.",
        "accuracy_gain of student test.",
    ]


def test_a_sweep_is_answered_by_its_verdicts_and_the_range_of_gains():
    def result(folder, gain, arm="student"):
        gain = np.array(gain)
        return across.StudentResult(folder, arm, {}, gain, gain, gain, True)

    results = [result("a", [0.01, 0.02, 0.03]), result("b", [0.05, 0.06, 0.07]), result("c", [-0.01, 0.0, 0.01])]
    found = answers.of_sweep([verdict("gain_per_teacher_lead")], results)
    assert found[0] == "gain_per_teacher_lead of student ."
    assert found[1] == (
        "Over 3 variants the gain of distillation goes from +0.0 points of test accuracy [-2.5, 2.5] (c) to +6.0 points of test"
        " accuracy [3.5, 8.5] (b)."
    )
    of_two = answers.of_sweep([], [result("a", [0.01, 0.02, 0.03]), result("a", [0.05, 0.06, 0.07], "student_early")])
    assert of_two[0] == (
        "Over variants and students the gain of distillation goes from +2.0 points of test accuracy [-0.5, 4.5] (a, student) to"
        " +6.0 points of test accuracy [3.5, 8.5] (a, student_early)."
    )
    switched = [
        verdict("gain_recovered", kind=kind) for kind in ("supported", "supported", "contradicted", "inconclusive")
    ]
    assert answers.of_sweep(switched, [])[0] == (
        "Of 4 switched students, 2 keep at least half of the gain, 1 keep less, 1 open."
    )


def test_one_variant_has_no_range_of_gains():
    gain = np.array([0.01, 0.02, 0.03])
    assert answers.of_sweep([], [across.StudentResult("a", "student", {}, gain, gain, gain, True)]) == [answers.NOTHING]
