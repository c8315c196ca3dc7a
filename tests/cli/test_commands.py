"""What a user types, and what a user gets told."""

import importlib.util
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kd_jax import cli, stopping
from kd_jax.cli import study as study_line
from kd_jax.cli import terminal
from kd_jax.config import FLAGS
from kd_jax.errors import BadInput
from kd_jax.recipes.studies import STUDIES
from kd_jax.studies import analyse, prepare
from kd_jax.studies import train as train_stage

ROOT = Path(__file__).parents[2]


def experiment(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, *flags):
    return cli.run_study(name, flags, experiment(name).__doc__)


def run_digits(*flags):
    return run("digits_kd", "--platform=cpu", *flags)


def test_a_workdir_that_cannot_be_written_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run_digits("--small", f"--workdir={workdir}") == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "expected a folder" in error


def test_told_to_stop_while_nothing_is_trained_is_75_too(tmp_path, capsys, monkeypatch):
    def analyze(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        stopping.check()  # as between any two passes
        raise AssertionError("went on")

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(train_stage, "train_prepared", lambda *_, **__: 1)
    monkeypatch.setattr(analyse, "analyze_prepared", analyze)
    assert run_digits("--small", f"--workdir={tmp_path}") == 75
    assert capsys.readouterr().err == "stopped: told to; the same command goes on from there\n"
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("name", [*STUDIES, "linear_theory"])
def test_a_study_runs_from_the_package_as_from_its_script(name, capsys, monkeypatch):
    """The console script's help and the script's differ in their description alone."""
    shown = []
    for call in (
        lambda: runpy.run_path(str(ROOT / "experiments" / f"{name}.py"), run_name="__main__"),
        lambda: sys.exit(cli.main(["run", name, "--help"])),
    ):
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        with pytest.raises(SystemExit) as leaving:
            call()
        assert leaving.value.code == 0
        shown.append(capsys.readouterr().out.partition(" options ")[2])
    assert shown[0] == shown[1]
    assert "--workdir" in shown[0]


def test_the_package_is_a_program():
    words = [sys.executable, "-m", "kd_jax", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (0, f"kd_jax {version('kd_jax')}\n")


def test_run_alone_lists_the_studies_and_a_name_that_is_none_is_told_the_nearest(capsys):
    assert cli.main(["run"]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"^{name} +\w", listed, re.M) for name in [*STUDIES, "linear_theory"])
    assert cli.main(["run", "cifarkd", "--small"]) == 2
    assert re.fullmatch(r"kd-jax run cifarkd: expected one of .*; did you mean cifar_kd\?\n", capsys.readouterr().err)
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"kd_jax \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_flags_beside_small_count_and_dashes_are_underscores():
    preset = STUDIES["digits_kd"].presets
    words = ["--small", "--batch-size=7", "--weight_decay=0.5"]
    session, study = study_line._parsed(words, "", preset, None, None)
    assert study == preset.small.replaced(batch_size=7, weight_decay=0.5)
    assert session.small


@pytest.mark.parametrize(
    ("words", "epoch"),
    [
        ([], 10),
        (["--early-epoch=3"], 3),
        (["--teacher_step=50"], 0),
        (["--teacher-from", "runs/old"], 0),
        (["--teacher_logits=answers.npz"], 0),
        (["--kernel_examples=20"], 0),
    ],
)
def test_the_early_teacher_of_a_preset_gives_way_to_a_teacher_that_teaches_once(words, epoch):
    _, study = study_line._parsed(words, "", STUDIES["digits_kd"].presets, None, None)
    assert study.distillation.early_epoch == epoch


@pytest.mark.parametrize("name", STUDIES)
def test_help_explains_every_flag_with_its_default(name, capsys):
    with pytest.raises(SystemExit) as leaving:
        run(name, "--help")
    assert leaving.value.code == 0
    text = capsys.readouterr().out.partition(" options ")[2]  # below the description, which has examples
    hidden = study_line.UNUSED["texts" if name == "text_kd" else "images"]
    assert not [flag for flag in hidden if re.search(rf"^\W*--{flag}\b", text, re.M)]
    for flag in [
        *(flag for flag in FLAGS if flag not in hidden),
        "platform",
        "workdir",
        "data_dir",
        "tiny_imagenet_dir",
        "workers",
        "small",
        "sweep",
        "combine",
    ]:
        # A flag that an explanation names may begin a line too, but further in.
        after = re.search(rf"^\W{{0,4}}--{flag}\b(.*?)(?=^\W{{0,4}}--\w|\Z)", text, re.S | re.M)
        assert after, flag
        assert "default" in after[1], flag
        assert len(re.findall(r"\w{3,}", after[1])) > 4, flag


@pytest.mark.long
def test_digits_from_the_shell_to_its_report_and_again(tmp_path):
    """The README's first command in small: train, say so, resume at once, analyse alone, report alone."""
    workdir = tmp_path / "work"
    flags = ["--platform=cpu", "--small", "--epochs=6", "--nulls=order", f"--workdir={workdir}"]

    def call(*words):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, cwd=tmp_path)

    first = call(str(ROOT / "experiments" / "digits_kd.py"), *flags)
    assert first.returncode == 0, first.stderr
    assert "student-seed1 epoch 6/6" in first.stderr
    printed = first.stdout.split("report:")[0]
    assert "test accuracy" in printed
    again = call(str(ROOT / "experiments" / "digits_kd.py"), *flags)
    assert (again.returncode, "all is done already" in again.stdout) == (0, True)
    analysed = call(str(ROOT / "experiments" / "analyze.py"), str(workdir))
    assert analysed.stdout.split("report:")[0] == printed
    other = call(str(ROOT / "experiments" / "digits_kd.py"), *flags, "--temperature=2")
    assert other.returncode == 2
    assert "holds a study with temperature=4.0, expected temperature=2.0" in other.stderr
    page = (workdir / "analysis" / "report.html").read_text()
    (workdir / "analysis" / "report.html").unlink()
    assert cli.main(["report", str(workdir)]) == 0
    assert (workdir / "analysis" / "report.html").read_text() == page
    assert not re.findall(
        r"""<(?:script|link|img|iframe)[^>]*(?:src|href)=["'](?!data:)""", page
    )  # one self-contained file
    table = json.loads((workdir / "analysis" / "summary.json").read_text())["estimates"]
    assert (workdir / "analysis" / "table.csv").read_text().count("\n") == len(table) + 1


@pytest.mark.long
@pytest.mark.slow
def test_cifar_kd_on_real_images(tmp_path, capsys):
    """Two students of two architectures, from the images to the report; skipped where the data is not."""
    dataset = "mnist"
    places = [os.environ.get("TFDS_DATA_DIR"), ROOT.parent / "shared" / "tensorflow_datasets", "~/tensorflow_datasets"]
    data_dir = next((Path(p).expanduser() for p in places if p and (Path(p).expanduser() / dataset).is_dir()), None)
    if data_dir is None:
        pytest.skip(f"no prepared {dataset}")
    flags = ["--small", "--platform=cpu", f"--dataset={dataset}", f"--data_dir={data_dir}", f"--workdir={tmp_path}"]
    flags += ["--teacher=cnn_4x4", "--student", "cnn_4x4", "resnet8", "--augment=crop"]
    flags += ["--train_examples=160", "--test_examples=80", "--epochs=1", "--batch_size=32", "--checkpoints=6"]
    flags += ["--seeds=1", "--nulls"]
    assert run("cifar_kd", *flags) == 0
    assert "student_resnet8 (resnet8)" in capsys.readouterr().out
    study = json.loads((tmp_path / "study.json").read_text())
    assert study["data"]["name"] == dataset
    assert study["platform"]["devices"] == 4
    assert {"teacher-seed0", "onehot-seed0", "student-seed0", "onehot_resnet8-seed0", "student_resnet8-seed0"} == set(
        os.listdir(tmp_path / "runs")
    )
    assert (tmp_path / "analysis" / "eigen" / "student_resnet8-seed0-stem.npz").is_file()


@pytest.mark.slow
def test_a_study_of_tiny_imagenet_is_found_again_where_it_lay_and_where_a_flag_says_that_it_lies_now(
    tmp_path, capsys, monkeypatch
):
    rng = np.random.default_rng(0)
    folder, workdir = tmp_path / "tiny", tmp_path / "work"
    (folder / "val" / "images").mkdir(parents=True)
    annotations = ""
    for wnid in ("n1", "n2"):
        images = folder / "train" / wnid / "images"
        images.mkdir(parents=True)
        for number in range(4):
            for path in (images / f"{wnid}_{number}.JPEG", folder / "val" / "images" / f"val_{wnid}{number}.JPEG"):
                Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(path)
            annotations += f"val_{wnid}{number}.JPEG\t{wnid}\t0\t0\t63\t63\n"
    (folder / "val" / "val_annotations.txt").write_text(annotations)
    (folder / "wnids.txt").write_text("n1\nn2\n")
    # Of the analysis only what it opens, for the sake of time.
    monkeypatch.setattr(analyse, "analyze", lambda workdir, data_dir, *_, **__: prepare.open_study(workdir, data_dir))
    monkeypatch.setattr(analyse, "analyze_prepared", lambda prepared, *_: prepared)
    monkeypatch.setattr(
        terminal, "study", lambda workdir, opened, *_: print(opened.dataset.name, opened.dataset.train.x.shape)
    )
    flags = ["--small", "--platform=cpu", f"--tiny_imagenet_dir={folder}", f"--workdir={workdir}", "--seeds=1"]
    flags += ["--teacher=linear", "--student=linear", "--train_examples=0", "--test_examples=0", "--epochs=2"]
    assert run("imagenet_kd", *flags, "--batch_size=8") == 0
    opened = "tiny_imagenet[2 classes, 8 + 8 images] (8, 64, 64, 3)\n"
    assert capsys.readouterr().out.startswith(opened)
    assert json.loads((workdir / "study.json").read_text())["data"]["data_dir"] == str(folder)
    assert cli.main(["analyze", str(workdir)]) == 0
    folder = folder.rename(tmp_path / "moved")
    assert cli.main(["analyze", str(workdir)]) == 2
    assert re.fullmatch(r"--tiny_imagenet_dir=.*\n", capsys.readouterr().err)
    for flag in ("tiny_imagenet_dir", "data_dir"):
        assert cli.main(["analyze", str(workdir), f"--{flag}={folder}"]) == 0
        assert capsys.readouterr().out == opened


def test_doctor_names_platform_versions_and_data(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TINY_IMAGENET_DIR", raising=False)
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text('{"fileFormat": "tfrecord"}')
    tiny = tmp_path / "tiny-imagenet-200"
    assert cli.main(["doctor", f"--data_dir={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert f"data: no Tiny-ImageNet in {tiny}; name another --tiny_imagenet_dir" in text
    assert "platform cpu: 4 x cpu" in text
    assert f"data: mnist in {folder} (tfrecord: kd-jax import converts it)" in text
    assert re.search(r"jax \d+\.\d+", text)
    (line,) = re.findall(r"^data: downloaded when a study asks for them: .*(?:\n(?!data|cache).*)*", text, re.MULTILINE)
    downloaded = line.split(": ")[-1].replace("\n", " ").split(", ")
    assert {"cifar10", "cifar100", "fashion_mnist", "emnist/letters"} <= set(downloaded)
    assert "mnist" not in downloaded
    (tiny / "train").mkdir(parents=True)
    (tiny / "val" / "images").mkdir(parents=True)
    for name in ("wnids.txt", "val/val_annotations.txt"):
        (tiny / name).touch()
    assert cli.main(["doctor", f"--tiny_imagenet_dir={tiny}"]) == 0
    assert f"data: tiny_imagenet in {tiny}\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["analyze", "nowhere"], ["report", "nowhere"]])
def test_a_folder_without_a_study_is_named(words, capsys):
    assert cli.main(words) == 2
    assert re.match(r"nowhere: expected .*\n$", capsys.readouterr().err)


def test_an_unknown_command_is_one_line(capsys):
    assert cli.main(["analyse", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_setting_decides_the_defaults_that_other_flags_change(monkeypatch):
    seen = []
    monkeypatch.setattr(study_line, "train_and_report", lambda name, session, study, command: seen.append(study))
    assert (
        run("eigenspace")
        == run("eigenspace", "--setting=cnn")
        == run("eigenspace", "--setting", "cnn", "--epochs=3")
        == 0
    )
    presets = STUDIES["eigenspace"].presets
    assert seen[:2] == [presets["mlp"].full, presets["cnn"].full]
    assert seen[2] == presets["cnn"].full.replaced(epochs=3)
    assert run("eigenspace", "--small", "--setting=random_features") == 0
    assert seen[3] == presets["random_features"].small


@pytest.mark.parametrize(("name", "small", "count"), [("loss_switching", 3, 14), ("generalization", 4, 14)])
def test_a_study_that_is_a_sweep_has_variants_that_flags_change(name, small, count, monkeypatch):
    seen = []
    monkeypatch.setattr(study_line, "sweep_and_report", lambda name, session, studies, command: seen.append(studies))
    assert run(name) == run(name, "--small") == run(name, "--seeds=2", "--sweep", "temperature=1,2") == 0
    assert [len(studies) for studies in seen] == [count, small, 2 if name == "loss_switching" else 3]
    for studies in seen[:2]:
        assert len({study for _, study in studies}) == len({variant.folder for variant, _ in studies}) == len(studies)
    assert {study.seeds for _, study in seen[2]} == {2}
    assert {"digits"} == {study.data.dataset for _, study in seen[1]}


def test_a_sweep_may_be_over_recipes_and_other_flags_hold_for_each(monkeypatch):
    seen = []
    monkeypatch.setattr(study_line, "sweep_and_report", lambda name, session, studies, command: seen.extend(studies))
    assert (
        run("cifar_kd", "--recipe=cifar_v1", "--dataset=cifar100", "--sweep", "recipe=crd,cifar100_v2", "weight=0.5,1")
        == 0
    )
    assert [(v.folder, s.data.dataset, s.training.epochs, s.distillation.weight) for v, s in seen] == [
        ("recipe=crd,weight=0.5", "cifar100", 240, 0.5),
        ("recipe=crd,weight=1", "cifar100", 240, 1.0),
        ("recipe=cifar100_v2,weight=0.5", "cifar100", 200, 0.5),
        ("recipe=cifar100_v2,weight=1", "cifar100", 200, 1.0),
    ]


def test_a_setting_that_is_none_is_refused_in_one_line(capsys):
    assert run("eigenspace", "--setting=cnnn") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(r"cnnn.*mlp.*random_features.*cnn", error)


def test_a_reader_that_has_seen_enough_is_no_error():
    words = [sys.executable, "-c", "import sys; from kd_jax.cli import main; sys.exit(main(['settings']))"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize("call", [lambda words: cli.main(["analyze", *words]), cli.analyze_main])
def test_progress_of_an_analysis_is_seen_while_it_runs(call, monkeypatch, tmp_path, capsys):
    """While flags are parsed standard error is held back; not while the analysis runs."""

    seen = []

    def analyze(workdir, data_dir, look, workers, **_):
        print("half", file=sys.stderr, end="")
        seen.append((workdir, look, capsys.readouterr().err == "half"))
        raise BadInput("enough")

    monkeypatch.setattr(analyse, "analyze", analyze)
    assert call([str(tmp_path), "--pairs", "0", "8", "0", "32", "--layers", "a", "b"]) == 2
    assert seen == [(tmp_path, {"pairs": ((0, 8), (0, 32)), "layers": ("a", "b")}, True)]
