"""What a record keeps of each program that trains: how it was called, when, where, and with which code."""

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kd_jax
from kd_jax.config import versions


def program(devices: Sequence[Any], command: str = "") -> dict[str, Any]:
    """Return what `history` in `study.json` says of a program that begins to train now, as JSON values.

    It has the keys `platform` (kind and number of its devices, and of its processes where there are several), `versions` (of
    packages), `command`, `started` (UTC, to the second) and, where kd_jax runs from a git checkout, `revision`.

    Args:
        devices: the devices that it trains on.
        command: the command line that started it; empty where there is none.
    """
    kind = {"platform": devices[0].platform, "device": devices[0].device_kind, "devices": len(devices)}
    if (processes := len({device.process_index for device in devices})) > 1:
        kind["processes"] = processes
    of_code = {"revision": found} if (found := revision()) else {}
    return {"platform": kind, "versions": versions(), "command": command, "started": now(), **of_code}


def now() -> str:
    """Return the time in UTC, to the second, such as 2026-11-25T18:42:17+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def revision(folder: Path | None = None) -> str:
    """Return the git revision of the code, with `-dirty` behind it where files that git knows have changed; empty without git.

    Args:
        folder: a folder of the code; that of this package by default. An installed package that lies inside some repository, as one
            in a virtual environment may, has no revision: git does not know its files.
    """
    folder = folder or Path(kd_jax.__file__).parent
    if not _git(folder, "ls-files", "__init__.py"):
        return ""
    commit = _git(folder, "rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *words: str) -> str:
    """What git prints; empty where it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, encoding="utf-8", timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
