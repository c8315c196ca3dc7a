"""Several processes on this machine train as one does, over Gloo; each of them has one CPU device."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from kd_jax.workdir import checkpoints, metrics_file, records

PROGRAM = Path(__file__).with_name("one_of_several.py")
DIGITS = {
    "dataset": "digits",
    "teacher": "mlp_16",
    "student": ["mlp_16"],
    "train_examples": 200,
    "test_examples": 101,
    "label_noise": 0.1,
    "epochs": 6,
    "batch_size": 20,
    "learning_rate": 0.05,
    "precision": "float64",
    "checkpoints": 4,
    "early_epoch": 0,
}
STARTED = []
LOST = "another process of this run ended"


@pytest.fixture(autouse=True)
def none_is_left():
    """What a test that failed has started ends with it."""
    yield
    while STARTED:
        STARTED.pop().kill()


def port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def start(workdir, study, processes=1, place="", devices=1, **more):
    """Start the processes of a run, and return them. `more` has what some of them are asked besides, {key: {index: value}}."""
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    coordinator, started = f"127.0.0.1:{port()}", []
    for index in range(processes):
        asked = {"workdir": str(workdir), "data_dir": str(place), "flags": study}
        if processes > 1:
            asked |= {"coordinator": coordinator, "processes": processes, "index": index}
        asked |= {key: of[index] for key, of in more.items() if index in of}
        command = [sys.executable, str(PROGRAM), json.dumps(asked)]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    STARTED.extend(started)
    return started


def ended(started, within=300):
    """Wait for processes, and return [(exit status, what they wrote on standard error)]."""
    found = []
    for process in started:
        said = process.communicate(timeout=within)
        found.append((process.returncode, said[1]))
        assert said[0] == ""
    return found


def finished(workdir, *args, **more):
    """Train to the end."""
    for status, said in ended(start(workdir, *args, **more)):
        assert status == 0, said


def trains(started, said):
    """Wait until a process has taken some steps, of which it says so in a file."""
    while not said.exists() or len(said.read_text().splitlines()) < 4:
        assert all(process.poll() is None for process in started), ended(started)
        time.sleep(0.02)


def assert_alike(one, other, tolerance=1e-9):
    """Two work folders have the same runs, checkpoints and metrics, but for rounding."""
    names = sorted(path.name for path in (one / "runs").iterdir())
    assert names == sorted(path.name for path in (other / "runs").iterdir())
    for name in names:
        folders = one / "runs" / name, other / "runs" / name
        steps = [records.kept_steps(folder) for folder in folders]
        assert steps[0] == steps[1]
        for step in steps[0]:
            with checkpoints.trajectory(folders[0]) as a, checkpoints.trajectory(folders[1]) as b:
                first, second = a.load(step), b.load(step)
            assert list(first) == list(second)
            for path in first:
                np.testing.assert_allclose(second[path], first[path], rtol=tolerance, atol=tolerance, err_msg=path)
        lines = [metrics_file.read(folder) for folder in folders]
        assert len(lines[0]) == len(lines[1])
        for a, b in zip(*lines, strict=True):
            timed = {key for key in a if key.startswith(("seconds", "input_", "step_")) or key.endswith("per_second")}
            assert set(a) == set(b)
            for key in set(a) - timed:
                assert b[key] == pytest.approx(a[key], rel=tolerance, abs=tolerance), key


@pytest.mark.long
def test_two_processes_that_are_told_to_stop_killed_or_fail_go_on_to_what_one_process_comes_to(tmp_path):
    """The faults hit both of them, in turn: all answer a request to stop at the same step, and what ends one ends the other."""
    alone, work = tmp_path / "alone", tmp_path / "work"
    finished(alone, DIGITS, devices=2)
    said = [tmp_path / "0.txt", tmp_path / "1.txt"]
    started = start(work, DIGITS, 2, says={index: str(path) for index, path in enumerate(said)})
    trains(started, said[1])
    started[1].send_signal(signal.SIGTERM)
    (first, of_first), (second, of_second) = ended(started)
    assert (first, second) == (75, 75), (of_first, of_second)
    step = re.search(r"stopped: \w+-seed0 saved at step (\d+)", of_first)[1]
    assert of_second == ""
    assert [path.read_text().splitlines()[-1] for path in said] == [step, step]
    for killed, left in ((0, 1), (1, 0)):
        seen = tmp_path / f"killed {killed}.txt"
        started = start(work, DIGITS, 2, says={killed: str(seen)})
        trains(started, seen)
        began = time.monotonic()
        started[killed].kill()
        status, of_left = ended([started[left]], 60)[0]
        assert time.monotonic() - began < 60
        assert status not in (0, 2, 75), of_left
        assert of_left.splitlines()[-1].startswith(LOST), of_left
        assert of_left.count(LOST) == 1
        assert "Traceback" not in of_left
        ended([started[killed]])
    finished(work, DIGITS, 2)
    assert_alike(alone, work)
    record = records.read_study(work)
    assert record["platform"] == {"platform": "cpu", "device": "cpu", "devices": 2, "processes": 2}


def commands(place, processes, *words):
    """Start `kd-jax run cifar_kd` in so many processes, each in a folder of its own, and return [(exit status, out, errors)]."""
    devices = 1 if processes > 1 else 2
    environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    environment["PYTHONPATH"] = str(PROGRAM.parents[2])
    flags = [f"--{key}={value}" for key, value in (DIGITS | {"student": "mlp_16", "augment": "none"}).items()]
    together = ["--distributed", f"--coordinator=127.0.0.1:{port()}", f"--num_processes={processes}"]
    started = []
    for index in range(processes):
        (own := place / f"own{index}").mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "kd_jax", "run", "cifar_kd", "--platform=cpu", *flags, *words]
        command += [*together, f"--process_id={index}"] if processes > 1 else []
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env=environment, cwd=own, **pipes))
    STARTED.extend(started)
    found = [(*process.communicate(timeout=300), process.returncode) for process in started]
    return [(status, out, errors) for out, errors, status in found]


@pytest.mark.long
def test_two_processes_train_a_sweep_in_an_object_store_run_by_run_and_as_a_whole(tmp_path):
    """A folder stands for the store: fsspec knows it by file://."""
    store, sweep = tmp_path / "store", ["--sweep", "temperature=1,4"]
    address, alone = f"--workdir=file://{store}", f"--workdir={tmp_path / 'alone'}"
    ((first, out, said), *_) = ended_one = commands(tmp_path, 2, address, *sweep, "--only=temperature=1/student-seed0")
    assert [status for status, *_ in ended_one] == [2, 2], ended_one
    assert said == (
        "--only=temperature=1/student-seed0: expected its teacher to be finished; do --only=temperature=1/teacher-seed0 first\n"
    )
    assert not store.exists()
    (first, out, said), (second, *quiet) = commands(tmp_path, 2, address, *sweep, "--only=temperature=1/teacher-seed0")
    assert (first, second, quiet) == (0, 0, ["", ""]), (said, quiet)
    assert out == f"file://{store}: temperature=1/teacher-seed0 is finished; 3 of 6 are to do\n"
    assert [path.name for path in store.glob("*/runs/*")] == ["teacher-seed0"]
    (first, _, said), (second, *quiet) = commands(tmp_path, 2, address, *sweep)
    assert (first, second, quiet) == (0, 0, ["", ""]), (said, quiet)
    assert commands(tmp_path, 1, alone, *sweep)[0][0] == 0
    assert (store / "temperature=4" / "runs" / "teacher-seed0.link").is_file()
    for variant in ("temperature=1", "temperature=4"):
        for link in (store / variant / "runs").glob("*.link"):
            link.with_suffix("").symlink_to(link.read_text())
            link.unlink()
        assert_alike(tmp_path / "alone" / variant, store / variant)
    summaries = [records.read_summary(folder, of_sweep=True) for folder in (tmp_path / "alone", store)]
    assert summaries[0]["answer"] == summaries[1]["answer"]
    ones, others = (
        {
            str([e.get(key) for key in ("variant", "name", "arm", "split", "subset", "layer", "directions")]): e[
                "estimate"
            ]
            for e in of["estimates"]
        }
        for of in summaries
    )
    assert len(ones) > 50
    assert ones == pytest.approx(others, rel=1e-6)
    assert [list((tmp_path / f"own{index}").iterdir()) for index in (0, 1)] == [[], []]


@pytest.mark.long
@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_raises_says_why_and_ends_the_other(tmp_path, failing):
    started = start(tmp_path / "work", DIGITS, 2, raises={failing: 2})
    ((status, said),) = ended([started[failing]])
    ((other, of_other),) = ended([started[1 - failing]], 60)
    assert 0 not in (status, other)
    assert "ValueError: a fault of this process" in said
    assert said.splitlines()[-1].startswith(f"process {failing} of 2 ended with this error")
    assert of_other.splitlines()[-1].startswith(LOST)
    assert "Traceback" not in of_other


@pytest.mark.long
@pytest.mark.parametrize("what", ["the flags", "the data"])
def test_processes_with_other_flags_or_other_data_are_refused_in_one_line(what, tmp_path, write_texts, sentences):
    places, flags = [tmp_path / "data", tmp_path / "more"], ARITHMETIC | KINDS["texts"]
    for seed, place in enumerate(places):
        write_texts(place, {"train": sentences(80, seed), "validation": sentences(33, 2)})
    more = {"data_dir": {1: str(places[1])}} if what == "the data" else {"flags": {1: flags | {"temperature": 3.0}}}
    (first, said), (second, quiet) = ended(start(tmp_path / "work", flags, 2, places[0], **more))
    assert (first, second) == (2, 2), (said, quiet)
    assert re.fullmatch(rf"--distributed: expected {what} alike in all 2 processes, found \w+ in process 1 .*\n", said)
    assert quiet == ""
    assert not (tmp_path / "work").exists()


@pytest.mark.long
def test_what_one_process_cannot_do_ends_all_and_that_one_says_why(tmp_path, write_texts, sentences):
    write_texts(tmp_path / "data", {"train": sentences(80), "validation": sentences(33, 1)})
    (tmp_path / "nothing").mkdir()
    more = {"data_dir": {1: str(tmp_path / "nothing")}}
    (first, of_first), (second, of_second) = ended(
        start(tmp_path / "work", ARITHMETIC | KINDS["texts"], 2, tmp_path / "data", **more)
    )
    assert (first, second) == (2, 2), (of_first, of_second)
    assert of_first == "--distributed: process 1 cannot take part; its own last line says why\n"
    assert re.fullmatch(r"process 1: .*texts.*\n", of_second)


@pytest.mark.long
@pytest.mark.parametrize("index", [0, 1])
def test_who_waits_for_processes_that_do_not_come_says_so_in_time(tmp_path, index):
    started = start(tmp_path / "work", DIGITS, 2, timeout=dict.fromkeys((0, 1), 3))
    started[1 - index].kill()
    status, said = ended([started[index]])[0]
    assert status == 2, said
    assert re.fullmatch(
        r"--coordinator=127\.0\.0\.1:\d+: expected all processes within 3 s, they did not come; .*\n", said
    )


ARITHMETIC = {"precision": "float64", "learning_rate": 0.05, "checkpoints": 4, "early_epoch": 0, "control": "free"}
KINDS = {
    "images": {
        "dataset": "digits",
        "teacher": "resnet8",
        "student": ["resnet8"],
        "augment": "crop_flip",
        "train_examples": 60,
        "test_examples": 31,
        "label_noise": 0.1,
        "epochs": 2,
        "batch_size": 12,
    },
    "streamed": {
        "dataset": "many",
        "teacher": "cnn_4x4",
        "student": ["cnn_4x4"],
        "augment": "resized_crop_flip",
        "image_size": 16,
        "epochs": 2,
        "batch_size": 20,
    },
    "texts": {
        "dataset": "texts",
        "teacher": "roberta_1x16",
        "student": ["roberta_1x16"],
        "optimizer": "adamw",
        "dropout": 0.1,
        "max_length": 16,
        "vocabulary": 300,
        "epochs": 2,
        "batch_size": 16,
    },
}


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_come_to_the_numbers_of_one_on_every_kind_of_data(kind, tmp_path, many, write_texts, sentences):
    """Two devices in both cases: one process has both of them, or each of two processes one. What differs is rounding."""
    data_dir = many.data_dir if kind == "streamed" else tmp_path / "data"
    if kind == "texts":
        write_texts(data_dir, {"train": sentences(80), "validation": sentences(33, 1)})
    finished(tmp_path / "one", ARITHMETIC | KINDS[kind], place=data_dir, devices=2)
    finished(tmp_path / "two", ARITHMETIC | KINDS[kind], 2, place=data_dir)
    assert_alike(tmp_path / "one", tmp_path / "two")


@pytest.mark.long
def test_a_run_goes_on_with_any_number_of_devices(tmp_path):
    """Begun on eight, gone on with on sixteen, ended on three: the numbers are those of one device."""
    flags = DIGITS | {"batch_size": 48, "train_examples": 192, "epochs": 8}
    finished(tmp_path / "one", flags)
    for devices in (8, 16):
        seen = tmp_path / f"{devices}.txt"
        (process,) = started = start(tmp_path / "many", flags, devices=devices, says={0: str(seen)})
        trains(started, seen)
        process.send_signal(signal.SIGTERM)
        assert ended(started)[0][0] == 75
    finished(tmp_path / "many", flags, devices=3)
    assert_alike(tmp_path / "one", tmp_path / "many")
    history = records.read_study(tmp_path / "many")["history"]
    assert [each["platform"]["devices"] for each in history] == [8, 16, 3]


@pytest.mark.long
def test_a_batch_is_split_over_the_devices_of_all_processes(tmp_path):
    (first, said), (second, _) = ended(start(tmp_path / "work", DIGITS | {"batch_size": 15}, 2, devices=2))
    assert said == "--batch_size=15: expected a multiple of the 4 devices of 2 processes; pass 12\n"
    assert (first, second) == (2, 2)
