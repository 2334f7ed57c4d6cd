"""Test that each kubeconfig field is used as by kubectl, or named as unsupported."""

import base64
import json
import os
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes.async_client import open_api
from sidecar.kubernetes.client import open_cluster
from sidecar.kubernetes.kubeconfig import find_cluster
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.internet import internet
from tests.unit.setup.conftest import Authorities, run_setup

NAME = "abc.gr7.eu-west-1.eks.amazonaws.com"
PATH = "/version"
SETUP = ("service-account", "--name", "cart", "--role-arn", "arn:aws:iam::111122223333:role/cart", "--dry-run")


@pytest.fixture
def secured(authorities: Authorities) -> Iterator[FakeApiServer]:
    """Provide an API server on 127.0.0.1 whose certificate is only for NAME."""
    with api_server(authorities.server(authorities.private, NAME)) as fake:
        fake.broken[PATH] = (200, {"gitVersion": "v1"})
        yield fake


@pytest.fixture
def plain(no_proxies: None) -> Iterator[FakeApiServer]:
    with api_server() as fake:
        fake.broken[PATH] = (200, {"gitVersion": "v1"})
        yield fake


def written(path: Path, url: str, cluster: Any = None, user: Any = None) -> dict[str, str]:
    document = kubeconfig(url, user)
    document["clusters"][0]["cluster"] |= cluster or {}
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return {"KUBECONFIG": str(path)}


def ask(environ: dict[str, str]) -> Any:
    with open_cluster(find_cluster(environ)) as kubernetes:
        return kubernetes.get(PATH)


# The server's certificate and the network path to it


def test_tls_server_name_of_the_certificate_is_accepted(
    secured: FakeApiServer, authorities: Authorities, tmp_path: Path, no_proxies: None
) -> None:
    data = base64.b64encode(authorities.private_file.read_bytes()).decode()
    for authority in ({"certificate-authority": str(authorities.private_file)}, {"certificate-authority-data": data}):
        assert ask(written(tmp_path / "config", secured.url, {**authority, "tls-server-name": NAME}))


@pytest.mark.parametrize("cluster", [{}, {"tls-server-name": "other.example.com"}, {"tls-server-name": "127.0.0.1"}])
def test_tls_server_name_of_no_certificate_is_rejected(
    secured: FakeApiServer, authorities: Authorities, tmp_path: Path, no_proxies: None, cluster: Any
) -> None:
    fields = {"certificate-authority": str(authorities.private_file), **cluster}
    with pytest.raises(KubernetesError, match="certificate verify failed"):
        ask(written(tmp_path / "config", secured.url, fields))
    assert secured.requests == []


async def test_webhook_checks_the_server_name(
    secured: FakeApiServer, authorities: Authorities, tmp_path: Path, no_proxies: None
) -> None:
    fields = {"certificate-authority": str(authorities.private_file), "tls-server-name": NAME}
    async with open_api(find_cluster(written(tmp_path / "config", secured.url, fields, {"as": "jane"}))) as api:
        assert await api.get(PATH)
    assert secured.headers[-1]["Impersonate-User"] == "jane"
    wrong = written(tmp_path / "config", secured.url, fields | {"tls-server-name": "other.example.com"})
    async with open_api(find_cluster(wrong)) as api:
        with pytest.raises(KubernetesError, match="certificate verify failed"):
            await api.get(PATH)


@pytest.mark.parametrize("name", [None, NAME])
def test_proxy_url_wins_over_the_environment(
    authorities: Authorities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None, name: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    with internet() as net:
        net.serve("api.internal.test", authorities.server(authorities.private, name or "api.internal.test"))
        net.publish(f"https://api.internal.test{PATH}", {"gitVersion": "v1"})
        fields = {"certificate-authority": str(authorities.private_file), "proxy-url": net.proxy_url}
        fields |= {"tls-server-name": name} if name else {}
        assert ask(written(tmp_path / "config", "https://api.internal.test", fields))
        assert net.asked == [f"https://api.internal.test{PATH}"]
        fields["tls-server-name"] = "other.example.com"
        with pytest.raises(KubernetesError, match="certificate verify failed"):
            ask(written(tmp_path / "config", "https://api.internal.test", fields))


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "ftp://proxy", "proxy:3128", "http://user:secret@"])
def test_unusable_proxy_url_is_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConfigurationError, match="proxy-url") as raised:
        ask(written(tmp_path / "config", "https://127.0.0.1:1", {"proxy-url": url}))
    assert "secret" not in str(raised.value)


def test_client_certificate_data_is_sent(authorities: Authorities, tmp_path: Path, no_proxies: None) -> None:
    tls = authorities.server(authorities.private, NAME)
    authorities.private.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    own = authorities.private.issue_cert("me.example.com")
    own.private_key_pem.write_to_path(tmp_path / "me.key")
    own.cert_chain_pems[0].write_to_path(tmp_path / "me.crt")
    data = {
        "client-certificate-data": base64.b64encode((tmp_path / "me.crt").read_bytes()).decode(),
        "client-key-data": base64.b64encode((tmp_path / "me.key").read_bytes()).decode(),
    }
    fields = {"certificate-authority": str(authorities.private_file), "tls-server-name": NAME}
    with api_server(tls) as fake:
        fake.broken[PATH] = (200, {"gitVersion": "v1"})
        for user in (data, {"client-certificate": "me.crt", "client-key": "me.key"}, {**data, "client-key": "gone"}):
            assert ask(written(tmp_path / "config", fake.url, fields, user))
        printed = {"clientCertificateData": (tmp_path / "me.crt").read_text()}
        printed["clientKeyData"] = (tmp_path / "me.key").read_text()
        assert ask(written(tmp_path / "config", fake.url, fields, plugin(status=printed)))


def test_server_without_a_scheme_is_read_like_kubectl(plain: FakeApiServer, tmp_path: Path) -> None:
    assert ask(written(tmp_path / "config", plain.url.removeprefix("http://")))
    config = find_cluster(written(tmp_path / "config", "x.test", {"insecure-skip-tls-verify": True}))
    assert config.cluster.server == "https://x.test"


def test_compression_is_disabled(plain: FakeApiServer, tmp_path: Path) -> None:
    ask(written(tmp_path / "config", plain.url, {"disable-compression": True}))
    assert plain.headers[-1]["Accept-Encoding"] == "identity"


# The user


def test_impersonation_is_in_every_request(plain: FakeApiServer, tmp_path: Path) -> None:
    user = {
        "token": "t",
        "as": "jane",
        "as-uid": "u1",
        "as-groups": ["dev", "ops"],
        "as-user-extra": {"scopes": ["a", "b"], "acme.com/Project": ["x"]},
    }
    with open_cluster(find_cluster(written(tmp_path / "config", plain.url, None, user))) as kubernetes:
        kubernetes.get(PATH)
        kubernetes.create("/api/v1/namespaces/shop/serviceaccounts", {"metadata": {"name": "a"}})
    for headers in plain.raw_headers:
        found = sorted((name.lower(), value) for name, value in headers if name.lower().startswith("impersonate"))
        assert found == [
            ("impersonate-extra-acme.com%2fproject", "x"),
            ("impersonate-extra-scopes", "a"),
            ("impersonate-extra-scopes", "b"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "u1"),
            ("impersonate-user", "jane"),
        ]


def test_setup_acts_as_the_impersonated_user(
    plain: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", written(tmp_path / "config", plain.url, None, {"as": "jane"})["KUBECONFIG"])
    assert run_setup(capsys, *SETUP).status == 0
    assert {headers["Impersonate-User"] for headers in plain.headers} == {"jane"}


def test_token_file_is_relative_to_its_kubeconfig_and_read_again(
    plain: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = written(tmp_path / "kube" / "config", plain.url, None, {"tokenFile": "token", "token": "old"})
    (tmp_path / "kube" / "token").write_text("one\n")
    monkeypatch.chdir(tmp_path)
    with open_cluster(find_cluster(environ)) as kubernetes:
        kubernetes.get(PATH)
        (tmp_path / "kube" / "token").write_text("two")
        del plain.broken[PATH]
        plain.faults += [(401, {"message": "Unauthorized"}), (200, {})]
        kubernetes.get(PATH)
    assert [headers["Authorization"] for headers in plain.headers] == ["Bearer one", "Bearer one", "Bearer two"]
    (tmp_path / "kube" / "token").unlink()
    with pytest.raises(ConfigurationError, match=r"tokenFile .*kube/token cannot be read"):
        ask(environ)


@pytest.mark.parametrize("user", [{"token": "t"}, {"username": "u", "password": "p"}], ids=str)
def test_secret_is_never_sent_unencrypted(
    user: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: FakeApiServer
) -> None:
    """Kubectl sends none over http:// either. Loopback is safe, for example for `kubectl proxy`."""
    plain.broken["http://api.example.com/version"] = plain.broken[PATH]
    fields = {"proxy-url": plain.url}
    ask(written(tmp_path / "config", "http://api.example.com", fields, {**user, "as": "jane"}))
    assert "Authorization" not in plain.headers[-1]
    assert plain.headers[-1]["Impersonate-User"] == "jane"
    ask(written(tmp_path / "config", plain.url, None, user))
    assert "Authorization" in plain.headers[-1]


# Login plugins


def plugin(status: Any = None, more: str = "", **fields: Any) -> dict[str, Any]:
    """Return a user whose plugin runs `more` and prints this status."""
    response = json.dumps({"status": {"token": "t"} if status is None else status})
    program = f"import json, os, sys\n{more}\nprint({response!r})"
    entry = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-c", program],
        **fields,
    }
    return {"exec": {name: value for name, value in entry.items() if value is not None}}


INSISTS = "json.loads(os.environ['KUBERNETES_EXEC_INFO'])['spec']['cluster']['server'] or sys.exit(3)"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_plugin_gets_requested_cluster_info(
    secured: FakeApiServer, authorities: Authorities, tmp_path: Path, no_proxies: None, version: str
) -> None:
    seen = tmp_path / "seen"
    more = f"{INSISTS}; open({str(seen)!r}, 'w').write(os.environ['KUBERNETES_EXEC_INFO'] + os.environ['ONE'])"
    user = plugin(
        more=more,
        apiVersion=f"client.authentication.k8s.io/{version}",
        provideClusterInfo=True,
        env=[{"name": "ONE", "value": "1"}],
    )
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "shop"}}
    fields = {"certificate-authority": str(authorities.private_file), "tls-server-name": NAME}
    assert ask(written(tmp_path / "config", secured.url, {**fields, "extensions": [extension]}, user))
    assert json.loads(seen.read_text().removesuffix("1")) == {
        "kind": "ExecCredential",
        "apiVersion": f"client.authentication.k8s.io/{version}",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": secured.url,
                "tls-server-name": NAME,
                "certificate-authority-data": base64.b64encode(authorities.private_file.read_bytes()).decode(),
                "config": {"audience": "shop"},
            },
        },
    }


def test_plugin_gets_no_cluster_info_by_default(plain: FakeApiServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ended with 1: .*KeyError: 'cluster'".replace(".*", r"[\s\S]*")):
        ask(written(tmp_path / "config", plain.url, None, plugin(more=INSISTS)))


@pytest.mark.parametrize("command", ["./plug.sh", "bin/plug.sh", "../plug.sh"])
def test_command_with_a_slash_is_relative_to_its_kubeconfig(
    command: str, plain: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "kube" / command
    script.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "kube").mkdir(exist_ok=True)
    script.write_text('#!/bin/sh\necho \'{"status": {"token": "t"}}\'\n')
    script.chmod(0o755)
    environ = written(tmp_path / "kube" / "config", plain.url, None, plugin(command=command, args=None, env=None))
    monkeypatch.chdir("/")
    assert ask(environ)
    assert plain.headers[-1]["Authorization"] == "Bearer t"


def test_bare_command_is_found_on_the_path(
    plain: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "plug"
    script.write_text('#!/bin/sh\necho \'{"status": {"token": "p"}}\'\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert ask(written(tmp_path / "config", plain.url, None, plugin(command="plug", args=None)))


def test_expired_credential_of_a_plugin_is_renewed(plain: FakeApiServer, tmp_path: Path) -> None:
    count = tmp_path / "count"
    more = f"open({str(count)!r}, 'a').write('x')"
    for expires, runs in (("2020-01-02T03:04:05Z", 2), ("2999-01-02T03:04:05Z", 1), (None, 1)):
        count.write_text("")
        status = {"token": "t", "expirationTimestamp": expires}
        environ = written(tmp_path / "config", plain.url, None, plugin(status=status, more=more))
        with open_cluster(find_cluster(environ)) as kubernetes:
            kubernetes.get(PATH)
            kubernetes.get(PATH)
        assert len(count.read_text()) == runs


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (plugin(command="no-such-plugin", installHint="Get it at https://x.test"), "Get it at https://x.test"),
        (plugin(command="no-such-plugin"), "exec.command no-such-plugin cannot be run .No such file or directory"),
        (plugin(more="sys.exit('who are you')"), "ended with 1: who are you"),
        (plugin(status={}), "neither a token nor a certificate"),
        (plugin(args=["-c", "print('secret')"]), "not an ExecCredential"),
        (plugin(args=["-c", 'print(\'{"status":{"token":"t"},"apiVersion":"x"}\')']), "answered in x"),
        (plugin(interactiveMode="Always"), "exec.interactiveMode is Always"),
        (plugin(interactiveMode="Sometimes"), "exec.interactiveMode Sometimes"),
        (plugin(apiVersion="client.authentication.k8s.io/v1alpha1"), "exec.apiVersion client.*v1alpha1"),
        (plugin(command=""), "exec.command"),
        ({"as-groups": ["dev"]}, "as-groups without as"),
        ({"as-uid": "1"}, "as-uid without as"),
        ({"as-user-extra": {"a": ["b"]}}, "as-user-extra without as"),
        ({"as": ["jane"]}, r"kubectl config view"),
        ({"auth-provider": {"name": "gcp"}}, "auth-provider"),
        ({"client-certificate-data": "!", "client-key-data": "!"}, "client-certificate-data"),
        ({"client-certificate": "gone"}, "cannot be used"),
    ],
)
def test_unsupported_user_is_named(
    user: Any, words: str, plain: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigurationError, match=words) as raised:
        ask(written(tmp_path / "config", plain.url, None, user))
    assert "secret" not in str(raised.value)
    assert plain.requests == []


def test_insecure_with_an_authority_is_rejected(tmp_path: Path) -> None:
    fields = {"insecure-skip-tls-verify": True, "certificate-authority-data": "YQ=="}
    with pytest.raises(ConfigurationError, match="insecure-skip-tls-verify and a certificate-authority"):
        find_cluster(written(tmp_path / "config", "https://x.test", fields))


def test_field_that_kubectl_does_not_know_is_shown(
    plain: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(written(tmp_path / "config", plain.url, {"tls-servername": "x"}, {"as-group": ["dev"]}))
    shown = capsys.readouterr().err
    assert "its cluster lab has tls-servername, which kubectl does not know either" in shown
    assert "its user me has as-group" in shown


# Contexts


def context_of(tmp_path: Path, **changes: Any) -> ConfigurationError:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(kubeconfig("https://x.test") | changes))
    with pytest.raises(ConfigurationError) as raised:
        find_cluster({"KUBECONFIG": str(path)})
    return raised.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"current-context": None}, "names no usable current context: there are lab"),
        ({"current-context": "prod"}, "current-context is prod"),
        ({"contexts": None}, "has no such context; there are none"),
        ({"contexts": [{"name": "lab", "context": {"user": "me"}}]}, "Context lab of the kubeconfig"),
        ({"contexts": [{"name": "lab", "context": None}]}, "names no cluster"),
        ({"contexts": [{"name": "lab", "context": {"cluster": "gone"}}]}, "names the cluster gone"),
        ({"contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "gone"}}]}, "names the user gone"),
        ({"clusters": [{"name": "lab", "cluster": None}]}, "has no server"),
    ],
)
def test_unusable_context_is_named(tmp_path: Path, changes: Any, words: str) -> None:
    assert words in str(context_of(tmp_path, **changes))


def test_entries_of_several_files_are_merged(plain: FakeApiServer, tmp_path: Path) -> None:
    parts = kubeconfig(plain.url, {"token": "t"})
    paths = []
    for key in ("contexts", "clusters", "users", "current-context"):
        paths.append(tmp_path / key / "config")
        paths[-1].parent.mkdir()
        paths[-1].write_text(yaml.safe_dump({key: parts[key]}))
    environ = {"KUBECONFIG": os.pathsep.join(["", str(tmp_path / "missing"), *map(str, paths)])}
    assert ask(environ)
    assert plain.headers[-1]["Authorization"] == "Bearer t"


# Requests that the API server rejects

PRINT = 'print("""{"status": {"token": "t"}}""")'


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"token": "t"}, "Log in to the cluster again"),
        (
            plugin(args=["-c", PRINT, "eks", "get-token", "--cluster-name", "shop"]),
            "`aws eks update-kubeconfig --name shop`",
        ),
        (
            plugin(args=["-c", PRINT, "get-token", "--cluster-name=a", "--region", "b"]),
            "`aws eks update-kubeconfig --name a --region b`",
        ),
    ],
)
def test_unauthorized_has_a_next_step(user: Any, words: str, plain: FakeApiServer, tmp_path: Path) -> None:
    plain.broken[PATH] = (401, {"message": "Unauthorized"})
    with pytest.raises(KubernetesError, match=r"\(401\): Unauthorized\. ") as raised:
        ask(written(tmp_path / "config", plain.url, None, user))
    assert words in str(raised.value)


def test_forbidden_names_the_permission_and_its_check(
    plain: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.forbidden.add(("get", "serviceaccounts"))
    monkeypatch.setenv("KUBECONFIG", written(tmp_path / "config", plain.url, None, {"as": "jane"})["KUBECONFIG"])
    done = run_setup(capsys, *SETUP)
    assert done.status == 1
    assert "the right to get serviceaccounts for this user, which acts as jane" in done.err
    assert "`kubectl auth can-i get serviceaccounts -n shop --context lab`" in done.err


def test_authority_of_another_cluster_is_rejected(secured: FakeApiServer, tmp_path: Path, no_proxies: None) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    fields = {"certificate-authority": "ca.crt", "tls-server-name": NAME}
    with pytest.raises(KubernetesError, match="certificate verify failed"):
        ask(written(tmp_path / "config", secured.url, fields))
