"""A prepared TFDS folder of tfrecord files, rewritten as array_record; its examples are copied as they are.

Both formats hold the same serialised `tf.train.Example` protocol buffers. In a tfrecord file each is framed by its length, eight
bytes, least significant first, and by two masked checksums, CRC-32C of the length and of the data (TensorFlow's
`tsl/lib/io/record_writer`); CRC-32C is that of RFC 3720, appendix B.4.
"""

import functools
import gzip
import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from kd_jax.data import prepared, tfds
from kd_jax.errors import BadInput

POLYNOMIAL = 0x82F63B78  # of CRC-32C, its bits reversed
LONGEST = 2**31  # bytes in a record; a longer one is a damaged length


def is_one(folder: Path) -> bool:
    """Return whether a folder is a prepared TFDS set."""
    return (folder / "dataset_info.json").is_file() and (folder / "features.json").is_file()


def convert(folder: Path, name: str, data_dir: Path) -> Path:
    """Write a prepared set of tfrecord files as one of array_record files, and return its folder.

    Args:
        folder: of the prepared set.
        name: of the new one; its version is that of the old one.
        data_dir: the folder of prepared sets.

    Raises:
        BadInput: when the set has another format, or a file is absent or damaged, naming its record.
    """
    info, splits = _described(folder)
    target = data_dir / name / info["version"]
    if target.exists():
        raise prepared.Exists(f"{target}: expected no such set yet; remove it, or pass another --name or --data_dir")
    temporary = target.with_name(f"{target.name}.{prepared.UNFINISHED}-{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        for path in folder.iterdir():
            if path.is_file() and ".tfrecord" not in path.name and path.name != "dataset_info.json":
                shutil.copyfile(path, temporary / path.name)
        for split in info["splits"]:
            split["filepathTemplate"] = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
            _write(temporary, name, split["name"], splits[split["name"]])
        info |= {"name": name, "fileFormat": prepared.FILE_FORMAT}
        info.pop("configName", None)
        info.pop("configDescription", None)
        (temporary / "dataset_info.json").write_text(json.dumps(info, indent=2), encoding="utf-8")
        os.rename(temporary, target)
    except OSError as error:
        raise BadInput(
            f"{target}: expected a folder that can be written, with enough free space ({error.strerror}); free some space, or pass"
            " another --data_dir"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _described(folder) -> tuple[dict[str, Any], dict[str, list[tuple[Path, int]]]]:
    """Return (contents of dataset_info.json, {split: [(file, number of its records)]})."""
    try:
        builder = tfds.builder_of(folder)
        info = json.loads((folder / "dataset_info.json").read_text(encoding="utf-8"))
    except BadInput:
        raise
    except Exception as error:  # TFDS raises errors of many types
        said = " ".join(str(error).split())
        raise BadInput(f"{folder}: expected a prepared TFDS set, found: {said}; prepare it again") from None
    found = info.get("fileFormat", "tfrecord")
    if found != "tfrecord":
        raise BadInput(
            f"{folder}: expected files of format tfrecord, found {found}; pass --dataset={folder} to a study as it is"
        )
    splits = {}
    for split, of_split in builder.info.splits.items():
        paths = [folder / file for file in of_split.filenames]
        for path in paths:
            if not path.is_file():
                raise BadInput(f"{path}: expected this file of split {split}, found none; prepare the set again")
        splits[split] = list(zip(paths, of_split.shard_lengths, strict=True))
    return info, splits


def _write(folder, name, split, files):
    from array_record.python.array_record_module import ArrayRecordWriter

    total = sum(length for _, length in files)
    with tqdm(total=total, desc=f"writing {name} {split}", unit="example", disable=None) as bar:
        for shard, (path, length) in enumerate(files):
            file = f"{name}-{split}.{prepared.FILE_FORMAT}-{shard:05}-of-{len(files):05}"
            writer = ArrayRecordWriter(str(folder / file), prepared.RECORD_OPTIONS)
            count = 0
            try:
                for record in read(path):
                    writer.write(record)
                    count += 1
                    bar.update()
            finally:
                try:
                    writer.close()
                except RuntimeError as error:  # a full disk
                    raise OSError(0, str(error).split(";")[0]) from None
            if count != length:
                raise BadInput(f"{path}: expected {length} records, found {count}; prepare the set again")


def read(path: Path) -> Iterator[bytes]:
    """Yield the records of a tfrecord file, which may be compressed with gzip.

    Raises:
        BadInput: when a record is cut or its checksum is wrong, naming it.
    """
    with open(path, "rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    opened: Any = gzip.open if zipped else open
    with opened(path, "rb") as stream:
        number = 0
        try:
            while header := stream.read(12):
                yield _record(stream, header)
                number += 1
        except (ValueError, OSError, EOFError) as error:
            raise BadInput(
                f"{path}: record {number}: expected a whole one, found: {error}; copy or prepare the file again"
            ) from None


def _record(stream: BinaryIO, header: bytes) -> bytes:
    if len(header) < 12:
        raise ValueError("the file ends within it")
    length, of_length = struct.unpack("<QI", header)
    if masked(crc32c(header[:8])) != of_length or length > LONGEST:
        raise ValueError("a wrong checksum of its length")
    data = stream.read(length + 4)
    if len(data) < length + 4:
        raise ValueError("the file ends within it")
    if masked(crc32c(data[:-4])) != struct.unpack("<I", data[-4:])[0]:
        raise ValueError("a wrong checksum of its data")
    return data[:-4]


def masked(crc: int) -> int:
    """Return a checksum as tfrecord files hold it: rotated right by 15 bits, with a constant added."""
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    table, register = _table(), 0xFFFFFFFF
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ 0xFFFFFFFF


@functools.cache
def _table() -> tuple[int, ...]:
    """What each byte makes of a register of 0."""
    table = []
    for register in range(256):
        for _ in range(8):
            register = (register >> 1) ^ (register & 1) * POLYNOMIAL
        table.append(register)
    return tuple(table)
