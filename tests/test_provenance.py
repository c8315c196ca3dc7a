"""What a record says of the code: the git revision, where there is one."""

import os
import subprocess

import pytest

from kd_jax import provenance


def git(folder, *words):
    identity = {f"GIT_{who}_{what}": "tested" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, env=os.environ | identity)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q")
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return package


def test_the_revision_is_that_of_the_checkout_and_says_when_it_is_not_all(checkout):
    head = git(checkout, "rev-parse", "HEAD")
    assert provenance.revision(checkout) == head
    (checkout / "scratch.txt").write_text("")  # git does not know it
    assert provenance.revision(checkout) == head
    (checkout / "__init__.py").write_text("changed = True\n")
    assert provenance.revision(checkout) == f"{head}-dirty"


def test_what_is_installed_inside_a_repository_has_no_revision(checkout, tmp_path):
    installed = checkout / ".venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert provenance.revision(installed) == ""


def test_without_a_repository_or_git_there_is_no_revision(tmp_path, checkout, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "alone").mkdir()
    assert provenance.revision(tmp_path / "elsewhere") == ""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert provenance.revision(checkout) == ""
