"""Zip archives read in place: members by name and place. Each process reads single members without the directory."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.datasets.sources.base import Unreadable
from pipeline.datasets.sources.folder import printable
from pipeline.errors import Failure
from pipeline.system.memory import check

LOCAL = struct.Struct("<4s5H3I2H")  # a member's header before its bytes
METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
ENCRYPTED, SUM_BEHIND = 0x1, 0x8  # flags


class ZipMember(NamedTuple):
    """A file in a zip."""

    name: str
    offset: int  # of its header in the zip
    size: int  # bytes, unpacked


def zip_members(archive: Path) -> Iterator[ZipMember]:
    """Yield the files in a zip in the order of its directory.

    Raise Failure, naming the zip and the member, if it is truncated, encrypted or packed by an unusual method, or if a
    member leads out of it.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            directory = opened.infolist()
    except (OSError, zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, EOFError) as error:
        check(error)
        raise Failure(f"{archive} is truncated or no zip: {error}; download it again") from None
    for info in directory:
        name = printable(info.filename)
        if info.filename.startswith("/") or ".." in info.filename.split("/"):
            raise Failure(f"{archive} is rejected: its member {name} points outside the archive")
        if info.is_dir():
            continue
        if info.flag_bits & ENCRYPTED:
            raise Failure(f"{archive}: {name} is encrypted: unpack the archive")
        if info.compress_type not in METHODS:
            raise Failure(f"{archive}: {name} is packed by a method that is not read: unpack the archive")
        yield ZipMember(info.filename, info.header_offset, info.file_size)


def zip_content(archive: Path, member: ZipMember) -> bytes:
    """Return a member's bytes. Raise Unreadable if they are damaged, and Failure if the zip cannot be read."""
    try:
        with archive.open("rb", buffering=0) as file:
            file.seek(member.offset)
            head = file.read(LOCAL.size)
            if len(head) < LOCAL.size or head[:4] != b"PK\x03\x04":
                raise Failure(f"{archive} is damaged at byte {member.offset:,}: there is no member; download it again")
            _, _, flags, method, _, _, crc, _, _, name, extra = LOCAL.unpack(head)
            file.seek(member.offset + LOCAL.size + name + extra)
            data = file.read(member.size) if method == zipfile.ZIP_STORED else _inflated(file, member.size)
    except OSError as error:
        raise Failure(f"{archive} could not be read: {error.strerror or error}") from None
    if len(data) < member.size or (not flags & SUM_BEHIND and zlib.crc32(data) != crc):
        raise Unreadable("damaged in the zip")
    return data


def _inflated(file: Any, size: int) -> bytes:
    """Return `size` unpacked bytes from a file's place on. Raise Unreadable if they are damaged."""
    unpacker, data = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    try:
        while not unpacker.eof and len(data) < size:
            packed = unpacker.unconsumed_tail or file.read(2**16)
            if not packed:
                break
            data += unpacker.decompress(packed, size - len(data))
    except zlib.error:
        raise Unreadable("damaged in the zip") from None
    return bytes(data)
