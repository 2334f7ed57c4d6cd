"""Test that each flag selects the right issuer."""

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import SidecarError
from sidecar.setup.issuer_choice import Issuer, issuer_of_eks
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.internet import Internet
from tests.unit.setup.conftest import ISSUER, Offline, discovery

CLUSTER = {"name": "shop", "status": "ACTIVE", "identity": {"oidc": {"issuer": ISSUER}}}


def test_issuer_of_an_eks_cluster_comes_from_eks() -> None:
    assert issuer_of_eks(CLUSTER) == ISSUER


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"outpostConfig": {"outpostArns": ["arn:x"]}, "identity": {}}, "Outpost"),
        ({"outpostConfig": {"outpostArns": ["arn:x"]}}, "Outpost"),
        ({"connectorConfig": {"provider": "OTHER"}, "identity": None}, "--issuer"),
        ({"identity": {}, "status": "CREATING"}, "ACTIVE"),
    ],
)
def test_eks_cluster_without_an_issuer_is_an_error(changes: Any, word: str) -> None:
    with pytest.raises(SidecarError) as caught:
        issuer_of_eks(CLUSTER | changes)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://oidc.eks.eu-west-1.amazonaws.com/id/A", "eu-west-1"),
        ("https://oidc.eks.cn-north-1.amazonaws.com.cn/id/A", "cn-north-1"),
        ("https://oidc.eks.us-iso-east-1.c2s.ic.gov/id/A", "us-iso-east-1"),
        ("https://oidc-eks.eu-west-1.api.aws/id/A", "eu-west-1"),
        ("https://oidc.example.com/id/A", None),
        ("https://oidc.eks.eu-west-1.amazonaws.com.evil.net/x", None),
        ("https://oidc.eks.eu-west-1.amazonaws.com.cn/x", None),
        ("https://xoidc.eks.eu-west-1.amazonaws.com/x", None),
    ],
)
def test_eks_issuer_is_recognised_by_its_host(url: str, region: str | None) -> None:
    assert Issuer(url).eks_region == region


@pytest.fixture
def cluster(offline: Offline, tmp_path: Path) -> Any:
    with api_server() as fake:
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig(fake.url)))
        yield fake


def test_issuer_comes_from_the_kubeconfig_by_default(offline: Offline, cluster: FakeApiServer) -> None:
    cluster.documents["/.well-known/openid-configuration"] = discovery()
    done = offline("role", "cart", "--service-account", "shop/cart")
    assert (done.status, done.err) == (0, "")
    assert "oidc-provider/oidc.example.com/clusters/shop" in done.out


def test_unreachable_issuer_of_the_cluster_is_a_warning(
    offline: Offline, cluster: FakeApiServer, net: Internet
) -> None:
    url = "https://oidc.eks.eu-west-1.amazonaws.com/id/A"
    cluster.documents["/.well-known/openid-configuration"] = discovery(url)
    done = offline("oidc-provider")
    assert done.status == 0
    assert done.err.startswith("irsa-sidecar: warning: ")
    assert "oidc.eks.eu-west-1.amazonaws.com" in done.err
    assert json.loads(done.out) == {"Url": url, "ClientIDList": ["sts.amazonaws.com"]}


@pytest.mark.parametrize("document", [None, {"keys": []}, b"nothing", b"[]"])
def test_cluster_without_discovery_is_an_error(offline: Offline, cluster: FakeApiServer, document: Any) -> None:
    if document is not None:
        cluster.documents["/.well-known/openid-configuration"] = document
    done = offline("role", "cart", "--service-account", "shop/cart")
    assert (done.status, done.out) == (1, "")
    assert "--issuer" in done.err
    assert "--cluster" in done.err


@pytest.mark.parametrize("step", [("oidc-provider",), ("role", "cart", "--service-account", "shop/cart")])
def test_unusable_issuer_flag_exits_with_status_2(offline: Offline, step: tuple[str, ...]) -> None:
    done = offline(*step, "--issuer", "https://oidc.example.com:8443")
    assert (done.status, done.out) == (2, "")
    assert "https://oidc.example.com:8443" in done.err


def test_missing_kubeconfig_is_named_in_the_error(offline: Offline) -> None:
    done = offline("role", "cart", "--service-account", "shop/cart")
    assert done.status == 2
    assert "kubeconfig" in done.err
