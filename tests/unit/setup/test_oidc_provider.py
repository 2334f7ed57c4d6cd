"""Test `setup oidc-provider` with an account in moto and an issuer behind TLS."""

import hashlib
import socket
import ssl
import sys
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1

from sidecar.setup import issuer_fetch
from sidecar.setup.issuer_fetch import UnreachableError, fetch_issuer
from tests.support.fakes.internet import Internet
from tests.unit.setup.conftest import ISSUER, KEY, KEYS_URI, Account, Authorities, Offline, discovery

ARN = "arn:aws:iam::123456789012:oidc-provider/oidc.example.com/clusters/shop"
DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"


def provider(account: Account, arn: str = ARN) -> dict[str, Any]:
    found: dict[str, Any] = account.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    return found


def create_cluster(account: Account) -> str:
    """Create an EKS cluster with the name shop, and return its issuer."""
    role = "arn:aws:iam::123456789012:role/eks"
    cluster = account.client("eks").create_cluster(name="shop", roleArn=role, resourcesVpcConfig={})["cluster"]
    return str(cluster["identity"]["oidc"]["issuer"])


def test_provider_is_created_only_once(account: Account, issuer: Internet) -> None:
    first = account.setup("oidc-provider", "--issuer", ISSUER)
    shown = f"+ Url: {ISSUER}\n+ ClientIDList:\n+ - sts.amazonaws.com\n"
    assert first.without_next() == (0, f"OIDC provider {ARN}: to be created\n{shown}done: create the provider\n", "")
    assert provider(account)["ClientIDList"] == ["sts.amazonaws.com"]
    assert provider(account)["ThumbprintList"] == []
    again = account.setup("oidc-provider", "--issuer", ISSUER).without_next()
    assert again == (0, f"OIDC provider {ARN}: nothing to change\n", "")


def test_audience_and_tags_are_added_to_a_provider(account: Account, issuer: Internet) -> None:
    account.setup("oidc-provider", "--issuer", ISSUER, "--tag", "team=shop")
    done = account.setup("oidc-provider", "--issuer", ISSUER, "--audience", "vault", "--tag", "team=till")
    assert done.without_next().out.endswith("done: add audience vault\ndone: tag it with team\n")
    assert provider(account)["ClientIDList"] == ["sts.amazonaws.com", "vault"]
    assert provider(account)["Tags"] == [{"Key": "team", "Value": "till"}]
    assert "nothing to change" in account.setup("oidc-provider", "--issuer", ISSUER, "--audience", "vault").out


@pytest.mark.parametrize("flag", ["--dry-run", "--output=json", "--output=terraform"])
def test_dry_run_and_output_create_nothing(account: Account, issuer: Internet, flag: str) -> None:
    assert account.setup("oidc-provider", "--issuer", ISSUER, flag).status == 0
    assert account.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"] == []


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov"), ("us-iso-east-1", "aws-iso")],
)
def test_each_partition_has_its_own_arns_and_one_audience(
    account: Account, issuer: Internet, region: str, partition: str
) -> None:
    done = account.setup("oidc-provider", "--issuer", ISSUER, "--region", region)
    arn = ARN.replace("arn:aws:", f"arn:{partition}:")
    assert done.out.startswith(f"OIDC provider {arn}: to be created")
    found = account.client("iam", region).get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert found["ClientIDList"] == ["sts.amazonaws.com"]


def test_cluster_flag_reads_the_issuer_from_eks(account: Account, net: Internet, authorities: Authorities) -> None:
    issuer = create_cluster(account)
    net.serve(
        "oidc.eks.eu-west-1.amazonaws.com", authorities.server(authorities.public, "*.eks.eu-west-1.amazonaws.com")
    )
    net.publish(f"{issuer}/.well-known/openid-configuration", discovery(issuer))
    net.publish(f"{issuer}/keys", {"keys": [KEY]})
    done = account.setup("oidc-provider", "--cluster", "shop")
    assert (done.status, done.err) == (0, "")
    assert provider(account, f"arn:aws:iam::123456789012:oidc-provider/{issuer[8:]}")
    assert net.requested_urls == [f"{issuer}/.well-known/openid-configuration", f"{issuer}/keys"]


def test_unreachable_issuer_that_eks_names_is_a_warning(account: Account, net: Internet) -> None:
    create_cluster(account)
    done = account.setup("oidc-provider", "--cluster", "shop")
    assert done.status == 0
    assert "endpoint for EKS in this VPC (com.amazonaws.eu-west-1.eks, with " in done.err
    assert done.err.startswith("irsa-sidecar: warning: ")
    assert "done: create the provider" in done.out


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "Name or service not known"), TimeoutError()])
def test_error_of_a_hidden_issuer_names_the_vpc_endpoint(
    account: Account, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host in {"127.0.0.1", b"127.0.0.1"}:
            return real(host, *arguments, **options)
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    done = account.setup("oidc-provider", "--issuer", "https://oidc.eks.eu-west-1.amazonaws.com/id/A")
    assert (done.status, done.out) == (1, "")
    assert "endpoint for EKS in this VPC (com.amazonaws.eu-west-1.eks, with private DNS)" in done.err
    assert "Use --cluster NAME" in done.err
    assert done.err.count("\n") == 1


def test_unreachable_issuer_fails_without_skip_checks(account: Account, net: Internet) -> None:
    done = account.setup("oidc-provider", "--issuer", ISSUER)
    assert done.status == 1
    assert "oidc.example.com: the proxy rejected the request" in done.err
    assert "--skip-checks" in done.err
    assert account.setup("oidc-provider", "--issuer", ISSUER, "--skip-checks").status == 0


# Thumbprints


def privately(net: Internet, authorities: Authorities, **options: Any) -> None:
    net.serve("oidc.example.com", authorities.server(authorities.intermediate, "oidc.example.com", **options))
    net.publish(DISCOVERY, discovery())
    net.publish(KEYS_URI, {"keys": [KEY]})


def test_thumbprint_belongs_to_the_last_certificate_sent(
    account: Account, issuer: Internet, authorities: Authorities
) -> None:
    keys = "https://keys.example.net/jwks"
    issuer.publish(DISCOVERY, discovery(jwks_uri=keys))
    issuer.serve("keys.example.net", authorities.server(authorities.intermediate, "keys.example.net"))
    issuer.publish(keys, {"keys": [KEY]})
    done = account.setup("oidc-provider", "--issuer", ISSUER, "--ca-file", str(authorities.private_file))
    topmost = x509.load_pem_x509_certificate(authorities.intermediate.cert_pem.bytes())
    assert (done.status, done.err) == (0, "")
    assert provider(account)["ThumbprintList"] == [topmost.fingerprint(SHA1()).hex()]


def test_new_thumbprint_is_added_to_the_existing_ones(
    account: Account, net: Internet, authorities: Authorities
) -> None:
    old = hashlib.sha1(b"before").hexdigest()
    account.iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"], ThumbprintList=[old])
    privately(net, authorities)
    flags = ("--issuer", ISSUER, "--ca-file", str(authorities.private_file))
    assert "done: update its thumbprints" in account.setup("oidc-provider", *flags).out
    assert len(provider(account)["ThumbprintList"]) == 2
    assert provider(account)["ThumbprintList"][0] == old
    assert "nothing to change" in account.setup("oidc-provider", *flags).out


@pytest.mark.parametrize(
    ("ca_file", "status", "word"),
    [
        (None, 1, "set --ca-file"),
        ("public", 1, "Set --ca-file"),
        ("nowhere", 2, "--ca-file is '/nowhere.pem'"),
    ],
)
def test_unverified_server_gets_no_thumbprint(  # noqa: PLR0917
    offline: Offline, net: Internet, authorities: Authorities, ca_file: str | None, status: int, word: str
) -> None:
    privately(net, authorities)
    path = {"public": str(authorities.public_file), "nowhere": "/nowhere.pem"}.get(ca_file or "")
    done = offline("oidc-provider", "--issuer", ISSUER, *(["--ca-file", path] if path else []))
    assert done.status == status
    assert word in done.err
    assert done.err.count("\n") == 1


def test_certificate_for_another_name_is_an_error(offline: Offline, net: Internet, authorities: Authorities) -> None:
    net.serve("oidc.example.com", authorities.server(authorities.public, "other.example.com"))
    done = offline("oidc-provider", "--issuer", ISSUER, "--ca-file", str(authorities.private_file))
    assert done.status == 1
    assert "The certificate of oidc.example.com" in done.err
    assert "--ca-file" not in done.err


def test_proxy_certificate_gives_eks_no_thumbprint(offline: Offline, net: Internet, authorities: Authorities) -> None:
    url = "https://oidc.eks.eu-west-1.amazonaws.com/id/A"
    net.serve(url[8:-5], authorities.server(authorities.intermediate, url[8:-5]))
    net.publish(f"{url}/.well-known/openid-configuration", discovery(url))
    net.publish(f"{url}/keys", {"keys": [KEY]})
    done = offline("oidc-provider", "--issuer", url, "--ca-file", str(authorities.private_file))
    assert (done.status, done.err) == (0, "")
    assert "ThumbprintList" not in done.out


# Documents that STS cannot use


@pytest.mark.parametrize(
    ("url", "content", "status", "word"),
    [
        (DISCOVERY, b"<html>", 200, "is not JSON"),
        (DISCOVERY, b"", 403, "403"),
        (DISCOVERY, b"[" * 300_000, 200, "is longer than"),
        (DISCOVERY, b"[" * 100_000, 200, "is not JSON"),
        (DISCOVERY, [], 200, "is not a JSON object"),
        (DISCOVERY, discovery("https://other.example.com"), 200, "has the issuer 'https://other.example.com'"),
        (DISCOVERY, discovery(jwks_uri="https://10.0.0.1:6443/openid/v1/jwks"), 200, "--service-account-jwks-uri"),
        (KEYS_URI, {"keys": []}, 200, 'has no list of "keys"'),
        (KEYS_URI, {"keys": [KEY | {"use": "enc"}]}, 200, "None of the 1 keys"),
    ],
)
def test_unusable_document_stops_the_step(  # noqa: PLR0917
    offline: Offline, issuer: Internet, url: str, content: Any, status: int, word: str
) -> None:
    issuer.publish(url, content, status)
    done = offline("oidc-provider", "--issuer", ISSUER)
    assert done.status == 1
    assert word in done.err
    assert done.out == ""


def test_unusable_key_is_a_warning(offline: Offline, issuer: Internet) -> None:
    issuer.publish(KEYS_URI, {"keys": [KEY, KEY | {"kid": "k2", "use": "enc"}]})
    done = offline("oidc-provider", "--issuer", ISSUER)
    assert done.status == 0
    assert done.err == (
        f"irsa-sidecar: warning: The key k2 of {ISSUER} verifies no token: its use is 'enc', and must be \"sig\".\n"
    )


@pytest.mark.parametrize("speaks_tls", [True, False])
async def test_silent_issuer_is_reported_as_unreachable(  # the virtual clock advances to the deadline
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    no_proxies: None,
    authorities: Authorities,
    *,
    speaks_tls: bool,
) -> None:
    monkeypatch.setattr(issuer_fetch, "PUBLIC_AUTHORITIES", str(authorities.public_file))
    context: ssl.SSLContext = authorities.server(authorities.public, "127.0.0.1")

    async def silent(stream: trio.SocketStream) -> None:
        if speaks_tls:
            await trio.SSLStream(stream, context, server_side=True).receive_some()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, silent, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(UnreachableError, match=r"in time|within 15 s"):
            await fetch_issuer(f"https://127.0.0.1:{port}")
        nursery.cancel_scope.cancel()


def test_no_color_disables_the_colours_of_a_terminal(
    account: Account, issuer: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert f"\x1b[32m+ Url: {ISSUER}\x1b[0m" in account.setup("oidc-provider", "--issuer", ISSUER, "--dry-run").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in account.setup("oidc-provider", "--issuer", ISSUER, "--dry-run").out
