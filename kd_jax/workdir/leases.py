"""Locks in an object store: objects that only one program can create, which it renews for as long as it lives.

A program that finds one waits until it is renewed, and then is refused; or until `EXPIRES` seconds have passed without, on its own
clock, and then takes it. Knows nothing of work folders: a lease is a name.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from kd_jax import stopping
from kd_jax.errors import BadInput

EXPIRES = 60.0  # a lease that nobody renews for so long is of a program that has ended
RENEWED = 10.0  # how often its own program renews it [s]
LOCK = ".lock"  # the end of the name of a lease


class Leases:
    """The leases that this program holds at an address.

    Args:
        fs: the object store, of fsspec.
        root: the path of the address in it.
        address: the address, for messages.
        said: a context manager in which what the store says becomes `BadInput`.
    """

    def __init__(self, fs: Any, root: str, address: str, said: Callable[[], contextlib.AbstractContextManager[None]]):
        self.fs = fs
        self._root, self._address, self._said = root, address, said
        self._held: dict[str, dict[str, Any]] = {}
        self._guard = threading.Lock()  # they are renewed while something large is brought there

    def holds(self, key: str) -> bool:
        """Return whether this program holds a lease."""
        return key in self._held

    @contextmanager
    def hold(self, key: str, waits: bool = False) -> Iterator[None]:
        """Hold a lease while the block runs.

        Args:
            key: its name below the address.
            waits: whether to wait for a program that holds it, which does so for moments; else it is refused.

        Raises:
            BadInput: when another program holds it.
        """
        mine = {"owner": uuid.uuid4().hex, "host": os.uname().nodename, "process": os.getpid(), "beat": 0}
        began = time.monotonic()
        while not self._create(key, mine):
            seen = self._seen(key)
            if seen is not None and not self._is_renewed(key, seen, EXPIRES if not waits else 2 * RENEWED):
                self._take_away(key, seen)
            elif seen is not None and not waits:
                self._refuse(key, seen)
            elif time.monotonic() - began > 10 * EXPIRES:
                self._refuse(key, seen or {})
        with self._guard:
            self._held[key] = mine
        try:
            yield
        finally:
            with self._guard, contextlib.suppress(Exception):
                del self._held[key]
                if (self._seen(key) or {}).get("owner") == mine["owner"]:
                    self.fs.rm_file(self._at(key))

    def below(self, prefix: str) -> list[str]:
        """Return the leases of other programs whose names begin with this, which is empty or ends in a slash."""
        with self._said():
            try:
                found = self.fs.find(self._at(prefix).rstrip("/"))
            except FileNotFoundError:
                found = []
        names = (path[len(self._root) :].lstrip("/") for path in found if path.endswith(f"/{LOCK}"))
        return [name for name in names if not self.holds(name)]

    def refuse_if_alive(self, keys: Iterable[str]) -> None:
        """Refuse to go on where one of these leases is renewed; those that are not, are taken away.

        Raises:
            BadInput: when one is.
        """
        seen = {key: found for key in keys if (found := self._seen(key)) is not None}
        began = time.monotonic()
        while seen and time.monotonic() - began < EXPIRES:
            stopping.check()
            time.sleep(min(1.0, EXPIRES / 10))
            for key in list(seen):
                now = self._seen(key)
                if now is None:
                    del seen[key]
                elif now != seen[key]:
                    self._refuse(key, now)
        for key in seen:
            self._take_away(key, seen[key])

    def renew(self) -> str:
        """Show that this program lives, and return the name of a lease that another has taken; empty where none has."""
        for key in list(self._held):
            with self._guard:
                if key not in self._held:
                    continue
                mine = self._held[key]
                if (self._seen(key) or {}).get("owner") != mine["owner"]:
                    return key
                mine["beat"] += 1
                self.fs.pipe_file(self._at(key), json.dumps(mine).encode())
        return ""

    def _create(self, key: str, mine: dict[str, Any]) -> bool:
        """Whether this program could create the lease, for there was none."""
        with self._said():
            if self.fs.exists(self._at(key)):
                return False
            try:
                self.fs.pipe_file(self._at(key), json.dumps(mine).encode(), mode="create")
                return True
            except FileExistsError:
                return False
            except FileNotFoundError as error:
                raise OSError(f"no such bucket ({error})") from None

    def _seen(self, key: str) -> dict[str, Any] | None:
        with self._said():
            try:
                found = json.loads(self.fs.cat_file(self._at(key)))
            except FileNotFoundError:
                return None
            except ValueError:
                return {}
        return found if isinstance(found, dict) else {}

    def _is_renewed(self, key: str, seen: dict[str, Any], seconds: float) -> bool:
        """Whether the owner of a lease does something about it in this time; waits for that."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            stopping.check()
            time.sleep(min(1.0, seconds / 10))
            if self._seen(key) != seen:
                return True
        return False

    def _take_away(self, key: str, seen: dict[str, Any]) -> None:
        with self._said(), contextlib.suppress(FileNotFoundError):
            if self._seen(key) == seen:
                self.fs.rm_file(self._at(key))

    def _refuse(self, key: str, seen: dict[str, Any]) -> NoReturn:
        where = f"{self._address}/{key.removesuffix(LOCK).rstrip('/')}".rstrip("/")
        who = f"another program, process {seen.get('process', '?')} on {seen.get('host', '?')},"
        raise BadInput(f"{where}: expected a free one, {who} is writing it; wait for it, or train another run")

    def _at(self, key: str) -> str:
        return f"{self._root}/{key}"
