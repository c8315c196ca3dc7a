"""The script that audits models of other libraries: what it writes is what an audit reads."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kd_jax
from kd_jax.cli import commands
from kd_jax.data.outputs import labels, model
from kd_jax.report import audit_figures

SCRIPT = Path(__file__).parents[2] / "experiments" / "audit_examples.py"


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("audit_examples", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SEEDS", 2)
    return module


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_two_models_of_scikit_learn_are_audited_over_their_seeds(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(audit_figures, "drawn", lambda *args: {})
    (tmp_path / "names.txt").write_text(
        "\n".join(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    )
    flags = script.with_sklearn(tmp_path)
    assert commands.main(["audit", *flags, f"--names={tmp_path}/names.txt", f"--out={tmp_path}/out"]) == 0
    y = np.load(tmp_path / "labels.npy")
    right = [np.load(tmp_path / f"teacher{seed}.npy").argmax(1) == y for seed in (0, 1)]
    found = kd_jax.audit(
        *([tmp_path / f"{name}{seed}.npy" for seed in (0, 1)] for name in ("teacher", "student")),
        tmp_path / "labels.npy",
    )
    accuracy = found.estimate("accuracy", "teacher", split="test")
    assert accuracy.values == pytest.approx([each.mean() for each in right])
    assert (accuracy.interval.resampled, accuracy.interval.count) == ("seeds", 2)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "teacher0.npy and 1 more" in page
    assert ">seven<" in page
    assert "image/png;base64" in page  # of an example


@pytest.mark.parametrize("models", ["torch", "language"])
def test_without_pytorch_it_says_so_and_with_it_the_files_are_read(script, tmp_path, models):
    if importlib.util.find_spec("torch") is None:
        done = subprocess.run(
            [sys.executable, SCRIPT, models, f"--out={tmp_path}"], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (2, f"{models}: expected torch to be installed; pip install torch\n")
    elif models == "language":
        pytest.skip("trains for a minute")
    else:
        script.MODELS[models](tmp_path)
        count = len(model(tmp_path / "teacher0.npy", "--teacher"))
        assert len(labels(tmp_path / "labels.npy", "--labels", count, 10)) == count == 797
