"""Test the choice and the creation of the state directory, and the boot clock."""

import os
import stat
from pathlib import Path

import pytest
from trio.testing import MockClock

from sidecar.daemon import state_directory
from sidecar.daemon.daemon import make_daemon
from sidecar.daemon.state_directory import open_directory
from sidecar.errors import ConfigurationError
from sidecar.mounts import filesystem_type
from sidecar.refresh.refresher import Sources
from tests.support.users import needs_linux, needs_root
from tests.unit.daemon.restarted_pod import Machine
from tests.unit.daemon.test_daemon import make_config, make_log

MOUNTS = """\
21 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/a
22 21 0:21 / /proc rw - proc proc rw
30 21 0:34 / /run/irsa-sidecar-state rw,relatime shared:12 master:3 - tmpfs tmpfs rw,size=1024k
31 21 8:1 /a\\040b /data rw - ext4 /dev/sda1 rw
32 21 0:40 / /ram rw - ramfs none rw
garbage
"""


@pytest.mark.parametrize(
    ("device", "found"),
    [((0, 34), "tmpfs"), ((8, 1), "ext4"), ((0, 20), "overlay"), ((0, 40), "ramfs"), ((0, 3), None), ((0, 99), None)],
)
def test_filesystem_type_is_found_by_the_device(device: tuple[int, int], found: str | None) -> None:
    assert filesystem_type(MOUNTS, os.makedev(*device)) == found


@needs_linux
@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no tmpfs here")
def test_directory_in_memory_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/dev/shm/irsa-sidecar-test-{os.getpid()}"
    try:
        assert open_directory(path, allow_disk=False) == path
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    finally:
        os.rmdir(path)


@pytest.mark.parametrize("found", ["ext4", "overlay", "xfs", "nfs4", "fuse.sshfs", None])
def test_directory_on_a_disk_is_rejected_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str | None
) -> None:
    monkeypatch.setattr(state_directory, "filesystem_type", lambda *_: found)
    path = tmp_path / "state"
    with pytest.raises(ConfigurationError, match=r"IRSA_SIDECAR_STATE_DIR is .*IRSA_SIDECAR_STATE_ALLOW_DISK=true"):
        open_directory(str(path), allow_disk=False)
    assert not path.exists()
    assert open_directory(str(path), allow_disk=True) == str(path)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o755, 0o750, 0o701, 0o2777])
def test_shared_directory_gets_a_private_subdirectory(tmp_path: Path, mode: int) -> None:
    """Use modes that give others access. The daemon must not change the mode of a volume."""
    volume = tmp_path / "volume"
    volume.mkdir()
    volume.chmod(mode)
    for _ in range(2):
        path = open_directory(str(volume), allow_disk=True)
        assert path == f"{volume}/irsa-sidecar"
        assert os.stat(path).st_mode & 0o077 == 0
        os.chmod(path, 0o755)
    assert stat.S_IMODE(volume.stat().st_mode) == mode


@pytest.mark.parametrize("what", ["a file", "a missing parent", "a link below", "a file below", "no name"])
def test_directory_that_cannot_be_used_is_a_configuration_error(tmp_path: Path, what: str) -> None:
    path = tmp_path / "state"
    if what == "a file":
        path.write_text("x")
    elif what == "a missing parent":
        path = path / "below"
    elif what == "a link below":
        path.mkdir(mode=0o755)
        (path / "irsa-sidecar").symlink_to(tmp_path)
    elif what == "a file below":
        path.mkdir(mode=0o755)
        (path / "irsa-sidecar").write_text("x")
    else:
        path = tmp_path / "\x00"
    with pytest.raises(ConfigurationError, match="IRSA_SIDECAR_STATE_DIR is"):
        open_directory(str(path), allow_disk=True)


@needs_root
def test_directory_of_another_user_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "irsa-sidecar").mkdir(mode=0o700)
    tmp_path.chmod(0o777)
    os.chown(tmp_path / "irsa-sidecar", 12_345, -1)
    with pytest.raises(ConfigurationError, match="somebody else"):
        open_directory(str(tmp_path), allow_disk=True)


@needs_linux
def test_boot_clock_increases_and_has_an_id() -> None:
    boot = state_directory.this_boot()
    assert boot is not None
    assert len(boot.boot_id) == 36
    assert 0 < boot.now() <= boot.now()


@pytest.mark.parametrize("missing", ["the id", "an empty id", "the clock"])
async def test_kernel_without_boot_id_or_clock_disables_the_state(
    autojump_clock: MockClock, machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    (tmp_path / "empty").write_text("\n")
    if missing == "the clock":
        monkeypatch.delattr("time.CLOCK_BOOTTIME")
    else:
        monkeypatch.setattr(state_directory, "_BOOT_ID", str(tmp_path / ("empty" if "empty" in missing else "none")))
    config = make_config(machine.token_file)._replace(state_dir=str(machine.directory), state_allow_disk=True)
    daemon = make_daemon(config, machine.sts, sources=Sources(machine.wall.clock), log=make_log(machine.events))
    assert daemon.state is None
    assert machine.logged("state_unavailable")
