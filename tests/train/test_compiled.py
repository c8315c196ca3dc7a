import json
import os
import subprocess
import sys
import time
import zlib

import jax
import pytest

from kd_jax.errors import BadInput
from kd_jax.train import compiled

# A step as training takes it: pmapped over two devices, in a loop, state and totals donated, in 64 bits.
PROGRAM = """
import hashlib, json, sys
import jax
import jax.numpy as jnp
import numpy as np
from kd_jax.train import compiled, devices

jax.config.update("jax_enable_x64", True)
chosen = devices.select("cpu")
folder = compiled.keep()
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name.rsplit("/", 1)[1]))

def train_on(state, totals, constants, item):
    mean = jax.lax.pmean(jnp.tanh(constants["x"][item] @ state).mean(0), devices.AXIS)
    return state - 0.1 * jnp.outer(mean[: len(state)], mean), totals + jax.lax.psum(item.sum(), devices.AXIS)

class Feed:
    steps_per_epoch = 8
    def rows(self, epoch):
        return np.random.default_rng(epoch).permutation(64).reshape(8, 8)

x = np.random.default_rng(0).normal(size=(64, 6))
advance = devices.make_advance(train_on, chosen, True)
start = np.random.default_rng(1).normal(size=(6, 6)), np.zeros((), np.int64)
state, totals = devices.replicate(start, chosen)
constants = devices.replicate({"x": x}, chosen)
for stop in (4, 8):
    state, totals = advance(state, totals, constants, Feed(), stop - 4, stop)
digest = hashlib.sha256(np.asarray(state).tobytes() + np.asarray(totals).tobytes()).hexdigest()
hits, misses = events.count("cache_hits"), events.count("cache_misses")
print(json.dumps([str(folder), str(state.dtype), int(totals), digest, hits, misses]))
"""


def start(cache, **environment):
    """The program above in a process of its own, where JAX was given no folder."""
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    bare = {name: value for name, value in os.environ.items() if name not in names}
    # Small programs compile in less than what is worth keeping.
    bare |= {"KD_JAX_CACHE": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    bare |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"} | environment
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=bare, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process):
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err.decode()) == (0, "")
    return json.loads(out)


def test_programs_that_were_kept_give_the_same_bits_whoever_wrote_them_at_the_same_time_and_damaged_ones_are_passed_over(
    tmp_path,
):
    first, second = [end(process) for process in [start(tmp_path), start(tmp_path)]]
    folder, dtype, total, digest, *_ = first
    assert folder.startswith(f"{tmp_path}/compiled/jax")
    assert dtype == "float64"
    assert total == sum(range(64))
    assert first[-1] + second[-1] > 0  # one of them may have found all that the other wrote
    assert second[3] == digest
    entries = sorted(tmp_path.glob("compiled/*/*-cache"))
    damaged = entries[0]
    damaged.write_bytes(damaged.read_bytes()[:100])  # as a program that was killed leaves it
    *_, again, hits, missed = end(start(tmp_path))
    assert again == digest
    assert hits == len(entries) - 1
    assert missed == 1


@pytest.fixture
def no_folder():
    """JAX as it is where the user has given it no folder, for one test; what it has compiled with stays as it is."""
    options = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in options}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_a_folder_that_the_user_gave_jax_is_left_alone(tmp_path, monkeypatch, no_folder):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path))
    for given in (str(tmp_path / "mine"), ""):
        jax.config.update("jax_compilation_cache_dir", given)
        assert compiled.keep() is None
        assert jax.config.jax_compilation_cache_dir == given
    assert not list(tmp_path.iterdir())


def test_nothing_is_kept_where_the_user_says_so_or_it_cannot_be(tmp_path, monkeypatch, no_folder):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path))
    monkeypatch.setenv("KD_JAX_COMPILED_GB", "0")
    assert compiled.keep() is None
    assert compiled.state().folder is None
    monkeypatch.setenv("KD_JAX_COMPILED_GB", "some")
    with pytest.raises(BadInput, match="KD_JAX_COMPILED_GB=some: expected a number of gigabytes"):
        compiled.keep()
    monkeypatch.delenv("KD_JAX_COMPILED_GB")
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "file"))
    (tmp_path / "file").touch()
    assert compiled.keep() is None
    open_to_all = tmp_path / "open" / "compiled"
    open_to_all.mkdir(parents=True)
    open_to_all.chmod(0o777)
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path / "open"))
    assert compiled.keep() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_keeping_twice_is_keeping_once(tmp_path, monkeypatch, no_folder):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path))
    first = compiled.keep()
    assert first is not None
    assert compiled.keep() == first
    assert jax.config.jax_compilation_cache_dir == str(compiled.keep())


def test_another_processor_has_another_folder_and_its_clock_makes_no_difference(tmp_path):
    about = "processor : 0\nmodel : 17\ncpu MHz : {}\nflags : sse {}\n\nprocessor : 1\nmodel : {}\n"
    files = {}
    for name, values in {"a": (2000, "avx2", 17), "b": (3000, "avx2", 18), "c": (2000, "avx512f", 17)}.items():
        files[name] = tmp_path / name
        files[name].write_text(about.format(*values), encoding="utf-8")
    digests = {name: compiled._machine(path) for name, path in files.items()}
    assert digests["a"] == digests["b"] != digests["c"]
    assert compiled._machine(tmp_path / "absent") not in digests.values()


def entry(path, size, age):
    """A whole entry of about this size, written and used so many seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zlib.compress(os.urandom(size), 0))
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_what_was_used_longest_ago_makes_room_whatever_version_wrote_it(tmp_path, monkeypatch, no_folder):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path))
    oldest, old, new = (
        entry(tmp_path / "compiled" / folder / f"{age}-cache", 1000, age)
        for folder, age in (("jax1", 3000), ("jax2", 2000), ("jax1", 1000))
    )
    (tmp_path / "compiled").chmod(0o700)
    monkeypatch.setenv("KD_JAX_COMPILED_GB", "2.5e-6")
    compiled.keep()
    assert (oldest.exists(), old.exists(), new.exists()) == (False, True, True)
    found = compiled.state()
    assert (found.programs, found.size, found.bound) == (2, old.stat().st_size + new.stat().st_size, 2500)


def test_what_a_killed_program_left_is_removed_once_nobody_can_still_be_writing_it(tmp_path, monkeypatch, no_folder):
    monkeypatch.setenv("KD_JAX_CACHE", str(tmp_path))
    own = compiled.keep()
    assert own is not None
    jax.config.update("jax_compilation_cache_dir", None)
    os.utime(own / compiled.CHECKED, (time.time() - 7200,) * 2)
    whole, cut, empty, being_written = (
        entry(own / f"{n}-cache", 1000, age) for n, age in enumerate((3600,) * 3 + (1,))
    )
    for path, size in ((cut, 500), (empty, 0), (being_written, 500)):
        age = time.time() - path.stat().st_mtime
        path.write_bytes(path.read_bytes()[:size])
        os.utime(path, (time.time() - age,) * 2)
    compiled.keep()
    assert [path.exists() for path in (whole, cut, empty, being_written)] == [True, False, False, True]
