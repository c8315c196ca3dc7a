"""A whole study of a streamed set: what is cut off goes on to the same bits, and what is analysed is what was trained."""

import jax
import numpy as np
import pytest

from kd_jax import config
from kd_jax.config import BadInput, Study
from kd_jax.studies import analyse, prepare, run
from kd_jax.studies import train as train_stage
from kd_jax.train import loop
from kd_jax.workdir import checkpoints, metrics_file, packing, records

STUDY = Study.from_flags(
    dataset="many",
    augment="resized_crop_flip",
    image_size=8,
    train_examples=48,
    label_noise=0.25,
    teacher="linear",
    student=("linear",),
    epochs=3,
    batch_size=12,
    learning_rate=0.05,
    checkpoints=6,
)


def train(study, workdir, many):
    return train_stage.train("tested", study, workdir, many.data_dir, jax.devices()[:1])


def bits(workdir):
    """{run: {step: digest}} of every trajectory, and what the metrics say but for the clock."""
    result = {}
    for folder in sorted((workdir / "runs").iterdir()):
        with checkpoints.trajectory(folder) as trajectory:
            result[folder.name] = {step: packing.tree_digest(trajectory.load(step)) for step in trajectory.steps()}
        clock = (
            "seconds",
            "examples_per_second",
            "input_examples_per_second",
            "step_examples_per_second",
            "input_wait",
        )
        lines = metrics_file.read(folder)
        result[folder.name, "metrics"] = [{k: v for k, v in line.items() if k not in clock} for line in lines]
    return result


@pytest.fixture(scope="module")
def done(many, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("done")
    train(STUDY, workdir, many)
    return workdir


@pytest.fixture(scope="module")
def found(done):
    """The summary of the study, which is then analysed."""
    return analyse.analyze(done)


def test_a_run_cut_off_in_mid_epoch_goes_on_to_the_same_bits(many, done, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "RESUME_SECONDS", 0.0)
    real_segments = loop.segments

    started = []

    def cut_off(*args):
        """The first run is cut off twice, the last one once."""
        started.append(int(args[0].step))
        for number, pause in enumerate(real_segments(*args), 1):
            yield pause
            if not pause.ends_epoch and number >= {1: 1, 2: 3, 5: 3}.get(len(started), np.inf):
                raise ConnectionError("cut off")

    monkeypatch.setattr(loop, "segments", cut_off)
    for _ in range(3):
        with pytest.raises(ConnectionError):
            train(STUDY, tmp_path, many)
    train(STUDY, tmp_path, many)
    assert [step % 4 > 0 for step in started] == [False, True, True, False, False, True]
    assert bits(tmp_path) == bits(done)


@pytest.mark.long
def test_the_analysis_of_a_streamed_set_has_the_accuracies_of_its_training(done, found):
    for arm in ("teacher", "onehot", "student"):
        logged = metrics_file.read(done / "runs" / f"{arm}-seed0")[-1]
        (value,) = (
            e["estimate"]
            for e in found["estimates"]
            if (e["name"], e["arm"], e["split"]) == ("accuracy", arm, "test") and e.get("subset", "all") == "all"
        )
        assert value == pytest.approx(logged["test_accuracy"])
        assert logged["input_examples_per_second"] > 0
        assert 0 <= logged["input_wait"] <= 1
    with np.load(done / "analysis" / "pairs" / "student-seed0-train.npz") as arrays:
        assert len(arrays["ids"]) == 48
        assert (arrays["labels"] != arrays["true_labels"]).sum() == 12
    record = records.read_study(done)
    assert record["data"]["image_shape"] == [8, 8, 3]
    assert config.from_json(record["config"]) == STUDY


@pytest.mark.long
def test_the_directions_of_a_streamed_sets_inputs_are_those_of_its_clean_views(done, found):
    dataset = prepare.open_study(done).dataset
    x = ((dataset.train.x[:] - dataset.mean) / dataset.std).reshape(48, -1)
    values = np.linalg.eigvalsh(np.cov(x.T, bias=True))[::-1]
    with np.load(done / "analysis" / "eigen" / "student-seed0-Dense_0.npz") as arrays:
        np.testing.assert_allclose(arrays["eigenvalues"][:20], values[:20], rtol=1e-3)


def test_another_size_of_the_views_is_another_study(many, done):
    with pytest.raises(BadInput, match="image_size=8, expected image_size=16"):
        train(STUDY.replaced(image_size=16), done, many)


def test_what_cannot_be_streamed_is_refused_before_anything_is_written(many, tmp_path):
    with pytest.raises(BadInput, match="--augment=crop_flip"):
        train(STUDY.replaced(augment="crop_flip"), tmp_path / "work", many)
    assert not (tmp_path / "work").exists()
