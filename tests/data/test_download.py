"""Downloads from a server on this machine: cut off, resumed, refused, wrong, at the same time."""

import hashlib
import os
import resource
import shutil
import socket
import threading

import numpy as np
import pytest

from kd_jax.config import BadInput
from kd_jax.data import download

SIZE = 60 * download.BLOCK
CONTENTS = np.random.default_rng(0).bytes(SIZE)
HALF = SIZE // 2


@pytest.fixture(autouse=True)
def _one_file(server):
    server.files["a/file.bin"] = CONTENTS


def remote(server, contents=CONTENTS, path="a/file.bin", **more):
    sha256 = hashlib.sha256(contents).hexdigest()
    return download.Remote(f"{server.address}/{path}", len(contents), sha256, path)._replace(**more)


def fetch(server, data_dir, **more):
    (path,) = download.fetch([remote(server, **more)], data_dir, "name")
    return path


def part(data_dir):
    return data_dir / "downloads" / "a" / "file.bin.part"


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def refused(server, data_dir, **more):
    with pytest.raises(BadInput) as caught:
        fetch(server, data_dir, **more)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_is_downloaded_once_and_said_to_be(server, tmp_path, capsys):
    path = fetch(server, tmp_path)
    assert path == tmp_path / "downloads" / "a" / "file.bin"
    assert path.read_bytes() == CONTENTS
    assert files(tmp_path) == [path]
    assert f"name is not in {tmp_path}: downloading 1.0 MB from {server.address}/a\n" in capsys.readouterr().err
    assert fetch(server, tmp_path) == path
    assert server.requests == [("/a/file.bin", None)]
    assert capsys.readouterr() == ("", "")


# ---- connections that are cut


def test_a_cut_connection_is_taken_up_where_it_ended(server, tmp_path):
    server.cuts = [HALF, download.BLOCK]
    assert fetch(server, tmp_path).read_bytes() == CONTENTS
    first, second, third = (asked for _, asked in server.requests)
    assert (first, second, third) == (None, f"bytes={HALF}-", f"bytes={HALF + download.BLOCK}-")


def test_what_is_cut_off_for_good_is_one_line_and_the_next_call_goes_on_from_there(server, tmp_path):
    server.cuts = [HALF, 0]
    message = refused(server, tmp_path)
    assert f"expected {SIZE} bytes, the connection was cut off after {HALF} (the server closed it)" in message
    assert "goes on from there" in message
    assert files(tmp_path) == [part(tmp_path)]
    assert part(tmp_path).read_bytes() == CONTENTS[:HALF]
    server.requests.clear()
    path = fetch(server, tmp_path)
    assert path.read_bytes() == CONTENTS
    assert files(tmp_path) == [path]
    assert server.requests == [("/a/file.bin", f"bytes={HALF}-")]


def test_a_server_that_only_has_the_whole_file_is_asked_for_it_again(server, tmp_path):
    server.ranges = False
    server.cuts = [HALF]
    assert fetch(server, tmp_path).read_bytes() == CONTENTS
    assert len(server.requests) == 2


def test_a_server_that_only_has_the_whole_file_and_always_cuts_it_is_not_asked_for_ever(server, tmp_path):
    server.ranges = False
    server.cuts = [HALF] * 10
    assert "cut off" in refused(server, tmp_path)
    assert len(server.requests) == 2


def test_a_file_without_a_stated_length_that_is_cut_is_resumed(server, tmp_path):
    server.headers = {"Content-Length": None}
    server.cuts = [HALF]
    assert fetch(server, tmp_path).read_bytes() == CONTENTS


@pytest.mark.parametrize("left", [b"x" * HALF, b"x" * SIZE, b"x" * (SIZE + 1)], ids=["half", "whole", "more"])
def test_a_part_of_another_file_is_thrown_away(server, tmp_path, left):
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(left)
    assert fetch(server, tmp_path).read_bytes() == CONTENTS


def test_a_part_that_the_server_has_no_rest_of_is_thrown_away(server, tmp_path):
    shorter = CONTENTS[:HALF]
    part(tmp_path).parent.mkdir(parents=True)
    part(tmp_path).write_bytes(CONTENTS[: HALF - 1])
    server.files["a/file.bin"] = CONTENTS[: HALF - 1]  # the server answers 416, and then with too short a file
    message = refused(server, tmp_path, contents=shorter)
    assert f"expected a file of {HALF} bytes, the server offers {HALF - 1}" in message


# ---- files that are wrong


def test_a_file_of_another_sha256_is_removed(server, tmp_path):
    server.files["a/file.bin"] = wrong = CONTENTS[:-1] + bytes([CONTENTS[-1] ^ 1])
    message = refused(server, tmp_path)
    assert hashlib.sha256(CONTENTS).hexdigest() in message
    assert hashlib.sha256(wrong).hexdigest() in message
    assert not files(tmp_path)


@pytest.mark.parametrize("contents", [CONTENTS[:-1], CONTENTS + b"x"], ids=["shorter", "longer"])
def test_a_file_of_another_size_is_not_even_downloaded(server, tmp_path, contents):
    server.files["a/file.bin"] = contents
    assert f"expected a file of {SIZE} bytes, the server offers {len(contents)}" in refused(server, tmp_path)
    assert not files(tmp_path)


def test_a_file_without_a_stated_length_that_is_too_long_is_refused(server, tmp_path):
    server.files["a/file.bin"] = CONTENTS + b"x"
    server.headers = {"Content-Length": None}
    assert "sends more" in refused(server, tmp_path)


def test_a_web_page_instead_of_a_file_is_refused(server, tmp_path):
    server.headers = {"Content-Type": "text/html; charset=utf-8", "Content-Length": None}
    assert "the server sent a web page" in refused(server, tmp_path)
    assert not files(tmp_path)


@pytest.mark.parametrize("status", [403, 404, 503])
def test_what_the_server_answers_instead_of_a_file_is_said(server, tmp_path, status):
    server.status = status
    assert f"{server.address}/a/file.bin: expected a file, the server answered {status}" in refused(server, tmp_path)
    assert not files(tmp_path)


def test_a_file_that_was_put_there_is_used_without_a_network(server, tmp_path):
    by_hand = tmp_path / "downloads" / "a" / "file.bin"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(CONTENTS)
    assert fetch(server, tmp_path) == by_hand
    assert server.requests == []


def test_a_wrong_file_that_was_put_there_is_refused_and_left_alone(server, tmp_path):
    by_hand = tmp_path / "downloads" / "a" / "file.bin"
    by_hand.parent.mkdir(parents=True)
    by_hand.write_bytes(b"another")
    message = refused(server, tmp_path)
    assert str(by_hand) in message
    assert hashlib.sha256(b"another").hexdigest() in message
    assert "remove it" in message
    assert by_hand.read_bytes() == b"another"


# ---- no network, a mirror


def test_without_a_network_what_to_save_where_is_said_and_nothing_is_left_behind(tmp_path):
    with socket.socket() as free:  # bound but not listening: connections are refused
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.bin"
        with pytest.raises(BadInput) as caught:
            download.fetch([download.Remote(url, 1, "0", "file.bin")], tmp_path / "data", "name")
    message = str(caught.value)
    assert "no network" in message
    assert "Connection refused" in message
    assert f"save {url} as {tmp_path}/data/downloads/file.bin" in message
    assert not list(tmp_path.iterdir())


def test_a_network_that_does_not_answer_is_not_waited_for(monkeypatch):
    end = threading.Event()
    monkeypatch.setattr(socket, "create_connection", lambda *_: end.wait(30) and socket.socket())
    assert download.reachable("http://host/", seconds=0.01) == "no answer within 0.01 s"
    end.set()


def test_a_proxy_is_asked_instead_of_the_host(server, monkeypatch):
    asked = []

    def connect(address, timeout):
        asked.append(address)
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://proxy.example:3128")
        assert download.reachable(f"{scheme}://host.example/file") == ""
        monkeypatch.delenv(f"{scheme}_proxy")
        assert download.reachable(f"{scheme}://host.example/file") == ""
    assert asked == [
        ("proxy.example", 3128),
        ("host.example", 80),
        ("proxy.example", 3128),
        ("host.example", 443),
    ]


@pytest.mark.parametrize("end", ["", "/"])
def test_a_mirror_is_asked_instead_of_the_publisher(server, tmp_path, monkeypatch, end):
    monkeypatch.setenv("KD_JAX_MIRROR", f"{server.address}/copies{end}")
    server.files = {"copies/a/file.bin": CONTENTS}
    assert fetch(server, tmp_path, url="http://publisher.invalid/x?y=z").read_bytes() == CONTENTS


@pytest.mark.parametrize("value", ["here", "ftp://host/data", "/data", "http://"])
def test_a_mirror_that_is_no_address_is_refused(server, tmp_path, monkeypatch, value):
    monkeypatch.setenv("KD_JAX_MIRROR", value)
    assert f"KD_JAX_MIRROR={value}: expected an address" in refused(server, tmp_path)


# ---- disks, other programs


def test_what_does_not_fit_is_not_begun(server, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 2 * SIZE - 1))
    message = refused(server, tmp_path / "absent" / "data")
    assert "expected 2 MB of free space" in message
    assert str(tmp_path / "absent" / "data") in message
    assert server.requests == []
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 2 * SIZE))
    fetch(server, tmp_path)


def test_a_disk_that_becomes_full_is_one_line_and_the_part_is_gone_on_with(server, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, before[1]))  # Python ignores the signal, so that writing fails
    try:
        message = refused(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "File too large" in message
    assert "--data_dir" in message
    assert files(tmp_path) == [part(tmp_path)]
    have = part(tmp_path).stat().st_size
    assert 0 < have <= HALF
    assert fetch(server, tmp_path).read_bytes() == CONTENTS
    assert server.requests[-1] == ("/a/file.bin", f"bytes={have}-")


def test_a_folder_that_cannot_be_written_is_refused(server, tmp_path):
    (tmp_path / "downloads").write_text("")
    assert "expected a place that can be written" in refused(server, tmp_path)


def test_two_programs_that_download_at_once_share_one_download(server, tmp_path, monkeypatch):
    server.gate.clear()  # the first waits for its answer until the second has come
    said, found = [], []

    def say(line):
        said.append(line)
        if "waiting" in line:
            server.gate.set()

    monkeypatch.setattr(download, "_say", say)
    threads = [threading.Thread(target=lambda: found.append(fetch(server, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum("waiting for another program that downloads file.bin" in line for line in said) == 1
    assert len(server.requests) == 1
    assert [path.read_bytes() for path in found] == [CONTENTS] * 2
    assert files(tmp_path) == found[:1]


def test_a_second_program_takes_over_when_the_first_fails(server, tmp_path, monkeypatch):
    server.gate.clear()
    server.files["a/file.bin"] = b"x" * SIZE
    found, failed = [], []

    def say(line):
        if "waiting" in line:
            server.gate.set()

    def run():
        try:
            found.append(fetch(server, tmp_path))
        except BadInput as error:
            failed.append(str(error))
            server.files["a/file.bin"] = CONTENTS

    monkeypatch.setattr(download, "_say", say)
    monkeypatch.setattr(download, "_sha256", _slow(download._sha256, server))
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(failed) == 1
    assert "sha256" in failed[0]
    assert [path.read_bytes() for path in found] == [CONTENTS]


def _slow(sha256, server):
    """The publisher mends its file while the first program looks at the wrong one."""

    def look(path):
        found = sha256(path)
        server.files["a/file.bin"] = CONTENTS
        return found

    return look


def test_what_is_held_is_what_lies_at_the_path(tmp_path):
    """A file that was replaced while a program waited for it is not the one to hold."""
    from kd_jax.files import holding

    path = tmp_path / "file"
    held, waiting, order = threading.Event(), threading.Event(), []

    def second():
        held.wait(30)
        with holding(path, create=True, waiting=waiting.set):
            order.append(path.read_text())

    thread = threading.Thread(target=second)
    thread.start()
    with holding(path, create=True):
        held.set()
        waiting.wait(30)
        other = tmp_path / "other"
        other.write_text("new")
        os.replace(other, path)
        order.append("first")
    thread.join(30)
    assert order == ["first", "new"]
