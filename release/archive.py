"""
Write archives that depend only on the names and contents of their files.

Rule: no time, owner, umask or order of a directory on this machine reaches an archive.
"""

import gzip
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

COMPRESSION_LEVEL = 9
"""Level of gzip. The compressed bytes also depend on the machine's zlib, but the digest of the content does not."""


@dataclass(frozen=True)
class Entry:
    """One file, directory or link of an archive, with the path below the archive's root."""

    path: str
    content: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""


def tar(entries: Iterable[Entry], epoch: int) -> bytes:
    """Return a tar archive of the entries in the order of their paths, all owned by root and with the same time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in sorted(entries, key=lambda entry: entry.path.split("/")):
            header = _header(entry, epoch)
            archive.format = _smallest_format(header)
            archive.addfile(header, io.BytesIO(entry.content))
    return buffer.getvalue()


def compress(content: bytes) -> bytes:
    """Return the content as gzip, without a file name or a time in its header."""
    return gzip.compress(content, COMPRESSION_LEVEL, mtime=0)


def entries(archive: bytes) -> list[Entry]:
    """Return the files, directories and links of a tar archive, compressed or not, with normal modes."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return [_entry(opened, member) for member in opened if member.name not in {"", "."}]


def _entry(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    content = archive.extractfile(member) if member.isfile() else None
    # A hard link has the content of the file that it names.
    kind = tarfile.REGTYPE if member.isfile() else member.type
    return Entry(
        path=member.name.removeprefix("./").strip("/"),
        content=content.read() if content else b"",
        mode=normal_mode(member),
        kind=kind,
        target=member.linkname if member.issym() or member.islnk() else "",
    )


def normal_mode(member: tarfile.TarInfo) -> int:
    """Return the mode that the member has with umask 022. A directory with the sticky bit stays writable."""
    if member.isdir():
        return 0o1777 if member.mode & 0o1000 else 0o755
    if member.issym():
        return 0o777
    return 0o755 if member.mode & 0o100 else 0o644


def _smallest_format(header: tarfile.TarInfo) -> Literal[0, 1, 2]:
    """Return the old tar format if the name fits into it, because the new format needs 1 KiB more for a long name."""
    try:
        header.tobuf(tarfile.USTAR_FORMAT)
    except ValueError:
        return tarfile.PAX_FORMAT
    return tarfile.USTAR_FORMAT


def _header(entry: Entry, epoch: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(entry.path)
    header.size, header.mode, header.mtime = len(entry.content), entry.mode, epoch
    header.type, header.linkname = entry.kind, entry.target
    return header
