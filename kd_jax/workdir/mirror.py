"""A work folder in an object store and its copy on this machine, which is kept like it; see `remote`."""

import atexit
import contextlib
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from kd_jax import stopping
from kd_jax.errors import BadInput
from kd_jax.workdir import leases
from kd_jax.workdir.leases import LOCK
from kd_jax.workdir.objects import (
    ANALYSIS,
    LINK,
    MARK,
    MARK_OF_ANALYSIS,
    RECORDS,
    STAGED,
    STEP,
    STORE,
    STORES,
    analysis_of,
    final_of,
    is_record,
    stage_of,
)

SYNC_SECONDS = leases.RENEWED  # a kill loses about so much of what was saved
TRIES = 5  # of the last push
THREADS = 8


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

            # gcsfs warns of what it cannot find out of a bucket, at every request; what fails is an exception.
            logging.getLogger("gcsfs").setLevel(logging.ERROR)
            # What other programs write must be seen.
            options = {"auto_mkdir": True} if kind == "file" else {}
            self._fs, root = url_to_fs(self.address, use_listings_cache=False, **options)
        except (ImportError, ValueError) as error:
            fix = f"pip install 'kd_jax[{kind}]'" if kind in ("gs", "s3") else "pass one of gs:// or s3://, or a folder"
            raise BadInput(
                f"--workdir={address}: expected the address of an object store, {_line(error)}; {fix}"
            ) from None
        self._root = root.rstrip("/")
        self._leases = leases.Leases(self._fs, self._root, self.address, self._said)
        self.local = Path(tempfile.mkdtemp(prefix="kd_jax-work-"))
        self._remove_copy = partial(shutil.rmtree, self.local, ignore_errors=True)
        atexit.register(self._remove_copy)
        self._known: dict[str, tuple[int, int]] = {}  # what is there as it is here: {name: (size, time of change)}
        self._waiting: dict[str, list[str]] = {}  # checkpoints that are only there: {folder: names}
        self._alone = 0  # leases of whole folders, whose records nobody else writes
        self._guard = threading.RLock()  # of what is known and waiting
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._again_and_again, args=(act,), name="mirror", daemon=True)
            for act in (self.push, self.renew)
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
            elif not (STORE.match(name) or "/damaged/" in name or (light and analysis_of(name))):
                plain.append(name)
        marked = {name.removesuffix(MARK_OF_ANALYSIS) for name in there if name.endswith(f"/{MARK_OF_ANALYSIS}")}
        staged = {final_of(name) for name in marked if STAGED.match(name)}
        # Of each analysis the one that counts.
        analyses = (marked - staged) | {stage_of(folder) for folder in staged}
        plain = [name for name in plain if (folder := analysis_of(name)) is None or folder in analyses]
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
            shown = final_of(name)
            if STEP.match(name) or not any(part.startswith(".") for part in shown.split("/")):
                yield name

    def _download(self, names: Iterable[str]) -> None:
        def one(name):
            path = self.local / (final := final_of(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self._fs.cat_file(self._at(name)))
            self._known[final] = _stamp(path)

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
            self._upload(name for name in files if name not in analyses and (self._alone or not is_record(name)))
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
            elif name not in files and not ANALYSIS.match(name) and not is_record(name):
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
        self._settle(folder)
        new = folder
        if self._fs.exists(self._at(mark)):
            new = stage_of(folder)
        else:
            self._remove(sorted(self._objects(folder) - names))
        for name in [*sorted(names - {mark}), mark]:
            at = self._at(name.replace(folder, new, 1))
            try:
                if new != folder and there.get(name) == here[name]:
                    self._fs.cp_file(self._at(name), at)
                else:
                    self._fs.pipe_file(at, (self.local / name).read_bytes())
            except FileNotFoundError:
                return  # as above
        self._settle(folder)
        self._known = {name: stamp for name, stamp in self._known.items() if not name.startswith(folder)} | here

    def _settle(self, folder: str) -> None:
        """Let a whole analysis that is staged take its place, and remove what is left of others."""
        stage = stage_of(folder)
        staged, old = self._objects(stage), self._objects(folder)
        mark, new = f"{folder}{MARK_OF_ANALYSIS}", f"{stage}{MARK_OF_ANALYSIS}"
        if new in staged:
            finals = {final_of(name) for name in staged}
            self._remove([mark])
            for name in sorted(staged - {new}):
                self._fs.cp_file(self._at(name), self._at(final_of(name)))
            self._remove(sorted(old - finals))
            self._fs.cp_file(self._at(new), self._at(mark))
        self._remove(sorted(staged, key=lambda name: name != new))

    def _objects(self, folder: str) -> set[str]:
        """The names of the objects in a folder there, now."""
        try:
            found = self._fs.find(self._at(folder).rstrip("/"))
        except FileNotFoundError:
            return set()
        return {path[len(self._root) :].lstrip("/") for path in found}

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._at(name))
            self._known.pop(name, None)

    # ---- the records, which several programs change

    @contextmanager
    def updating(self, workdir: Path) -> Iterator[None]:
        """See the function `updating`."""
        with self._leases.hold(f"{self._prefix(workdir)}.records{LOCK}", waits=True):
            names = [f"{self._prefix(workdir)}{name}" for name in RECORDS]
            with self._guard, self._said():
                # Nobody else writes them while this program holds the folder alone, and answers never change.
                wanted = [name for name in names if not (name.endswith(".npz") and (self.local / name).exists())]
                self._download(name for name in wanted if not self._alone and self._fs.exists(self._at(name)))
            yield
            with self._guard, self._said():
                self._upload(name for name in names if (self.local / name).is_file())

    # ---- who may write

    @contextmanager
    def leased(self, folder: Path, shared: bool) -> Iterator[None]:
        """See the function `leased`."""
        key = f"{self._prefix(folder)}{LOCK}"
        parents = [self._prefix(parent) for parent in folder.parents if parent.is_relative_to(self.local)]
        above = [f"{prefix}{LOCK}" for prefix in parents if not self._leases.holds(f"{prefix}{LOCK}")]
        is_run = folder.parent.name == "runs"
        if shared:
            self._leases.refuse_if_alive([key, *above])
            yield
            return
        with self._leases.hold(key):
            # Who comes second sees the other, whichever of them that is.
            self._leases.refuse_if_alive([*above, *([] if is_run else self._leases.below(key.removesuffix(LOCK)))])
            self._alone += not is_run
            try:
                yield
            finally:
                with contextlib.suppress(Exception):  # `close` tries again
                    self.push()
                self._alone -= not is_run

    def renew(self) -> None:
        """Show that this program lives; where another has taken what it holds, it stops and writes nothing more."""
        if taken := self._leases.renew():
            self._lost = f"{self.address}/{taken.removesuffix(LOCK)}: expected to be held, another program took it"
            self._over.set()
            stopping.ask()

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
                    atexit.unregister(self._remove_copy)
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


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
