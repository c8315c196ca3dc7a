"""Files that take a place in one step, and what is held so that one program at a time makes it."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from kd_jax import files
from kd_jax.files import holding, write_text


def test_what_killed_programs_have_left_beside_a_file_is_removed_with_time(tmp_path):
    path = tmp_path / "a[1].json"
    old, young, other = (tmp_path / name for name in (".a[1].json.11", ".a[1].json.12", ".a1.json.11"))
    for left, time in ((old, 1000), (young, None), (other, 1000)):
        left.write_text("half")
        os.utime(left, time and (time, time))
    write_text(path, "whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, young, other])
    assert path.read_text() == "whole"


@pytest.fixture
def nfs(monkeypatch):
    """As Linux does on NFS, an exclusive lock is taken of what is open for writing alone."""
    flock = fcntl.flock

    def locking(descriptor, how):
        if how & fcntl.LOCK_EX and fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(descriptor, how)

    monkeypatch.setattr(files.fcntl, "flock", locking)


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_held_on_nfs_too(tmp_path, nfs, create):
    path = tmp_path / "part"
    if not create:
        path.touch()
    with holding(path, create), path.open("r+") as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open("r+") as stream:
        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_that_cannot_be_held_is_used_all_the_same(tmp_path, nfs):
    with holding(tmp_path):
        assert tmp_path.is_dir()


BODY = """
import resource, signal, sys
from pathlib import Path
from kd_jax import files
from kd_jax.cli.guard import guarded
from kd_jax.workdir import metrics_file

def run():
    folder = Path(sys.argv[2])
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    if sys.argv[1] == "record.json":
        files.write_text(folder / "record.json", 2000 * "x")
    else:
        metrics_file.append(folder, {"x": 2000 * "x"})

sys.exit(guarded(run))
"""


@pytest.mark.parametrize("name", ["record.json", "metrics.jsonl"])
def test_a_file_that_is_too_large_for_the_system_is_named(tmp_path, name):
    """The system's error names what could not be opened, but not what could not be written."""
    done = subprocess.run([sys.executable, "-c", BODY, name, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"{tmp_path / name}: File too large; what was saved before is whole; raise")


def test_an_error_that_names_a_file_already_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, files.named("other"):
        (tmp_path / "absent").read_text()
    assert caught.value.filename == str(tmp_path / "absent")
