"""Test a mounted certificate that changes while the webhook runs. A usable certificate always stays active."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio.testing

from sidecar.errors import ConfigurationError
from sidecar.webhook.certificate.issue import CertificateBundle, renewed, to_secret
from sidecar.webhook.certificate.mounted import MountedCertificate
from sidecar.webhook.metrics import WebhookMetrics
from sidecar.webhook.tls import Tls
from tests.support.fakes.hanging_volume import HangingDirectories
from tests.unit.webhook.cluster import Events


def bundle() -> CertificateBundle:
    return renewed(None, ["127.0.0.1"], datetime.now(UTC))


class Mounted:
    """Two files in a folder, and the object that reads the certificate from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write(bundle())
        self.events, self.tls, self.metrics = Events(), Tls(), WebhookMetrics()
        paths = [str(folder / name) for name in ("tls.crt", "tls.key")]
        self.certificate = MountedCertificate(paths[0], paths[1], self.tls, self.events.log, self.metrics)

    def write(self, found: CertificateBundle) -> None:
        """Replace the files, as a volume does. A second write to the same file could keep its time and size."""
        for name in ("tls.crt", "tls.key"):
            draft = self.folder / f"{name}.draft"
            draft.write_bytes(to_secret(found)[name])
            draft.rename(self.folder / name)


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path)


async def test_certificate_that_only_openssl_reads_is_rejected(mounted: Mounted) -> None:
    in_use, validity = mounted.tls.context, mounted.metrics.certificate
    mounted.write(bundle())
    path = mounted.folder / "tls.crt"
    path.write_bytes(path.read_bytes().replace(b" CERTIFICATE", b" TRUSTED CERTIFICATE"))
    Tls().use(bundle().serving._replace(certificate=path.read_bytes(), key=(mounted.folder / "tls.key").read_bytes()))
    await mounted.certificate.check()
    (rejected,) = mounted.events.of("certificate_rejected")
    assert f"{path} has no certificate that can be read" in rejected["reason"]
    assert (mounted.tls.context, mounted.metrics.certificate) == (in_use, validity)
    await mounted.certificate.check()
    assert len(mounted.events.of("certificate_rejected")) == 1
    mounted.write(bundle())
    await mounted.certificate.check()
    assert mounted.tls.context is not in_use


def test_unusable_certificate_ends_the_start_with_a_message(mounted: Mounted) -> None:
    path = mounted.folder / "tls.crt"
    path.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    with pytest.raises(ConfigurationError, match="no certificate that can be read"):
        MountedCertificate(str(path), str(path), Tls(), mounted.events.log, WebhookMetrics())


@pytest.mark.parametrize("call", ["open", "memfd_create"])
async def test_failed_read_is_repeated_at_the_next_check(
    mounted: Mounted, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def none_left(*_: object) -> int:
        raise OSError(24, "Too many open files")

    in_use = mounted.tls.context
    mounted.write(bundle())
    with monkeypatch.context() as patched:
        patched.setattr(os, call, none_left)
        await mounted.certificate.check()
    assert "Too many open files" in mounted.events.of("certificate_read_failed")[0]["reason"]
    assert mounted.tls.context is in_use
    await mounted.certificate.check()
    assert mounted.tls.context is not in_use


async def test_hung_volume_leaves_the_certificate_active(
    autojump_clock: object, mounted: Mounted, volumes: HangingDirectories
) -> None:
    in_use = mounted.tls.context
    mounted.write(bundle())
    with volumes.hang(str(mounted.folder / "tls.crt")):
        await mounted.certificate.check()
        assert mounted.tls.context is in_use
        (logged,) = mounted.events.of("certificate_read_failed")
        assert "its volume hangs" in logged["reason"]
    await trio.testing.wait_all_tasks_blocked(0.01)  # wait until the abandoned thread has reported its end
    await mounted.certificate.check()
    assert mounted.tls.context is not in_use
