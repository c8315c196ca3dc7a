"""`metrics.jsonl` of a run: a line of JSON per epoch, each with a checksum of its own."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_jax.errors import BadInput
from kd_jax.files import named, write_text

CHECK = "check"  # of a line, in the line


def read(folder: Path | str) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`, oldest first; a last line that a crash cut short is left out.

    Raises:
        BadInput: for another line that is no JSON object: a crash cuts the last one only, so somebody damaged it.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        return []
    contents = path.read_bytes()
    written, is_whole = contents.splitlines(), contents.endswith(b"\n")  # what a crash cuts short has no end of line
    lines = []
    for number, line in enumerate(written, 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # of JSON, and of UTF-8
            found = None
        if isinstance(found, dict):
            if CHECK in found and found.pop(CHECK) != _check(found):
                raise BadInput(
                    f"{path}: line {number}: expected what training wrote, it was changed since (its check does not agree); restore"
                    " the line, or remove it and lose that epoch"
                )
            lines.append(found)
        elif number < len(written) or is_whole:
            raise BadInput(
                f"{path}: line {number}: expected a JSON object, found {line[:40]!r}; restore the line, or remove it and lose"
                " that epoch"
            )
    return lines


def append(folder: Path | str, line: Mapping[str, Any]) -> None:
    """Add a line to `metrics.jsonl`, with a check by which `read` notices a change."""
    path = Path(folder) / "metrics.jsonl"
    with named(path), open(path, "a", encoding="utf-8") as stream:
        stream.write(_checked(line))


def _checked(line: Mapping[str, Any]) -> str:
    return json.dumps({**line, CHECK: _check(line)}) + "\n"


def _check(line: Mapping[str, Any]) -> int:
    """The CRC-32 of a line of metrics as JSON, without the check."""
    return zlib.crc32(json.dumps(line, sort_keys=True).encode())


def rewind(folder: Path | str, step: int) -> None:
    """Drop the lines of `metrics.jsonl` after `step`: training continues from there and writes them again."""
    path = Path(folder) / "metrics.jsonl"
    if path.exists():
        kept = [line for line in read(folder) if line["step"] <= step]
        write_text(path, "".join(map(_checked, kept)))
