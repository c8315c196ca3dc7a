"""Several processes: what is refused before they meet, what they are told, and what is made of the words of libraries.

Real ones train together in `tests/studies/test_hosts.py`.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jax.experimental import multihost_utils

from kd_jax.errors import BadInput, Diverged, Stopped
from kd_jax.train import hosts


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ("10.0.0.1:12", None, None),
            r"--coordinator=10\.0\.0\.1:12: expected --num_processes and --process_id beside it",
        ),
        (("", 2, None), "--num_processes=2: expected --coordinator and --process_id beside it"),
        (("10.0.0.1", 2, 0), r"--coordinator=10\.0\.0\.1: expected HOST:PORT of process 0"),
        (("host:70000", 2, 0), "--coordinator=host:70000: expected HOST:PORT"),
        (("host:1", 0, 0), "--num_processes=0: expected at least 1"),
        (("host:1", 2, 2), "--process_id=2: expected 0 to 1"),
        (("host:1", 2, -1), "--process_id=-1: expected 0 to 1"),
        (("host:1", 2, 0, 0), "--coordinator_timeout=0: expected at least 1 second"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_before_anybody_is_waited_for(given, said):
    with pytest.raises(BadInput, match=f"^{said}"):
        hosts.join(*given)


@pytest.fixture
def second(monkeypatch):
    """This process as the second of two; `second(messages)` is what the first says, in turn, each as bytes."""
    monkeypatch.setattr(hosts._State, "count", 2)
    monkeypatch.setattr(hosts._State, "index", 1)

    def hear(messages):
        arrays = []
        for message in messages:
            arrays.append(np.asarray(divmod(len(message), hosts.CHUNK), np.int32))
            for start in range(0, len(message), hosts.CHUNK):
                part = np.frombuffer(message[start : start + hosts.CHUNK], np.uint8)
                arrays.append(np.pad(part, (0, max(hosts.SMALLEST, 1 << (len(part) - 1).bit_length()) - len(part))))
        coming = iter(arrays)

        def broadcast(own):
            found = next(coming)
            assert (own.shape, own.dtype) == (found.shape, found.dtype)  # else both would wait for ever
            return found

        monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)

    return hear


def said_by_the_first(monkeypatch, make):
    """The bytes that process 0 tells when it makes a value, and what it raises."""
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(hosts._State, "count", 2)
        patch.setattr(hosts._State, "index", 0)
        patch.setattr(hosts, "_told_bytes", lambda message: found.append(message) or message)
        try:
            hosts.told(make)
        except Exception as error:
            return found[0], error
    return found[0], None


def test_one_process_tells_itself(monkeypatch):
    assert hosts.told(lambda: 3) == 3
    assert hosts.leads()
    with hosts.leading():
        assert not hosts.agree(False)
    with pytest.raises(BadInput), hosts.leading():
        raise BadInput("mine")


@pytest.mark.parametrize("chunk", [2**26, 1000, 7])
def test_what_is_told_arrives_bit_by_bit_whatever_its_size(monkeypatch, second, chunk):
    monkeypatch.setattr(hosts, "CHUNK", chunk)
    values = np.array([-0.0, np.nan, 1e-320, 1.5])
    message, _ = said_by_the_first(monkeypatch, lambda: {"weights": values, "step": 7})
    second([message])
    found = hosts.told(lambda: pytest.fail("process 0 alone makes it"))
    assert found["weights"].tobytes() == values.tobytes()
    assert found["step"] == 7


@pytest.mark.parametrize(
    "error", [BadInput("--x=1: no"), Diverged("run"), Stopped("told"), OSError(28, "full", "place")]
)
def test_what_goes_wrong_in_process_0_goes_wrong_in_all_and_is_said_once(monkeypatch, second, error):
    def fail():
        raise error

    message, raised = said_by_the_first(monkeypatch, fail)
    assert raised is error
    second([message])
    with pytest.raises(type(error)) as found:
        hosts.told(lambda: None)
    assert found.value.args == error.args
    assert hosts.is_known(found.value)


def test_processes_that_differ_are_refused_by_what_they_differ_in(monkeypatch, second):
    facts = {"the flags": "ab" * 32, "the data": "cd" * 32}
    everyone = []
    monkeypatch.setattr(multihost_utils, "process_allgather", lambda own: np.stack([everyone[0], own]))
    everyone.append(np.frombuffer(bytes.fromhex("ab" * 32 + "cd" * 32), np.uint8).reshape(2, 32))
    hosts.check_same(facts, "do so")
    everyone[0] = np.frombuffer(bytes.fromhex("ab" * 32 + "ce" * 32), np.uint8).reshape(2, 32)
    with pytest.raises(
        BadInput, match="expected the data alike in all 2 processes, found cdcdcdcdcdcd in process 1"
    ) as found:
        hosts.check_same(facts, "do so")
    assert hosts.is_known(found.value)


def test_a_library_that_says_at_length_that_a_process_is_gone_is_cut_to_one_line():
    fatal = (
        "F1126 client.h:80] Terminating process because the JAX distributed service detected fatal errors. This most\n"
    )
    said = f"before\n[Gloo] Rank 0 is connected\nkd_jax lost\n{fatal}*** Check failure stack trace: ***\n  @ 0x7f\n"
    program = [sys.executable, str(Path(hosts.__file__).with_name("messages.py")), hosts.LOST]
    for words in (said, said.replace("kd_jax lost\n", "")):
        done = subprocess.run(program, input=words, capture_output=True, text=True, check=True)
        assert done.stderr == f"before\n{hosts.LOST}\n"
        assert done.stdout == ""
