"""Test the file of accepted findings, the baseline and saved inventories: valid files, and errors for other files."""

import os
import stat
from pathlib import Path

import pytest

from sidecar.audit.accepted import read_acceptances, read_baseline
from sidecar.audit.inventory import Inventory
from sidecar.audit.saved import load, save
from sidecar.errors import ConfigurationError

ENTRY = b"""\
accepted:
  - rule: wide.pattern
    subject: Role arn:aws:iam::111122223333:role/ci-*
    reason: each branch has a ServiceAccount
    until: 2027-03-31
"""


def test_entry_is_valid_until_the_end_of_its_day() -> None:
    (entry,) = read_acceptances(ENTRY, "file")
    assert (entry.rule, entry.line) == ("wide.pattern", 2)
    assert entry.until == pytest.approx(1806537599.999999)


@pytest.mark.parametrize("text", [b"", b"accepted: []\n"])
def test_file_without_entries_is_valid(text: bytes) -> None:
    assert read_acceptances(text, "file") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ENTRY.replace(b"    until: 2027-03-31\n", b""), "file, line 2: accepted has no `until`. Add `until:`."),
        (ENTRY.replace(b"2027-03-31", b"soon"), "file, line 5: until is 'soon', which is not a date."),
        (ENTRY.replace(b"reason: each", b"reasons: each"), "reasons is not a setting. Did you mean reason?"),
        (b"- rule: x", "is not a mapping"),
        (b"accepted: {", "file"),
        (b"accepted: [[]]", "is not a mapping"),
    ],
)
def test_invalid_entry_is_reported_with_its_line(text: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_acceptances(text, "file")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"findings": [1]}', b"\xff", b"[" * 100_000])
def test_baseline_that_is_not_a_report_is_rejected(text: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"--baseline is last\.json, which is not a report"):
        read_baseline(text, "last.json")


def test_saved_inventory_is_private_and_equals_the_original(world: Inventory, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "inventory"
    save(world, str(directory))
    assert load(str(directory)) == world
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"[]",
        b'{"read_at": "yesterday"}',
        b"\xff",
        b'{"version": 9, "read_at": 1}',
        b'{"read_at": 1, "context": "\xff"}',
        b'{"read_at": 1, "context": "\\ud800"}',
        b'{"read_at": 1e999}',
        b'{"read_at": 1, "nodes": ' + b"[" * 100_000,
    ],
)
def test_unusable_saved_inventory_is_reported(content: bytes | None, world: Inventory, tmp_path: Path) -> None:
    save(world, str(tmp_path))
    path = tmp_path / "cluster.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"--from is .*cluster\.json") as caught:
        load(str(tmp_path))
    assert "--save DIRECTORY" in caught.value.fix


def test_fifo_in_the_saved_inventory_is_reported(world: Inventory, tmp_path: Path) -> None:
    """A read would wait for the writer of the FIFO."""
    save(world, str(tmp_path))
    (tmp_path / "account.json").unlink()
    os.mkfifo(tmp_path / "account.json")
    with pytest.raises(ConfigurationError, match=r"account\.json cannot be read \(it is not a regular file\)"):
        load(str(tmp_path))


def test_directory_that_cannot_be_written_is_reported(world: Inventory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"--save is .*file, which cannot be written"):
        save(world, str(tmp_path / "file"))
