"""Studies whose teacher exists already: what they are equal to, what they keep, and what they refuse."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from kd_jax import cli
from kd_jax.analysis import results
from kd_jax.config import BadInput, Study
from kd_jax.data.importing import Options, import_set
from kd_jax.extract import logits as extract
from kd_jax.models import Variables
from kd_jax.report import about
from kd_jax.studies import analyse, cost, prepare, prune
from kd_jax.studies import export as exporting
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, metrics_file, packing, records

STUDY = Study.from_flags(
    dataset="digits",
    train_examples=200,
    test_examples=100,
    label_noise=0.2,
    teacher="mlp_16",
    student=("mlp_16",),
    epochs=3,
    batch_size=40,
    learning_rate=0.05,
    temperature=2.0,
    checkpoints=6,
    seeds=2,
)


def train(study, workdir, data_dir="unused"):
    return train_stage.train("tested", study, workdir, data_dir, jax.devices()[:1])


def bits(workdir, arm):
    """{run: {step: digest}} of the trajectories of an arm."""
    found = {}
    for folder in sorted((workdir / "runs").glob(f"{arm}-seed*")):
        with checkpoints.trajectory(folder) as trajectory:
            found[folder.name] = {step: packing.tree_digest(trajectory.load(step)) for step in trajectory.steps()}
    return found


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def table(found):
    return results.index(results.read(found), "name", "arm", "split", "subset")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A finished study with teachers of its own, trained and analysed once for this file."""
    workdir = tmp_path_factory.mktemp("own") / "first"
    train(STUDY, workdir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analyse, "write_report", lambda *_: None)
        return workdir, analyse.analyze(workdir)


def of_run(workdir, name, dataset):
    """The logits of a run, by split, as extraction gives them."""
    variables = Variables(**checkpoints.load_variables(records.run_folder(workdir, name), 15))
    answer = extract.make_logits("mlp_16", dataset, "float32")
    return {name: answer(variables, split.x) for name, split in dataset.splits.items()}


@pytest.fixture(scope="module")
def answered(own, tmp_path_factory):
    """(file of the first teacher's logits, a finished study that it teaches, what its analysis found)"""
    folder = tmp_path_factory.mktemp("answered")
    dataset = prepare.open_study(own[0]).dataset
    logits = of_run(own[0], "teacher-seed0", dataset)
    path = folder / "answers.npz"
    np.savez(path, logits=logits["train"], ids=dataset.train.ids, test_logits=logits["test"], test_ids=dataset.test.ids)
    train(STUDY.replaced(teacher_logits=str(path), teacher=""), folder / "work")
    return path, folder / "work", analyse.analyze(folder / "work")


# ---- runs of another work folder


@pytest.mark.usefixtures("no_figures")
def test_a_student_of_a_teacher_from_elsewhere_is_the_student_of_that_study_to_the_bit(own, tmp_path):
    """Seed by seed, and the analysis says the same: the folder has all that the other has, and does not need it any more."""
    source, workdir = tmp_path / "source", tmp_path / "work"
    shutil.copytree(own[0], source)
    study = STUDY.replaced(teacher_from=str(source), teacher="")
    assert train(study, workdir) == 4  # onehot and student of two seeds
    shutil.rmtree(source)
    for arm in ("teacher", "onehot", "student"):
        assert bits(workdir, arm) == bits(own[0], arm)
    found = analyse.analyze(workdir)
    assert found["estimates"] == own[1]["estimates"]
    assert found["verdicts"] == own[1]["verdicts"]
    record = records.read_study(workdir)
    before = records.read_study(own[0])
    assert record["teacher_hash"] == before["teacher_hash"]
    assert record["config"]["teacher"] == "mlp_16"
    given = record["teacher_from"]
    assert (given["folder"], given["study"], given["fingerprint"]) == (
        "source",
        "tested",
        before["data"]["fingerprint"],
    )
    assert {name: (run["run"], run["step"], run["sha256"]) for name, run in given["runs"].items()} == {
        name: (name, 15, sha256) for name, sha256 in before["teacher_hash"].items()
    }
    # The same command again trains nothing, wherever the teacher lies now, and has its network from the record.
    assert train(study.replaced(teacher_from=str(tmp_path / "elsewhere")), workdir) == 0
    (said,) = about.teacher(record)
    assert said.startswith("Not trained here: the teacher, mlp_16, teacher-seed0 at step 15 (sha256 ")


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_student_teaches_the_next_one_and_one_run_all_seeds(own, tmp_path):
    """Born again, on other data: a run is named. It is copied once, its estimates are of one network, it sees images as it was
    trained to, and what is not independent is said."""
    source = str(own[0] / "runs" / "student-seed1")
    study = STUDY.replaced(teacher_from=source, teacher="", label_noise=0.0, train_examples=120)
    train(study, tmp_path)
    assert (tmp_path / "runs" / "teacher-seed1").is_symlink()
    assert not (tmp_path / "runs" / "teacher-seed0").is_symlink()
    (copied, linked), student = bits(tmp_path, "teacher").values(), bits(own[0], "student")["student-seed1"]
    assert copied == linked == student
    found = analyse.analyze(tmp_path)
    estimates = table(found)
    assert estimates["accuracy", "teacher", "test", "all"].interval.resampled == "examples"
    assert len(estimates["accuracy", "teacher", "test", "all"].values) == 1
    of_one = [
        e for e in results.read(found) if e.arm == "teacher" and not e.name.startswith(("eigen_ratio", "eigen_fr"))
    ]
    assert {e.interval.resampled for e in of_one} == {"examples"}  # nothing of one network is over seeds
    assert {"accuracy", "accuracy_best", "share_learnt", "forgetting_events"} <= {e.name for e in of_one}
    assert estimates["accuracy_gain", "student", "test", "all"].interval.resampled == "seeds"
    gain = (
        np.array(estimates["accuracy", "student", "test", "all"].values)
        - estimates["accuracy", "teacher", "test", "all"].values[0]
    )
    np.testing.assert_allclose(estimates["accuracy_over_teacher", "student", "test", "all"].values, gain)
    # Both studies have the same test set, and the older one says what that student answers there.
    assert (
        estimates["accuracy", "teacher", "test", "all"].values[0]
        == table(own[1])["accuracy", "student", "test", "all"].values[1]
    )
    opened, theirs = prepare.open_study(tmp_path), prepare.open_study(own[0]).dataset
    assert opened.dataset.mean != theirs.mean
    with np.load(tmp_path / "analysis" / "pairs" / "student-seed0-test.npz") as arrays:
        np.testing.assert_array_equal(arrays["teacher_logits"], of_run(own[0], "student-seed1", theirs)["test"])
    said = " ".join(about.teacher(opened.record))
    assert "It was trained on other data or labels than these (digits, fingerprint" in said
    assert "It sees examples standardised with the mean and deviation of its own training." in said
    # Seed 1 starts where that student started; seed 0 does not.
    (warning,) = [line for line in found["warnings"] if "independent" in line]
    assert "the teacher of seed 1 started from the initialisation of the student of that seed" in warning
    (tmp_path / "runs" / "teacher-seed1").unlink()
    assert train(study, tmp_path) == 0
    assert (tmp_path / "runs" / "teacher-seed1").is_symlink()
    # Of a teacher with few checkpoints left nothing is followed along training; all else is as it was.
    for step in records.kept_steps(tmp_path / "runs" / "teacher-seed0")[:-1]:
        shutil.rmtree(tmp_path / "runs" / "teacher-seed0" / "trajectory" / str(step))
    lone = study.replaced(teacher_from=str(tmp_path))
    assert train(lone, tmp_path / "lone") == 4
    assert records.kept_steps(tmp_path / "lone" / "runs" / "teacher-seed1") == [15]
    followed = ("eigen", "share_", "step_", "forgetting")  # along the trajectory, which the lone run lacks
    without = [e for e in found["estimates"] if e["arm"] != "teacher" or not e["name"].startswith(followed)]
    assert analyse.analyze(tmp_path / "lone")["estimates"] == without
    # In its turn it can teach another study, which remembers where the network started.
    again = STUDY.replaced(teacher_from=str(tmp_path), teacher="", seeds=2)
    found = prepare.prepare("tested", again, tmp_path / "again", "unused", jax.devices()[:1])
    assert found.plan.starts_with_teacher == (1,)
    assert not (tmp_path / "again").exists()


def test_an_earlier_step_of_it_may_teach(own, tmp_path):
    study = STUDY.replaced(teacher_from=str(own[0]), teacher="", seeds=1)
    kept = (
        prepare.prepare("tested", study, tmp_path, "unused", jax.devices()[:1]).plan.length("teacher").checkpoint_steps
    )
    early = prepare.prepare("tested", study.replaced(teacher_step=kept[2]), tmp_path, "unused", jax.devices()[:1])
    assert early.plan.teacher_step == kept[2]
    variables = checkpoints.load_variables(records.run_folder(own[0], "teacher-seed0"), kept[2])
    digest = packing.tree_digest({"params": variables["params"]})
    assert early.record["teacher_from"]["runs"]["teacher-seed0"]["sha256"] == digest
    late = prepare.prepare("tested", study, tmp_path, "unused", jax.devices()[:1])
    assert early.plan.run("onehot", 0).key == late.plan.run("onehot", 0).key
    assert early.plan.run("student", 0).key != late.plan.run("student", 0).key


def refused(study, workdir, said):
    before = files(workdir) if workdir.exists() else None
    with pytest.raises(BadInput, match=said) as raised:
        train(study, workdir)
    assert "\n" not in str(raised.value)
    assert (files(workdir) if workdir.exists() else None) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": "mlp_8"}, r"--teacher=mlp_8: expected mlp_16, the network of --teacher_from; leave it out"),
        (
            {"seeds": 3},
            r"expected a teacher for seed 2, it has seeds 0 to 1; pass such --seed and --seeds, or name one run",
        ),
        (
            {"precision": "bfloat16"},
            r"expected a teacher in --precision=bfloat16, found float32; pass --precision=float32",
        ),
        (
            {"teacher_step": 4},
            r"--teacher_step=4: expected a step that teacher-seed0 of --teacher_from has kept, one of 0 1",
        ),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_anything_is_written(own, tmp_path, changes, said):
    refused(STUDY.replaced(**({"teacher": "", "teacher_from": str(own[0])} | changes)), tmp_path / "work", said)


def test_folders_without_a_teacher_are_refused(own, answered, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    cases = {
        tmp_path / "nothing": r"expected the work folder of a finished study, there is none",
        tmp_path: r"expected the work folder of a study, or a run in it such as",
        tmp_path / "sweep": r"expected a single study, this folder holds a sweep; name one of its variants",
        own[0] / "analysis": r"expected the work folder of a study, or a run in it",
        answered[1]: r"expected a study with a teacher of its own; name a run of it",
    }
    for path, said in cases.items():
        said = re.escape(f"--teacher_from={path}: ") + said
        refused(STUDY.replaced(teacher_from=str(path), teacher=""), tmp_path / "work", said)


def test_an_unfinished_teacher_a_damaged_one_and_one_for_other_data_are_refused(own, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(own[0], source)
    study = STUDY.replaced(teacher_from=str(source), teacher="")
    last = source / "runs" / "teacher-seed1" / "trajectory" / "15"
    last.rename(tmp_path / "away")
    refused(study, tmp_path / "work", r"expected finished runs, teacher-seed1 is not \(it lacks step 15\)")
    (tmp_path / "away").rename(last)
    path = max((path for path in last.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(study, tmp_path / "work", r"expected a whole checkpoint, .*teacher-seed1/trajectory/15: ")
    shutil.rmtree(source)
    shutil.copytree(own[0], source)
    record = records.read_study(source)
    for key, value, said in (
        ("classes", 7, "10 classes, found 7"),
        ("image_shape", [9, 9, 1], r"\[8, 8, 1\] images of .*, found"),
    ):
        records.write_study(source, record | {"data": record["data"] | {key: value}})
        refused(study, tmp_path / "work", f"expected a teacher for {said}")


@pytest.fixture
def named_sets(tmp_path):
    """`named_sets(name, classes)` imports 40 numbers whose sign is their class; of the classes the second is positive."""

    def made(name, classes):
        x = np.random.default_rng(0).normal(size=(40, 3))
        lines = [f"{a},{b},{c},{classes[int(a > 0)]}" for a, b, c in x]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,c,kind", *lines]), encoding="utf-8")
        import_set(tmp_path / f"{name}.csv", name, tmp_path / "sets", Options(label_column="kind"))
        return STUDY.replaced(dataset=name, train_examples=0, test_examples=0, batch_size=8, seeds=1, epochs=1)

    return made


def test_a_teacher_whose_classes_are_in_another_order_is_refused_and_other_names_are_said(named_sets, tmp_path):
    data = tmp_path / "sets"
    train(named_sets("first", ("dog", "cat")), tmp_path / "first", data_dir=data)  # in alphabetical order: cat, dog
    others = named_sets("others", ("dog", "elk")).replaced(teacher_from=str(tmp_path / "first"), teacher="")
    with pytest.raises(
        BadInput, match=r"--teacher_from=.*: .* found 'dog' as its class 1, where the data have 'elk'; train"
    ):
        train(others, tmp_path / "work", data_dir=data)
    assert not (tmp_path / "work").exists()
    renamed = named_sets("renamed", ("Hund", "Katze")).replaced(teacher_from=str(tmp_path / "first"), teacher="")
    train(renamed, tmp_path / "work", data_dir=data)
    said = " ".join(about.teacher(records.read_study(tmp_path / "work")))
    assert "Its classes have other names than those of the data: cat for Hund, dog for Katze." in said
    # A teacher that is handed on keeps the names of its own classes.
    onward = named_sets("onward", ("dog", "elk")).replaced(teacher_from=str(tmp_path / "work"), teacher="")
    with pytest.raises(BadInput, match="found 'dog' as its class 1"):
        train(onward, tmp_path / "onward", data_dir=data)


def test_a_teacher_that_changed_since_a_folder_was_begun_is_refused(own, tmp_path):
    source, workdir = tmp_path / "source", tmp_path / "work"
    shutil.copytree(own[0], source)
    study = STUDY.replaced(teacher_from=str(source), teacher="", seeds=1, epochs=1)
    train(study, workdir)
    shutil.rmtree(source / "runs" / "teacher-seed0")
    shutil.copytree(source / "runs" / "teacher-seed1", source / "runs" / "teacher-seed0")
    refused(study, workdir, r"expected a whole checkpoint, .*teacher-seed0/trajectory/15: holds another run")
    shutil.rmtree(source)
    train(STUDY.replaced(seeds=1, learning_rate=0.02), source)
    refused(study, workdir, r"its weights changed since this work folder was begun \(sha256 .*pass another --workdir")
    # Without the original a copy that lacks something cannot be made whole; a study that trains its own is another one.
    shutil.rmtree(source)
    shutil.rmtree(workdir / "runs" / "teacher-seed0" / "trajectory" / "15")
    refused(
        study, workdir, r"expected a whole copy of the teacher, and the folder of --teacher_from is no longer there"
    )
    refused(
        STUDY.replaced(seeds=1, epochs=1), workdir, r"holds a study with teacher_from=True, expected teacher_from=False"
    )


# ---- a file of logits


def test_a_file_of_a_networks_logits_teaches_as_the_network_does(own, answered):
    """The digits are not augmented, so the teacher's answers to clean examples are its answers in training."""
    _, workdir, found = answered
    assert {path.name for path in (workdir / "runs").iterdir()} == {
        f"{arm}-seed{seed}" for arm in ("onehot", "student") for seed in (0, 1)
    }
    assert bits(workdir, "onehot") == bits(own[0], "onehot")
    ends = [checkpoints.load_variables(records.run_folder(of, "student-seed0"), 15) for of in (own[0], workdir)]
    for a, b in zip(*map(jax.tree.leaves, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    ours, theirs = table(found), table(own[1])
    for name in ("agreement", "kl", "accuracy", "exaggeration_slope", "accuracy_over_teacher"):
        for split in ("train", "test"):
            of_seed = [of[name, "student", split, "all"].values[0] for of in (ours, theirs)]
            np.testing.assert_allclose(*of_seed, rtol=1e-2, atol=1e-2, err_msg=f"{name} {split}")
    with np.load(workdir / "analysis" / "pairs" / "onehot-seed1-test.npz") as pairs, np.load(answered[0]) as file:
        np.testing.assert_array_equal(pairs["teacher_logits"], file["test_logits"])
    accuracy = ours["accuracy", "teacher", "test", "all"]
    assert accuracy.interval.resampled == "examples"
    assert accuracy.values == theirs["accuracy", "teacher", "test", "all"].values[:1]


def test_the_folder_keeps_the_answers_and_the_page_says_what_they_are(answered, words_of):
    _, workdir, _ = answered
    record = records.read_study(workdir)
    assert record["teacher_logits"] == {
        "file": "answers.npz",
        "sha256": record["teacher_logits"]["sha256"],
        "splits": ["train", "test"],
        "kind": "logits",
        "top_k": 0,
        "dtype": "float32",
    }
    assert set(record["teacher_hash"]) == {"teacher_logits"}
    page = (workdir / "analysis" / "report.html").read_text()
    assert "Teacher a file of logits, students mlp_16" in words_of(page)
    assert "The teacher is a file, answers.npz: logits (float32, sha256" in words_of(page)
    assert "teacher (given logits)" in (workdir / "analysis" / "table.md").read_text()


@pytest.mark.usefixtures("no_figures")
def test_a_folder_goes_on_and_is_analysed_without_the_file_and_refuses_another(answered, tmp_path):
    workdir, file = tmp_path / "work", tmp_path / "answers.npz"
    shutil.copytree(answered[1], workdir)
    study = STUDY.replaced(teacher_logits=str(file), teacher="")
    shutil.rmtree(workdir / "runs" / "student-seed1")
    assert train(study, workdir) == 1  # the file is not there
    assert bits(workdir, "student") == bits(answered[1], "student")
    assert analyse.analyze(workdir)["estimates"] == answered[2]["estimates"]
    with np.load(answered[0]) as arrays:
        np.savez(file, **{**arrays, "logits": arrays["logits"] + 1})
    refused(study, workdir, r"--teacher_logits=.*: its contents changed since this work folder was begun \(sha256")
    np.savez(workdir / "teacher_logits.npz", **np.load(file))
    file.unlink()
    refused(study, workdir, r"teacher_logits\.npz: expected the answers on record \(sha256 .*; remove the file and run")


@pytest.mark.long
def test_without_answers_for_the_test_set_what_compares_with_them_is_left_out_and_said(answered, tmp_path):
    file, workdir = tmp_path / "train.npz", tmp_path / "work"
    with np.load(answered[0]) as arrays:
        np.savez(file, logits=arrays["logits"], ids=arrays["ids"])
    train(STUDY.replaced(teacher_logits=str(file), teacher=""), workdir)
    found = analyse.analyze(workdir)
    ours, theirs = table(found), table(answered[2])
    lacking = {(name, split) for name, _, split, _ in theirs} - {(name, split) for name, _, split, _ in ours}
    compared = ["agreement", "kl", "kl_scale", "kl_shape", "kl_temperature", "entropy_difference", "entropy_slope"]
    compared += ["accuracy_over_teacher", "exaggeration_slope", "exaggeration_slope_rank"]
    compared += ["exaggeration_intercept", "mean_deviation"]
    assert lacking == {(name, "test") for name in compared}
    assert {arm for _, arm, split, _ in ours if split == "test"} == {"onehot", "student"}
    assert ours["accuracy_gain", "student", "test", "all"] == theirs["accuracy_gain", "student", "test", "all"]
    for key in (key for key in theirs if key[2] == "train"):
        assert ours[key] == theirs[key]
    page = (workdir / "analysis" / "report.html").read_text()
    assert "It has no answers for the test examples: what compares with a teacher on them is left out." in page
    with np.load(workdir / "analysis" / "pairs" / "student-seed0-test.npz") as arrays:
        assert "teacher_logits" not in arrays.files


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augment": "crop"}, r"--augment=crop: expected none beside --teacher_logits, which have one answer for each"),
        ({"mixup": 0.2}, r"--mixup=0\.2: expected 0 beside --teacher_logits"),
        ({"cutmix": 1.0}, r"--cutmix=1\.0: expected 0 beside --teacher_logits"),
        ({"teacher_from": "x"}, r"--teacher_logits=x\.npz: expected none beside --teacher_from, for one teacher"),
        (
            {"teacher_with": ("epochs=2",)},
            r"--teacher_with=epochs=2: expected none beside --teacher_logits, which is not",
        ),
        ({"teacher_step": 3}, r"--teacher_step=3: expected 0 beside --teacher_logits"),
        ({"kernel_examples": 10}, r"--kernel_examples=10: expected 0 beside a teacher that was not trained here"),
        ({"teacher": "mlp_16"}, r"--teacher=mlp_16: expected none beside --teacher_logits, which has no network"),
        ({}, r"--teacher_logits=x\.npz: expected a \.npz file, there is none"),
    ],
)
def test_what_makes_no_sense_beside_logits_is_refused(tmp_path, changes, said):
    with pytest.raises(BadInput, match=said):
        train(STUDY.replaced(**({"teacher": "", "teacher_logits": "x.npz"} | changes)), tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_teacher_by_logits_that_is_at_chance_is_named_and_nothing_is_concluded_from_it(answered, tmp_path):
    file = tmp_path / "noise.npz"
    with np.load(answered[0]) as arrays:
        noise = np.random.default_rng(0).normal(size=arrays["logits"].shape)
        np.savez(file, logits=noise, ids=arrays["ids"])
    train(STUDY.replaced(teacher_logits=str(file), teacher="", epochs=1), tmp_path / "work")
    found = analyse.analyze(tmp_path / "work")
    assert ("teacher", 0, "at_chance") in {(run["arm"], run["seed"], run["reason"]) for run in found["unlearned"]}
    assert {v["verdict"] for v in found["verdicts"] if "confidence" in v["claim"]} <= {"inconclusive"}
    said = next(said for said in found["warnings"] if said.startswith("teacher-seed0 did not learn"))
    assert said.endswith("or have the right ids, and that their classes are in the order of the data's")
    assert "train longer" not in said


# ---- the command line, and sweeps


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_sweep_shares_its_teacher_and_takes_the_network_from_it(own, answered, tmp_path, capsys):
    preset = cli.Preset(STUDY.replaced(teacher="mlp_8", seeds=1), STUDY)
    argv = ["--platform=cpu", f"--workdir={tmp_path / 'work'}", "--epochs=1", f"--teacher_from={own[0]}"]
    assert cli.study_main("tested", "", preset, [*argv, "--sweep=temperature=1,4"]) == 0, capsys.readouterr().err
    first, second = (tmp_path / "work" / f"temperature={t}" for t in "14")
    assert records.read_study(first)["config"]["teacher"] == "mlp_16"
    assert (
        bits(first, "teacher") == bits(second, "teacher") == {"teacher-seed0": bits(own[0], "teacher")["teacher-seed0"]}
    )
    own_runs = {path.name for path in second.glob("runs/*") if not path.is_symlink()}
    assert own_runs == {"student-seed0"}
    # A teacher is a field like others, and a file of logits another one.
    argv = ["--platform=cpu", f"--workdir={tmp_path / 'files'}", "--epochs=1"]
    np.savez(tmp_path / "train.npz", **{key: np.load(answered[0])[key] for key in ("logits", "ids")})
    words = f"--sweep=teacher_logits={answered[0]},{tmp_path / 'train.npz'}"
    assert cli.study_main("tested", "", preset, [*argv, words]) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "files" / "analysis" / "summary.json").read_text())
    assert len({e["variant"] for e in found["estimates"]}) == 2
    assert cli.main(["analyze", str(tmp_path / "files")]) == 0
    assert cli.main(["report", str(tmp_path / "files")]) == 0
    # What is typed is looked at; what a preset says is not.
    assert cli.study_main("tested", "", preset, [*argv[:1], "--teacher=mlp_8", f"--teacher_from={own[0]}"]) == 2
    assert "--teacher=mlp_8: expected mlp_16, the network of --teacher_from" in capsys.readouterr().err


# ---- an average of the weights


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_the_accuracy_of_averages_is_an_estimate_of_every_arm_and_split(tmp_path):
    study = STUDY.replaced(ema=0.5, teacher_with=("ema=0.0",), seeds=1)
    train(study, tmp_path)
    found = analyse.analyze(tmp_path)
    estimates, dataset = table(found), prepare.open_study(tmp_path).dataset
    arms = {arm for name, arm, *_ in estimates if name == "accuracy_average"}
    assert arms == {"onehot", "student"}  # the teacher has none
    for arm in arms:
        folder = records.run_folder(tmp_path, f"{arm}-seed0")
        average = checkpoints.load_average(folder, 15)
        logits = extract.make_logits("mlp_16", dataset, "float32")(Variables(**average), dataset.train.x)
        right, noisy = logits.argmax(axis=1) == dataset.train.y, dataset.train.y != dataset.train.true_y
        for subset, mask in (("all", noisy | ~noisy), ("noisy", noisy), ("clean", ~noisy)):
            assert estimates["accuracy_average", arm, "train", subset].values == (right[mask].mean(),)
        line = metrics_file.read(folder)[-1]
        assert estimates["accuracy_average", arm, "test", "all"].values == (line["test_accuracy_average"],)
        assert line["test_accuracy"] == estimates["accuracy", arm, "test", "all"].values[0]
    with pytest.raises(BadInput, match=r"expected an average of the weights at step 15; .* without --ema"):
        checkpoints.load_average(records.run_folder(tmp_path, "teacher-seed0"), 15)


# ---- what is taken away, measured and pruned


@pytest.mark.usefixtures("no_figures")
def test_a_study_with_a_given_teacher_is_pruned_exported_and_its_teacher_stays(own, tmp_path):
    workdir = tmp_path / "work"
    train(STUDY.replaced(teacher_from=str(own[0]), teacher=""), workdir)
    kept = bits(workdir, "teacher")
    prune.prune(workdir, "last")
    assert bits(workdir, "teacher") == kept  # it is a copy: what it lacked could not be trained again
    assert [list(steps) for steps in bits(workdir, "student").values()] == [[15], [15]]
    card = json.loads((exporting.export(workdir, "student-seed0", "safetensors") / "card.json").read_text())
    assert card["teacher"]["hash"] == records.read_study(own[0])["teacher_hash"]["teacher-seed0"]
    copied = exporting.export(workdir, "teacher-seed1", "safetensors", out=tmp_path / "teacher")
    (weights,) = (safetensors.numpy.load_file(path) for path in copied.glob("*.safetensors"))
    expected = checkpoints.load_variables(records.run_folder(own[0], "teacher-seed1"), 15)
    assert sum(array.size for array in weights.values()) == sum(leaf.size for leaf in jax.tree.leaves(expected))
    # This study did not train it, so the card does not say on what.
    said = (copied / "README.md").read_text(encoding="utf-8")
    assert "Not trained here: it is teacher-seed1 at step 15 (sha256" in said
    assert f"of the study tested in {own[0].name}." in said
    assert not any(each in said for each in ("trained on", "Trained on", "on labels", "trained by"))


def test_a_student_of_logits_is_exported_and_its_cost_has_no_teacher(answered, tmp_path):
    card = exporting.export(answered[1], "student-seed0", "safetensors", out=tmp_path / "out") / "card.json"
    assert json.loads(card.read_text())["teacher"]["architecture"] == "a file of logits"
    opened = prepare.open_study(answered[1])
    found = cost.measure(opened, jax.devices()[0], answered[2])
    assert [arm["arm"] for arm in found["arms"]] == ["student"]
