"""Test `setup issuer-documents` with a fake API server."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import SidecarError
from sidecar.setup.discovery_documents import key_differences, read_documents, to_publish
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.internet import Internet
from tests.unit.setup.conftest import ISSUER, KEY, KEYS_URI, CommandResult, discovery, run_setup

DISCOVERY_PATH, KEYS_PATH = "/.well-known/openid-configuration", "/openid/v1/jwks"
API_SERVERS_OWN = "https://172.18.0.2:6443/openid/v1/jwks"


class Cluster:
    """A fake API server, and the command that reads from it."""

    def __init__(self, fake: FakeApiServer, capsys: pytest.CaptureFixture[str], directory: Path) -> None:
        self.fake, self.documents = fake, fake.documents
        self.directory = directory
        self._capsys = capsys
        self.documents[DISCOVERY_PATH] = discovery(jwks_uri=API_SERVERS_OWN)
        self.documents[KEYS_PATH] = {"keys": [KEY]}

    def run(self, *arguments: str) -> CommandResult:
        return run_setup(self._capsys, "issuer-documents", *arguments)

    def write(self, *arguments: str) -> CommandResult:
        return self.run("--directory", str(self.directory), *arguments)


@pytest.fixture
def cluster(aws_environment: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cluster]:
    with api_server() as fake:
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig(fake.url)))
        yield Cluster(fake, capsys, tmp_path / "public")


def test_documents_are_written_only_if_they_changed(cluster: Cluster) -> None:
    keys, found = cluster.directory / "openid/v1/jwks", cluster.directory / ".well-known/openid-configuration"
    assert cluster.write("--issuer", ISSUER).without_next() == (
        0,
        f"{keys}: written (for {ISSUER}{KEYS_PATH})\n{found}: written (for {ISSUER}{DISCOVERY_PATH})\n",
        "",
    )
    assert json.loads(keys.read_text()) == {"keys": [KEY]}
    assert json.loads(found.read_text()) == discovery(jwks_uri=f"{ISSUER}{KEYS_PATH}")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (keys, found)} == {0o644}
    assert sorted(path.name for path in keys.parent.iterdir()) == ["jwks"]
    assert cluster.write().out.count("nothing to change") == 2
    cluster.documents[KEYS_PATH] = {"keys": [KEY, KEY | {"kid": "k2"}]}
    again = cluster.write().without_next()
    assert [line.split(": ")[1].split(" (")[0] for line in again.out.splitlines()] == ["written", "nothing to change"]


def test_key_set_request_accepts_any_type(cluster: Cluster) -> None:
    """A real API server returns 406 if a request accepts only application/json."""
    cluster.write()
    assert cluster.fake.requests == [("GET", DISCOVERY_PATH), ("GET", KEYS_PATH)]
    assert all("*/*" in headers["Accept"] for headers in cluster.fake.headers)


def test_dry_run_writes_nothing(cluster: Cluster) -> None:
    assert cluster.write("--dry-run").out.count("would be written") == 2
    assert not cluster.directory.exists()


@pytest.mark.parametrize(
    ("configured", "flag", "written", "url"),
    [
        (API_SERVERS_OWN, None, "openid/v1/jwks", f"{ISSUER}/openid/v1/jwks"),
        (f"{ISSUER}/keys.json", None, "keys.json", f"{ISSUER}/keys.json"),
        ("https://keys.example.net/a/keys", None, "a/keys", "https://keys.example.net/a/keys"),
        (None, None, "openid/v1/jwks", f"{ISSUER}/openid/v1/jwks"),
        (API_SERVERS_OWN, f"{ISSUER}/jwks.json", "jwks.json", f"{ISSUER}/jwks.json"),
    ],
)
def test_discovery_document_contains_the_url_of_the_keys(
    cluster: Cluster, configured: str | None, flag: str | None, written: str, url: str
) -> None:
    cluster.documents[DISCOVERY_PATH] = discovery(jwks_uri=configured)
    done = cluster.write(*(["--jwks-uri", flag] if flag else []))
    assert f"{cluster.directory / written}: written (for {url})" in done.out
    assert json.loads((cluster.directory / ".well-known/openid-configuration").read_text())["jwks_uri"] == url


@pytest.mark.parametrize(
    ("documents", "arguments", "status", "word"),
    [
        ({}, ("--issuer", "https://other.example.com"), 2, "--service-account-issuer"),
        ({DISCOVERY_PATH: discovery("https://kubernetes.default.svc")}, (), 2, "the API server's default"),
        ({KEYS_PATH: {"keys": []}}, (), 1, 'has no list of "keys"'),
        ({KEYS_PATH: None}, (), 1, "key set"),
        ({DISCOVERY_PATH: None}, (), 1, "discovery document"),
        ({DISCOVERY_PATH: b"<html>"}, (), 1, "is not JSON"),
        ({DISCOVERY_PATH: b"[]"}, (), 1, "is not a JSON object"),
        ({}, ("--jwks-uri", "http://x.example.com/keys"), 1, "http://x.example.com/keys"),
        ({}, ("--jwks-uri", f"{ISSUER}/../keys"), 1, "--jwks-uri"),
        ({}, ("--jwks-uri", "https://x.example.com"), 1, "--jwks-uri"),
    ],
)
def test_unusable_documents_are_not_written(
    cluster: Cluster, documents: dict[str, Any], arguments: tuple[str, ...], status: int, word: str
) -> None:
    for path, document in documents.items():
        cluster.documents[path] = document
        if document is None:
            del cluster.documents[path]
    done = cluster.write(*arguments)
    assert (done.status, done.out) == (status, "")
    assert word in done.err
    assert done.err.count("\n") == 1
    assert not cluster.directory.exists()


def test_unwritable_directory_is_named_in_the_error(cluster: Cluster) -> None:
    cluster.directory.write_text("a file")
    done = cluster.write()
    assert done.status == 2
    assert f"--directory is {str(cluster.directory)!r}" in done.err


def test_failed_write_keeps_the_old_file(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.write()
    cluster.documents[KEYS_PATH] = {"keys": [KEY | {"kid": "k2"}]}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert cluster.write().status == 2
    assert json.loads((cluster.directory / "openid/v1/jwks").read_text()) == {"keys": [KEY]}


def test_eks_cluster_needs_no_published_documents(cluster: Cluster) -> None:
    cluster.documents[DISCOVERY_PATH] = discovery("https://oidc.eks.eu-west-1.amazonaws.com/id/A")
    assert "EKS itself publishes the documents of " in cluster.write().err


# The flag --check


def test_check_passes_if_the_keys_match(cluster: Cluster, issuer: Internet) -> None:
    issuer.publish(KEYS_URI, {"keys": [KEY | {"alg": "RS512"}]})
    assert cluster.run("--check") == (0, f"{ISSUER}: the published documents match the cluster's\n", "")


@pytest.mark.parametrize(
    ("published", "words"),
    [
        (["k0"], ["extra: the key k0", "missing: the key k1 of the cluster"]),
        (["k0", "k1"], ["extra: the key k0"]),
        (["k2"], ["extra: the key k2", "missing: the key k1 of the cluster"]),
    ],
)
def test_check_names_different_keys_and_exits_with_1(
    cluster: Cluster, issuer: Internet, published: list[str], words: list[str]
) -> None:
    issuer.publish(KEYS_URI, {"keys": [KEY | {"kid": kid} for kid in published]})
    done = cluster.run("--check")
    assert (done.status, done.err) == (1, "")
    assert [line.split(" is ")[0] for line in done.out.splitlines()] == words


def test_check_finds_another_key_with_the_same_kid(cluster: Cluster, issuer: Internet) -> None:
    issuer.publish(KEYS_URI, {"keys": [KEY | {"n": "other"}]})
    done = cluster.run("--check")
    assert done.status == 1
    assert done.out.startswith("different: the published key k1 is not the cluster's")


def test_check_fails_if_the_issuer_is_unreachable(cluster: Cluster, net: Internet) -> None:
    done = cluster.run("--check")
    assert (done.status, done.out) == (1, "")
    assert "Publish the documents there" in done.err


_KIDS = st.sets(st.sampled_from(["a", "b", "c"]), min_size=1)


@given(_KIDS, _KIDS)
def test_key_that_only_one_key_set_contains_is_a_difference(public: set[str], own: set[str]) -> None:
    published, current = ({"keys": [KEY | {"kid": kid} for kid in sorted(kids)]} for kids in (public, own))
    differences = list(key_differences(published, current))
    assert len(differences) == len(public ^ own)
    for kid in own - public:
        assert any(line.startswith("missing") and f"the key {kid} " in line for line in differences)
    for kid in public - own:
        assert any(line.startswith("extra") and f"the key {kid} " in line for line in differences)


@given(st.text(st.sampled_from("/.%a\\?#:"), max_size=12))
def test_url_of_the_keys_never_leaves_the_directory(path: str) -> None:
    documents = read_documents(json.dumps(discovery()).encode(), b'{"keys": []}')
    try:
        keys, _ = to_publish(documents, f"{ISSUER}/{path}")
    except SidecarError:
        return
    assert os.path.normpath(keys.path) == keys.path
    assert not keys.path.startswith("/")
    assert ".." not in keys.path.split("/")
