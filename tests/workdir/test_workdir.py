"""The work folder: what is read is what was written, or it is said that it is not."""

import errno
import os
import time
from typing import NamedTuple

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from kd_jax.config import BadInput
from kd_jax.files import replacing, write_text
from kd_jax.studies.run import ResumeStore, TrajectoryStore
from kd_jax.workdir import checkpoints, metrics_file, packing, records


class Pairing(NamedTuple):
    a: dict
    b: np.ndarray


def tree(seed=0):
    rng = np.random.default_rng(seed)
    return Pairing(
        {
            "x": {"kernel": rng.normal(size=(3, 4)).astype(np.float32), "bias": np.zeros((0,), np.float32)},
            "n": np.int32(seed),
        },
        rng.normal(size=5),
    )


def flip_a_bit(step_folder):
    """In the largest file, which holds array data."""
    files = [path for path in step_folder.rglob("*") if path.is_file()]
    path = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_unpack_undoes_pack():
    packed = tree(3)
    arrays, leaves = packing.pack(packed)
    assert {name: array.ndim for name, array in arrays.items()} == {"float32": 1, "int32": 1, "float64": 1}
    flat = packing.unpack(arrays, leaves)
    np.testing.assert_array_equal(flat["a/x/kernel"], packed.a["x"]["kernel"])
    np.testing.assert_array_equal(flat["b"], packed.b)
    assert flat["a/n"] == 3
    assert flat["a/x/bias"].shape == (0,)
    assert packing.nest({"a/x": 1, "a/y": 2, "b": 3}) == {"a": {"x": 1, "y": 2}, "b": 3}


def test_the_digest_sees_every_bit_path_shape_and_dtype():
    base = {"w": np.arange(6, dtype=np.float32)}
    changed = base["w"].copy()
    changed.view(np.uint32)[3] ^= 1
    others = [
        {"w": changed},
        {"v": base["w"]},
        {"w": base["w"].reshape(2, 3)},
        {"w": base["w"].view(np.int32)},
        {"w": base["w"].astype(ml_dtypes.bfloat16)},
    ]
    digests = {packing.tree_digest(other) for other in [base, *others]}
    assert len(digests) == 6
    assert packing.tree_digest({"w": base["w"].copy()}) == packing.tree_digest(base)


def test_a_trajectory_keeps_every_step_and_resume_the_newest_two(tmp_path):
    with checkpoints.trajectory(tmp_path, write=True) as trajectory, checkpoints.resume(tmp_path) as resume:
        for step in (0, 1, 5, 9):
            trajectory.save(step, tree(step))
            resume.save(step, tree(step))
        assert trajectory.steps() == [0, 1, 5, 9]
    assert records.kept_steps(tmp_path) == [0, 1, 5, 9]
    with checkpoints.resume(tmp_path) as resume:
        assert resume.steps() == [5, 9]
        restored = resume.load_newest_like(tree())
        assert isinstance(restored, Pairing)
        np.testing.assert_array_equal(restored.b, tree(9).b)
    with checkpoints.trajectory(tmp_path) as trajectory:
        np.testing.assert_array_equal(trajectory.load(5)["b"], tree(5).b)


def test_a_step_that_is_there_stays_as_it_was(tmp_path):
    for seed in (1, 2):
        with checkpoints.trajectory(tmp_path, write=True) as trajectory:
            trajectory.save(0, tree(seed))
    with checkpoints.trajectory(tmp_path) as trajectory:
        assert trajectory.load(0)["a/n"] == 1


def test_a_flipped_bit_is_noticed(tmp_path):
    with checkpoints.trajectory(tmp_path, write=True) as trajectory:
        trajectory.save(0, {"params": {"w": np.random.default_rng(0).normal(size=5000)}})
    flip_a_bit(tmp_path / "trajectory" / "0")
    with checkpoints.trajectory(tmp_path) as trajectory, pytest.raises(checkpoints.Damaged):
        trajectory.load(0)
    with pytest.raises(BadInput, match="expected a whole checkpoint; move"):
        checkpoints.load_variables(tmp_path, 0)


@pytest.mark.parametrize("harm", ["flip", "truncate", "empty"])
def test_resuming_passes_over_a_damaged_step_and_moves_it_aside(tmp_path, harm):
    with checkpoints.resume(tmp_path) as resume:
        for step in (4, 8):
            resume.save(step, {"w": np.full(5000, step, np.float32) + np.arange(5000)})
    newest = tmp_path / "resume" / "8"
    if harm == "flip":
        flip_a_bit(newest)
    else:
        for path in [path for path in newest.rglob("*") if path.is_file()]:
            path.unlink() if harm == "empty" else path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with checkpoints.resume(tmp_path) as resume:
        restored = resume.load_newest_like({"w": np.zeros(5000, np.float32)})
        assert restored["w"][0] == 4
        resume.save(8, {"w": np.full(5000, 8, np.float32)})  # the place is free again
    with checkpoints.resume(tmp_path) as resume:
        assert resume.steps() == [4, 8]
    assert len(os.listdir(tmp_path / "damaged")) == 1
    with checkpoints.resume(tmp_path) as resume:
        assert resume.load_newest_like({"w": np.zeros(5000, np.float32)})["w"][0] == 8


def test_another_network_is_not_taken_for_this_one(tmp_path):
    with checkpoints.resume(tmp_path) as resume:
        resume.save(1, {"w": np.zeros((2, 3))})
        resume._manager.wait_until_finished()
        for other in ({"w": np.zeros((3, 2))}, {"v": np.zeros((2, 3))}):
            with pytest.raises(checkpoints.Damaged, match="another network"):
                resume.load_like(1, other)


def test_metrics_rewind_to_a_step_and_a_line_cut_short_is_left_out(tmp_path):
    for step in (10, 20, 30):
        metrics_file.append(tmp_path, {"step": step})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"step": 4')
    assert [line["step"] for line in metrics_file.read(tmp_path)] == [10, 20, 30]
    metrics_file.rewind(tmp_path, 20)
    metrics_file.append(tmp_path, {"step": 25})
    assert [line["step"] for line in metrics_file.read(tmp_path)] == [10, 20, 25]


def test_a_folder_is_held_by_one_writer(tmp_path):
    with records.locked(tmp_path), pytest.raises(BadInput, match="another program"), records.locked(tmp_path):
        pass
    with records.locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(BadInput, match="expected a folder that can be written"),
        records.locked(tmp_path / "file" / "work"),
    ):
        pass


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"study\.json"):
        records.read_study(tmp_path)


def test_a_study_of_a_newer_version_is_refused(tmp_path):
    records.write_json(tmp_path / "study.json", {"schema": 99, "study": "any", "config": {}})
    with pytest.raises(BadInput, match="expected schema 2 or older, found 99; a newer version of kd_jax wrote it"):
        records.read_study(tmp_path)


def test_the_steps_that_a_run_lacks_are_those_that_were_asked_for(tmp_path):
    for step in (0, 5, 6):
        (tmp_path / "trajectory" / str(step)).mkdir(parents=True)
    assert records.missing_steps(tmp_path, [0, 1, 5, 9]) == [1, 9]
    assert records.missing_steps(tmp_path, [5]) == []
    assert records.missing_steps(tmp_path / "absent", [3]) == [3]


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    write_text(tmp_path / "below" / "text", "old\n")

    def cut_short():
        with replacing(tmp_path / "below" / "text") as temporary:
            temporary.write_text("new and cut sh")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_short()
    assert os.listdir(tmp_path / "below") == ["text"]
    assert (tmp_path / "below" / "text").read_text() == "old\n"


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_checkpoint_has_as_many_files_and_about_as_many_bytes_as_foretold(tmp_path):
    saved = {"a": {"w": np.random.default_rng(0).normal(size=(300, 200)).astype(np.float32)}, "n": np.int32(3)}
    with checkpoints.trajectory(tmp_path, write=True) as trajectory:
        trajectory.save(7, saved)
    written, foretold = files_of(tmp_path / "trajectory"), checkpoints.size(saved)
    assert foretold.files == len(written) == 8
    contents = sum(path.stat().st_size for path in written)
    assert 0.99 * foretold.bytes < contents <= foretold.bytes


@pytest.mark.parametrize("values", [np.zeros(40, np.float32), np.full(3, np.nan)])
def test_arrays_of_which_nothing_is_written_come_back(tmp_path, values):
    """A chunk of zeros is left out by the format."""
    with checkpoints.trajectory(tmp_path, write=True) as trajectory:
        trajectory.save(1, {"w": values})
    with checkpoints.trajectory(tmp_path) as trajectory:
        np.testing.assert_array_equal(trajectory.load(1)["w"], values)


@pytest.mark.parametrize("harm", ["none", "flip"])
def test_checkpoints_of_the_earlier_layout_are_read_and_go_on_in_the_new_one(tmp_path, harm):
    """Folders may hold checkpoints that are OCDBT databases, as orbax's own arguments make it."""
    packed = tree(4)
    arrays, leaves = packing.pack(packed)
    metadata = {"digest": packing.digest(arrays, leaves), "leaves": leaves}
    with ocp.CheckpointManager((tmp_path / "resume").absolute()) as manager:
        for step in (4, 8):
            manager.save(step, args=ocp.args.StandardSave(arrays), custom_metadata=metadata)
    assert (tmp_path / "resume" / "8" / "default" / "manifest.ocdbt").is_file()
    if harm == "flip":
        flip_a_bit(tmp_path / "resume" / "8")
    with checkpoints.resume(tmp_path) as resume:
        restored = resume.load_newest_like(tree(0))
        np.testing.assert_array_equal(restored.b, packed.b)
        assert resume.steps() == ([4, 8] if harm == "none" else [4])
        resume.save(9, restored)
    with checkpoints.resume(tmp_path) as resume:
        assert resume.steps() == ([8, 9] if harm == "none" else [4, 9])
        np.testing.assert_array_equal(resume.load_newest_like(tree(0)).a["x"]["kernel"], packed.a["x"]["kernel"])
    # Whoever reads a checkpoint with orbax alone need not know about layouts.
    with ocp.CheckpointManager((tmp_path / "resume").absolute()) as manager:
        for step in manager.all_steps():
            found = manager.restore(step, args=ocp.args.StandardRestore())
            np.testing.assert_array_equal(found["float64"], arrays["float64"])


# ---- damage outside checkpoints


def test_only_the_last_line_of_metrics_can_be_torn(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    assert [line["step"] for line in metrics_file.read(tmp_path)] == [1, 2]
    for damage in (b'{"st\n', b"\xff\xfe\n", b"[1]\n", b"\n"):
        path.write_bytes(b'{"step": 1}\n' + damage + b'{"step": 3}\n')
        with pytest.raises(BadInput, match=r"metrics\.jsonl: line 2: expected a JSON object"):
            metrics_file.read(tmp_path)
        with pytest.raises(BadInput, match="line 2"):
            metrics_file.rewind(tmp_path, 1)
        assert path.read_bytes().endswith(b'{"step": 3}\n')  # good lines stay


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b"{}"])
def test_a_damaged_record_is_one_line_with_what_to_do(tmp_path, damage):
    (tmp_path / "study.json").write_bytes(damage)
    with pytest.raises(BadInput, match=r"study\.json: expected .*restore the file or start in another") as caught:
        records.read_study(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_summary_names_the_command_that_makes_it_again(tmp_path):
    with pytest.raises(BadInput, match=r"expected analysis/summary\.json; run: kd-jax analyze"):
        records.read_summary(tmp_path)
    (tmp_path / "analysis").mkdir()
    for damage in (b"", b'{"a"', b"\xff", b"3"):
        (tmp_path / "analysis" / "summary.json").write_bytes(damage)
        with pytest.raises(BadInput, match="run: kd-jax analyze") as caught:
            records.read_summary(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(BadInput, match="expected a folder that can be written"), records.locked(tmp_path / "work"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_where_a_file_system_cannot_lock_nothing_is_held(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(records.fcntl, "flock", no_locks)
    with records.locked(tmp_path), records.locked(tmp_path):
        pass


def test_a_line_of_metrics_that_was_changed_is_noticed_and_one_of_an_earlier_version_is_read(tmp_path):
    lines = [{"epoch": epoch, "step": 5 * epoch, "test_accuracy": 0.5 + epoch / 10} for epoch in (1, 2, 3)]
    for line in lines:
        metrics_file.append(tmp_path, line)
    path = tmp_path / "metrics.jsonl"
    assert metrics_file.read(tmp_path) == lines
    whole = path.read_bytes()
    for at in range(len(whole)):  # every bit of a digit that matters is one of these
        if whole[at : at + 1].isdigit():
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(
                BadInput, match=r"metrics.jsonl: line [123]: expected (what training wrote|a JSON object)"
            ):
                metrics_file.read(tmp_path)
    path.write_bytes(whole)
    metrics_file.rewind(tmp_path, 10)
    assert metrics_file.read(tmp_path) == lines[:2]
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    path.write_text('{"epoch": 1, "step": 5}\n')  # without a check
    assert metrics_file.read(tmp_path) == [{"epoch": 1, "step": 5}]


@pytest.mark.parametrize("harm", ["flip", "empty"])
def test_a_step_of_which_the_metadata_are_damaged_is_told_or_does_not_matter_and_in_training_is_moved_aside(
    tmp_path, harm
):
    with checkpoints.trajectory(tmp_path, write=True) as store:
        for step in (0, 3, 7):
            store.save(step, {"params": tree(step)})
    path = tmp_path / "trajectory" / "3" / "_CHECKPOINT_METADATA"
    text = path.read_text()
    path.write_text(text.replace("performance_metrics", "pesformance_metrics") if harm == "flip" else "")
    assert path.read_text() != text
    if harm == "flip":  # in what orbax keeps for itself: the network is whole
        found = {step: variables["params"]["b"] for step, variables in checkpoints.stream_variables(tmp_path)}
        np.testing.assert_array_equal(found[3], tree(3).b)
    else:
        with pytest.raises(
            BadInput, match=r"trajectory/3: .*expected a whole checkpoint; move that step's folder away"
        ):
            list(checkpoints.stream_variables(tmp_path))
    with checkpoints.trajectory(tmp_path, write=True) as store:
        if harm == "flip":  # else orbax opens the store, and what is wrong is noticed when that step is read
            assert store.steps() == [0, 7]
            assert [path.name[:12] for path in (tmp_path / "damaged").iterdir()] == ["trajectory-3"]
        assert 7 in store.steps()
        store.load(7)


# ---- writing in the background


def test_what_is_saved_may_be_overwritten_at_once_and_is_on_the_disk_after_waiting(tmp_path):
    weights = np.zeros(1000, np.float32)
    with checkpoints.trajectory(tmp_path, write=True) as store:
        for step in range(5):
            weights[:] = step
            store.save(step, {"params": {"w": weights}})
        assert store.steps() == list(range(5))
        store.wait()
        assert records.kept_steps(tmp_path) == list(range(5))
        found = {step: variables["params"]["w"] for step, variables in checkpoints.stream_variables(tmp_path)}
    for step in range(5):
        np.testing.assert_array_equal(found[step], np.full(1000, step))


@pytest.mark.parametrize("when", ["the next save", "waiting", "leaving"])
def test_a_save_that_fails_in_the_background_is_raised_before_a_run_counts_as_finished(tmp_path, when, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    ends = []

    def fails():
        with checkpoints.trajectory(tmp_path, write=True) as store:
            store.save(0, tree())
            store.wait()
            monkeypatch.setattr(store._manager, "save", full)
            store.save(1, tree())
            if when == "waiting":
                store.wait()
                ends.append("waited")
            elif when == "the next save":
                store._saves[0][1].exception()  # it has failed by now
                store.save(2, tree())
                ends.append("saved")

    with pytest.raises(OSError, match="No space left"):
        fails()
    assert not ends
    assert records.kept_steps(tmp_path) == [0]


def test_saves_that_wait_for_the_disk_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "WAITING_BYTES", 2 * 8000)
    with checkpoints.trajectory(tmp_path, write=True) as store:
        for step in range(12):
            store.save(step, {"w": np.full(1000, float(step))})
            assert sum(size for size, _ in store._saves) <= 3 * 8000
    assert records.kept_steps(tmp_path) == list(range(12))


def test_a_state_is_saved_once_every_step_of_the_trajectory_behind_it_is_on_the_disk(tmp_path, monkeypatch):
    """However long the disk takes; else a kill could leave a state whose trajectory lacks steps."""
    with checkpoints.trajectory(tmp_path, write=True) as trajectory, checkpoints.resume(tmp_path) as resume:
        slow, there = trajectory._save, []
        monkeypatch.setattr(trajectory, "_save", lambda *of: (time.sleep(0.2), slow(*of)))
        resumes = resume.save
        monkeypatch.setattr(resume, "save", lambda *of: (there.append(records.kept_steps(tmp_path)), resumes(*of)))
        kept, whole = TrajectoryStore(trajectory), ResumeStore(resume, trajectory)
        for step in (0, 1, 2):
            kept.keep(step, tree(step))
        whole.save(2, tree(2), {})
    assert there == [[0, 1, 2]]


@pytest.mark.parametrize("compression", [True, False])
def test_checkpoints_with_and_without_compression_are_read(tmp_path, compression):
    """Earlier versions compressed them; orbax reads either."""
    packed = {"params": {"w": np.random.default_rng(0).normal(size=300), "n": np.arange(4, dtype=np.int32)}}
    arrays, leaves = packing.pack(packed)
    layout = ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_compression=compression)
    metadata = {"digest": packing.digest(arrays, leaves), "leaves": leaves}
    with ocp.CheckpointManager((tmp_path / "trajectory").absolute(), item_handlers=layout) as manager:
        manager.save(3, args=ocp.args.PyTreeSave(arrays), custom_metadata=metadata)
    found = checkpoints.load_variables(tmp_path, 3)["params"]
    np.testing.assert_array_equal(found["w"], packed["params"]["w"])
    np.testing.assert_array_equal(found["n"], packed["params"]["n"])


def test_reading_a_trajectory_holds_two_checkpoints_however_long_it_is(tmp_path, monkeypatch):
    with checkpoints.trajectory(tmp_path, write=True) as store:
        for step in range(8):
            store.save(step, {"params": {"w": np.full(100, step)}})
    begun = []
    load = checkpoints.Checkpoints.load
    monkeypatch.setattr(checkpoints.Checkpoints, "load", lambda self, step: (begun.append(step), load(self, step))[1])
    for step, _ in checkpoints.stream_variables(tmp_path):
        assert max(begun) <= step + 1
    assert begun == list(range(8))
