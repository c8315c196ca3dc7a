"""SIGTERM and SIGINT are heard at every moment, interrupt nothing, and end a command with 75 and one line."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kd_jax import stopping
from kd_jax.errors import Stopped

SAID = "stopped: told to; the same command goes on from there\n"
CHILD = """
import sys, time
from kd_jax import stopping
stopping.GRACE_SECONDS = {grace}
with stopping.stop_requests(leave=True) as request:
    request.is_saving = {saving}
    print("ready", flush=True)
    {body}
print("ended", flush=True)
"""
DEAF = "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"  # one long call of C, as compilers are: no handler runs


def child(body, grace=0.3, saving=False):
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD.format(body=body, grace=grace, saving=saving)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_request_that_stays_and_interrupts_nothing(number):
    before = signal.getsignal(number)
    with stopping.stop_requests() as request:
        stopping.check()
        os.kill(os.getpid(), number)
        assert sum(range(1000)) == 499500
        assert request.requested
        for _ in range(2):
            with pytest.raises(Stopped, match="told to"):
                stopping.check()
    assert signal.getsignal(number) == before
    stopping.check()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_whose_work_is_done_is_not_told_to_stop_while_it_cleans_up(number):
    body = (
        "import atexit, time; from kd_jax.cli import leave\n"
        "atexit.register(lambda: (print('cleans up', flush=True), time.sleep(0.3)))\n"
        "leave(0)"
    )
    process = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleans up\n"
    process.send_signal(number)
    assert process.wait(30) == 0


def test_a_program_that_was_told_to_stop_does_not_wait_for_threads():
    body = (
        "import threading, time; from kd_jax import cli\n"
        "threading.Thread(target=time.sleep, args=[600]).start()\n"
        "cli.LEAVING_SECONDS = 0.1; cli.leave(75)"
    )
    assert subprocess.run([sys.executable, "-c", body], timeout=60).returncode == 75


def test_a_block_inside_another_has_its_request_and_leaves_its_handlers():
    with stopping.stop_requests() as outer:
        handler = signal.getsignal(signal.SIGTERM)
        with stopping.stop_requests() as inner:
            assert inner is outer
        assert signal.getsignal(signal.SIGTERM) is handler


def test_a_second_interrupt_interrupts_where_the_process_is_not_ours():
    with stopping.stop_requests():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # a batch system may say it twice


def test_outside_the_main_thread_no_handler_is_set():
    found = []

    def other():
        with stopping.stop_requests() as request:
            found.append((request.requested, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=other)
    before = signal.getsignal(signal.SIGTERM)
    thread.start()
    thread.join()
    assert found == [(False, before)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_call_that_hears_nothing_is_left(number):
    process = child(DEAF)
    time.sleep(0.1)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (75, "", SAID)


def test_what_is_being_saved_is_waited_for():
    process = child("time.sleep(1.5)", saving=True)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_a_second_interrupt_leaves_at_once_and_a_second_termination_does_not():
    process = child("time.sleep(1.5)", grace=60)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20) == ("ended\n", "")
    process = child("time.sleep(60)", saving=True)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", SAID)
    assert process.returncode == 75
