"""What an analysis needs is looked at before training: it is refused in a line, or what can be said is said."""

import re

import numpy as np
import pytest

from kd_jax.config import BadInput, Study
from kd_jax.data import from_arrays
from kd_jax.plan import make_plan
from kd_jax.studies import api

STUDY = Study.from_flags(teacher="mlp_4", student=("mlp_4",), epochs=2, batch_size=16, learning_rate=0.1, checkpoints=4)
Y = np.arange(96) % 2


def features(count, seed=0):
    return np.random.default_rng(seed).normal(size=(len(Y), count)).astype(np.float32) + Y[:, None].astype(np.float32)


def refused(study, source, folder):
    """The line with which a study is refused, before anything is written."""
    with pytest.raises(BadInput) as caught:
        api.run(study, folder / "new", source, platform="cpu")
    assert not (folder / "new").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_test_set_of_one_example_is_refused(tmp_path):
    source = from_arrays(features(3), Y, features(3)[:1], Y[:1])
    assert "expected at least 2 test examples, for intervals are over examples, found 1" in refused(
        STUDY, source, tmp_path
    )


def test_a_training_of_one_step_is_refused_with_what_helps(tmp_path):
    source = from_arrays(features(3), Y)
    said = refused(STUDY.replaced(epochs=1, batch_size=64), source, tmp_path)
    assert (
        "at least three steps in a trajectory, teacher has 0 1; pass more --epochs, or a smaller --batch_size" in said
    )
    # Two checkpoints asked for are enough where there are steps.
    plan = make_plan(STUDY.replaced(checkpoints=2), 76)
    assert len(plan.length("student").checkpoint_steps) >= 3


def test_a_pair_of_directions_along_which_the_inputs_do_not_vary_is_refused_before_training(tmp_path):
    x = np.concatenate([features(3), np.ones((len(Y), 2), np.float32)], axis=1)  # of five directions two are constant
    said = refused(STUDY.replaced(pairs=((0, 3),)), from_arrays(x, Y), tmp_path)
    assert "--pairs=0 3: expected directions from 0 to 2 for Dense_0, along which its inputs vary" in said
    with pytest.raises(BadInput, match=re.escape("expected directions from 0 to 4 for Dense_0 of mlp_4")):
        api.run(STUDY.replaced(pairs=((0, 5),)), tmp_path / "new", from_arrays(x, Y), platform="cpu")


@pytest.mark.long
@pytest.mark.parametrize("x", [features(1), np.ones((len(Y), 3), np.float32), np.full((len(Y), 4, 4), 7, np.uint8)])
def test_inputs_that_vary_along_fewer_than_two_directions_are_analysed_without_them(tmp_path, x):
    found = api.run(STUDY, tmp_path / "new", from_arrays(x, Y), platform="cpu")
    assert any("vary along fewer than two directions" in warning for warning in found.warnings)
    assert (tmp_path / "new" / "analysis" / "report.html").is_file()
