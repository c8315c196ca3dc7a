"""JAX's options that decide numbers are on record, and a study goes on and is analysed with those with which it was begun."""

import jax
import pytest

from kd_jax.config import BadInput
from kd_jax.studies import analyse, arithmetic
from kd_jax.studies import train as train_stage
from kd_jax.workdir import checkpoints, packing, records
from tests.studies.test_sweep import STUDY

ONE = STUDY.replaced(seeds=1)


@pytest.fixture(autouse=True)
def _afterwards():
    yield
    arithmetic.use(None)
    jax.config.update("jax_default_prng_impl", "threefry2x32")


def train(study, workdir):
    return train_stage.train("tested", study, workdir, "unused", jax.devices()[:1])


def digest(workdir, run):
    with checkpoints.trajectory(records.run_folder(workdir, run)) as opened:
        return {step: packing.tree_digest(opened.load(step)) for step in opened.steps()}


@pytest.mark.long
@pytest.mark.usefixtures("no_figures")
def test_a_study_goes_on_with_the_random_numbers_with_which_it_was_begun(tmp_path):
    train(STUDY, tmp_path / "whole")
    assert records.read_study(tmp_path / "whole")["arithmetic"] == {
        "prng": "threefry2x32",
        "threefry_partitionable": True,
        "matmul_precision": None,
        "x64": False,
    }
    train(ONE, tmp_path / "part")
    jax.config.update("jax_default_prng_impl", "rbg")  # as JAX_DEFAULT_PRNG_IMPL does
    train(ONE, tmp_path / "other")
    assert records.read_study(tmp_path / "other")["arithmetic"]["prng"] == "rbg"
    train(STUDY, tmp_path / "part")  # two seeds: the second is trained now
    runs = [f"{arm}-seed{seed}" for arm in ("teacher", "student") for seed in (0, 1)]
    for run in runs:
        assert digest(tmp_path / "part", run) == digest(tmp_path / "whole", run)
    assert digest(tmp_path / "other", "teacher-seed0") != digest(tmp_path / "whole", "teacher-seed0")
    # What a study on record had is not what the next new one has.
    assert jax.config.jax_default_prng_impl == "threefry2x32"
    train(ONE, tmp_path / "third")
    assert digest(tmp_path / "third", "teacher-seed0") == digest(tmp_path / "other", "teacher-seed0")
    analyse.analyze(tmp_path / "part")
    assert jax.config.jax_default_prng_impl == "threefry2x32"


@pytest.mark.parametrize("value", ["mersenne", 7, None])
def test_a_value_that_jax_does_not_know_is_refused_in_a_line(value):
    with pytest.raises(BadInput, match="arithmetic: expected a value of jax_default_prng_impl"):
        arithmetic.use({"arithmetic": {"prng": value, "of a later version": 1}})
    arithmetic.use({"arithmetic": "nothing"})
    assert jax.config.jax_default_prng_impl == "threefry2x32"
