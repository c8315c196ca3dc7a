"""What a study comes to: which runs, which of them is exchangeable with a teacher, and who shares what."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from kd_jax.analysis import eigen
from kd_jax.config import BadInput, Study
from kd_jax.plan import (
    EARLY,
    NULLS,
    TEACHER,
    TWIN,
    GivenTeacher,
    Length,
    Source,
    arms,
    design,
    lengths_of,
    make_plan,
    of_record,
    run_key,
    training_of,
)

STUDY = Study.from_flags(
    dataset="digits", teacher="mlp_8", student=("mlp_8",), epochs=20, batch_size=10, checkpoints=6, seeds=3
)
OTHERWISE = {"teacher_with": ("epochs=5",)}
EXAMPLES = 105


def names(of):
    return [arm.name for arm in of]


def arm_of(made, name):
    return next(arm for arm in (*made.arms, *made.views) if arm.name == name)


def given_of(study, training=None, runs=("a", "b", "c"), seed=100, init=0, step=200):
    """A teacher that exists already, one run for each seed."""
    length = Length(10, 200, [0, step, 200])
    sources = {
        at: Source(run, step, run, length, init, init, seed + at)
        for at, run in zip(study.seed_range(), runs, strict=True)
    }
    return GivenTeacher(sources, training=training)


# ---- what is exchangeable with the teacher


def test_where_teacher_and_students_are_trained_alike_the_one_hot_twin_is_the_control_at_no_cost():
    made = design(STUDY)
    assert (names(made.arms), made.views) == (["teacher", "onehot", "student"], ())
    plan = make_plan(STUDY, EXAMPLES)
    assert plan.controls == plan.baselines == {"student": "onehot"}
    twin, teacher = plan.run("onehot", 0), plan.run("teacher", 0)
    assert (twin.training, twin.length, twin.arm.model) == (teacher.training, teacher.length, teacher.arm.model)
    assert {twin.arm.init, twin.arm.order}.isdisjoint({teacher.arm.init, teacher.arm.order})


@pytest.mark.parametrize("changes", [OTHERWISE, {"teacher": "mlp_16"}, {"teacher": "mlp_16", "teacher_step": 30}])
def test_elsewhere_one_twin_of_the_teacher_serves_all_students_and_differs_from_it_by_chance_alone(changes):
    study = STUDY.replaced(**{"student": ("mlp_8", "mlp_4"), "nulls": ("order", "init", "slower"), **changes})
    plan = make_plan(study, EXAMPLES)
    assert set(plan.controls.values()) == {TWIN}
    assert [run.seed for run in plan.runs if run.arm.name == TWIN] == [0, 1, 2]
    twin, teacher = plan.run(TWIN, 1), plan.run(TEACHER, 1)
    own = {"name", "init", "order"}
    assert {k for k, v in vars(twin.arm).items() if v != getattr(teacher.arm, k)} == own
    assert (twin.training, twin.length) == (teacher.training, teacher.length)
    assert plan.network(twin.arm, 1)[1] == plan.network(teacher.arm, 1)[1] == teacher.teacher_step
    for arm in plan.arms:
        if arm.name != TWIN:  # a stream of its own
            assert (arm.init, arm.order).count(twin.arm.init) == (arm.init, arm.order).count(twin.arm.order) == 0
    assert twin.key not in [run.key for run in plan.runs if run is not twin]
    # It costs a training for each seed, and its steps are counted.
    free = make_plan(study.replaced(control="free"), EXAMPLES)
    assert plan.total_steps - free.total_steps == 3 * teacher.length.total_steps


def test_the_twin_of_the_teacher_is_shared_by_all_variants_whose_teacher_is_the_same():
    study, twin = STUDY.replaced(**OTHERWISE), arm_of(design(STUDY.replaced(**OTHERWISE)), TWIN)
    key = run_key(study, twin, 0)
    for changes in ({"temperature": 2.0}, {"weight": 0.5}, {"student": ("mlp_4",)}, {"epochs": 20, "seeds": 9}):
        assert run_key(study.replaced(**changes), arm_of(design(study.replaced(**changes)), TWIN), 0) == key, changes
    for changes in ({"label_noise": 0.2}, {"teacher": "mlp_4"}, {"teacher_with": ("epochs=6",)}):
        assert run_key(study.replaced(**changes), arm_of(design(study.replaced(**changes)), TWIN), 0) != key, changes


def test_a_teacher_that_is_stopped_early_is_held_against_the_twin_at_the_same_step_which_is_kept():
    study = STUDY.replaced(teacher_step=37)
    plan = make_plan(study, EXAMPLES)
    assert names(plan.arms) == names(arms(STUDY))
    assert plan.total_steps == make_plan(STUDY, EXAMPLES).total_steps
    assert plan.controls == {"student": "onehot_early"}
    (view,) = plan.views
    run, step = plan.network(view, 2)
    assert (run.name, step, plan.teacher_step) == ("onehot-seed2", 37, 37)
    assert 37 in run.length.checkpoint_steps
    assert [run.key for run in plan.runs if not run.arm.teacher] == [
        run.key for run in make_plan(STUDY, EXAMPLES).runs if not run.arm.teacher
    ]


def test_a_second_students_twin_that_is_like_the_teacher_serves_the_first_student_too():
    plan = make_plan(STUDY.replaced(student=("mlp_4", "mlp_8")), EXAMPLES)
    assert plan.controls == {"student": "onehot_mlp_8", "student_mlp_8": "onehot_mlp_8"}
    assert TWIN not in names(plan.arms)


def test_keeping_more_checkpoints_or_an_average_is_no_other_training():
    for word in ("checkpoints=12", "ema=0.9"):
        assert design(STUDY.replaced(teacher_with=(word,))).arms[2].control == "onehot"
    for word in ("epochs=21", "weight_decay=0.1", "learning_rate=0.5"):
        assert arm_of(design(STUDY.replaced(teacher_with=(word,))), "student").control == TWIN


def test_of_teachers_that_exist_the_next_seeds_stands_in_and_every_seed_has_another_network():
    study = STUDY.replaced(teacher_from="elsewhere")
    plan = make_plan(study, EXAMPLES, given=given_of(study))
    assert plan.controls == {"student": "teacher_next"}
    (view,) = plan.views
    assert [plan.network(view, seed)[0].name for seed in range(3)] == [
        "teacher-seed1",
        "teacher-seed2",
        "teacher-seed0",
    ]
    assert {plan.network(view, seed)[1] for seed in range(3)} == {200}


@pytest.mark.parametrize(("same", "control"), [(True, "onehot"), (False, "teacher_next")])
def test_a_given_teacher_that_was_trained_just_as_the_twin_is_held_against_that(same, control):
    study = STUDY.replaced(teacher_from="elsewhere")
    training = study.training if same else replace(study.training, learning_rate=0.1)
    assert make_plan(study, EXAMPLES, given=given_of(study, training)).controls == {"student": control}
    early = make_plan(study, EXAMPLES, given=given_of(study, training, step=50))
    assert early.controls == {"student": "onehot_early" if same else "teacher_next"}
    assert {early.network(view, 0)[1] for view in early.views} == {50}


def test_a_twin_that_started_where_the_given_teacher_did_is_no_control():
    study = STUDY.replaced(teacher_from="elsewhere")
    given = given_of(study, study.training, seed=0, init=1)
    plan = make_plan(study, EXAMPLES, given=given)
    assert plan.starts_with_teacher == (0, 1, 2)
    assert plan.controls == {"student": "teacher_next"}


def test_one_given_teacher_and_a_file_of_logits_have_no_control_and_a_reason():
    one = STUDY.replaced(teacher_from="elsewhere")
    plan = make_plan(one, EXAMPLES, given=given_of(one, runs=("a", "a", "a")))
    assert (plan.controls, plan.views) == ({"student": None}, ())
    assert "one teacher from elsewhere" in plan.no_control
    of_logits = STUDY.replaced(teacher_logits="answers.npz", teacher="")
    plan = make_plan(of_logits, EXAMPLES, given=GivenTeacher({}, "digest", ("train",)))
    assert plan.controls == {"student": None}
    assert "file of logits" in plan.no_control


def test_a_teacher_that_is_taken_as_it_is_has_no_second_one():
    plan = make_plan(STUDY.replaced(teacher_with=("epochs=0",)), EXAMPLES)
    assert plan.controls == {"student": None}
    assert "taken as it is" in plan.no_control


def test_a_study_of_an_earlier_version_without_a_twin_takes_the_next_seeds_teacher_or_says_what_to_do():
    for seeds, control in ((3, "teacher_next"), (1, None)):
        study = STUDY.replaced(seeds=seeds, **OTHERWISE)
        plan = make_plan(study, EXAMPLES)
        old = {"name", "model", "teacher", "baseline", "init", "order", "rate", "null_of"}  # what it kept of an arm
        record = {
            "arms": [
                {k: v for k, v in vars(arm).items() if k in old} | plan.length(arm.name)._asdict()
                for arm in plan.arms
                if arm.name != TWIN
            ]
        }
        made = of_record(study, record)
        assert TWIN not in names(made.arms)
        assert arm_of(made, "student").control == control
        assert bool(made.no_control) == (control is None)
        opened = make_plan(study, EXAMPLES, trained=lengths_of(record))
        assert (opened.arms, opened.views) == (made.arms, made.views)
        # The study's command again trains it.
        assert TWIN in names(make_plan(study, EXAMPLES, begun=lengths_of(record)).arms)
    assert "run the study's command again" in made.no_control


def test_a_study_of_an_earlier_version_whose_twin_was_not_kept_at_the_teachers_step_is_asked_for_no_more():
    study = STUDY.replaced(teacher_step=37)
    plan = make_plan(study, EXAMPLES)
    record = {"arms": [vars(arm) | plan.length(arm.name)._asdict() for arm in plan.arms]}
    kept = [step for step in record["arms"][1]["checkpoint_steps"] if step != 37]
    record["arms"][1]["checkpoint_steps"] = kept
    opened = make_plan(study, EXAMPLES, trained=lengths_of(record))
    assert opened.length("onehot").checkpoint_steps == kept
    assert opened.controls == {"student": "teacher_next"}
    again = make_plan(study, EXAMPLES, begun=lengths_of(record))
    assert again.length("onehot").checkpoint_steps == plan.length("onehot").checkpoint_steps
    assert again.controls == {"student": "onehot_early"}


def test_networks_without_an_effect_seem_to_exaggerate_as_seldom_beside_the_next_seeds_teacher():
    """The differences of neighbouring seeds share a teacher; the t interval over seeds stays honest."""
    rng, draws, seeds, examples = np.random.default_rng(0), 4000, 5, 80

    def networks(signal):
        return np.exp(0.3 * rng.normal(size=(draws, seeds, 1))) * (
            signal + 0.6 * rng.normal(size=(draws, seeds, examples))
        )

    def slopes(x, y):
        lowest = np.argsort(x, axis=-1)[..., : examples // 4]
        x, y = (np.take_along_axis(of, lowest, -1) for of in (x, y))
        x, y = (of - of.mean(-1, keepdims=True) for of in (x, y))
        return (x * y).sum(-1) / (x * x).sum(-1)

    signal = rng.normal(size=(draws, 1, examples))
    teachers, students = networks(signal), networks(signal)
    pair = slopes(teachers, students), slopes(teachers, np.roll(teachers, -1, axis=1))
    found = np.mean(stats.ttest_rel(*pair, axis=1, alternative="greater").pvalue < 0.025)
    assert found < 0.025 + 3 * np.sqrt(0.025 * 0.975 / draws)


# ---- nulls of the eigendirections


def test_a_teacher_is_a_null_of_its_network_where_it_is_trained_as_that_is_and_not_elsewhere():
    nulls = STUDY.replaced(nulls=tuple(NULLS))
    assert set(eigen.references(arms(nulls))) == {"teacher", "student", *(f"onehot_{null}" for null in NULLS)}
    assert set(eigen.references(arms(nulls.replaced(**OTHERWISE)))) == {
        "student",
        *(f"onehot_{null}" for null in NULLS),
    }
    cross = STUDY.replaced(teacher="mlp_16", student=("mlp_8", "mlp_4"))
    assert eigen.references(arms(cross)) == {"student": "onehot", "student_mlp_4": "onehot_mlp_4"}


def test_a_given_teacher_is_a_null_where_it_was_trained_as_the_one_hot_twin():
    study = STUDY.replaced(teacher_from="elsewhere")
    assert eigen.references(arms(study, given_of(study, study.training))) == {"teacher": "onehot", "student": "onehot"}
    assert eigen.references(arms(study, given_of(study))) == {"student": "onehot"}


# ---- a teacher that also teaches early


def test_a_teacher_that_also_teaches_early_costs_one_student_and_changes_no_other_run():
    plan, before = make_plan(STUDY.replaced(early_epoch=4), EXAMPLES), make_plan(STUDY, EXAMPLES)
    assert names(plan.arms) == ["teacher", "onehot", "student", "student_early"]
    assert [run for run in plan.runs if run.arm.name != "student_early"] == [
        replace(run, length=plan.length(run.arm.name)) for run in before.runs
    ]
    assert plan.total_steps - before.total_steps == 3 * 200
    early = plan.run("student_early", 1)
    assert (early.taught_by, early.teacher_step, early.teacher_name) == ("teacher-seed1", 40, "teacher_early-seed1")
    other = make_plan(STUDY.replaced(early_epoch=5), EXAMPLES).run("student_early", 1)
    assert len({early.key, other.key, plan.run("student", 1).key}) == 3
    assert 40 in plan.length("teacher").checkpoint_steps
    assert 40 in plan.length("onehot").checkpoint_steps
    assert plan.controls == {"student": "onehot", "student_early": "onehot_early"}
    assert plan.baselines == {"student": "onehot", "student_early": "onehot"}
    assert plan.teachers == {"student": TEACHER, "student_early": EARLY}
    assert plan.teacher_step == 200
    assert names(plan.shown) == ["teacher", "teacher_early", "onehot", "onehot_early", "student", "student_early"]


def test_beside_a_teacher_that_is_trained_otherwise_the_early_student_has_the_twin_at_the_same_epoch():
    plan = make_plan(STUDY.replaced(early_epoch=2, teacher_with=("epochs=5", "batch_size=21")), EXAMPLES)
    assert plan.controls == {"student": TWIN, "student_early": f"{TWIN}_early"}
    view = arm_of(plan, f"{TWIN}_early")
    assert plan.network(view, 0)[1] == plan.run("student_early", 0).teacher_step == 2 * (EXAMPLES // 21)


@pytest.mark.parametrize("changes", [{"epochs": 4}, {"teacher_with": ("epochs=3",)}])
def test_a_teacher_that_is_trained_no_longer_than_that_teaches_once(changes):
    assert "student_early" not in names(arms(STUDY.replaced(early_epoch=4, **changes)))


@pytest.mark.parametrize(
    "beside", [{"teacher_step": 5}, {"teacher_from": "x"}, {"teacher_logits": "x.npz"}, {"kernel_examples": 10}]
)
def test_an_early_epoch_beside_what_knows_one_teacher_is_refused(beside):
    with pytest.raises(BadInput, match=r"^--early_epoch=4: expected 0 beside"):
        STUDY.replaced(early_epoch=4, **beside)


def test_how_a_twin_is_trained_is_how_the_teacher_is():
    study = STUDY.replaced(teacher_with=("epochs=5", "learning_rate=0.3"))
    made = design(study)
    assert training_of(study, arm_of(made, TWIN)) == training_of(study, arm_of(made, TEACHER)) == study.teacher_training
