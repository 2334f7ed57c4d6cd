"""Test the thumbprint that an audit compares, with servers of public and private authorities on a fake internet."""

from typing import Any

import pytest

from sidecar.audit.inventory import Cluster
from sidecar.audit.run import ISSUER_CERTIFICATE, Sources, with_issuer
from tests.support.fakes.internet import Internet
from tests.unit.audit.documents import ISSUER as EKS_ISSUER
from tests.unit.setup.conftest import (  # noqa: F401  fixtures
    ISSUER,
    KEY,
    KEYS_URI,
    Authorities,
    authorities,
    discovery,
    issuer,
    net,
)


def serve(net: Internet, authorities: Authorities, authority: Any) -> None:  # noqa: F811  not the fixtures
    net.serve("oidc.example.com", authorities.server(authority, "oidc.example.com"))
    net.publish(f"{ISSUER}/.well-known/openid-configuration", discovery())
    net.publish(KEYS_URI, {"keys": [KEY]})


async def read(issuer: str = ISSUER, ca_file: str | None = None) -> Cluster:  # noqa: F811  not the fixture
    return await with_issuer(Cluster(read_at=0.0, issuer=issuer), Sources(ca_file=ca_file))


async def test_private_certificate_without_its_authority_is_unread(net: Internet, authorities: Authorities) -> None:  # noqa: F811
    serve(net, authorities, authorities.private)
    found = await read()
    (problem,) = found.problems
    assert (problem.part, found.issuer_thumbprint) == (ISSUER_CERTIFICATE, "")
    assert "--ca-file" in problem.fix


async def test_authority_of_a_private_certificate_gives_a_thumbprint(net: Internet, authorities: Authorities) -> None:  # noqa: F811
    serve(net, authorities, authorities.private)
    found = await read(ca_file=str(authorities.private_file))
    assert (found.problems, len(found.issuer_thumbprint)) == ((), 40)


@pytest.mark.usefixtures("issuer")
async def test_public_certificate_needs_no_thumbprint() -> None:
    assert await read() == Cluster(read_at=0.0, issuer=ISSUER)


@pytest.mark.usefixtures("net")
async def test_unreachable_issuer_is_a_problem_only_with_an_authority(authorities: Authorities) -> None:  # noqa: F811
    """A machine in a private network cannot reach the issuer, but AWS can."""
    assert (await read()).problems == ()
    (problem,) = (await read(ca_file=str(authorities.private_file))).problems
    assert problem.part == ISSUER_CERTIFICATE


@pytest.mark.parametrize("url", [EKS_ISSUER, "kubernetes/serviceaccount", "http://127.0.0.1:1", ""])
async def test_other_issuers_are_not_requested(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("sidecar.audit.run.fetch_issuer")
    assert (await read(url)).problems == ()
