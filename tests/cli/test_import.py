"""`kd-jax import` as typed, and the command that it names next."""

import csv
import json
import shlex

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_wine

from kd_jax import cli, data
from kd_jax.config import Data


@pytest.fixture
def wine(tmp_path):
    """A table of 178 wines, with their cultivars by name."""
    found = load_wine()
    path = tmp_path / "wine.csv"
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([*found.feature_names, "cultivar"])
        for x, y in zip(found.data.tolist(), found.target, strict=True):
            writer.writerow([*x, ("barolo", "grignolino", "barbera")[y]])
    return path


def imported(*words):
    return cli.main(["import", *map(str, words)])


@pytest.mark.long
def test_a_table_is_imported_trained_on_and_analysed_with_the_command_that_is_named(wine, tmp_path, capsys, no_figures):
    assert imported(wine, "--name=wine", "--label-column=cultivar", f"--data_dir={tmp_path}") == 0
    said = capsys.readouterr().out
    assert "wine: 13 numbers: alcohol, malic_acid, ash and 10 more\n" in said
    assert "  train: 142 examples, 38 to 57 of a class\n  test: 36 examples, 10 to 14 of a class\n" in said
    assert "  3 classes: barbera, barolo, grignolino\n" in said
    assert f"  in {tmp_path / 'wine' / '1.0.0'}\n" in said
    command = said.splitlines()[-1]
    assert command == f"next: kd-jax run tabular_kd --small --dataset=wine --data_dir={tmp_path}"
    words = shlex.split(command)[2:]
    fast = ["--platform=cpu", "--teacher=mlp_8", "--student=linear", "--seeds=1", "--epochs=4", "--nulls", "order"]
    assert cli.main([*words, *fast, "--checkpoints=4", f"--workdir={tmp_path / 'run'}"]) == 0
    assert "student (linear)" in capsys.readouterr().out
    record = json.loads((tmp_path / "run" / "study.json").read_text())
    assert record["data"]["class_names"] == ["barbera", "barolo", "grignolino"]
    assert record["data"]["example_shape"] == [13]
    # Every wine's 13 measures, standardised: the covariance has as many directions, and the trace is their number.
    with np.load(tmp_path / "run" / "analysis" / "eigen" / "student-seed0-Dense_0.npz") as eigen:
        assert eigen["eigenvalues"].shape == (13,)
        np.testing.assert_allclose(eigen["eigenvalues"].sum(), 13, rtol=1e-4)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--teacher=resnet8"], "model 'resnet8': expected images, found vectors of numbers; pass a network for them"),
        (["--student=cnn_8"], "model 'cnn_8': expected images, found vectors of numbers"),
        (["--augment=crop"], "--augment=crop: expected none for numbers, wine"),
    ],
)
def test_a_study_that_numbers_have_no_use_for_is_refused_before_anything_is_written(
    wine, tmp_path, capsys, flags, said
):
    assert imported(wine, "--name=wine", "--label_column=cultivar", f"--data_dir={tmp_path}") == 0
    capsys.readouterr()
    where = ["--platform=cpu", "--dataset=wine", f"--data_dir={tmp_path}", f"--workdir={tmp_path / 'run'}"]
    assert cli.main(["run", "tabular_kd", "--small", *flags, *where]) == 2
    assert capsys.readouterr().err.startswith(said)
    assert not (tmp_path / "run").exists()


def test_images_lead_to_a_study_of_images_and_what_is_wrong_is_one_line(tmp_path, capsys):
    for name in ("ant", "bee"):
        for i in range(5):
            path = tmp_path / "in" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((9, 9), 40 * i, np.uint8)).save(path)
    assert imported(tmp_path / "in", "--name", "mine", "--data-dir", tmp_path) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    flags = "--dataset=mine --train_examples=0 --test_examples=0 --batch_size=4"
    assert command == f"next: kd-jax run cifar_kd --small {flags} --data_dir={tmp_path}"
    assert data.load(Data(dataset="mine"), tmp_path).classes == 2
    assert imported(tmp_path / "in", "--name", "mine", "--data-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("--name=mine: expected a name that is free")
    assert error.count("\n") == 1
    assert imported(tmp_path / "in") == 2
    assert "--name" in capsys.readouterr().err


def test_the_doctor_says_where_decoded_copies_lie_and_how_large_they_may_be(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path))
    (tmp_path / "kd_jax-0.npz").write_bytes(bytes(2_000_000))
    assert cli.main(["doctor", "--platform=cpu"]) == 0
    said = capsys.readouterr().out
    assert f"cache: 1 decoded copies in {tmp_path}, 2 MB of at most 10 GB" in said
    assert f"cache: 0 compiled programs in {tmp_path / 'compiled'}, 0 bytes of at most 1 GB" in said
