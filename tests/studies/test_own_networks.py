"""Studies of networks of one's own: recorded, found again, refused where they changed; and of teachers taken as they are."""

import json
import shutil
import sys
from functools import partial

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from kd_jax import config, models, stopping
from kd_jax.config import BadInput, Study
from kd_jax.models import foreign, names, vision_weights
from kd_jax.models.resnet import ResNet
from kd_jax.plan import arms, run_key
from kd_jax.studies import analyse, prepare, report
from kd_jax.studies import run as run_stage
from kd_jax.studies import train as train_stage
from kd_jax.studies.train import Stopped
from kd_jax.workdir import checkpoints, metrics_file, packing, records

SOURCE = """
import flax.linen as nn
from flax import nnx


class Net(nn.Module):
    classes: int
    dropout: float = 0.3

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(8)(x.reshape(len(x), -1)))
        return nn.Dense(self.classes)(nn.Dropout(self.dropout, deterministic=not train)(x))


class Other(nnx.Module):
    def __init__(self, in_features, classes, *, rngs):
        self.norm = nnx.BatchNorm(in_features, rngs=rngs)
        self.out = nnx.Linear(in_features, classes, rngs=rngs)

    def __call__(self, x):
        return self.out(self.norm(x.reshape(len(x), -1)))


class Layerless(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        kernel = self.param("weights", nn.initializers.normal(0.1), (64, self.classes))
        return x.reshape(len(x), -1) @ kernel
"""
READER = """
import flax.linen as nn


class Reader(nn.Module):
    classes: int
    vocabulary: int
    dropout: float = 0.2

    @nn.compact
    def __call__(self, x, deterministic=True):
        real = (x != 1)[..., None]
        y = nn.Dense(8)(nn.Embed(self.vocabulary, 8)(x)) * real
        y = nn.Dropout(self.dropout)(y.sum(axis=1) / real.sum(axis=1), deterministic=deterministic)
        return nn.Dense(self.classes)(y)
"""
STUDY = Study.from_flags(
    dataset="digits",
    train_examples=120,
    test_examples=60,
    teacher="mynets:Net",
    student=("mynets:Net", "mynets:Other"),
    epochs=3,
    batch_size=40,
    learning_rate=0.1,
    checkpoints=4,
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    """What a test lets Python find, another one does not."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(foreign, "REGISTERED", {})
    monkeypatch.setattr(foreign, "_SEEN", {})
    yield
    forget()


def forget():
    """As in a new process: `mynets` was not imported yet."""
    sys.modules.pop("mynets", None)
    foreign._SEEN.clear()


def train(study, workdir, devices=1):
    return train_stage.train("tested", study, workdir, "unused", jax.devices()[:devices])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """(folder with the source, work folder) of a study that was trained and analysed once for this file."""
    root = tmp_path_factory.mktemp("own")
    (root / "mynets.py").write_text(SOURCE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(analyse, "write_report", lambda workdir, folder, *_: (folder / "report.html").write_text(""))
        assert train(STUDY, root / "work") == 5
        analyse.analyze(root / "work")
    forget()
    return root, root / "work"


@pytest.fixture
def copied(done, tmp_path, monkeypatch):
    """The same, of one's own to damage, in another folder; the study's networks are found nowhere but where they are recorded."""
    source, workdir = tmp_path / "source", tmp_path / "work"
    source.mkdir()
    shutil.copy(done[0] / "mynets.py", source)
    shutil.copytree(done[1], workdir)
    record = records.read_study(workdir)
    for where in record["networks"].values():
        where |= {"file": str(source / "mynets.py"), "folder": str(source)}
    records.write_study(workdir, record)
    monkeypatch.chdir(tmp_path)
    return source, workdir


def test_the_record_says_where_the_networks_come_from(done):
    root, workdir = done
    networks = records.read_study(workdir)["networks"]
    assert set(networks) == {"mynets:Net", "mynets:Other"}
    assert [where["kind"] for where in networks.values()] == ["linen", "nnx"]
    assert {where["file"] for where in networks.values()} == {str(root / "mynets.py")}
    assert (workdir / "runs" / "student_mynets.Other-seed0").is_dir()
    assert (
        "networks"
        not in prepare.prepare(
            "a", STUDY.replaced(teacher="mlp_8", student=("mlp_8",)), root / "b", "unused", jax.devices()[:1]
        ).record
    )


@pytest.mark.usefixtures("no_figures")
def test_another_process_analyses_what_this_one_trained_to_the_same_numbers(copied):
    """It finds the source in the recorded folder."""
    before = json.loads((copied[1] / "analysis" / "summary.json").read_text(encoding="utf-8"))
    found = analyse.analyze(copied[1])
    assert found["estimates"] == before["estimates"]
    assert {e["layer"] for e in found["estimates"] if "layer" in e} <= {"Dense_0", "out"}
    assert (copied[1] / "analysis" / "eigen" / "student_mynets.Other-seed0-out.npz").is_file()
    assert train(STUDY, copied[1]) == 0


def test_a_source_that_changed_trains_no_further_and_is_not_analysed(copied):
    source, workdir = copied
    (source / "mynets.py").write_text(SOURCE.replace("Dense(8)", "Dense(9)"), encoding="utf-8")
    shutil.move(workdir / "runs" / "student-seed0", source)
    before = (workdir / "study.json").read_bytes()
    with pytest.raises(
        BadInput, match=r"model 'mynets:Net': expected its source as it was .* or pass another --workdir"
    ):
        train(STUDY, workdir)
    shutil.move(source / "student-seed0", workdir / "runs")
    with pytest.raises(BadInput, match="its networks cannot be run: model 'mynets:Net': expected its source as it was"):
        analyse.analyze(workdir)
    assert (workdir / "study.json").read_bytes() == before


@pytest.mark.long
def test_a_source_that_is_gone_is_said_and_what_was_analysed_can_be_drawn(copied):
    source, workdir = copied
    (source / "mynets.py").unlink()
    with pytest.raises(BadInput, match="expected a module mynets that can be imported"):
        train(STUDY, workdir)
    with pytest.raises(BadInput, match="its networks cannot be run: model 'mynets:Net'") as caught:
        analyse.analyze(workdir)
    for part in (str(source / "mynets.py"), f"kd-jax report {workdir}"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert prepare.open_study(workdir).study == STUDY
    report.write_report(workdir)
    assert "mynets:Other" in (workdir / "analysis" / "report.html").read_text(encoding="utf-8")


def test_a_file_that_changes_under_a_running_program_is_noticed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(SOURCE, encoding="utf-8")
    before = models.origin("mynets:Net").sha256
    (tmp_path / "mynets.py").write_text(SOURCE + "\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"as this process read it, it was changed since; start the program anew"):
        models.origin("mynets:Net")
    forget()
    assert models.origin("mynets:Net").sha256 != before


def test_a_registered_network_is_found_again_by_its_module(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(SOURCE, encoding="utf-8")
    models.register("mine", foreign.find("mynets:Net"))
    study = STUDY.replaced(teacher="mine", student=("mine",))
    ready = prepare.prepare("tested", study, tmp_path / "work", "unused", jax.devices()[:1])
    recorded = ready.record["networks"]["mine"]
    assert recorded["target"] == "mynets:Net"
    forget()
    foreign.REGISTERED.clear()
    models.remember("mine", recorded["target"], recorded["folder"])
    assert models.origin("mine").sha256 == recorded["sha256"]
    models.register("lambda", lambda classes: foreign.find("mynets:Net")(classes))
    assert models.origin("lambda").target == ""
    assert models.origin("lambda").sha256


def bits(workdir, name):
    with checkpoints.trajectory(records.run_folder(workdir, name)) as trajectory:
        return {step: packing.tree_digest(trajectory.load(step)) for step in trajectory.steps()}


@pytest.mark.long
@pytest.mark.parametrize("network", ["mynets:Net", "mynets:Other"])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(done, tmp_path, monkeypatch, network):
    """Dropout and batch statistics included."""
    monkeypatch.chdir(done[0])
    stop, seen = stopping.Request(), []
    monkeypatch.setattr(train_stage, "stop_requests", lambda: _Given(stop))

    class Stopper(run_stage.Sink):
        def segment(self, segment):
            seen.append(segment.step)
            stop.requested = segment.step >= 4 and len(seen) < 8

    study = STUDY.replaced(student=(network,), checkpoints=3)
    ready = prepare.prepare("tested", study, tmp_path / "work", "unused", jax.devices()[:1])
    with pytest.raises(Stopped):
        train_stage.train_prepared(ready, jax.devices()[:1], sinks=lambda run: [Stopper()])
    stop.requested = False
    train_stage.train_prepared(ready, jax.devices()[:1])
    unbroken = tmp_path / "unbroken"
    stop.requested = False
    train(study, unbroken)
    for name in ("teacher-seed0", "student-seed0"):
        assert bits(tmp_path / "work", name) == bits(unbroken, name)


class _Given:
    def __init__(self, stop):
        self.stop = stop

    def __enter__(self):
        return self.stop

    def __exit__(self, *_):
        pass


def test_the_source_is_part_of_what_a_run_is():
    teacher, onehot, student, twin = arms(STUDY.replaced(student=("mynets:Other",)))

    def key(arm, **sources):
        return run_key(STUDY, arm, 0, None, {f"mynets:{name}": value for name, value in sources.items()})

    assert len({key(arm, Net=source) for arm in (teacher, twin) for source in "ab"}) == 4
    assert key(onehot, Net="a", Other="c") == key(onehot, Net="b", Other="c")
    assert key(student, Net="a", Other="c") != key(student, Net="b", Other="c")  # its teacher's
    assert run_key(STUDY, teacher, 0) == run_key(STUDY, teacher, 0, None, {})


@pytest.mark.usefixtures("no_figures")
def test_a_network_without_a_known_layer_is_analysed_without_eigendirections(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(SOURCE, encoding="utf-8")
    study = STUDY.replaced(teacher="mynets:Layerless", student=("mynets:Layerless",), epochs=1)
    train(study, tmp_path / "work")
    found = analyse.analyze(tmp_path / "work")
    said = "mynets:Layerless: no dense layer, and no plain convolution over rows and columns, so its eigendirections are left out"
    assert said in capsys.readouterr().err
    assert said in found["warnings"]
    assert not list((tmp_path / "work" / "analysis" / "eigen").iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": ("mynets:Absent",)}, "model 'mynets:Absent': expected Absent in mynets, found"),
        ({"student": ("mynets:Layerless",), "dropout": 0.2}, "--dropout=0.2: expected 0 for images, digits"),
        ({"dropout": 0.2}, None),  # one of the students takes it
        ({"student": ("mlp_8",), "teacher_with": ("dropout=0.2",)}, None),
        ({"student": ("mlp_8",), "dropout": 0.2}, "--dropout=0.2: expected 0 for images, digits"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, monkeypatch, changes, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(SOURCE, encoding="utf-8")
    study = STUDY.replaced(**changes)
    if said is None:
        prepare.prepare("tested", study, tmp_path / "work", "unused", jax.devices()[:1])
        return
    with pytest.raises(BadInput) as caught:
        train(study, tmp_path / "work")
    assert str(caught.value).startswith(said)
    assert not (tmp_path / "work").exists()


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_network_for_texts_is_trained_and_analysed(tmp_path, monkeypatch, write_texts, sentences):
    pytest.importorskip("tokenizers")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynets.py").write_text(READER, encoding="utf-8")
    write_texts(tmp_path, {"train": sentences(80), "test": sentences(40, seed=1)})
    study = Study.from_flags(
        dataset="texts",
        teacher="roberta_1x8",
        student=("mynets:Reader",),
        epochs=1,
        batch_size=20,
        checkpoints=3,
        vocabulary=300,
    )
    train_stage.train("tested", study.replaced(dropout=0.1), tmp_path / "work", tmp_path, jax.devices()[:2])
    found = analyse.analyze(tmp_path / "work")
    assert {e["arm"] for e in found["estimates"]} == {"teacher", "teacher_twin", "onehot", "student"}
    study = study.replaced(teacher="mynets:Reader", dropout=0.1, teacher_with=("dropout=0",))
    assert prepare.prepare("tested", study, tmp_path / "b", tmp_path, jax.devices()[:1])
    (tmp_path / "mynets.py").write_text(READER.replace("dropout", "share"), encoding="utf-8")
    forget()
    with pytest.raises(BadInput, match=r"--dropout=0.1: expected 0, for mynets:Reader has no argument dropout"):
        prepare.prepare("tested", study, tmp_path / "b", tmp_path, jax.devices()[:1])


# ---- pre-trained weights of networks for images, and teachers that are not trained


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of a ResNet of two blocks for the ten digits, which is known here as `resnet_tiny`, with random weights."""
    monkeypatch.setitem(names.NETWORKS, "resnet_tiny", partial(ResNet, blocks=(1,)))
    module = names.module("resnet_tiny", classes=10, dtype=None, param_dtype=None, axis_name=None)
    model = models.build("resnet_tiny", 10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    rng = np.random.default_rng(0)
    tensors = {
        key: rng.uniform(0.1, 0.2, shape).astype(np.float32)
        for key, shape in vision_weights._expected(module, {}, shapes).items()
    }
    tensors["fc.weight"] = rng.normal(size=(10, 64)).astype(np.float32)
    save_file(tensors, tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


FROZEN = Study.from_flags(
    dataset="digits",
    train_examples=120,
    test_examples=60,
    teacher="resnet_tiny",
    student=("mlp_8",),
    epochs=2,
    batch_size=40,
    learning_rate=0.1,
    checkpoints=4,
    teacher_with=("epochs=0",),
)


@pytest.mark.long
def test_a_teacher_is_taken_as_it_is_and_the_study_is_analysed(weights, tmp_path, capsys):
    workdir, study = tmp_path / "work", FROZEN.replaced(init_from=(str(weights),))
    assert train(study, workdir) == 3
    folder = records.run_folder(workdir, "teacher-seed0")
    assert records.kept_steps(folder) == [0]
    assert metrics_file.read(folder) == []
    kept = checkpoints.load_variables(folder, 0)
    stored, _ = vision_weights.load(
        weights, "it", names.module("resnet_tiny", classes=10, dtype=None, param_dtype=None, axis_name=None),
        models.Variables(**kept),
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, models.Variables(**kept), stored)
    assert f"resnet_tiny starts from the weights in {weights}: 17 tensors read." in capsys.readouterr().err
    found = analyse.analyze(workdir)
    assert (workdir / "analysis" / "report.html").is_file()
    accuracy = {e["arm"]: e["estimate"] for e in found["estimates"] if (e["name"], e["split"]) == ("accuracy", "test")}
    assert set(accuracy) == {"teacher", "onehot", "student"}
    # It knows nothing of digits, and that is said by its outputs, not because it has no metrics.
    assert {run["reason"] for run in found["unlearned"] if run["arm"] == "teacher"} <= {"at_chance", "constant_outputs"}
    said = [said for said in found["warnings"] if said.startswith("teacher-seed")]
    assert all("it is taken as it is (--teacher_with epochs=0)" in each and "train longer" not in each for each in said)
    assert train(study, workdir) == 0


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_frozen_teacher_of_the_students_network_is_not_followed_along_eigendirections(weights, tmp_path):
    workdir = tmp_path / "work"
    study = FROZEN.replaced(init_from=(str(weights),), student=("resnet_tiny",), epochs=1, seeds=2, train_examples=80)
    train(study, workdir)
    found = analyse.analyze(workdir)
    assert {e["arm"] for e in found["estimates"] if e["name"] == "eigen_component"} == {"onehot", "student"}
    of_teacher = [e for e in found["estimates"] if e["arm"] == "teacher"]
    assert {(e["resampled"], len(e["values"])) for e in of_teacher} == {
        ("examples", 1)
    }  # one network, whatever the seed
    start = [
        checkpoints.load_variables(records.run_folder(workdir, f"{arm}-seed0"), 0) for arm in ("teacher", "student")
    ]
    jax.tree.map(np.testing.assert_array_equal, *start)  # running statistics too


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "--teacher_with=epochs=0: expected at least an epoch, for mlp_8 starts at random; pass its weights"),
        ({"init_from": True}, "expected weights for mlp_8 or a student, which only resnet18, resnet50, mobilenetv2"),
        (
            {"init_from": True, "student": ("resnet18",)},
            "expected the tensors of resnet18 as torchvision or timm name them",
        ),
        ({"init_from": True, "teacher": "resnet_tiny", "teacher_step": 1}, "--teacher_step=1: expected at most 0"),
    ],
)
def test_weights_that_do_not_fit_and_a_random_teacher_are_refused(weights, tmp_path, changes, said):
    changes = {**changes, **({"init_from": (str(weights),)} if "init_from" in changes else {})}
    with pytest.raises(BadInput) as caught:
        train(FROZEN.replaced(**{"teacher": "mlp_8", **changes}), tmp_path / "work")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "work").exists()


def test_students_are_trained_for_at_least_an_epoch():
    with pytest.raises(BadInput, match="--epochs=0: expected a whole number of at least 1"):
        Study.from_flags(epochs=0)
    assert config.Study.from_flags(teacher_with=("epochs=0",)).teacher_training.epochs == 0
