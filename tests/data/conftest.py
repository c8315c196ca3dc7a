"""Real prepared data sets, for the tests that can use them; a user's machine need not have any. And a server to download from."""

import contextlib
import json
import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PLACES = (
    os.environ.get("TFDS_DATA_DIR"),
    "~/tensorflow_datasets",
    Path(__file__).parents[3] / "shared" / "tensorflow_datasets",  # beside the repository
)


@pytest.fixture(scope="session")
def real_set(tmp_path_factory):
    """`real_set("mnist/3.0.1")` is a read-only folder with the files of that prepared set; skips where there is none.

    The files are links in a folder of the test's own, so that nothing is ever written beside the user's data.
    """

    def linked(name):
        for place in filter(None, PLACES):
            folder = Path(place).expanduser() / name
            info = folder / "dataset_info.json"
            if info.is_file() and json.loads(info.read_text()).get("fileFormat") == "array_record":
                copy = tmp_path_factory.mktemp("real") / name
                copy.mkdir(parents=True)
                for path in folder.iterdir():
                    if not path.name.startswith("kd_jax-"):
                        (copy / path.name).symlink_to(path.resolve())
                copy.chmod(0o555)
                return copy
        pytest.skip(f"no prepared {name} on this machine")

    return linked


class Server:
    """Serves files from memory on 127.0.0.1: cut, refused or wrong, as a test likes. A context manager.

    Attributes:
        files: {path: bytes}.
        cuts: for every request to come, after how many bytes of the answer's body the connection is closed; None for never. When
            the list is used up, nothing is cut.
        ranges: whether it answers requests for a part with that part.
        headers: header lines that replace those of an answer; None removes one.
        status: what it answers instead of a file; 0 for the file.
        requests: (path, the Range header or None) of every request so far.
        gate: is waited for before every answer.
    """

    def __init__(self, files=None):
        self.files = files or {}
        self.cuts, self.requests, self.headers = [], [], {}
        self.ranges, self.status = True, 0
        self.gate = threading.Event()
        self.gate.set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server._answer(self)

            def log_message(self, *_):
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.gate.set()
        self._http.shutdown()
        self._http.server_close()

    def _answer(self, handler):
        asked = handler.headers.get("Range")
        self.requests.append((handler.path, asked))
        self.gate.wait(30)
        body = self.files.get(handler.path.lstrip("/"))
        if self.status or body is None:
            handler.send_error(self.status or 404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0
        if start and start >= len(body):
            handler.send_error(416)
            return
        headers = {"Content-Length": len(body) - start, "Content-Type": "application/octet-stream"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.send_response(206 if start else 200)
        for name, value in (headers | self.headers).items():
            if value is not None:
                handler.send_header(name, str(value))
        handler.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        with contextlib.suppress(ConnectionError):  # whoever asked has gone
            handler.wfile.write(body[start:] if cut is None else body[start : start + cut])
        handler.close_connection = True


@pytest.fixture
def server(monkeypatch):
    """A `Server` that runs while the test does, and is reached without a proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "KD_JAX_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        yield server


@pytest.fixture
def offline(monkeypatch):
    """No connection can be made."""

    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "create_connection", refuse)
