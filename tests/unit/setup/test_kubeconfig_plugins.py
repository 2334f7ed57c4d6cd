"""Test the login plugins in a kubeconfig, and errors in its users."""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes.client import open_cluster
from sidecar.kubernetes.kubeconfig import find_cluster
from tests.support.fakes.api_server import FakeApiServer
from tests.unit.setup.conftest import Authorities
from tests.unit.setup.kubeconfigs import NAME, PATH, get_version, plugin, written

INSISTS = "json.loads(os.environ['KUBERNETES_EXEC_INFO'])['spec']['cluster']['server'] or sys.exit(3)"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_plugin_gets_the_cluster_info_that_it_requests(
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
    assert get_version(written(tmp_path / "config", secured.url, {**fields, "extensions": [extension]}, user))
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
        get_version(written(tmp_path / "config", plain.url, None, plugin(more=INSISTS)))


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
    assert get_version(environ)
    assert plain.headers[-1]["Authorization"] == "Bearer t"


def test_bare_command_is_found_on_the_path(
    plain: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "plug"
    script.write_text('#!/bin/sh\necho \'{"status": {"token": "p"}}\'\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert get_version(written(tmp_path / "config", plain.url, None, plugin(command="plug", args=None)))


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
        (plugin(args=["-c", "print('secret')"]), "ExecCredential"),
        (plugin(args=["-c", 'print(\'{"status":{"token":"t"},"apiVersion":"x"}\')']), " in x, and exec.apiVersion is"),
        (plugin(interactiveMode="Always"), "exec.interactiveMode is Always"),
        (plugin(interactiveMode="Sometimes"), "exec.interactiveMode Sometimes"),
        (plugin(apiVersion="client.authentication.k8s.io/v1alpha1"), "exec.apiVersion client.*v1alpha1"),
        (plugin(command=""), "exec.command"),
        ({"as-groups": ["dev"]}, "as-groups without as"),
        ({"as-uid": "1"}, "as-uid without as"),
        ({"as-user-extra": {"a": ["b"]}}, "as-user-extra without as"),
        ({"as": ["jane"]}, r"kubectl config view"),
        ({"auth-provider": {"name": "gcp"}}, "auth-provider"),
        ({"auth-provider": {"name": "oidc"}, "token": "secret"}, "auth-provider, which is not supported"),
        ({"token": "secret", "username": "u"}, "both a token and a password"),
        ({"tokenFile": "t", "password": "secret"}, "both a token and a password"),
        ({"client-certificate-data": "!", "client-key-data": "!"}, "client-certificate-data"),
        ({"client-certificate": "gone"}, "cannot be used"),
    ],
)
def test_error_about_an_unusable_user_names_the_reason(
    user: Any, words: str, plain: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigurationError, match=words) as raised:
        get_version(written(tmp_path / "config", plain.url, None, user))
    assert "secret" not in str(raised.value)
    assert plain.requests == []


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
def test_unauthorized_request_names_a_next_step(user: Any, words: str, plain: FakeApiServer, tmp_path: Path) -> None:
    plain.broken[PATH] = (401, {"message": "Unauthorized"})
    with pytest.raises(KubernetesError, match=r"\(401\): Unauthorized\. ") as raised:
        get_version(written(tmp_path / "config", plain.url, None, user))
    assert words in str(raised.value)
