"""What cannot be done is said in one line that names the value, with exit status 2, before anything is written.

The table, `bad_inputs.tsv`, has a command line and what is said of it, a regular expression, in every row.
"""

import re
import shlex
from pathlib import Path

import pytest

from kd_jax import cli
from kd_jax.config import FLAGS
from kd_jax.recipes.studies import STUDIES

TABLE = [
    line.split("\t") for line in Path(__file__).with_name("bad_inputs.tsv").read_text(encoding="utf-8").splitlines()
]
# They have no bad value, or one that other tests have: choices of two, and numbers that any will do for.
WITHOUT = {"noise_seed", "decay_on"}


@pytest.mark.parametrize(("typed", "said"), TABLE, ids=[typed for typed, _ in TABLE])
def test_bad_input_is_one_line_and_exit_2_and_nothing_is_written(tmp_path, monkeypatch, capsys, typed, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    name, *words = shlex.split(typed)
    of_study = ["run", name, "--platform=cpu", "--small"]
    status = cli.main([*(of_study if name in STUDIES else [name]), *words])
    streams = capsys.readouterr()
    assert status == 2
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    assert re.search(said, streams.err), streams.err
    assert list(tmp_path.iterdir()) == []


def test_every_flag_of_a_study_is_in_the_table():
    words = {word.lstrip("-").partition("=")[0] for typed, _ in TABLE for word in typed.split() if word[:2] == "--"}
    assert set(FLAGS) - WITHOUT <= words
