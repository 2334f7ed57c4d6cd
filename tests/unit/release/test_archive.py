"""Test that archives depend only on the names, contents, kinds and execute bits of files."""

import io
import tarfile

import pytest

from release.archive import Entry, compress, entries, normal_mode, tar

NOON = 1_700_000_000


def member(kind: bytes, mode: int) -> tarfile.TarInfo:
    made = tarfile.TarInfo("name")
    made.type, made.mode = kind, mode
    return made


def foreign(*members: tuple[str, bytes, int], time: int, owner: int) -> bytes:
    """Return an archive of another program, with its own times, owners and modes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, mode in members:
            header = tarfile.TarInfo(name)
            header.size, header.mode, header.mtime, header.uid = len(content), mode, time, owner
            archive.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def test_archive_ignores_time_owner_order_and_umask() -> None:
    one = foreign(("./b", b"2", 0o600), ("./a", b"1", 0o700), time=1, owner=0)
    two = foreign(("a", b"1", 0o755), ("b", b"2", 0o664), time=99, owner=1000)
    assert tar(entries(one), NOON) == tar(entries(two), NOON)


def test_archive_depends_on_name_content_and_execute_bit() -> None:
    base = Entry("a", b"1", 0o644)
    others = [Entry("b", b"1", 0o644), Entry("a", b"2", 0o644), Entry("a", b"1", 0o755)]
    assert len({tar([entry], NOON) for entry in (base, *others)}) == 4


def test_directories_precede_their_files() -> None:
    """Use names for which a plain sort of paths would put `a-b` between `a` and `a/x`."""
    there = [Entry("a/x"), Entry("a-b"), Entry("a", mode=0o755, kind=tarfile.DIRTYPE)]
    assert [entry.path for entry in entries(tar(there, NOON))] == ["a", "a/x", "a-b"]


LONG = "/".join(["a folder with a name of 34 letters"] * 5)


@pytest.mark.parametrize(("path", "blocks"), [("a", 1), (LONG, 1), ("x" * 120, 3)])
def test_long_name_adds_blocks_only_beyond_the_header(path: str, blocks: int) -> None:
    """A header has blocks of 512 bytes. An archive is padded to 20 blocks, and its last two blocks are empty."""
    made = tar([Entry(path)], NOON)
    assert [entry.path for entry in entries(made)] == [path]
    assert len(made.rstrip(b"\0")) <= blocks * 512 < len(made.rstrip(b"\0")) + 512


def test_links_keep_their_targets() -> None:
    link = Entry("python", mode=0o777, kind=tarfile.SYMTYPE, target="python3.13")
    assert entries(tar([link], NOON)) == [link]


def test_compressed_content_has_no_timestamp() -> None:
    assert compress(b"x")[4:8] == bytes(4)


@pytest.mark.parametrize(
    ("kind", "mode", "expected"),
    [
        (tarfile.REGTYPE, 0o600, 0o644),
        (tarfile.REGTYPE, 0o664, 0o644),
        (tarfile.REGTYPE, 0o700, 0o755),
        (tarfile.REGTYPE, 0o4755, 0o755),
        (tarfile.DIRTYPE, 0o700, 0o755),
        (tarfile.DIRTYPE, 0o1777, 0o1777),
        (tarfile.SYMTYPE, 0o755, 0o777),
    ],
)
def test_modes_are_as_under_umask_022(kind: bytes, mode: int, expected: int) -> None:
    assert normal_mode(member(kind, mode)) == expected
