"""What the system refuses is one line, and nobody has to read what a command prints."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kd_jax.cli import guard


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "make room"),
        (errno.EDQUOT, "make room"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EROFS, "pass a --workdir that can be written"),
        (errno.ENOENT, "leave the work folder where it is"),
        (errno.EIO, "correct that"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_the_fix(capsys, number, fix):
    def run():
        raise OSError(number, os.strerror(number), "/some/file")

    assert guard.guarded(run) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"/some/file: {os.strerror(number)}; what was saved before is whole; ")
    assert fix in said
    assert said.count("\n") == 1


def test_an_error_of_the_program_itself_is_not_taken_for_one_of_the_system():
    def run():
        raise OSError("a bug")

    with pytest.raises(OSError, match="a bug"):
        guard.guarded(run)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_command_whose_streams_are_closed_does_its_work(tmp_path, closed):
    """The next files that it opens must not get the numbers of the streams, into which libraries write messages."""
    body = (
        "import sys; from kd_jax.cli.guard import guarded, open_streams; open_streams(); file = open(sys.argv[1], 'w');"
        "import os; os.write(1, b'out'); os.write(2, b'err');"
        "sys.exit(guarded(lambda: (print('said'), print('said', file=sys.stderr), file.write('kept'), file.close())))"
    )
    path = tmp_path / "file"
    done = subprocess.run(["sh", "-c", f'"$0" -c "$1" "$2" {closed}', sys.executable, body, path], capture_output=True)
    assert done.returncode == 0
    assert path.read_text() == "kept"


def test_nobody_has_to_read_to_the_end(tmp_path):
    """As `head` does, the reader leaves after the first line; what the command does after that is done all the same."""
    body = (
        "import sys; from pathlib import Path; from kd_jax.cli.guard import guarded;"
        "sys.exit(guarded(lambda: ([print('x' * 1000) for _ in range(1000)], Path(sys.argv[1]).write_text('done'))))"
    )
    path = tmp_path / "file"
    process = subprocess.Popen([sys.executable, "-c", body, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 0)
    assert path.read_text() == "done"


@pytest.mark.long
def test_a_checkpoint_that_does_not_fit_is_an_error_of_the_system_and_leaves_no_half(tmp_path):
    body = (
        "import resource, sys; import numpy as np; from kd_jax.workdir import checkpoints;"
        "from kd_jax.cli.guard import guarded;\n"
        "def run():\n"
        "    with checkpoints.trajectory(sys.argv[1], write=True) as store:\n"
        "        store.save(0, {'a': np.arange(10)})\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "    with checkpoints.trajectory(sys.argv[1], write=True) as store:\n"
        "        store.save(1, {'a': np.random.default_rng(0).normal(size=100000)})\n"
        "sys.exit(guarded(run))"
    )
    done = subprocess.run([sys.executable, "-c", body, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert "File too large; what was saved before is whole; raise the limit on the size of files" in done.stderr
    assert [path.name for path in (tmp_path / "trajectory").iterdir()] == ["0"]


def test_a_callback_after_a_save_that_failed_is_not_told_beside_the_failure_and_others_are():
    body = (
        "import sys; from kd_jax.cli.guard import guarded\n"
        "class Late:\n"
        "    def __init__(self, error): self.error = error\n"
        "    def __del__(self): raise self.error\n"
        "def run():\n"
        "    Late(RuntimeError('Event loop is closed'))\n"
        "    Late(RuntimeError('another'))\n"
        "sys.exit(guarded(run))"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0
    assert "RuntimeError: another" in done.stderr
    assert "Event loop" not in done.stderr


def test_too_few_open_files_are_refused_at_once(monkeypatch, capsys):
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (24, 24))
    assert guard.guarded(lambda: None) == 2
    assert capsys.readouterr().err == "ulimit -n: expected at least 128 open files, found 24; raise it\n"


@pytest.mark.long
@pytest.mark.parametrize(
    "words", ["run digits_kd --small", "run linear_theory --small", "doctor"], ids=["study", "theory", "doctor"]
)
def test_a_platform_of_the_environment_that_this_machine_lacks_is_one_line(tmp_path, words):
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has such a platform")
    environment = os.environ | {"JAX_PLATFORMS": "cuda", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "kd_jax", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 2
    assert done.stderr == (
        "JAX_PLATFORMS=cuda: expected a platform of this machine, JAX finds none of them here; unset JAX_PLATFORMS, or pass"
        " --platform=cpu\n"
    )
    assert list(tmp_path.iterdir()) == []
