"""Studies with a control of their own, or a teacher that also teaches early: what is trained, what it equals, what is said."""

import json
import shutil

import jax
import numpy as np
import pytest

from kd_jax.analysis import exaggeration, intervals, results
from kd_jax.config import Study
from kd_jax.plan import TWIN, Variant
from kd_jax.report import about, sweeps
from kd_jax.studies import analyse, prune, sweep, sweep_summary
from kd_jax.studies import export as exporting
from kd_jax.studies import train as train_stage
from kd_jax.studies.analyses import confidence
from kd_jax.studies.results import Results
from kd_jax.workdir import checkpoints, metrics_file, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=200,
    test_examples=100,
    label_noise=0.2,
    teacher="mlp_16",
    student=("mlp_16",),
    epochs=5,
    batch_size=40,
    learning_rate=0.05,
    checkpoints=6,
    seeds=2,
    trajectory_examples=0,
)
SHORT = STUDY.replaced(teacher_with=("epochs=2",))
EARLY = STUDY.replaced(early_epoch=2, trajectory_examples=200)
ALONG = ("step_", "share_", "forgetting_")  # names of estimates that are about checkpoints on the way


def train(study, workdir):
    return train_stage.train("tested", study, workdir, "unused", jax.devices()[:1])


def digest(workdir, name, step):
    return packing.tree_digest(checkpoints.load_variables(records.run_folder(workdir, name), step))


def finished(study, workdir):
    train(study, workdir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "write_report", lambda *_: None)
        return workdir, analyse.analyze(workdir)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A study whose teacher is trained for less long than its students."""
    return finished(SHORT, tmp_path_factory.mktemp("short") / "study")


@pytest.fixture(scope="module")
def early(tmp_path_factory):
    """A study whose teacher also teaches early."""
    return finished(EARLY, tmp_path_factory.mktemp("early") / "study")


def table(summary):
    return results.index(results.read(summary), "name", "arm", "split", "subset")


def slopes(workdir, arm, split="train"):
    pairs = confidence.read_pairs(workdir / "analysis", [arm], range(2), split)
    return [
        exaggeration.lines(*exaggeration.confidence_pair(of.teacher, of.student))["lowest_25"].slope for of in pairs
    ]


def exaggerations(summary, student):
    return [v for v in summary["verdicts"] if v["claim"].startswith(f"{student} exaggerates the teacher's low")]


def test_a_verdict_compares_with_the_twin_of_the_teacher_and_not_with_the_one_hot_arm(short):
    workdir, summary = short
    known = table(summary)
    of_student, of_twin = slopes(workdir, "student"), slopes(workdir, TWIN)
    np.testing.assert_allclose(known["exaggeration_slope", TWIN, "train", "lowest_25"].values, of_twin)
    (verdict,) = [v for v in exaggerations(summary, "student") if "(train" in v["claim"]]
    for who, of in (("slope", of_student), (f"control {TWIN}", of_twin)):
        interval = intervals.over_seeds(of)
        assert f"{who} {interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]" in verdict["because"]
    assert {e["arm"] for e in summary["estimates"] if e["name"].startswith("eigen_ratio")} == {"student"}


def test_the_twin_of_a_teacher_is_what_another_seed_of_it_would_be(short, tmp_path):
    """It learns as the teacher does, in as many steps, and is another network."""
    workdir, summary = short
    assert records.kept_steps(workdir / "runs" / f"{TWIN}-seed0") == records.kept_steps(
        workdir / "runs" / "teacher-seed0"
    )
    assert digest(workdir, f"{TWIN}-seed0", 10) != digest(workdir, "teacher-seed0", 10)
    assert digest(workdir, f"{TWIN}-seed0", 0) != digest(workdir, f"{TWIN}-seed1", 0)
    lines = [metrics_file.read(workdir / "runs" / name) for name in (f"{TWIN}-seed0", "teacher-seed0")]
    twin, teacher = ([(line["step"], line["learning_rate"]) for line in of] for of in lines)
    assert twin == teacher
    assert any(
        f"{TWIN}, the control of student, is a second teacher" in said for said in about.controls(summary["study"])
    )


@pytest.mark.usefixtures("no_figures")
def test_a_work_folder_of_an_earlier_version_is_analysed_without_a_twin_and_gets_one_when_it_is_run_again(
    short, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(short[0], copy)
    for seed in range(2):
        shutil.rmtree(copy / "runs" / f"{TWIN}-seed{seed}")
    record = json.loads((copy / "study.json").read_text())
    new = {"control", "against", "otherwise", "part_of", "step", "epoch", "of_next_seed"}
    record["arms"] = [{k: v for k, v in arm.items() if k not in new} for arm in record["arms"] if arm["name"] != TWIN]
    record["config"] = {k: v for k, v in record["config"].items() if k not in ("early_epoch", "control")}
    (copy / "study.json").write_text(json.dumps({k: v for k, v in record.items() if k != "seal"}))
    summary = analyse.analyze(copy)
    before, after = table(short[1]), table(summary)
    assert {key: after[key] for key in before if key[1] != TWIN} == {k: v for k, v in before.items() if k[1] != TWIN}
    assert all("control teacher_next" in verdict["because"] for verdict in exaggerations(summary, "student"))
    assert train(SHORT, copy) == 2
    assert analyse.analyze(copy)["verdicts"] == short[1]["verdicts"]
    for seed in range(2):
        assert digest(copy, f"{TWIN}-seed{seed}", 10) == digest(short[0], f"{TWIN}-seed{seed}", 10)


@pytest.mark.usefixtures("no_figures")
def test_of_one_seed_without_a_twin_nothing_is_concluded_and_it_is_said_why(tmp_path):
    study = SHORT.replaced(seeds=1, control="free")
    assert train(study, tmp_path / "one") == 3
    verdicts = exaggerations(analyse.analyze(tmp_path / "one"), "student")
    assert [verdict["verdict"] for verdict in verdicts] == ["inconclusive", "inconclusive"]
    assert all("no control is exchangeable with the teacher" in verdict["because"] for verdict in verdicts)
    # The folder is that of the same study with a control, which is trained in addition.
    assert train(study.replaced(control="auto"), tmp_path / "one") == 1


@pytest.mark.usefixtures("no_figures")
def test_the_teacher_of_the_next_seed_stands_in_where_no_twin_is_trained(short, tmp_path):
    train(SHORT.replaced(control="free"), tmp_path / "free")
    analyse.analyze(tmp_path / "free")
    pairs = list(confidence.read_pairs(tmp_path / "free" / "analysis", ["teacher_next"], range(2), "test"))
    of_students = list(confidence.read_pairs(tmp_path / "free" / "analysis", ["student"], range(2), "test"))
    for pair, other, student in zip(pairs, reversed(pairs), of_students, strict=True):
        np.testing.assert_array_equal(pair.teacher, student.teacher)
        np.testing.assert_array_equal(pair.student, other.teacher)


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_variants_of_a_sweep_share_the_twin_of_their_teacher(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_summary, "write_report", lambda *_: None)
    studies = [
        (Variant(f"temperature={t:g}", {"temperature": str(t)}), SHORT.replaced(temperature=t)) for t in (2.0, 4.0)
    ]
    trained, summary = sweep.run(
        sweep.Sweep("tested", studies, tmp_path / "swept", lambda name: tmp_path, jax.devices()[:1])
    )
    assert trained == 2 * 5  # of each seed teacher, twin and one-hot run once, and two students
    assert (tmp_path / "swept" / "temperature=4" / "runs" / f"{TWIN}-seed0").is_symlink()
    column = list(sweeps.table(summary).header).index("its control, train")
    known = results.index(results.read(summary), "variant", "name", "arm", "split", "subset")
    for row in sweeps.table(summary).rows:
        value = known[row[0], "exaggeration_slope", TWIN, "train", "lowest_25"].interval.estimate
        assert row[column].startswith(f"{value:.2f}")


# ---- a teacher that also teaches early


def test_a_student_of_an_early_teacher_is_that_of_a_teacher_trained_so_long_to_the_bit(early, short):
    """The learning rate is constant here, so a teacher after two epochs is one of two epochs."""
    for seed in range(2):
        assert digest(early[0], f"teacher-seed{seed}", 10) == digest(short[0], f"teacher-seed{seed}", 10)
        assert digest(early[0], f"student_early-seed{seed}", 25) == digest(short[0], f"student-seed{seed}", 25)
    known, other = table(early[1]), table(short[1])
    for name in ("accuracy", "agreement", "exaggeration_slope", "accuracy_gain", "accuracy_over_teacher"):
        assert known[name, "student_early", "test", "all"].values == other[name, "student", "test", "all"].values
    assert (
        known["accuracy", "teacher_early", "train", "noisy"].values
        == other["accuracy", "teacher", "train", "noisy"].values
    )


def test_each_student_is_followed_beside_its_own_teacher(early):
    """Along training too: the confidence that an example is held against is that of the early teacher, in its own top class."""
    for student in ("student", "student_early"):
        with np.load(early[0] / "analysis" / "trajectory" / f"{student}-seed1.npz") as arrays:
            followed, ids = arrays["teacher_confidence"], arrays["ids"]
        (pair,) = confidence.read_pairs(early[0] / "analysis", [student], [1], "train")
        expected = exaggeration.confidence(pair.teacher, pair.teacher.argmax(axis=1))
        place = {int(at): row for row, at in enumerate(pair.ids)}
        np.testing.assert_allclose(followed, expected[[place[int(at)] for at in ids]], rtol=1e-5)


def test_the_control_of_an_early_teacher_is_a_one_hot_run_of_as_many_steps(early, tmp_path):
    """And is held against that teacher; where the schedule allows it, it is such a run to the bit."""
    train(STUDY.replaced(epochs=2, seeds=1), tmp_path / "two")
    assert digest(tmp_path / "two", "onehot-seed0", 10) == digest(early[0], "onehot-seed0", 10)
    pairs = {
        arm: list(confidence.read_pairs(early[0] / "analysis", [arm], range(2), "test"))
        for arm in ("onehot_early", "student_early")
    }
    for control, student in zip(*pairs.values(), strict=True):
        np.testing.assert_array_equal(control.teacher, student.teacher)
        assert control.against == student.against == "teacher_early"
    assert all("control onehot_early" in verdict["because"] for verdict in exaggerations(early[1], "student_early"))
    assert all("control onehot " in verdict["because"] for verdict in exaggerations(early[1], "student"))


@pytest.mark.usefixtures("no_figures")
def test_a_teacher_that_also_teaches_early_changes_no_other_network(early, tmp_path):
    assert train(STUDY, tmp_path / "plain") == 6
    plain, known = table(analyse.analyze(tmp_path / "plain")), table(early[1])
    # Of final networks: along training, one checkpoint more is looked at.
    final = [key for key in plain if not key[0].startswith(ALONG)]
    assert {key: known[key] for key in final} == {key: plain[key] for key in final}
    for name in ("teacher", "onehot", "student"):
        assert digest(tmp_path / "plain", f"{name}-seed1", 25) == digest(early[0], f"{name}-seed1", 25)


def test_both_teachers_stand_side_by_side_in_the_table(early):
    shown = [cell.split(" ")[0] for cell in Results.of(early[0]).table().header][1:]
    assert shown == ["teacher", "teacher_early", "onehot", "onehot_early", "student", "student_early"]
    (first, second) = about.controls(early[1]["study"])
    assert first == "teacher_early is the teacher after 2 epochs; it teaches student_early."
    assert second.startswith("onehot_early, the control of student_early, is onehot ")


@pytest.mark.usefixtures("no_figures")
def test_what_teaches_early_and_its_control_outlive_pruning_and_the_card_names_it(early, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(early[0], copy)
    prune.prune(copy, "last")
    assert records.kept_steps(copy / "runs" / "teacher-seed0") == [10, 25]
    assert records.kept_steps(copy / "runs" / "onehot-seed0") == [10, 25]
    assert records.kept_steps(copy / "runs" / "student_early-seed0") == [25]
    assert train(EARLY, copy) == 0
    before, after = table(early[1]), table(analyse.analyze(copy))
    assert after == {key: value for key, value in before.items() if not key[0].startswith(ALONG)}
    out = exporting.export(copy, "student_early-seed1", "safetensors", out=tmp_path / "card")
    card = json.loads((out / "card.json").read_text())
    assert (card["teacher"]["run"], card["teacher"]["step"]) == ("teacher-seed1", 10)
    assert card["teacher"]["hash"] == digest(copy, "teacher-seed1", 10)


@pytest.mark.usefixtures("no_figures")
def test_a_student_of_an_early_teacher_can_teach_another_study(early, tmp_path):
    source = early[0] / "runs" / "student_early-seed0"
    study = STUDY.replaced(teacher_from=str(source), teacher="")
    assert train(study, tmp_path / "next") == 4
    summary = analyse.analyze(tmp_path / "next")
    assert all("one teacher from elsewhere" in verdict["because"] for verdict in exaggerations(summary, "student"))


@pytest.mark.usefixtures("no_figures")
def test_an_early_teacher_that_lost_its_checkpoint_is_trained_again_to_the_same_bits(early, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(early[0], copy)
    shutil.rmtree(copy / "runs" / "teacher-seed0" / "trajectory" / "10")
    shutil.rmtree(copy / "runs" / "student_early-seed0")
    assert train(EARLY, copy) == 2
    for name, step in (("teacher-seed0", 10), ("student_early-seed0", 25)):
        assert digest(copy, name, step) == digest(early[0], name, step)
