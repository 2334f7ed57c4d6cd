"""Test changes of the AWS_CA_BUNDLE file while the daemon runs, with real TLS servers."""

import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio
import trustme

from sidecar import ca_bundle, file_thread
from sidecar.ca_bundle import CaBundle
from sidecar.errors import ConfigurationError, ExchangeError
from sidecar.sts.client import StsClient
from tests.support.exchanges import REQUEST, STS_HOST, TOKEN, Authority, Resolver, scripted
from tests.support.fakes.connect_proxy import ConnectProxy
from tests.support.fakes.scripted_sts import ScriptedSts
from tests.support.processes import get, hour_long_reply, pod_environment, run_daemon

GAUGE = "irsa_sidecar_ca_bundle_last_reload_successful"

pytestmark = pytest.mark.usefixtures("no_proxies")


class Rotation:
    """Two authorities, and a file with the certificate of the first authority."""

    def __init__(self, directory: Path) -> None:
        (directory / "old").mkdir()
        (directory / "new").mkdir()
        self.old, self.new = Authority(directory / "old"), Authority(directory / "new")
        self.path = directory / "bundle.pem"
        self.path.write_bytes(self.old_pem)

    @property
    def old_pem(self) -> bytes:
        return Path(self.old.bundle).read_bytes()

    @property
    def new_pem(self) -> bytes:
        return Path(self.new.bundle).read_bytes()


@pytest.fixture
def rotation(tmp_path: Path) -> Rotation:
    return Rotation(tmp_path)


def rename(path: Path, content: bytes) -> None:
    """Replace the file by a rename, as careful tools do."""
    (path.parent / "next").write_bytes(content)
    (path.parent / "next").replace(path)


def rewrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def swap(path: Path, content: bytes) -> None:
    """Replace the file as in a mounted ConfigMap, by a swap of the directory `..data`."""
    directory = path.parent / "..2026"
    directory.mkdir()
    (directory / path.name).write_bytes(content)
    (path.parent / "..data").symlink_to("..2026")
    (path.parent / "link").symlink_to(f"..data/{path.name}")
    (path.parent / "link").replace(path)


CHANGES = [rename, rewrite, swap]


async def trusts(client: StsClient, server: ScriptedSts) -> bool:
    code = None
    try:
        await client.exchange(REQUEST, TOKEN)
    except ExchangeError as error:
        code = error.code
    assert code in {None, "Tls"}
    return code is None and bool(server.requests)


@pytest.mark.parametrize("change", CHANGES)
async def test_changed_bundle_is_used_for_the_next_exchange(
    rotation: Rotation, change: Callable[[Path, bytes], None]
) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    async with (
        scripted(tls=rotation.new.server(), host=STS_HOST) as sts,
        StsClient(sts.url, ca_bundle=str(rotation.path)) as client,
    ):
        assert not await trusts(client, sts)
        change(rotation.path, rotation.new_pem)
        assert await trusts(client, sts)


async def test_removed_authority_is_not_trusted_any_more(rotation: Rotation) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    rotation.path.write_bytes(rotation.old_pem + rotation.new_pem)
    async with (
        scripted(tls=rotation.new.server(), host=STS_HOST) as sts,
        StsClient(sts.url, ca_bundle=str(rotation.path)) as client,
    ):
        assert await trusts(client, sts)
        rename(rotation.path, rotation.old_pem)
        assert not await trusts(client, sts)


async def test_second_swap_of_a_config_map_is_detected(rotation: Rotation) -> None:
    swap(rotation.path, rotation.old_pem)
    bundle = Reported(str(rotation.path))
    (rotation.path.parent / "..2027").mkdir()
    (rotation.path.parent / "..2027" / rotation.path.name).write_bytes(rotation.new_pem)
    (rotation.path.parent / "..data_tmp").symlink_to("..2027")
    (rotation.path.parent / "..data_tmp").replace(rotation.path.parent / "..data")
    await bundle.refresh()
    assert bundle.reports == [None]


class Reported(CaBundle):
    """A CaBundle that records its reports in the order in which they arrive."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.reports: list[str | None] = []
        self.report = lambda _path, error: self.reports.append(None if error is None else str(error))


def replaced_by(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def remove_and_change(path: Path) -> None:
        path.unlink()
        change(path)

    return remove_and_change


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "removed": Path.unlink,
    "not PEM": lambda path: path.write_bytes(b"\x30\x82"),
    "cut within the first certificate": lambda path: path.write_bytes(path.read_bytes()[:400]),
    "a directory": replaced_by(Path.mkdir),
    "a link to nothing": replaced_by(lambda path: path.symlink_to("nowhere")),
    "a link to itself": replaced_by(lambda path: path.symlink_to(path.name)),
    "a FIFO": replaced_by(os.mkfifo),
    "a key": lambda path: path.write_bytes(trustme.CA().private_key_pem.bytes()),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_unreadable_bundle_is_reported_once_and_not_used(rotation: Rotation, kind: str) -> None:
    bundle = Reported(str(rotation.path))
    context = bundle.context
    BROKEN[kind](rotation.path)
    for _ in range(3):
        await bundle.refresh()
    assert bundle.context is context
    (report,) = bundle.reports
    assert report is not None
    assert report.startswith(f"AWS_CA_BUNDLE is {str(rotation.path)!r}, which ")


@pytest.mark.parametrize(("kind", "words"), [("removed", "no longer exists"), ("a link to itself", "Too many levels")])
async def test_report_tells_a_missing_file_from_an_unreadable_one(rotation: Rotation, kind: str, words: str) -> None:
    """A link to itself stands for a directory without the permission to search, which root can always search."""
    bundle = Reported(str(rotation.path))
    BROKEN[kind](rotation.path)
    await bundle.refresh()
    (report,) = bundle.reports
    assert report is not None
    assert words in report
    assert ("no longer exists" in report) == (kind == "removed")


@pytest.mark.parametrize("kind", BROKEN)
async def test_repaired_bundle_is_used(rotation: Rotation, kind: str) -> None:
    bundle = Reported(str(rotation.path))
    before = bundle.context
    BROKEN[kind](rotation.path)
    await bundle.refresh()
    if rotation.path.is_dir():
        rotation.path.rmdir()
    rename(rotation.path, rotation.new_pem)
    await bundle.refresh()
    assert bundle.reports[-1] is None
    assert bundle.context is not before


async def test_bundle_written_in_parts_is_read_again_when_complete(rotation: Rotation) -> None:
    bundle = Reported(str(rotation.path))
    pem = rotation.old_pem + rotation.new_pem
    for end in (10, len(pem) // 4, len(rotation.old_pem), len(pem) - 30, len(pem)):
        rewrite(rotation.path, pem[:end])
        await bundle.refresh()
    assert bundle.reports[-1] is None
    assert len(bundle.context.get_ca_certs()) == 2


async def test_unchanged_bundle_keeps_its_context_and_is_not_read(
    rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Reported(str(rotation.path))
    monkeypatch.delattr(ca_bundle, "trust_in")
    context = bundle.context
    for _ in range(3):
        await bundle.refresh()
    assert (bundle.context, bundle.reports) == (context, [])


def test_unreadable_bundle_at_the_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
        CaBundle(str(tmp_path / "nowhere"))


@pytest.fixture
async def hanging(
    rotation: Rotation, real_file_threads: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[threading.Event]:
    """Block the read of the bundle until the event is set, as a hung volume does."""
    answers = threading.Event()

    def hang(path: str, before: object) -> None:
        answers.wait()

    monkeypatch.setattr(ca_bundle, "load_if_changed", hang)
    yield answers
    answers.set()
    for operation in list(file_thread._operations_of_this_run().running.values()):
        await operation.ended.wait()


async def test_hung_volume_is_reported_once_and_changes_nothing(
    rotation: Rotation, hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_thread, "DEADLINE_SECONDS", 0.05)
    bundle = Reported(str(rotation.path))
    context = bundle.context
    for _ in range(3):
        await bundle.refresh()
    assert bundle.context is context
    (report,) = bundle.reports
    assert report is not None
    assert "its volume hangs" in report


async def test_regions_and_their_proxy_use_the_new_authorities(
    rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted(tls=rotation.new.server(), host=STS_HOST) as sts, trio.open_nursery() as nursery:
        proxy = ConnectProxy(sts.port, tls=rotation.new.server("127.0.0.1"))
        await nursery.start(proxy.serve)
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        async with (
            StsClient(sts.url, ca_bundle=str(rotation.path)) as first,
            StsClient(sts.url, authorities=first.authorities) as second,
        ):
            assert not await trusts(second, sts)
            rename(rotation.path, rotation.new_pem)
            assert await trusts(first, sts)
            assert await trusts(second, sts)
        nursery.cancel_scope.cancel()
    assert proxy.heads


async def test_running_exchange_keeps_its_authorities(rotation: Rotation) -> None:
    """Check that the transport of a running exchange stays open until the exchange ends."""
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    slow = hour_long_reply("ASIASLOW")
    async with (
        scripted(type(slow)(200, slow.body, delay_seconds=0.2), hour_long_reply(), tls=rotation.old.server(),
                 host=STS_HOST) as sts,
        StsClient(sts.url, ca_bundle=str(rotation.path)) as client,
    ):  # fmt: skip
        found = []

        async def exchange() -> None:
            found.append((await client.exchange(REQUEST, TOKEN)).credentials.access_key_id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(exchange)
            await sts.called.wait()
            rename(rotation.path, rotation.old_pem + rotation.new_pem)
            await exchange()
    assert found == ["ASIAFAKE0001", "ASIASLOW"]


async def test_run_survives_a_rotation_of_its_authority(tmp_path: Path, rotation: Rotation) -> None:
    """Check that `run` needs no restart, and survives a broken file during the rotation."""
    async with scripted(hour_long_reply("ASIANEW"), tls=rotation.new.server("127.0.0.1")) as sts:
        environment = pod_environment(tmp_path / "token", sts.url, AWS_CA_BUNDLE=str(rotation.path))
        async with run_daemon(environment) as running:
            metrics = f"http://{urlsplit(running.ready_url).netloc}/metrics"
            await running.logged("refresh_failed", code="Tls")
            assert f"{GAUGE} 1" in (await get(metrics))[1]["text"]
            rename(rotation.path, b"not whole yet")
            rejected = await running.logged("ca_bundle_rejected")
            assert f"{GAUGE} 0" in (await get(metrics))[1]["text"]
            rename(rotation.path, rotation.old_pem + rotation.new_pem)
            await running.logged("ca_bundle_reloaded", path=str(rotation.path))
            await running.logged("credentials_refreshed")
            status, body = await get(running.url)
            assert f"{GAUGE} 1" in (await get(metrics))[1]["text"]
    assert (status, body["AccessKeyId"]) == (200, "ASIANEW")
    assert rejected["level"] == "error"
    assert "AWS_CA_BUNDLE" in rejected["reason"]
