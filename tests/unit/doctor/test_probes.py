"""Test the probes with real files, sockets and bytes."""

import random
import ssl
from pathlib import Path

import botocore
import pytest
import trio
import trustme
from cryptography import x509

from sidecar.doctor.checks.certificate import signer
from sidecar.doctor.probes import aws, issuer, metadata, token
from sidecar.role import Role
from tests.support.exchanges import scripted
from tests.support.fakes.scripted_sts import Reply as RawReply
from tests.support.fakes.tokens import service_account_token

# The token's mount

PLAIN = "36 35 0:50 / /var/run/secrets/app ro - tmpfs tmpfs rw"
SUB_PATH = "37 35 0:50 /..2026_01_02_03_04_05.678901/token /var/run/secrets/app/token ro - tmpfs tmpfs rw"
SUB_PATH_OF_A_DIRECTORY = "38 35 0:50 /..2026_01_02_03_04_05.678901/a /var/run/secrets/app ro - tmpfs tmpfs rw"
WITH_A_BLANK = r"39 35 0:50 /x /var/run/a\040b/token ro - tmpfs tmpfs rw"


@pytest.mark.parametrize(
    ("path", "table", "is_sub_path"),
    [
        ("/var/run/secrets/app/token", "", False),
        ("/var/run/secrets/app/token", PLAIN, False),
        ("/var/run/secrets/app/token", f"{PLAIN}\n{SUB_PATH}", True),
        ("/var/run/secrets/app/token", SUB_PATH_OF_A_DIRECTORY, True),
        ("/var/run/secrets/application/token", SUB_PATH_OF_A_DIRECTORY, False),
        ("/var/run/a b/token", WITH_A_BLANK, True),
        ("/var/run/secrets/app/token", "nonsense", False),
    ],
)
def test_mount_table_shows_a_sub_path_mount(
    path: str,
    table: str,
    is_sub_path: bool,  # noqa: FBT001  a column of the table
) -> None:
    assert token.is_sub_path(path, table) is is_sub_path


def test_missing_mount_table_counts_as_no_sub_path(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(service_account_token(1_800_000_000.0))
    facts = token.collect(Role("default", "arn", str(path), None, 3600), 0.0, mounts="/nowhere/mountinfo")
    assert facts.file is not None
    assert not facts.file.is_sub_path
    assert (facts.kid, facts.algorithm) == ("k1", "RS256")


# Certificates


def _certificate(organization: str = "Company Proxy") -> bytes:
    certificate = trustme.CA(organization_name=organization).issue_cert("sts.example")
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


def test_signer_of_a_certificate_is_its_issuers_organization() -> None:
    assert signer(_certificate("Ämter & Söhne")) == "Ämter & Söhne"
    der = _certificate()
    issuer = x509.load_der_x509_certificate(der).issuer
    (organization,) = issuer.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    assert signer(der) == organization.value


def test_invalid_certificate_has_no_signer() -> None:
    der = _certificate()
    print("seed 7")
    source = random.Random(7)
    assert signer(b"") is None
    for _ in range(300):
        spoilt = bytearray(der)
        for _ in range(source.randint(1, 5)):
            spoilt[source.randrange(len(spoilt))] = source.randrange(256)
        signer(bytes(spoilt[: source.randrange(len(spoilt))]))
        signer(source.randbytes(source.randrange(60)))


# The metadata service, the issuer and botocore


@pytest.mark.parametrize(
    "raw", [b"nonsense\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 99]
)
async def test_server_that_is_not_imds_yields_no_role(raw: bytes) -> None:
    async with scripted(RawReply(raw=raw)) as server:
        facts = await metadata.collect(server.url.rstrip("/"))
    assert facts.role is None


async def test_silent_metadata_service_times_out_within_3_seconds(autojump_clock: object) -> None:
    began = trio.current_time()
    async with scripted(RawReply(delay_seconds=999.0)) as server:
        facts = await metadata.collect(server.url.rstrip("/"))
    assert (facts.has_v1, facts.has_v2) == (False, False)
    assert trio.current_time() - began < 3
    assert not (await metadata.collect("http://[::1")).has_v1


async def test_issuer_is_not_called_without_iss_or_a_valid_bundle(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for changes, reason in (({"iss": None}, None), ({}, "tls")):
        path.write_text(service_account_token(1_800_000_000.0, **changes))
        facts = token.collect(Role("default", "arn", str(path), None, 3600), 0.0)
        found = await issuer.collect(facts, is_aws=True, ca_bundle="/nowhere")
        assert (found.error and found.error.reason) == reason


def test_botocore_without_service_models_counts_as_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert aws.is_installed()
    monkeypatch.setattr(botocore, "BOTOCORE_ROOT", str(tmp_path))
    assert not aws.is_installed()
