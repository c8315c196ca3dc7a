"""A work folder in an object store, such as gs://bucket/folder or s3://bucket/folder: a copy on this machine that is kept like it.

Everything else in this package works in folders of this machine. `opened` gives one, brought there from the address, and from
then on a thread brings there what is new: every few seconds, and before the folder is left. The objects have the names that the
files have in a work folder, so a bucket that is mounted, or copied, is a work folder too; a link is an object `NAME.link`.

An object store replaces single objects at once, and has no folders to rename. So what is one thing and several files, a
checkpoint or the analysis, has its mark written last and removed first: `commit_success.txt`, as orbax has it there,
and `summary.json`. Without it the rest is not looked at. Files are written before the checkpoints that were saved after
them. Whenever a program ends, what is at the address is a work folder from which the same command goes on. Of an analysis that
takes another's place a reader sees the old one, none, or the new one.

Checkpoints are brought here when they are loaded; until then they are empty folders.

Locks are leases: objects that only one program can create, which it renews. A program that finds one waits until it is renewed,
and then is refused; or until `EXPIRES` seconds have passed without, on its own clock, and then takes it.
"""

import atexit
import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd_jax import stopping
from kd_jax.errors import BadInput

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
SYNC_SECONDS = 10.0  # a kill loses about so much of what was saved
EXPIRES = 60.0  # a lease that nobody renews for so long is of a program that has ended
TRIES = 5  # of the last push
THREADS = 8
MARK, MARK_OF_ANALYSIS = "commit_success.txt", "summary.json"
RECORDS = ("study.json", "sweep.json", "tokenizer.json", "teacher_logits.npz")
STORES = ("trajectory", "repair", "resume")
STEP = re.compile(rf"(?:.*/)?runs/[^/]+/(?:{'|'.join(STORES)})/\d+(?=/|$)")
STORE = re.compile(rf"(?:.*/)?runs/[^/]+/(?:{'|'.join(STORES)})(?=/|$)")
ANALYSIS = re.compile(r"(?:.*/)?analysis(?=/)")
LINK = ".link"
LOCK = ".lock"

_mirrors: list["Mirror"] = []


def is_address(typed: str | None) -> bool:
    """Return whether this is the address of an object store, and no folder."""
    return bool(typed) and bool(ADDRESS.match(str(typed)))


def of(path: Path | str) -> "Mirror | None":
    """Return the mirror in whose copy a file or folder lies; None for all others."""
    absolute = Path(path).absolute()
    return next((mirror for mirror in _mirrors if absolute.is_relative_to(mirror.local)), None)


def shown(text: str) -> str:
    """Return a text with addresses in place of the folders of this machine that stand for them."""
    for mirror in _mirrors:
        text = text.replace(str(mirror.local), mirror.address)
    return text


def fetch(path: Path | str) -> None:
    """Bring a checkpoint here that is at its address alone; others are here."""
    mirror = of(path)
    if mirror is not None:
        mirror.fetch(Path(path).absolute())


def leased(path: Path | str, shared: bool = False) -> contextlib.AbstractContextManager[Any]:
    """Hold a work folder or a run for as long as the block takes, where it is a copy; what is new is brought to its address then.

    Args:
        path: the folder.
        shared: only see that nobody holds it alone.

    Raises:
        BadInput: when another program holds it, a folder above it, or, unless it is shared, a run below it.
    """
    mirror = of(path)
    return contextlib.nullcontext() if mirror is None else mirror.leased(Path(path).absolute(), shared)


def updating(path: Path | str) -> contextlib.AbstractContextManager[Any]:
    """Bring the records of a work folder here, and after the block to their address; other programs that do so wait."""
    mirror = of(path)
    return contextlib.nullcontext() if mirror is None else mirror.updating(Path(path).absolute())


@contextmanager
def opened(address: str, light: bool = False) -> Iterator[Path]:
    """Give a copy of what is at an address, which is kept like it while the block runs. It stays until the program ends.

    Args:
        address: such as gs://bucket/folder, of any kind that fsspec knows.
        light: leave analyses where they are.

    Raises:
        BadInput: when it cannot be read, or afterwards written; in one line.
    """
    mirror = Mirror(address)
    mirror.pull(light)
    _mirrors.append(mirror)
    mirror.start()
    try:
        yield mirror.local
    finally:
        mirror.close()


def here(typed: Path | str) -> contextlib.AbstractContextManager[Path]:
    """Give the folder that is named, or, where that is an address, what `opened` gives."""
    return opened(str(typed)) if is_address(str(typed)) else contextlib.nullcontext(Path(typed))


class Mirror:
    """A work folder at an address, and its copy on this machine.

    Args:
        address: as for `opened`.
    """

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        kind = address.partition("://")[0].lower()
        try:
            from fsspec.core import url_to_fs

            # What other programs write must be seen.
            options = {"auto_mkdir": True} if kind == "file" else {}
            self._fs, root = url_to_fs(self.address, use_listings_cache=False, **options)
        except (ImportError, ValueError) as error:
            fix = f"pip install 'kd_jax[{kind}]'" if kind in ("gs", "s3") else "pass one of gs:// or s3://, or a folder"
            raise BadInput(
                f"--workdir={address}: expected the address of an object store, {_line(error)}; {fix}"
            ) from None
        self._root = root.rstrip("/")
        self.local = Path(tempfile.mkdtemp(prefix="kd_jax-work-"))
        atexit.register(shutil.rmtree, self.local, ignore_errors=True)
        self._known: dict[str, tuple[int, int]] = {}  # what is there as it is here: {name: (size, time of change)}
        self._waiting: dict[str, list[str]] = {}  # checkpoints that are only there: {folder: names}
        self._leases: dict[str, dict[str, Any]] = {}
        self._alone = 0  # leases of whole folders, whose records nobody else writes
        self._guard = threading.RLock()  # of what is known and waiting
        self._holds = threading.Lock()  # of the leases, which are renewed while something large is brought there
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._again_and_again, args=(act,), name="mirror", daemon=True)
            for act in (self.push, self._renew)
        ]
        self._lost = ""

    def start(self) -> None:
        """Begin to bring to the address what is new here."""
        for thread in self._threads:
            thread.start()

    # ---- from the address to here

    def pull(self, light: bool) -> None:
        """Bring here what is at the address, but for the contents of checkpoints."""
        with self._said():
            there = sorted(self._listed())
        steps: dict[str, list[str]] = {}
        plain = []
        for name in there:
            if step := STEP.match(name):
                steps.setdefault(step[0], []).append(name)
            elif not (STORE.match(name) or "/damaged/" in name or (light and ANALYSIS.match(name))):
                plain.append(name)
        marked = {name.removesuffix(MARK_OF_ANALYSIS) for name in there if name.endswith(f"/{MARK_OF_ANALYSIS}")}
        plain = [name for name in plain if not (of := ANALYSIS.match(name)) or f"{of[0]}/" in marked]
        with self._said():
            self._download(name for name in plain if not name.endswith(LINK))
            for name in plain:
                if name.endswith(LINK):
                    link = self.local / name.removesuffix(LINK)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(self._fs.cat_file(self._at(name)).decode())
                    self._known[name] = (0, 0)
        for folder, names in steps.items():
            if f"{folder}/{MARK}" in names:
                (self.local / folder).mkdir(parents=True)
                self._waiting[folder] = names

    def _listed(self) -> Iterator[str]:
        """The names of the objects there, as paths below the address; hidden ones, such as leases, left out."""
        try:
            found = self._fs.find(self._root)
        except FileNotFoundError:
            found = []
        for path in found:
            name = path[len(self._root) :].lstrip("/")
            if ".." in name.split("/"):
                continue
            if STEP.match(name) or not any(part.startswith(".") for part in name.split("/")):
                yield name

    def _download(self, names: Iterable[str]) -> None:
        def one(name):
            path = self.local / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._fs.cat_file(self._at(name)))
            self._known[name] = _stamp(path)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, names))

    def fetch(self, folder: Path) -> None:
        """Bring the contents of a checkpoint here, if they are not."""
        with self._guard:
            names = self._waiting.get(self._name(folder))
            if names is not None:
                with self._said():
                    self._download(names)
                del self._waiting[self._name(folder)]

    # ---- from here to the address

    def push(self) -> None:
        """Bring to the address what is new here, in an order in which it can end at any moment; see above."""
        with self._guard:
            if self._lost:
                raise BadInput(self._lost)
            # The files beside the checkpoints are read after those were listed, and so are at least as new.
            steps, files = self._here()
            analyses = {name for name in files if ANALYSIS.match(name)}
            self._upload(name for name in files if name not in analyses and (self._alone or not _is_record(name)))
            for store in STORES:
                for folder in steps:
                    if f"/{store}/" in folder:
                        self._push_step(folder)
            self._remove_what_is_gone(set(files))
            for folder in {f"{found[0]}/" for name in analyses if (found := ANALYSIS.match(name))}:
                self._push_analysis(folder, {name for name in analyses if name.startswith(folder)})

    def _push_step(self, folder: str) -> None:
        mark = f"{folder}/{MARK}"
        self._upload(name for name in self._below(folder) if name != mark)
        self._upload([mark])
        if mark not in self._known and (self.local / folder).is_dir():  # an earlier orbax wrote none
            self._fs.pipe_file(self._at(mark), b"")
            self._known[mark] = (0, 0)

    def _here(self) -> tuple[list[str], list[str]]:
        """(Checkpoints that are whole and that the address lacks, or has a part of, in the order of their steps; all other files,
        links as `NAME.link`). Hidden files are left out, which are made to take a place later."""
        steps, files = [], []
        for folder, folders, names in os.walk(self.local):
            here = Path(folder)
            prefix = f"{self._name(here)}/" if here != self.local else ""
            if STORE.fullmatch(prefix.rstrip("/")):
                steps += [f"{prefix}{name}" for name in folders if name.isdigit()]
                folders[:] = []
                continue
            files += [f"{prefix}{name}{LINK}" for name in folders if (here / name).is_symlink()]
            folders[:] = [name for name in folders if not (name.startswith(".") or (here / name).is_symlink())]
            files += [f"{prefix}{name}" for name in names if not name.startswith(".") or "/damaged/" in prefix]
        new = (name for name in steps if name not in self._waiting and f"{name}/{MARK}" not in self._known)
        return sorted(new, key=lambda name: int(name.rpartition("/")[2])), files

    def _below(self, folder: str) -> list[str]:
        return [self._name(path) for path in sorted((self.local / folder).rglob("*")) if path.is_file()]

    def _upload(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.local / name.removesuffix(LINK) if name.endswith(LINK) else self.local / name
            try:
                stamp = (0, 0) if path.is_symlink() else _stamp(path)
                if self._known.get(name) == stamp:
                    continue
                contents = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            except FileNotFoundError:
                continue  # replaced or removed in the meantime; the next time says
            self._fs.pipe_file(self._at(name), contents)
            self._known[name] = stamp

    def _remove_what_is_gone(self, files: set[str]) -> None:
        gone: dict[str, list[str]] = {}
        for folder, names in list(self._waiting.items()):
            if not (self.local / folder).is_dir():
                gone[folder] = names
                del self._waiting[folder]
        for name in list(self._known):
            if step := STEP.match(name):
                if not (self.local / step[0]).is_dir():
                    gone.setdefault(step[0], []).append(name)
            elif name not in files and not ANALYSIS.match(name) and not _is_record(name):
                gone.setdefault(name, []).append(name)
        for names in gone.values():
            self._remove(sorted(names, key=lambda name: not name.endswith(f"/{MARK}")))

    def _push_analysis(self, folder: str, names: set[str]) -> None:
        mark = f"{folder}{MARK_OF_ANALYSIS}"
        try:
            here = {name: _stamp(self.local / name) for name in names}
        except FileNotFoundError:
            return  # another takes its place just now; the next time says
        there = {name: stamp for name, stamp in self._known.items() if name.startswith(folder)}
        if mark not in names or here == there:
            return
        self._remove([mark])
        self._upload(sorted(names - {mark}))
        self._remove(there.keys() - names)
        self._upload([mark])

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._at(name))
            self._known.pop(name, None)

    # ---- the records, which several programs change

    @contextmanager
    def updating(self, workdir: Path) -> Iterator[None]:
        """See the function `updating`."""
        with self._lease(f"{self._prefix(workdir)}.records{LOCK}", waits=True):
            names = [f"{self._prefix(workdir)}{name}" for name in RECORDS]
            with self._guard, self._said():
                # Nobody else writes them while this program holds the folder alone, and answers never change.
                wanted = [name for name in names if not (name.endswith(".npz") and (self.local / name).exists())]
                self._download(name for name in wanted if not self._alone and self._fs.exists(self._at(name)))
            yield
            with self._guard, self._said():
                self._upload(name for name in names if (self.local / name).is_file())

    # ---- leases

    @contextmanager
    def leased(self, folder: Path, shared: bool) -> Iterator[None]:
        """See the function `leased`."""
        key = f"{self._prefix(folder)}{LOCK}"
        parents = [self._prefix(parent) for parent in folder.parents if parent.is_relative_to(self.local)]
        above = [f"{prefix}{LOCK}" for prefix in parents if f"{prefix}{LOCK}" not in self._leases]
        is_run = folder.parent.name == "runs"
        if shared:
            self._refuse_if_alive([key, *above])
            yield
            return
        with self._lease(key):
            # Who comes second sees the other, whichever of them that is.
            self._refuse_if_alive([*above, *([] if is_run else self._below_lease(key))])
            self._alone += not is_run
            try:
                yield
            finally:
                with contextlib.suppress(Exception):  # `close` tries again
                    self.push()
                self._alone -= not is_run

    def _below_lease(self, key: str) -> list[str]:
        prefix = self._at(key.removesuffix(LOCK)).rstrip("/")
        with self._said():
            try:
                found = self._fs.find(prefix)
            except FileNotFoundError:
                found = []
        names = (path[len(self._root) :].lstrip("/") for path in found if path.endswith(f"/{LOCK}"))
        return [name for name in names if name not in self._leases]

    @contextmanager
    def _lease(self, key: str, waits: bool = False) -> Iterator[None]:
        """Hold an object that one program alone can create."""
        mine = {"owner": uuid.uuid4().hex, "host": os.uname().nodename, "process": os.getpid(), "beat": 0}
        began = time.monotonic()
        while not self._create(key, mine):
            seen = self._seen(key)
            if seen is not None and not self._is_renewed(key, seen, EXPIRES if not waits else 2 * SYNC_SECONDS):
                self._take_away(key, seen)
            elif seen is not None and not waits:
                self._refuse(key, seen)
            elif time.monotonic() - began > 10 * EXPIRES:
                self._refuse(key, seen or {})
        with self._holds:
            self._leases[key] = mine
        try:
            yield
        finally:
            with self._holds, contextlib.suppress(Exception):
                del self._leases[key]
                if (self._seen(key) or {}).get("owner") == mine["owner"]:
                    self._fs.rm_file(self._at(key))

    def _create(self, key: str, mine: dict[str, Any]) -> bool:
        """Whether this program could create the lease, for there was none."""
        with self._said():
            try:
                if self._fs.exists(self._at(key)):
                    return False
                self._fs.pipe_file(self._at(key), json.dumps(mine).encode(), mode="create")
                return True
            except FileExistsError:
                return False
            except FileNotFoundError as error:  # the bucket
                raise self._unusable(error) from None

    def _seen(self, key: str) -> dict[str, Any] | None:
        with self._said():
            try:
                found = json.loads(self._fs.cat_file(self._at(key)))
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
                self._fs.rm_file(self._at(key))

    def _refuse_if_alive(self, keys: Iterable[str]) -> None:
        """Refuse to go on where one of these leases is renewed; those that are not go."""
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

    def _refuse(self, key: str, seen: dict[str, Any]) -> None:
        what = key.removesuffix(LOCK).rstrip("/")
        where = f"{self.address}/{what}".rstrip("/")
        who = f"another program, process {seen.get('process', '?')} on {seen.get('host', '?')},"
        raise BadInput(f"{where}: expected a free one, {who} is writing it; wait for it, or train another run")

    def _renew(self) -> None:
        """Show that this program lives, unless another has taken what it holds."""
        for key in list(self._leases):
            with self._holds:
                if key not in self._leases:
                    continue
                mine = self._leases[key]
                if (self._seen(key) or {}).get("owner") != mine["owner"]:
                    self._lost = (
                        f"{self.address}/{key.removesuffix(LOCK)}: expected to be held, another program took it"
                    )
                    self._over.set()
                    stopping.ask()
                    return
                mine["beat"] += 1
                self._fs.pipe_file(self._at(key), json.dumps(mine).encode())

    # ---- the threads, and the end

    def _again_and_again(self, act: Callable[[], None]) -> None:
        works = True
        while not self._over.wait(SYNC_SECONDS):
            try:
                act()
                works = True
            except Exception as error:
                if works:
                    print(f"warning: {self.address}: {_line(error)}; it is tried again", file=sys.stderr, flush=True)
                works = False

    def close(self) -> None:
        """Bring to the address all that is new, and stop.

        Raises:
            OSError: when it could not be brought there.
        """
        stopping.saving()
        self._over.set()
        for thread in self._threads:
            thread.join()
        for left in range(TRIES - 1, -1, -1):
            try:
                self.push()
                return
            except BadInput:
                raise
            except Exception as error:
                if not left:
                    atexit.unregister(shutil.rmtree)
                    kept = f"what was saved since the last time is in {self.local}"
                    raise OSError(5, f"cannot be written ({_line(error)}); {kept}", self.address) from None
                time.sleep(2.0)

    # ---- names

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _name(self, path: Path) -> str:
        name = path.relative_to(self.local).as_posix()
        return "" if name == "." else name

    def _prefix(self, folder: Path) -> str:
        """The beginning of the names of what lies in a folder; where that is a link, of what it points to."""
        name = self._name(self.local / os.path.relpath(os.path.realpath(folder), os.path.realpath(self.local)))
        return f"{name}/" if name else ""

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Raise `BadInput` in one line for what object stores say in types of their own."""
        try:
            yield
        except (BadInput, FileNotFoundError, FileExistsError):
            raise
        except Exception as error:
            raise self._unusable(error) from None

    def _unusable(self, error: Exception) -> BadInput:
        return BadInput(
            f"--workdir={self.address}: expected a place that can be read and written, found {_line(error)}; see that the"
            " bucket is there and that this machine may use it"
        )


def _is_record(name: str) -> bool:
    return name.rpartition("/")[2] in RECORDS and not ANALYSIS.match(name)


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
