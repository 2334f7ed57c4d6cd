"""Test the choice of a cluster from kubeconfig files, and requests to its API server."""

import json
import ssl
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes import client
from sidecar.kubernetes import kubeconfig as kubeconfig_module
from sidecar.kubernetes.client import Connection, Kubernetes, open_cluster, reason
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.kubernetes.names import path_segment
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.threaded import serving

PATH = "/api/v1/namespaces/shop/serviceaccounts"
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "cart", "namespace": "shop"}}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with api_server() as fake:
        yield fake


def written(path: Path, document: Any) -> dict[str, str]:
    path.write_text(yaml.safe_dump(document))
    return {"KUBECONFIG": str(path)}


@pytest.fixture
def kubernetes(api: FakeApiServer, tmp_path: Path, no_proxies: None) -> Iterator[Kubernetes]:
    with open_cluster(find_cluster(written(tmp_path / "config", kubeconfig(api.url)))) as found:
        yield found


def test_document_is_created_read_and_patched(kubernetes: Kubernetes) -> None:
    assert kubernetes.get(f"{PATH}/cart") is None
    kubernetes.create(PATH, ACCOUNT)
    kubernetes.patch(f"{PATH}/cart", {"metadata": {"annotations": {"a": "b"}}})
    found = kubernetes.get(f"{PATH}/cart")
    assert found is not None
    assert found["metadata"]["annotations"] == {"a": "b"}
    assert (kubernetes.context, kubernetes.namespace) == ("lab", "shop")


def test_dry_run_changes_nothing(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    kubernetes.create(PATH, ACCOUNT, dry_run=True)
    assert api.documents == {}
    assert "dryRun=All" in api.requests[-1][1]


def test_raw_bytes_are_returned_unchanged(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    api.faults.append((200, b'{"keys": []}'))
    assert kubernetes.get_raw("/openid/v1/jwks") == b'{"keys": []}'
    assert api.requests == [("GET", "/openid/v1/jwks")]


def test_error_contains_the_api_servers_message(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    api.faults += [(403, {"message": "serviceaccounts is forbidden"}), (502, b"<html>")]
    with pytest.raises(
        KubernetesError, match=r"context lab rejected GET /x \(403\): serviceaccounts is forbidden"
    ) as e:
        kubernetes.get("/x")
    assert e.value.status == 403
    with pytest.raises(KubernetesError, match="<html>"):
        kubernetes.create(PATH, ACCOUNT)


@pytest.mark.parametrize("body", [b"<html>", b"[]"])
def test_response_that_is_not_json_suggests_a_proxy(kubernetes: Kubernetes, api: FakeApiServer, body: bytes) -> None:
    api.faults.append((200, body))
    with pytest.raises(KubernetesError, match="proxy"):
        kubernetes.get("/version")


# Large responses


def put_accounts(api: FakeApiServer, number: int, **more: str) -> list[str]:
    """Store ServiceAccounts with these annotations, and return their names."""
    names = [f"app-{index}" for index in range(number)]
    for name in names:
        metadata = {"name": name, "namespace": "shop", "annotations": more}
        api.put(f"{PATH}/{name}", {**ACCOUNT, "metadata": metadata})
    return names


def limits(api: FakeApiServer) -> list[str]:
    return [parse_qs(urlsplit(target).query)["limit"][0] for _, target in api.requests]


def test_collection_is_read_page_by_page(kubernetes: Kubernetes, api: FakeApiServer) -> None:
    names = put_accounts(api, 1_100)
    assert [each["metadata"]["name"] for each in kubernetes.items(PATH)] == names
    assert limits(api) == ["500", "500", "500"]


def test_page_that_is_too_long_is_requested_in_parts(
    kubernetes: Kubernetes, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_BYTES", 20_000)
    names = put_accounts(api, 120, note="x" * 900)
    assert [each["metadata"]["name"] for each in kubernetes.items(PATH)] == names
    assert limits(api)[:4] == ["500", "50", "5", "10"]
    assert len(api.requests) < 40


def test_object_that_is_too_long_is_an_error(
    kubernetes: Kubernetes, api: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_BYTES", 20_000)
    put_accounts(api, 1, note="x" * 20_000)
    with pytest.raises(KubernetesError, match=f"GET {PATH}.* is over 20000 bytes"):
        [*kubernetes.items(PATH)]
    assert limits(api) == ["500", "50", "5", "1"]
    with pytest.raises(KubernetesError, match="is over 20000 bytes"):
        kubernetes.get(f"{PATH}/app-0")


def test_endless_response_is_an_error(tmp_path: Path, no_proxies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken server sends data until the client closes the connection."""
    monkeypatch.setattr(client, "MAX_BYTES", 20_000)
    with serving(Endless) as url, open_cluster(find_cluster(written(tmp_path / "config", kubeconfig(url)))) as found:
        with pytest.raises(KubernetesError, match="is over 20000 bytes"):
            found.get_raw("/metrics")
        with pytest.raises(KubernetesError, match=r"rejected POST /x \(503\)"):
            found.create("/x", ACCOUNT)


def test_slow_response_has_a_deadline(tmp_path: Path, no_proxies: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part of the response arrives in time, but there is always another part."""
    monkeypatch.setattr(client, "RESPONSE_SECONDS", -1)
    with (
        serving(Endless) as url,
        open_cluster(find_cluster(written(tmp_path / "config", kubeconfig(url)))) as found,
        pytest.raises(KubernetesError, match=r"was not reached \(the response was not complete after"),
    ):
        found.get_raw("/metrics")


@pytest.mark.parametrize("body", [b"[]", b"5", b'{"items": [', b'{"metadata": 5}', b'{"metadata": ' + b"[" * 100_000])
def test_page_that_is_not_a_list_suggests_a_proxy(kubernetes: Kubernetes, api: FakeApiServer, body: bytes) -> None:
    api.faults.append((200, body))
    with pytest.raises(KubernetesError, match="proxy"):
        [*kubernetes.items(PATH)]


@pytest.mark.parametrize("items", [[], [ACCOUNT]])
def test_endless_list_is_an_error(kubernetes: Kubernetes, api: FakeApiServer, items: list[Any]) -> None:
    api.broken[PATH] = (200, {"items": items, "metadata": {"continue": "x"}})
    with pytest.raises(KubernetesError, match=f"API server {api.url} .context lab. sends an endless list of {PATH}"):
        [*kubernetes.items(PATH)]
    assert len(api.requests) == 2


def test_path_that_no_client_can_send_is_an_error(kubernetes: Kubernetes) -> None:
    with pytest.raises(KubernetesError, match="A path for the API server of context lab is invalid"):
        kubernetes.get("/api/v1/\x1b")


@pytest.mark.parametrize("name", ["..", "a..b", "a/b", "a%2fb", "A", "", "-a", "a\n", None, ["a"], "x" * 254])
def test_invalid_name_is_never_in_a_path(name: Any) -> None:
    with pytest.raises(KubernetesError, match="is not the name of a Kubernetes object"):
        path_segment(name)


def test_name_is_in_a_path_unchanged() -> None:
    assert [path_segment(name) for name in ("cart", "cart-6b8d.v2")] == ["cart", "cart-6b8d.v2"]


def test_missing_collection_is_an_error(kubernetes: Kubernetes) -> None:
    with pytest.raises(KubernetesError, match="context lab has no /apis/example/v1/things"):
        [*kubernetes.items("/apis/example/v1/things")]


class Endless(BaseHTTPRequestHandler):
    """A server whose responses have no end."""

    def _respond(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200 if self.command == "GET" else 503)
        self.end_headers()
        with suppress(OSError):
            while True:
                self.wfile.write(b" " * 4096)

    do_GET = do_POST = _respond  # noqa: N815  the standard library's names

    def log_message(self, *_: object) -> None:
        """Ignore log messages of http.server."""


# Connections


def test_unreachable_cluster_is_named_in_the_error(tmp_path: Path, no_proxies: None) -> None:
    environ = written(tmp_path / "config", kubeconfig("http://127.0.0.1:1"))
    with (
        open_cluster(find_cluster(environ)) as kubernetes,
        pytest.raises(KubernetesError, match=r"127\.0\.0\.1:1 .*lab.* was not reached"),
    ):
        kubernetes.get("/version")


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_login_plugin_gets_its_api_version(api: FakeApiServer, tmp_path: Path, no_proxies: None, version: str) -> None:
    seen = tmp_path / "seen"
    program = (
        f"import os; open({str(seen)!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO']); "
        'print(\'{"status": {"token": "t"}}\')'
    )
    plugin = {
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "command": sys.executable,
        "args": ["-c", program],
    }
    environ = written(tmp_path / "config", kubeconfig(api.url, {"exec": plugin}))
    with open_cluster(find_cluster(environ)) as kubernetes:
        kubernetes.create(PATH, ACCOUNT)
    assert api.headers[-1]["Authorization"] == "Bearer t"
    assert json.loads(seen.read_text())["apiVersion"] == plugin["apiVersion"]


def test_missing_login_plugin_is_named_in_the_error(api: FakeApiServer, tmp_path: Path) -> None:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": "no-such-plugin"}
    environ = written(tmp_path / "config", kubeconfig(api.url, {"exec": plugin}))
    with open_cluster(find_cluster(environ)) as kubernetes, pytest.raises(ConfigurationError, match="no-such-plugin"):
        kubernetes.get("/version")


def test_first_kubeconfig_has_priority(tmp_path: Path) -> None:
    first = {"current-context": "lab", "users": [{"name": "me", "user": {"client-certificate": "me.crt"}}]}
    second = kubeconfig("https://other.test", {"token": "t"}) | {"current-context": "nowhere"}
    second["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    paths = [tmp_path / "a" / "config", tmp_path / "b" / "config", tmp_path / "missing"]
    for path, document in zip(paths, [first, second], strict=False):
        path.parent.mkdir()
        written(path, document)
    config = find_cluster({"KUBECONFIG": ":".join(map(str, paths))})
    assert config.cluster.certificate_auth == str(tmp_path / "b" / "ca.crt")
    assert config.user is not None
    assert (config.user.client_cert, config.user.token) == (str(tmp_path / "a" / "me.crt"), None)


BAD: dict[str, tuple[str, str]] = {
    "text that is not YAML": ("{", "it is not YAML"),
    "not a mapping": ("[]", "not a mapping"),
    "a character beyond Unicode": (r'clusters: "\UFFFFFFFF"', "it is not YAML"),
    "deep nesting": ("[" * 3000, "it is not YAML"),
    "malformed number": ("clusters: !!int x", "it is not YAML"),
    "text instead of clusters": ("clusters: lab", "kubectl config view"),
    "text instead of a cluster": ("clusters: [{name: lab, cluster: here}]", "kubectl config view"),
    "text instead of a plugin": ("users: [{name: a, user: {exec: aws}}]", "kubectl config view"),
    "a context that is a list": ("contexts: [[a]]", "kubectl config view"),
    "no server": (yaml.safe_dump(kubeconfig("x") | {"clusters": [{"name": "lab"}]}), "has no server"),
    "another context": (yaml.safe_dump(kubeconfig("x") | {"current-context": "b"}), "Existing contexts: lab"),
    "no context": (yaml.safe_dump(kubeconfig("x") | {"current-context": ""}), "Existing contexts: lab"),
    "missing cluster": (yaml.safe_dump(kubeconfig("x") | {"clusters": []}), "names the cluster lab, which"),
}


@pytest.mark.parametrize("what", BAD)
def test_unusable_kubeconfig_causes_one_message(tmp_path: Path, what: str) -> None:
    text, words = BAD[what]
    (tmp_path / "config").write_text(text)
    with pytest.raises(ConfigurationError, match=words):
        find_cluster({"KUBECONFIG": str(tmp_path / "config")})


def test_missing_kubeconfig_explains_how_to_create_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="aws eks update-kubeconfig"):
        find_cluster({"KUBECONFIG": str(tmp_path / "none")})


def test_pod_uses_its_own_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig_module, "SERVICE_ACCOUNT", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    environ = {"KUBECONFIG": str(tmp_path / "none"), "KUBERNETES_SERVICE_HOST": "fd00::1"}
    with pytest.raises(ConfigurationError, match="automountServiceAccountToken"):
        find_cluster(environ)
    for name, text in (("token", "t"), ("namespace", "irsa-sidecar")):
        (tmp_path / name).write_text(text)
    found = find_cluster(environ)
    assert (found.cluster.server, found.namespace) == ("https://[fd00::1]:443", "irsa-sidecar")


def test_user_without_a_home_has_no_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ConfigurationError, match=r"There is no kubeconfig at ~/\.kube/config"):
        find_cluster({})


def test_missing_certificate_is_named_in_the_error(tmp_path: Path) -> None:
    document = kubeconfig("https://127.0.0.1:1")
    document["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    config = find_cluster(written(tmp_path / "config", document))
    with pytest.raises(ConfigurationError, match="kubectl get pods"), open_cluster(config):
        pass


def test_authority_without_key_identifier_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.13 requires key identifiers by default, but the authorities of EKS clusters have none."""
    strict = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: strict)
    document = kubeconfig("https://127.0.0.1:1")
    document["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    (tmp_path / "ca.crt").touch()
    config = find_cluster(written(tmp_path / "config", document))
    used = Connection().httpx_params(config)["verify"]
    assert not used.verify_flags & ssl.VERIFY_X509_STRICT
    assert used.check_hostname
    assert used.verify_mode == ssl.CERT_REQUIRED


def test_reason_is_the_first_message_in_the_chain_of_causes() -> None:
    wordless = OSError()
    wordless.__cause__ = ValueError("certificate verify failed")
    assert reason(wordless) == "certificate verify failed"
    assert reason(OSError()) == "OSError"
