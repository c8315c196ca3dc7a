"""Work folders in an object store: what is there when a program ends, who may write, what a user sees. fsspec has one in memory."""

import json
import os
import shutil
import threading
import time
import uuid
from pathlib import Path

import fsspec
import numpy as np
import pytest

from kd_jax.errors import BadInput
from kd_jax.files import replace_folder
from kd_jax.workdir import checkpoints, leases, metrics_file, records, remote
from kd_jax.workdir.mirror import Mirror

TREE = {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}
RUN = "onehot-seed0"


class Ended(Exception):
    """The program ends here."""


@pytest.fixture
def address(monkeypatch):
    """An empty place in memory. Threads are slow, so that tests bring things there themselves; leases end soon."""
    monkeypatch.setattr("kd_jax.workdir.mirror.SYNC_SECONDS", 1000.0)
    monkeypatch.setattr(leases, "EXPIRES", 0.3)
    monkeypatch.setattr(remote, "_mirrors", [])
    return f"memory://test-{uuid.uuid4().hex}/work"


def objects(address):
    fs, root = fsspec.core.url_to_fs(address)
    return {path[len(root) + 1 :]: fs.cat_file(path) for path in fs.find(root)}


def write_steps(local, store, steps, tree=TREE):
    with checkpoints.Checkpoints(local / "runs" / RUN / store, write=True) as opened:
        for step in steps:
            opened.save(step, tree)


def read_steps(local, store="trajectory"):
    """{step: its tree}; raises where one is not whole."""
    folder = local / "runs" / RUN / store
    if not folder.is_dir():
        return {}
    with checkpoints.Checkpoints(folder) as opened:
        return {step: opened.load(step) for step in opened.steps()}


def write_analysis(local, number):
    folder = local / ".analysis"
    folder.mkdir()
    for name in ("report.html", "summary.json", f"only-{number}.txt"):
        (folder / name).write_text(f"{number}")
    records.write_json(folder / "pairs" / "a.npz", number)
    replace_folder(folder, local / "analysis")


def test_what_is_written_here_comes_back_elsewhere(address):
    with remote.opened(address) as local:
        with records.locked(local):
            records.write_study(local, {"study": "s", "config": {}})
            write_steps(local, "trajectory", [0, 2])
            metrics_file.append(local / "runs" / RUN, {"epoch": 1})
            (local / "runs" / "teacher-seed0").symlink_to(RUN)
        write_analysis(local, 1)
    with remote.opened(address) as other:
        assert other != local
        assert records.read_study(other)["study"] == "s"
        folder = other / "runs" / RUN
        assert list((folder / "trajectory" / "2").iterdir()) == []  # until it is loaded
        assert records.kept_steps(folder) == [0, 2]
        assert metrics_file.read(folder) == [{"epoch": 1}]
        assert all((tree["kernel"] == TREE["kernel"]).all() for tree in read_steps(other).values())
        assert os.readlink(other / "runs" / "teacher-seed0") == RUN
        assert (other / "analysis" / "only-1.txt").read_text() == "1"
    assert not any(".lock" in name for name in objects(address))


def test_the_objects_are_those_of_a_work_folder(address, tmp_path):
    with remote.opened(address) as local:
        write_steps(local, "trajectory", [3])
    for name, contents in objects(address).items():
        path = tmp_path / "copied" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
    assert (read_steps(tmp_path / "copied")[3]["kernel"] == TREE["kernel"]).all()


def test_wherever_a_program_ends_the_next_finds_what_it_can_go_on_from(address, monkeypatch):
    """Ended after each request to the store in turn: no checkpoint is half there, no file older than what was saved after it."""
    parts = ("default/float32/0", "default/float32/.zarray", "_CHECKPOINT_METADATA", "commit_success.txt")

    def write_step(local, store, step):
        """The files of a checkpoint without what makes them, which takes long."""
        for part in parts:
            path = local / "runs" / RUN / store / f"{step}.tmp" / part
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{store} {step}")
        (local / "runs" / RUN / store / f"{step}.tmp").rename(local / "runs" / RUN / store / str(step))

    def work(local):
        """Two epochs, with a push after each; a state that is rotated out; an analysis that replaces one."""
        (local / "runs" / RUN).mkdir(parents=True)
        for epoch in (1, 2):
            metrics_file.append(local / "runs" / RUN, {"epoch": epoch, "step": epoch})
            write_step(local, "trajectory", epoch)
            write_step(local, "resume", epoch)
            if epoch == 2:
                shutil.rmtree(local / "runs" / RUN / "resume" / "1")
            write_analysis(local, epoch)
            remote.of(local).push()

    class Ending:
        """A store that ends the program at the `last`-th thing that changes it."""

        def __init__(self, fs, last):
            self.fs, self.left = fs, last

        def __getattr__(self, name):
            found = getattr(self.fs, name)
            if name not in ("pipe_file", "rm_file", "cp_file"):
                return found

            def ending(*arguments, **others):
                if self.left == 0:
                    raise Ended
                self.left -= 1
                return found(*arguments, **others)

            return ending

    monkeypatch.setattr("kd_jax.workdir.mirror.time.sleep", lambda seconds: None)
    seen, last = set(), 0
    while True:
        place = f"{address}-{last}"
        mirror = Mirror(place)
        remote._mirrors.append(mirror)
        mirror._fs = Ending(mirror._fs, last)
        try:
            work(mirror.local)
            ended = False
        except Ended:
            ended = True
        remote._mirrors.remove(mirror)
        again = Mirror(place)
        again.pull(light=False)
        remote._mirrors.append(again)
        metrics = metrics_file.read(again.local / "runs" / RUN)
        steps = {store: sorted((again.local / "runs" / RUN / store).glob("*")) for store in ("trajectory", "resume")}
        for store, folders in steps.items():
            for folder in folders:
                remote.fetch(folder)
                assert {(folder / part).read_text() for part in parts} == {f"{store} {folder.name}"}
                assert len(metrics) >= int(folder.name)
        analysis = again.local / "analysis"
        if analysis.is_dir():
            assert len({path.read_text().strip() for path in analysis.rglob("*") if path.is_file()}) == 1
            number = (analysis / "summary.json").read_text()
            assert (analysis / f"only-{number}.txt").is_file()
            assert sorted(path.name for path in analysis.iterdir() if path.is_file()) == [
                f"only-{number}.txt",
                "report.html",
                "summary.json",
            ]
        of_analysis = int(number) if analysis.is_dir() else 0
        seen.add((len(metrics), len(steps["trajectory"]), of_analysis))
        # The next program writes another one, whole, over whatever this one has left.
        write_analysis(again.local, 3)
        again.push()
        left = {name.partition("/")[2]: contents for name, contents in objects(place).items() if "analysis" in name}
        assert left == {"only-3.txt": b"3", "report.html": b"3", "summary.json": b"3", "pairs/a.npz": b"3\n"}
        remote._mirrors.remove(again)
        last += 1
        if not ended:
            break
    assert last > 40
    # Where there was an analysis, there is one; the first comes after the checkpoints, the second takes its place.
    assert {(0, 0, 0), (1, 1, 0), (1, 1, 1), (2, 2, 1), (2, 2, 2)} <= seen
    assert not {(2, 2, 0), (2, 1, 0)} & seen
    assert sorted(name.split("/")[3] for name in objects(place) if "/resume/" in name)[0] == "2"  # 1 is gone there too


def test_a_run_that_another_program_renews_is_refused_and_one_that_nobody_renews_is_taken(address):
    held, over = threading.Event(), threading.Event()

    def other():
        with remote.opened(address) as theirs, records.locked(theirs, shared=True), records.locked_run(theirs, RUN):
            held.set()
            while not over.wait(0.05):
                remote.of(theirs).renew()

    thread = threading.Thread(target=other)
    thread.start()
    held.wait()
    with remote.opened(address) as local:
        with records.locked(local, shared=True):
            with (
                pytest.raises(BadInput, match=f"memory://.*/runs/{RUN}: expected a free one, another program, process"),
                records.locked_run(local, RUN),
            ):
                pass
            with records.locked_run(local, "teacher-seed0"):
                pass
        with pytest.raises(BadInput, match="another program"), records.locked(local):
            pass
        over.set()
        thread.join()
        with records.locked(local):
            pass
        # One that was killed has left its lease.
        fs, root = fsspec.core.url_to_fs(address)
        fs.pipe_file(f"{root}/runs/{RUN}/.lock", json.dumps({"owner": "gone", "beat": 3}).encode())
        began = time.monotonic()
        with records.locked(local, shared=True), records.locked_run(local, RUN):
            assert json.loads(objects(address)[f"runs/{RUN}/.lock"])["owner"] != "gone"
        assert time.monotonic() - began > 0.3


def test_who_holds_all_keeps_out_who_wants_one_run(address):
    with remote.opened(address) as first, remote.opened(address) as second:
        beat = threading.Event()

        def renew():
            while not beat.wait(0.05):
                remote.of(first).renew()

        thread = threading.Thread(target=renew)
        with records.locked(first):
            thread.start()
            with pytest.raises(BadInput, match="another program"), records.locked(second, shared=True):
                pass
            beat.set()
            thread.join()


def test_a_program_whose_lease_was_taken_writes_nothing_more_and_is_told_to_stop(address, monkeypatch):
    told = []
    monkeypatch.setattr("kd_jax.stopping.ask", lambda: told.append(True))
    fs, root = fsspec.core.url_to_fs(address)
    with (  # noqa: PT012
        pytest.raises(BadInput, match="another program took it"),
        remote.opened(address) as local,
        records.locked(local),
    ):
        fs.pipe_file(f"{root}/.lock", json.dumps({"owner": "another"}).encode())
        remote.of(local).renew()
        (local / "note.txt").write_text("late")
    assert told == [True]
    assert objects(address).keys() == {".lock"}


def test_changes_of_a_record_from_two_machines_are_both_kept(address):
    with remote.opened(address) as first, remote.opened(address) as second:
        record = {"study": "s", "config": {}}
        for number in range(3):
            for name, local in (("first", first), ("second", second)):
                records.update_study(local, dict(record), lambda there, key=f"{name}{number}": there | {key: 1})
    with remote.opened(address) as third:
        assert len(records.read_study(third)) == 2 + 6


def test_a_state_that_is_rotated_out_here_goes_there_though_it_was_never_brought_here(address):
    with remote.opened(address) as local:
        write_steps(local, "resume", [1, 2])
    with remote.opened(address) as local, checkpoints.resume(local / "runs" / RUN) as opened:
        opened.save(3, TREE)
    assert {name.split("/")[3] for name in objects(address) if "/resume/" in name} == {"2", "3"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError("Access Denied"), "PermissionError: Access Denied"),
        (OSError("no\nsuch bucket"), "no such bucket"),
    ],
)
def test_a_bucket_that_may_not_be_used_is_one_line(error, said, address, monkeypatch):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "find", refuse)
    with pytest.raises(BadInput) as raised, remote.opened(address):
        pass
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"--workdir={address}: expected a place that can be read and written")


def test_what_cannot_be_brought_there_in_the_end_is_said_and_stays_here(address, monkeypatch):
    monkeypatch.setattr("kd_jax.workdir.mirror.time.sleep", lambda seconds: None)

    def refuse(*_, **__):
        raise ConnectionError("no route")

    gone = type("Gone", (), {"pipe_file": refuse, "rm_file": refuse})()
    what = "what was saved since the last time is in"
    with pytest.raises(OSError, match=what) as raised, remote.opened(address) as local:  # noqa: PT012
        (local / "note.txt").write_text("here")
        remote.of(local)._fs = gone
    assert str(local) in str(raised.value)
    assert Path(local, "note.txt").read_text() == "here"


def test_a_store_that_does_not_answer_makes_no_checkpoint_damaged(address, monkeypatch):
    with remote.opened(address) as local:
        write_steps(local, "trajectory", [1])

    def refuse(*_, **__):
        raise ConnectionError("no route")

    with remote.opened(address) as local:
        remote.of(local)._fs = type("Gone", (), {"cat_file": refuse})()
        with pytest.raises(BadInput, match="found ConnectionError: no route"):
            read_steps(local)


@pytest.mark.parametrize("typed", ["runs/x", "/tmp/x", "", None, "C:\\x"])
def test_folders_are_no_addresses(typed):
    assert not remote.is_address(typed)
    assert remote.is_address("gs://bucket/x")


def test_messages_name_the_address_and_not_the_copy(address):
    with remote.opened(address) as local:
        assert remote.shown(f"{local / 'analysis'}: no") == f"{address}/analysis: no"
