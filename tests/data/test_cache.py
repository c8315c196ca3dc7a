"""Decoded copies: where they lie, how much they may take, and that a set reads without them."""

import os
from pathlib import Path

import numpy as np
import pytest

from kd_jax.data import cache
from kd_jax.data.arrays import Source
from kd_jax.errors import BadInput

BYTES = 40_000  # about the size of the copies below


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The cache folder of a test."""
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "QUIET", 10_000)
    return tmp_path / "cache"


def source(value=0):
    x = np.full((BYTES, 1, 1, 1), value, np.uint8)
    return Source(
        "made", x, np.arange(3, dtype=np.int32), x[:1], np.zeros(1, np.int32), 3, "test", np.array(["a", "b", "é"])
    )


def keep(folder, value=0, decode=None):
    """Load a made-up set of a folder; `decode` is a list that counts how often it was decoded."""
    folder.mkdir(exist_ok=True)
    path = folder / "data"
    if not path.exists():
        path.write_text("data")

    def decoded():
        if decode is not None:
            decode.append(folder.name)
        return source(value)

    return cache.kept(folder, {"data": path.stat()}, decoded)


def copies(place):
    return sorted(path.name for path in place.glob("*"))


def test_the_folder_is_the_environments_else_the_users_cache(monkeypatch, tmp_path):
    assert cache.place() == tmp_path / "cache"
    monkeypatch.delenv("KD_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.place() == tmp_path / "xdg" / "kd_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.place() == tmp_path / "home" / ".cache" / "kd_jax"


def test_a_new_copy_is_announced_once_with_its_size_and_place(place, tmp_path, monkeypatch, capsys):
    decoded = []
    first = keep(tmp_path / "set", 7, decoded)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"a decoded copy of 40.1 kB is kept in {place} " in said
    again = keep(tmp_path / "set", 7, decoded)
    assert (decoded, capsys.readouterr().err) == (["set"], "")
    monkeypatch.setattr(cache, "QUIET", 50_000)
    keep(tmp_path / "small")
    assert capsys.readouterr().err == ""
    assert len(copies(place)) == 2
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.class_names.tolist() == ["a", "b", "é"]
    assert (tmp_path / "set" / "data").exists()
    assert len(list((tmp_path / "set").iterdir())) == 1


def test_the_copies_used_longest_ago_make_room_and_a_new_one_never_does(place, tmp_path, monkeypatch):
    monkeypatch.setenv("KD_JAX_CACHE_GB", str(3.5 * BYTES / 1e9))
    decoded = []
    for number, name in enumerate("abc"):
        keep(tmp_path / name, decode=decoded)
        (newest,) = set(place.iterdir()) - {path for path in place.iterdir() if path.stat().st_mtime < 100}
        os.utime(newest, (number, number))  # a is the oldest
    keep(tmp_path / "a", decode=decoded)  # and now the one used last
    assert decoded == list("abc")
    keep(tmp_path / "d", decode=decoded)
    assert len(copies(place)) == 3
    assert cache.state().size <= cache.state().bound
    for name in "dac":
        keep(tmp_path / name, decode=decoded)
    assert decoded == list("abcd")  # b went
    keep(tmp_path / "b", decode=decoded)
    assert decoded == list("abcdb")


def test_what_is_larger_than_the_bound_is_not_kept_and_removes_nothing(place, tmp_path, monkeypatch, capsys):
    keep(tmp_path / "a")
    monkeypatch.setenv("KD_JAX_CACHE_GB", str(0.9 * BYTES / 1e9))
    decoded = []
    for _ in range(2):
        keep(tmp_path / "b", decode=decoded)
    assert len(decoded) == 2
    assert len(copies(place)) == 1
    assert "larger than the cache may be (36 kB, KD_JAX_CACHE_GB)" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["much", "-1", "nan"])
def test_a_bound_that_is_no_number_is_refused(monkeypatch, given):
    monkeypatch.setenv("KD_JAX_CACHE_GB", given)
    with pytest.raises(BadInput, match=rf"KD_JAX_CACHE_GB={given}: expected a number of gigabytes"):
        cache.bound()


def test_a_copy_beside_the_data_from_an_earlier_version_is_still_read(place, tmp_path):
    keep(tmp_path / "set", 5)
    (copy,) = place.iterdir()
    with np.load(copy) as arrays:
        values = {name: arrays[name] for name in arrays.files if name != "class_names"}  # they had none
    np.savez(tmp_path / "set" / copy.name, **values)
    copy.unlink()
    decoded = []
    found = keep(tmp_path / "set", decode=decoded)
    assert not decoded
    assert found.train_x[0] == 5
    assert found.class_names.size == 0
    assert not copies(place)


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_copy_is_replaced(place, tmp_path, damage):
    keep(tmp_path / "set", 1)
    (copy,) = place.iterdir()
    whole = copy.read_bytes()
    copy.write_bytes({"cut": whole[:3000], "empty": b"", "text": b"not a copy"}[damage])
    assert keep(tmp_path / "set", 1).train_x[0] == 1
    assert copy.read_bytes() == whole


def test_a_file_that_a_killed_program_left_is_removed_with_time(place, tmp_path):
    place.mkdir()
    old, young = place / ".kd_jax-0.npz.1", place / ".kd_jax-1.npz.2"  # as `files.replacing` calls them
    for path, time in ((old, 1000), (young, None)):
        path.write_bytes(b"half")
        os.utime(path, time and (time, time))
    keep(tmp_path / "set")
    assert not old.exists()
    assert young.exists()


def test_on_a_full_disk_the_set_is_read_and_the_line_says_why(place, tmp_path, monkeypatch, capsys):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    decoded = []
    for _ in range(2):
        assert keep(tmp_path / "set", 4, decoded).train_x[0] == 4
    assert len(decoded) == 2
    assert not copies(place)
    assert f"no decoded copy of 40.1 kB could be kept in {place} (No space left on device)" in capsys.readouterr().err


def test_without_a_home_folder_sets_are_decoded_each_time(tmp_path, monkeypatch):
    monkeypatch.delenv("KD_JAX_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    decoded = []
    for _ in range(2):
        keep(tmp_path / "set", decode=decoded)
    assert len(decoded) == 2
    assert cache.state()[:3] == (None, 0, 0)
