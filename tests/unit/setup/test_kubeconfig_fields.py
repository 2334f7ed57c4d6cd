"""Test that each kubeconfig field works as in kubectl, or is reported as unsupported."""

import base64
import os
import ssl
import sys
import threading
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
from tests.unit.setup.kubeconfigs import NAME, PATH, get_version, plugin, written

SETUP = ("service-account", "--name", "cart", "--role-arn", "arn:aws:iam::111122223333:role/cart", "--dry-run")


# The server's certificate and the network path to the server


def test_tls_server_name_in_the_certificate_is_accepted(
    secured: FakeApiServer, authorities: Authorities, tmp_path: Path, no_proxies: None
) -> None:
    data = base64.b64encode(authorities.private_file.read_bytes()).decode()
    for authority in ({"certificate-authority": str(authorities.private_file)}, {"certificate-authority-data": data}):
        assert get_version(written(tmp_path / "config", secured.url, {**authority, "tls-server-name": NAME}))


@pytest.mark.parametrize("cluster", [{}, {"tls-server-name": "other.example.com"}, {"tls-server-name": "127.0.0.1"}])
def test_tls_server_name_not_in_the_certificate_is_rejected(
    secured: FakeApiServer, authorities: Authorities, tmp_path: Path, no_proxies: None, cluster: Any
) -> None:
    fields = {"certificate-authority": str(authorities.private_file), **cluster}
    with pytest.raises(KubernetesError, match="certificate verify failed"):
        get_version(written(tmp_path / "config", secured.url, fields))
    assert secured.requests == []


async def test_webhook_verifies_the_server_name(
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
def test_proxy_url_overrides_the_environment(
    authorities: Authorities, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None, name: str | None
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "*")
    with internet() as net:
        net.serve("api.internal.test", authorities.server(authorities.private, name or "api.internal.test"))
        net.publish(f"https://api.internal.test{PATH}", {"gitVersion": "v1"})
        fields = {"certificate-authority": str(authorities.private_file), "proxy-url": net.proxy_url}
        fields |= {"tls-server-name": name} if name else {}
        assert get_version(written(tmp_path / "config", "https://api.internal.test", fields))
        assert net.requested_urls == [f"https://api.internal.test{PATH}"]
        fields["tls-server-name"] = "other.example.com"
        with pytest.raises(KubernetesError, match="certificate verify failed"):
            get_version(written(tmp_path / "config", "https://api.internal.test", fields))


@pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "ftp://proxy", "proxy:3128", "http://user:secret@"])
def test_unusable_proxy_url_is_named_in_the_error(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    with pytest.raises(ConfigurationError, match="proxy-url") as raised:
        get_version(written(tmp_path / "config", "https://127.0.0.1:1", {"proxy-url": url}))
    assert "secret" not in str(raised.value)


def test_client_certificate_from_each_source_is_sent(
    authorities: Authorities, tmp_path: Path, no_proxies: None
) -> None:
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
            assert get_version(written(tmp_path / "config", fake.url, fields, user))
        printed = {"clientCertificateData": (tmp_path / "me.crt").read_text()}
        printed["clientKeyData"] = (tmp_path / "me.key").read_text()
        assert get_version(written(tmp_path / "config", fake.url, fields, plugin(status=printed)))


def test_server_without_a_scheme_gets_kubectls_default(plain: FakeApiServer, tmp_path: Path) -> None:
    assert get_version(written(tmp_path / "config", plain.url.removeprefix("http://")))
    config = find_cluster(written(tmp_path / "config", "x.test", {"insecure-skip-tls-verify": True}))
    assert config.cluster.server == "https://x.test"


def test_compression_of_responses_is_disabled(plain: FakeApiServer, tmp_path: Path) -> None:
    get_version(written(tmp_path / "config", plain.url, {"disable-compression": True}))
    assert plain.headers[-1]["Accept-Encoding"] == "identity"


# The user


def test_impersonation_headers_are_in_every_request(plain: FakeApiServer, tmp_path: Path) -> None:
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


def test_token_file_is_relative_and_read_again(
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
        get_version(environ)


@pytest.mark.parametrize("user", [{"token": "t"}, {"username": "u", "password": "p"}], ids=str)
def test_secret_is_never_sent_unencrypted(
    user: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: FakeApiServer
) -> None:
    """Send no secret over http://, because kubectl sends none. Loopback is safe, for example for `kubectl proxy`."""
    plain.broken["http://api.example.com/version"] = plain.broken[PATH]
    fields = {"proxy-url": plain.url}
    get_version(written(tmp_path / "config", "http://api.example.com", fields, {**user, "as": "jane"}))
    assert "Authorization" not in plain.headers[-1]
    assert plain.headers[-1]["Impersonate-User"] == "jane"
    get_version(written(tmp_path / "config", plain.url, None, user))
    assert "Authorization" in plain.headers[-1]


BREAKS = [
    ({"token": "secret\n"}, "its token or password"),
    ({"tokenFile": "token"}, "its token or password"),
    ({"as": "jane\nsecret"}, "a value of `as`"),
    ({"as": "jane", "as-groups": ["a\x00"]}, "a value of `as`"),
]


@pytest.mark.parametrize(("user", "words"), BREAKS, ids=str)
def test_value_that_no_header_can_hold_is_not_shown(
    user: Any, words: str, plain: FakeApiServer, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("sec\nret")
    with pytest.raises(ConfigurationError, match=f"{words} has a line break") as raised:
        get_version(written(tmp_path / "config", plain.url, None, user))
    assert "sec" not in str(raised.value).removeprefix(str(tmp_path))


def test_spaces_around_a_token_are_removed(plain: FakeApiServer, tmp_path: Path) -> None:
    assert get_version(written(tmp_path / "config", plain.url, None, {"token": "t \t"}))
    assert plain.headers[-1]["Authorization"] == "Bearer t"


def test_name_of_the_impersonated_user_may_be_any_text(plain: FakeApiServer, tmp_path: Path) -> None:
    assert get_version(written(tmp_path / "config", plain.url, None, {"as": "jané"}))
    assert plain.headers[-1]["Impersonate-User"].encode("latin-1").decode() == "jané"


def test_insecure_flag_with_an_authority_is_rejected(tmp_path: Path) -> None:
    fields = {"insecure-skip-tls-verify": True, "certificate-authority-data": "YQ=="}
    with pytest.raises(ConfigurationError, match="insecure-skip-tls-verify and a certificate-authority"):
        find_cluster(written(tmp_path / "config", "https://x.test", fields))


def test_field_unknown_to_kubectl_causes_a_warning(
    plain: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert get_version(written(tmp_path / "config", plain.url, {"tls-servername": "x"}, {"as-group": ["dev"]}))
    shown = capsys.readouterr().err
    assert "its cluster lab has tls-servername, which is ignored because kubectl does not know it" in shown
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
        ({"current-context": None}, "names no usable current context. Existing contexts: lab"),
        ({"current-context": "prod"}, "current-context is prod"),
        ({"contexts": None}, "Existing contexts: none"),
        ({"contexts": [{"name": "lab", "context": {"user": "me"}}]}, "Context lab of the kubeconfig"),
        ({"contexts": [{"name": "lab", "context": None}]}, "names no cluster"),
        ({"contexts": [{"name": "lab", "context": {"cluster": "gone"}}]}, "names the cluster gone"),
        ({"contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "gone"}}]}, "names the user gone"),
        ({"clusters": [{"name": "lab", "cluster": None}]}, "has no server"),
    ],
)
def test_unusable_context_is_named_in_the_error(tmp_path: Path, changes: Any, words: str) -> None:
    assert words in str(context_of(tmp_path, **changes))


def test_entries_of_several_files_are_merged(plain: FakeApiServer, tmp_path: Path) -> None:
    parts = kubeconfig(plain.url, {"token": "t"})
    paths = []
    for key in ("contexts", "clusters", "users", "current-context"):
        paths.append(tmp_path / key / "config")
        paths[-1].parent.mkdir()
        paths[-1].write_text(yaml.safe_dump({key: parts[key]}))
    environ = {"KUBECONFIG": os.pathsep.join(["", str(tmp_path / "missing"), *map(str, paths)])}
    assert get_version(environ)
    assert plain.headers[-1]["Authorization"] == "Bearer t"


AS_KUBECTL_READS = {
    "a tab after a value": "me\t",
    "a tab and a comment": "me\t# c",
    "a date": "2024-01-01",
    "a number in base 60": "12:30",
    "another document": "me\n---\n: : [",
}


@pytest.mark.parametrize("what", AS_KUBECTL_READS)
def test_kubeconfig_has_the_values_of_kubectl(what: str, plain: FakeApiServer, tmp_path: Path) -> None:
    """The expected values are those of kubectl 1.32."""
    written_name = AS_KUBECTL_READS[what]
    path, name = tmp_path / "config", written_name.split()[0]
    path.write_text(
        f"clusters: [{{name: c, cluster: {{server: '{plain.url}'}}}}]\nusers: [{{name: {name}, user: {{token: t}}}}]\n"
        f"contexts: [{{name: x, context: {{cluster: c, user: {name}}}}}]\ncurrent-context: x\nextra: {written_name}\n"
    )
    assert get_version({"KUBECONFIG": str(path)})
    assert plain.headers[-1]["Authorization"] == "Bearer t"


def test_empty_files_and_pipes_are_read(plain: FakeApiServer, tmp_path: Path) -> None:
    """Read a pipe, because a shell makes one for KUBECONFIG=<(COMMAND)."""
    environ = written(tmp_path / "config", plain.url, None, {"token": "t"})
    (tmp_path / "empty").write_text("# nothing\n")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=((tmp_path / "config").read_text(),))
    writer.start()
    names = [str(tmp_path / name) for name in ("empty", "pipe")]
    assert get_version({**environ, "KUBECONFIG": os.pathsep.join(names)})
    writer.join()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"apiVersion": "v2"}, "has apiVersion v2, which kubectl does not read"),
        ({"kind": "ConfigMap"}, "has kind ConfigMap"),
        ({"contexts": [{"name": "lab", "context": {}}] * 2}, "has the name lab twice in contexts"),
        ({"users": [{"name": "me", "user": {}}] * 2}, "has the name me twice in users"),
        ({"clusters": [{"name": "lab", "cluster": {}}] * 2}, "has the name lab twice in clusters"),
    ],
)
def test_file_that_kubectl_rejects_is_rejected(tmp_path: Path, changes: Any, words: str) -> None:
    assert words in str(context_of(tmp_path, **changes))


def test_directory_in_kubeconfig_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read \(Is a directory\)"):
        find_cluster({"KUBECONFIG": str(tmp_path)})


# Requests that the API server rejects


def test_forbidden_request_names_the_permission_and_a_test(
    plain: FakeApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.forbidden.add(("get", "serviceaccounts"))
    monkeypatch.setenv("KUBECONFIG", written(tmp_path / "config", plain.url, None, {"as": "jane"})["KUBECONFIG"])
    done = run_setup(capsys, *SETUP)
    assert done.status == 1
    assert "get serviceaccounts for this user, which acts as jane" in done.err
    assert "`kubectl auth can-i get serviceaccounts -n shop --context lab`" in done.err


def test_authority_of_another_cluster_is_rejected(secured: FakeApiServer, tmp_path: Path, no_proxies: None) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.crt")
    fields = {"certificate-authority": "ca.crt", "tls-server-name": NAME}
    with pytest.raises(KubernetesError, match="certificate verify failed"):
        get_version(written(tmp_path / "config", secured.url, fields))
