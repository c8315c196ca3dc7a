"""Files of publishers, downloaded once: resumed when they are cut off, and checked against their sha256.

They lie in the folder `downloads` of the folder of data sets, under the name in `Remote.path`. A file that somebody put there is
used as if it had been downloaded. Whoever is behind a mirror sets `KD_JAX_MIRROR`, such as to `https://host/data`: `Remote.path`
is then looked for below that address, and nowhere else.
"""

import hashlib
import os
import shutil
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

from kd_jax.errors import BadInput
from kd_jax.files import disk_errors, holding

MIRROR = "KD_JAX_MIRROR"  # environment variable
FOLDER = "downloads"  # in the folder of data sets
PARTIAL = ".part"  # ends the name of a file that is not whole yet
CONNECT_SECONDS = 3  # until there is said to be no network
SILENT_SECONDS = 30  # without data until a connection is said to be cut
CLOSED = "the server closed it"
BLOCK = 1 << 14  # bytes that are read at a time; what comes of the last block before a cut is lost
PORTS = {"http": 80, "https": 443}


class Remote(NamedTuple):
    """A file that a publisher offers.

    Attributes:
        url: where.
        size: in bytes.
        sha256: of its contents, as hex.
        path: its name below the folder of downloads, and below a mirror's address.
    """

    url: str
    size: int
    sha256: str
    path: str


class CutOff(Exception):
    """A connection ended before the file did."""


def address(remote: Remote) -> str:
    """Return where a file is downloaded from: the publisher's address, or one below `$KD_JAX_MIRROR`.

    Raises:
        BadInput: when the mirror is no address.
    """
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return remote.url
    if urlsplit(mirror).scheme not in PORTS or not urlsplit(mirror).hostname:
        raise BadInput(f"{MIRROR}={mirror}: expected an address such as https://host/data; change or unset it")
    return f"{mirror.rstrip('/')}/{remote.path}"


def place(remote: Remote, data_dir: str | Path) -> Path:
    """Return the path at which a file lies once it is downloaded."""
    return Path(data_dir).expanduser() / FOLDER / remote.path


def missing(remotes: Sequence[Remote], data_dir: str | Path) -> list[Remote]:
    """Return the files that are not there."""
    return [remote for remote in remotes if not place(remote, data_dir).is_file()]


def fetch(remotes: Sequence[Remote], data_dir: str | Path, name: str) -> list[Path]:
    """Return the paths of the files of a set, which are downloaded where they are absent; a line on standard error says so.

    A part that an earlier call left is resumed, unless the server cannot. Two programs that ask for the same file do not disturb
    each other: the second waits for the first.

    Args:
        remotes: the files.
        data_dir: the folder of data sets.
        name: the name of the set.

    Raises:
        BadInput: when there is no network, the connection is cut off for good, the disk is full, or a file is not the one that was
            published. A part that was received is kept unless it is wrong.
    """
    absent = missing(remotes, data_dir)
    if absent:
        _check_space(absent, data_dir)
        _check_network(absent, data_dir)
        size, sources = sum(remote.size for remote in absent), [address(remote).rsplit("/", 1)[0] for remote in absent]
        _say(f"{name} is not in {data_dir}: downloading {size / 1e6:,.1f} MB from {', '.join(dict.fromkeys(sources))}")
    for remote in absent:
        target = place(remote, data_dir)
        with disk_errors(target, "free some space, or pass another --data_dir"):
            target.parent.mkdir(parents=True, exist_ok=True)
            _download(remote, target)
    for remote in remotes:
        if remote not in absent and (found := _sha256(place(remote, data_dir))) != remote.sha256:
            raise BadInput(
                f"{place(remote, data_dir)}: expected a file with sha256 {remote.sha256}, found {found}; remove it, and it is"
                f" downloaded from {address(remote)}"
            )
    return [place(remote, data_dir) for remote in remotes]


def by_hand(remotes: Sequence[Remote], data_dir: str | Path) -> str:
    """Return what to do where there is no network, as a clause."""
    files = ", ".join(f"{address(remote)} as {place(remote, data_dir)}" for remote in remotes)
    return f"where there is, save {files}"


def reachable(url: str, seconds: float = CONNECT_SECONDS) -> str:
    """Return why no connection can be made to the host of an address, or to the proxy in front of it; empty if one can.

    It takes no longer than the given time, even where names cannot be resolved.
    """
    from requests.utils import get_environ_proxies, select_proxy

    url = select_proxy(url, get_environ_proxies(url)) or url
    parts = urlsplit(url if "//" in url else f"//{url}")
    reasons = []

    def connect():
        try:
            socket.create_connection((parts.hostname, parts.port or PORTS.get(parts.scheme, 80)), seconds).close()
            reasons.append("")
        except OSError as error:
            reasons.append(error.strerror or str(error))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return (reasons or [f"no answer within {seconds:g} s"])[0]


def _check_space(remotes, data_dir):
    """Refuse to begin what cannot end: the files, and a set of about their size that is made of them."""
    folder = Path(data_dir).expanduser().absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    parts = [place(remote, data_dir).with_name(place(remote, data_dir).name + PARTIAL) for remote in remotes]
    have = sum(part.stat().st_size for part in parts if part.is_file())
    needed, free = 2 * sum(remote.size for remote in remotes) - have, shutil.disk_usage(there).free
    if needed > free:
        raise BadInput(
            f"{folder}: expected {needed / 1e6:,.0f} MB of free space for the download and the set made of it, found"
            f" {free / 1e6:,.0f} MB; free some space, or pass another --data_dir"
        )


def _check_network(remotes, data_dir):
    host = {urlsplit(address(remote)).netloc: address(remote) for remote in remotes}
    for name, url in host.items():
        if reason := reachable(url):
            raise BadInput(
                f"there is no network to download it ({name}: {reason}); {by_hand(remotes, data_dir)}, or set {MIRROR} to the"
                " address of a copy"
            )


def _download(remote, target):
    part = target.with_name(target.name + PARTIAL)
    with holding(part, create=True, waiting=lambda: _say(f"waiting for another program that downloads {target.name}")):
        try:
            if not target.is_file():  # else another program has downloaded it meanwhile
                _receive(remote, part)
                os.replace(part, target)
        finally:
            if part.is_file() and (target.is_file() or not part.stat().st_size):
                part.unlink()


def _receive(remote, part):
    """Make a part whole and check it; a part that turns out wrong is removed."""
    url = address(remote)
    have = part.stat().st_size
    from_scratch = have == 0  # what an earlier program left may be of another file
    reason = CLOSED
    with tqdm(
        total=remote.size,
        desc=f"downloading {part.name.removesuffix(PARTIAL)}",
        unit="B",
        unit_scale=True,
        disable=None,
    ) as bar:
        while True:
            if have < remote.size:
                try:
                    with open(part, "r+b") as stream:
                        for start, block in _blocks(url, have, remote.size):
                            stream.seek(start)
                            stream.write(block)
                            bar.n = start + len(block)
                            bar.update(0)
                except CutOff as error:
                    reason = str(error)
                before, have = have, part.stat().st_size
                if before >= have:
                    raise BadInput(
                        f"{url}: expected {remote.size} bytes, the connection was cut off after {have} ({reason}); the same"
                        " command again goes on from there"
                    )
            elif (found := _sha256(part)) == remote.sha256:
                return
            elif from_scratch:
                part.unlink()
                raise BadInput(
                    f"{url}: expected a file with sha256 {remote.sha256}, received {found}, which was removed; try again, or"
                    f" save the right file as {part.with_name(part.name.removesuffix(PARTIAL))}"
                )
            else:
                from_scratch, have = True, 0
                os.truncate(part, 0)


def _blocks(url, have, size) -> Iterator[tuple[int, bytes]]:
    """Yield (position, bytes) of a file from a position on, or from its start if the server only has the whole.

    Raises:
        CutOff: when the connection ends too early.
        BadInput: when the server has no such file.
    """
    import requests

    headers = {"User-Agent": "kd_jax", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, SILENT_SECONDS)) as response:
            if response.status_code == 416:  # no such range
                yield from _blocks(url, 0, size)
                return
            if response.status_code not in (200, 206):
                raise BadInput(f"{url}: expected a file, the server answered {response.status_code} {response.reason}")
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise BadInput(f"{url}: expected a file, the server sent a web page; look at it in a browser")
            at = have if response.status_code == 206 else 0
            length = response.headers.get("Content-Length", "")
            if length.isdigit() and at + int(length) != size:
                raise BadInput(f"{url}: expected a file of {size} bytes, the server offers {at + int(length)}")
            for block in response.iter_content(BLOCK):
                if at + len(block) > size:
                    raise BadInput(f"{url}: expected a file of {size} bytes, the server sends more")
                yield at, block
                at += len(block)
    except requests.RequestException as error:
        raise CutOff(_reason(error)) from None


def _reason(error):
    """Return the words of the system, which requests wraps several times."""
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    causes: list = [error]
    while isinstance(
        cause := getattr(causes[-1], "reason", None) or next(iter(causes[-1].args[::-1]), None), Exception
    ):
        causes.append(cause)
    return getattr(causes[-1], "strerror", None) or CLOSED


def _say(line):
    print(line, file=sys.stderr, flush=True)


def _sha256(path):
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
