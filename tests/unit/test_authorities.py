"""Test the folder of certifi's authorities in the image, from which OpenSSL reads only the authority that it needs."""

import importlib.util
import ssl
from pathlib import Path
from types import ModuleType

import certifi
import pytest
import trustme

from sidecar.authorities import trust_in

HOST = "sts.eu-west-1.amazonaws.com"


def _script() -> ModuleType:
    path = Path(__file__).parents[2] / "image" / "authorities.py"
    spec = importlib.util.spec_from_file_location("authorities", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


authorities = _script()


@pytest.fixture(scope="module")
def crypto() -> Path:
    """Return the libcrypto that this Python's `ssl` has loaded."""
    found = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libcrypto" in line]
    if not found:
        pytest.skip("this Python has OpenSSL linked in")
    return Path(found[0])


def package(directory: Path, *cas: trustme.CA) -> Path:
    """Write a package `certifi` with these authorities, in the form of the package on PyPI."""
    (directory / "certifi").mkdir()
    (directory / "certifi" / "__init__.py").touch()
    bundle = directory / "certifi" / "cacert.pem"
    bundle.write_bytes(b"\n# Owner: somebody\n".join(ca.cert_pem.bytes() for ca in cas))
    return bundle


def trusts(context: ssl.SSLContext, ca: trustme.CA) -> bool:
    """Return whether a handshake with a server of this authority succeeds."""
    accepting = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(HOST).configure_cert(accepting)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=HOST)
    server = accepting.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(2):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return client.version() is not None


def test_authority_is_loaded_only_when_it_is_needed(
    tmp_path: Path, crypto: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Include two authorities with one name, as after a renewal."""
    ours, renewed = [trustme.CA(organization_name="A", organization_unit_name="Ä  root") for _ in range(2)]
    bundle = package(tmp_path, trustme.CA(), ours, renewed)
    authorities.lay_out(bundle, bundle.with_suffix(".d"), crypto)
    bundle.unlink()
    monkeypatch.syspath_prepend(tmp_path)
    trust = trust_in(None)
    assert trust.get_ca_certs() == []
    assert [trusts(trust, ca) for ca in (ours, renewed, trustme.CA())] == [True, True, False]


def test_bundle_is_read_if_the_hash_folder_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = trustme.CA()
    package(tmp_path, ours)
    monkeypatch.syspath_prepend(tmp_path)
    assert trusts(trust_in(None), ours)


def test_users_bundle_replaces_the_public_authorities(
    tmp_path: Path, crypto: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, ours = trustme.CA(), trustme.CA()
    bundle = package(tmp_path, theirs)
    authorities.lay_out(bundle, bundle.with_suffix(".d"), crypto)
    monkeypatch.syspath_prepend(tmp_path)
    own = tmp_path / "own.pem"
    ours.cert_pem.write_to_path(own)
    trust = trust_in(str(own))
    assert [trusts(trust, ca) for ca in (ours, theirs)] == [True, False]


def test_folder_has_all_authorities_of_certifi(tmp_path: Path, crypto: Path) -> None:
    authorities.lay_out(Path(certifi.where()), tmp_path / "all.d", crypto)
    whole = ssl.create_default_context(cafile=certifi.where()).get_ca_certs(binary_form=True)
    laid_out = [ssl.PEM_cert_to_DER_cert(file.read_text()) for file in (tmp_path / "all.d").iterdir()]
    assert sorted(laid_out) == sorted(whole)
    assert len(laid_out) > 100
