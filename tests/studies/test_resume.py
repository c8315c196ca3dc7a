"""What is cut off, killed or damaged goes on to the same bits."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from kd_jax.studies import run
from kd_jax.train import loop
from tests.studies.test_train import STUDY, bits, flip_a_bit, train


@pytest.mark.usefixtures("no_figures")
def test_a_damaged_teacher_is_trained_again_for_the_student_that_needs_it(tmp_path):
    """At the step at which it teaches, in the middle of its training; one command mends it."""
    study = STUDY.replaced(teacher="mlp_8", student=("mlp_8",), seeds=1, teacher_step=7)
    train(study, tmp_path)
    before = bits(tmp_path)
    flip_a_bit(tmp_path / "runs" / "teacher-seed0" / "trajectory" / "7")
    shutil.rmtree(tmp_path / "runs" / "student-seed0")
    train(study, tmp_path)
    assert bits(tmp_path) == before
    assert len(os.listdir(tmp_path / "runs" / "teacher-seed0" / "damaged")) == 1


@pytest.mark.long
@pytest.mark.parametrize("saves", [True, False])
def test_a_run_cut_off_again_and_again_resumes_to_the_same_bits(tmp_path, monkeypatch, saves):
    """Cut off after every few pauses, in the middle of epochs too, with a save at each pause.

    Or with none, and ever later: then metrics and trajectory are ahead of what training resumes from.
    """
    study = STUDY.replaced(teacher="mlp_8", student=("mlp_8",), seeds=1)
    train(study, tmp_path / "unbroken")
    monkeypatch.setattr(run, "RESUME_SECONDS", 0.0 if saves else np.inf)
    real_segments = loop.segments
    cuts = 0

    def cut_off(*args):
        for number, pause in enumerate(real_segments(*args)):
            yield pause
            if number == (3 if saves else 3 + cuts):
                raise ConnectionError("cut off")

    monkeypatch.setattr(loop, "segments", cut_off)
    while True:
        try:
            train(study, tmp_path / "cut")
            break
        except ConnectionError:
            cuts += 1
    assert cuts >= (6 if saves else 3)
    assert bits(tmp_path / "cut") == bits(tmp_path / "unbroken")


KILLED = """
import sys
import jax
from kd_jax.studies import run
from kd_jax.studies import train as train_stage
from kd_jax.train import devices
from tests_stages_study import STUDY
run.RESUME_SECONDS = 0.0
devices.SEGMENT_STEPS = 1
print("started", flush=True)
train_stage.train("tested", STUDY, sys.argv[1], "unused", jax.devices()[:1])
"""


@pytest.mark.long
@pytest.mark.slow
def test_a_killed_study_resumes_to_the_same_bits(tmp_path):
    study = STUDY.replaced(student=("mlp_16",), epochs=60, seeds=1, checkpoints=20)
    (tmp_path / "tests_stages_study.py").write_text(f"from kd_jax.config import *\nSTUDY = {study!r}\n")
    workdir = tmp_path / "killed"
    command = [sys.executable, "-c", KILLED, str(workdir)]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    kills = 0
    for delay in (2.5, 4.0, 5.5):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        process.stdout.readline()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills
    train(study, workdir)
    train(study, tmp_path / "unbroken")
    assert bits(workdir) == bits(tmp_path / "unbroken")
