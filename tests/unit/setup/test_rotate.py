"""Test `setup rotate` and `setup issuer-documents --publish` with moto's S3, fake API servers and a fake internet."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest

from sidecar.errors import SidecarError
from sidecar.kubernetes.client import Kubernetes
from sidecar.setup import issuer_bucket, signers
from sidecar.setup.discovery_documents import KEYS_PATH
from sidecar.setup.issuer_checks import DISCOVERY_PATH
from sidecar.setup.signers import (
    ENDPOINTS_PATH,
    METRICS_PATH,
    TOKEN_PATH,
    cluster_opener,
    find_signers,
    longest_lifetime,
)
from sidecar.setup.steps.rotate import RECORD_PATH, WAITS
from tests.support.documents import commands
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.support.fakes.internet import Internet
from tests.unit.setup.conftest import ISSUER, KEY, Account, CommandResult, discovery

BUCKET = "s3://shop-oidc/clusters/shop"
PREFIX = "clusters/shop/"
PUBLISHED_KEYS = f"{ISSUER}{KEYS_PATH}"
FAST = ("--cache-seconds", "0", "--token-lifetime", "600")


def key(kid: str) -> dict[str, str]:
    return KEY | {"kid": kid, "n": f"n-of-{kid}"}


UNNAMED = {name: value for name, value in KEY.items() if name != "kid"}


def token_of(claims: dict[str, Any], kid: str = "k1") -> str:
    return jwt.encode(claims, "k" * 32, headers={"kid": kid})


def configure(
    fake: FakeApiServer,
    signing: str,
    *others: str,
    started_at: float = 1_000.5,
    servers: int = 1,
    clock: Any = 1_000,
) -> None:
    """Let the API server sign with one key, and publish this key and others."""
    fake.documents[DISCOVERY_PATH] = discovery(jwks_uri="https://10.0.0.1:6443/openid/v1/jwks")
    fake.documents[KEYS_PATH] = {"keys": [key(kid) for kid in (signing, *others)]}
    addresses = [f"10.0.0.{index}" for index in range(servers)]
    fake.documents[ENDPOINTS_PATH] = {"endpoints": [{"addresses": addresses}]}
    fake.broken[METRICS_PATH] = (200, f"# TYPE x gauge\nprocess_start_time_seconds {started_at}\ny 1\n".encode())
    token = token_of({"iss": ISSUER, "iat": clock}, signing)
    fake.broken[TOKEN_PATH] = (201, {"kind": "TokenRequest", "status": {"token": token}})


class Cluster:
    """A cluster with one API server, whose issuer's documents are in a bucket."""

    def __init__(self, fake: FakeApiServer, account: Account, net: Internet) -> None:
        self.fake, self._account, self._net = fake, account, net
        self.s3 = account.client("s3")
        self.s3.create_bucket(Bucket="shop-oidc", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})

    def rotate(self, *arguments: str, bucket: str = BUCKET) -> CommandResult:
        return self._account.setup("rotate", bucket, *arguments)

    def publish(self, *arguments: str) -> CommandResult:
        return self._account.setup("issuer-documents", "--publish", BUCKET, *arguments)

    def step(self, *arguments: str) -> CommandResult:
        """Make a step, and let the issuer's URL serve the bucket afterwards."""
        done = self.rotate("--step", *FAST, *arguments)
        self.serve()
        return done

    def serve(self) -> None:
        self._net.publish(ISSUER + DISCOVERY_PATH, discovery(jwks_uri=PUBLISHED_KEYS))
        self._net.publish(PUBLISHED_KEYS, self.stored(KEYS_PATH[1:]))

    def stored(self, path: str) -> Any:
        return json.loads(self.s3.get_object(Bucket="shop-oidc", Key=PREFIX + path)["Body"].read())

    def store(self, path: str, document: Any) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.s3.put_object(Bucket="shop-oidc", Key=PREFIX + path, Body=body)

    def stored_kids(self) -> list[str]:
        return [each["kid"] for each in self.stored(KEYS_PATH[1:])["keys"]]


@pytest.fixture
def cluster(account: Account, issuer: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setattr(signers, "SAMPLES_PER_SERVER", 1)  # there is only one API server
    with api_server() as fake:
        (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig(fake.url)))
        configure(fake, "k1")
        yield Cluster(fake, account, issuer)


def test_rotation_replaces_the_first_key_with_the_second(cluster: Cluster) -> None:
    """Follow the steps as an operator does. The record is aged, because the test does not wait for tokens."""
    assert cluster.step().out == "k1: signs, not published\ndone: published k1\n"
    assert cluster.rotate("--check", *FAST) == (
        0,
        (
            "k1: signs, published\n"
            "nothing to do. To start a rotation, add the new public key with a second --service-account-key-file\n"
        ),
        "",
    )
    configure(cluster.fake, "k1", "k2")
    assert cluster.step().out.endswith("k2: has never signed, not published\ndone: published k2\n")
    assert cluster.stored_kids() == ["k1", "k2"]
    ready = cluster.step()
    assert (ready.status, ready.out.splitlines()[-1]) == (
        WAITS,
        "next: set --service-account-signing-key-file of each API server to the private key of k2",
    )
    configure(cluster.fake, "k2", "k1")
    assert cluster.step().out.endswith("done: recorded which keys sign: k1, k2\n")
    waiting = cluster.step()
    assert waiting.status == WAITS
    assert "k1: old, published; its last token expires at 20" in waiting.out
    assert "wait: tokens of k1 are valid until 20" in waiting.out
    cluster.store(RECORD_PATH, {"version": 1, "signed": {"k1": 2_000.0, "k2": None}})
    unused = cluster.step()
    assert (unused.status, unused.out.splitlines()[-1]) == (
        WAITS,
        "next: remove k1 from --service-account-key-file of each API server",
    )
    configure(cluster.fake, "k2")
    assert cluster.step().out.endswith("done: removed k1 from the bucket\n")
    assert cluster.stored_kids() == ["k2"]
    assert cluster.stored(RECORD_PATH) == {"version": 1, "signed": {"k2": None}}
    assert cluster.step().status == 0


def test_kubeconfig_without_a_cluster_is_reported(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("{}")
    done = cluster.rotate("--check", *FAST)
    assert (done.status, "names no usable current context" in done.err) == (2, True)


def test_check_changes_nothing(cluster: Cluster) -> None:
    done = cluster.rotate("--check", *FAST)
    assert (done.status, done.out) == (WAITS, "k1: signs, not published\nnext: publish k1, with --step\n")
    assert "Contents" not in cluster.s3.list_objects_v2(Bucket="shop-oidc")


def test_documented_commands_check_and_make_a_step(cluster: Cluster, account: Account) -> None:
    done = [
        account.setup(*line.replace("s3://shop-oidc", BUCKET).split()[2:], *FAST)
        for line in commands("docs/own-issuer.md", "When the signing key changes")
    ]
    assert [each.out.splitlines()[-1] for each in done] == ["next: publish k1, with --step", "done: published k1"]


def test_json_has_each_key_and_the_step(cluster: Cluster) -> None:
    cluster.step()
    configure(cluster.fake, "k1", "k2")
    assert json.loads(cluster.rotate("--check", "--json", *FAST).out) == {
        "version": 1,
        "keys": {"k1": "signs, published", "k2": "has never signed, not published"},
        "step": "publish",
        "step_keys": ["k2"],
        "until": None,
        "done": False,
    }


def test_new_key_waits_until_sts_knows_it(cluster: Cluster) -> None:
    cluster.step()
    configure(cluster.fake, "k1", "k2")
    cluster.step()
    done = cluster.rotate("--check", "--token-lifetime", "600")
    assert done.status == WAITS
    assert "wait: STS may not know k2, until 20" in done.out


def test_unserved_signing_key_is_an_error(cluster: Cluster) -> None:
    """The bucket has the key, but the issuer's URL serves old documents."""
    cluster.step()
    cluster._net.publish(PUBLISHED_KEYS, {"keys": [key("other")]})
    done = cluster.rotate("--check", *FAST)
    assert done.status == 1
    assert "STS rejects tokens of k1" in done.err


def test_unreachable_issuer_is_not_taken_for_a_rejection(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine of the operator may have no way to the internet."""
    cluster.step()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    done = cluster.rotate("--check", *FAST)
    assert "The published keys cannot be read" in done.err
    assert "STS rejects" not in done.err
    assert done.status == 0


def test_publishing_continues_after_an_interruption(cluster: Cluster) -> None:
    """The command was killed after it wrote the keys, and before the discovery document."""
    cluster.store(KEYS_PATH[1:], {"keys": [key("k1")]})
    assert cluster.step().out.endswith("done: published k1\n")
    assert cluster.stored(DISCOVERY_PATH[1:])["jwks_uri"] == PUBLISHED_KEYS


def test_too_early_removal_from_api_servers_is_a_warning(cluster: Cluster) -> None:
    cluster.step()
    configure(cluster.fake, "k1", "k2")
    cluster.step()
    configure(cluster.fake, "k2")
    done = cluster.step()
    assert "The API servers no longer accept tokens of k1, which Pods may still have. Add the key to" in done.err
    assert cluster.stored_kids() == ["k1", "k2"]


def test_hostile_key_id_is_escaped(cluster: Cluster) -> None:
    configure(cluster.fake, "k1", "\x1b[2J\x7f\u202e")
    for arguments in ((), ("--json",)):
        done = cluster.rotate("--check", *FAST, *arguments)
        assert not {"\x1b", "\x7f", "\u202e"} & {*(done.out + done.err)}


def test_key_retired_before_the_first_step_needs_its_flag(cluster: Cluster) -> None:
    cluster.store(KEYS_PATH[1:], {"keys": [key("k0"), key("k1")]})
    cluster.serve()
    cluster.step()
    unknown = cluster.step()
    assert (unknown.status, "run this again with --retired k0" in unknown.out) == (WAITS, True)
    assert cluster.step("--retired", "k0").out.endswith("done: recorded which keys sign: k0\n")
    assert "wait: tokens of k0 are valid until 20" in cluster.step().out
    wrong = cluster.rotate("--check", "--retired", "k1")
    assert (wrong.status, "--retired is 'k1', but an API server signs with it" in wrong.err) == (2, True)
    assert "there is no such key" in cluster.rotate("--check", "--retired", "k9").err


def test_fast_clock_of_an_api_server_makes_the_wait_longer(cluster: Cluster) -> None:
    """The API server signs with a clock that is an hour fast, so its tokens expire an hour later."""
    cluster.store(KEYS_PATH[1:], {"keys": [key("k0"), key("k1")]})
    cluster.store(RECORD_PATH, {"version": 1, "signed": {"k0": None}})
    cluster.store(DISCOVERY_PATH[1:], discovery(jwks_uri=PUBLISHED_KEYS))
    now = time.time()
    configure(cluster.fake, "k1", clock=now + 3_600)
    done = cluster.step()
    assert re.search("The clock of an API server is 3[56][0-9][0-9] s ahead", done.err)
    assert now + 3_500 < cluster.stored(RECORD_PATH)["signed"]["k0"] < now + 3_800


def test_longest_token_of_all_pods_counts(cluster: Cluster) -> None:
    """A Pod may have a token for a week."""
    sources = [{"configMap": {"name": "x"}}, {"serviceAccountToken": {"expirationSeconds": 604_800}}]
    for index in range(2):
        pod = {"metadata": {"name": f"cart-{index}"}, "spec": {"volumes": [{"projected": {"sources": sources}}]}}
        cluster.fake.put(f"/api/v1/pods/cart-{index}", pod)
    cluster.store(KEYS_PATH[1:], {"keys": [key("k0"), key("k1")]})
    cluster.store(RECORD_PATH, {"version": 1, "signed": {"k0": 2_000_000_000.0, "k1": None}})
    cluster.store(DISCOVERY_PATH[1:], discovery(jwks_uri=PUBLISHED_KEYS))
    cluster.serve()
    done = cluster.rotate("--check", "--cache-seconds", "0")
    assert "tokens of k0 are valid until 2033-05-25T03:38:20Z" in done.out  # 2,000,000,000 + 604,800 + 300 s


@pytest.mark.parametrize(
    ("pods", "seconds"), [([], 0), ([{}], 0), ([{"spec": {"volumes": [{"projected": {"sources": None}}]}}], 0)]
)
def test_pods_without_tokens_have_no_lifetime(pods: list[Any], seconds: int) -> None:
    assert longest_lifetime(pods) == seconds


# Publishing


def test_publishing_adds_keys_and_removes_none(cluster: Cluster) -> None:
    cluster.store(KEYS_PATH[1:], {"keys": [key("k0")]})
    assert "would be written" in cluster.publish("--dry-run").out
    assert cluster.stored_kids() == ["k0"]
    assert cluster.publish().without_next().out == (
        f"{BUCKET}/openid/v1/jwks: written\n{BUCKET}/.well-known/openid-configuration: written\n"
    )
    assert cluster.stored_kids() == ["k1", "k0"]
    assert cluster.stored(DISCOVERY_PATH[1:])["jwks_uri"] == PUBLISHED_KEYS
    assert cluster.publish().without_next().out == f"{BUCKET}: nothing to change\n"
    head = cluster.s3.head_object(Bucket="shop-oidc", Key=PREFIX + KEYS_PATH[1:])
    assert (head["ContentType"], head["CacheControl"]) == ("application/json", "public, max-age=300")


def test_concurrent_change_is_not_overwritten(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another person publishes between the read and the write."""
    write = issuer_bucket.Bucket.write

    def write_late(bucket: Any, path: str, content: bytes, replaces: Any) -> None:
        cluster.store(KEYS_PATH[1:], {"keys": [key("theirs")]})
        write(bucket, path, content, replaces)

    cluster.store(KEYS_PATH[1:], {"keys": [key("k0")]})
    monkeypatch.setattr(issuer_bucket.Bucket, "write", write_late)
    done = cluster.publish()
    assert done.status == 1
    assert "PreconditionFailed" in done.err
    assert "another person or tool changed the object" in done.err
    assert cluster.stored_kids() == ["theirs"]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (b"<html>", "is not JSON"),
        ([], 'has no list of "keys"'),
        ({"keys": 5}, 'has no list of "keys"'),
        ({"keys": [key("k1") | {"n": "another"}]}, "another key with the ID k1"),
        ({"keys": [key("k0") | {"d": "secret"}]}, "The key k0 contains a private key"),
        ({"keys": [UNNAMED | {"d": "secret"}]}, "A key without an ID contains a private key"),
        ({"keys": [key("k0"), key("k0") | {"n": "another"}]}, "The bucket has two keys with the ID k0"),
        ({"keys": [key("k1") | {"n": "another"}, key("k1")]}, "another key with the ID k1"),
    ],
)
def test_unusable_stored_keys_stop_the_command(cluster: Cluster, stored: Any, words: str) -> None:
    cluster.store(KEYS_PATH[1:], stored)
    for done in (cluster.publish(), cluster.rotate("--step", *FAST)):
        assert done.status == 1
        assert words in done.err
        assert "secret" not in done.out + done.err


def test_key_without_an_id_stays_published(cluster: Cluster) -> None:
    """STS may verify tokens of another issuer's server with the key. No token of Kubernetes names it."""
    cluster.store(KEYS_PATH[1:], {"keys": [UNNAMED, key("k0"), UNNAMED, 5]})
    assert cluster.publish().status == 0
    assert cluster.stored(KEYS_PATH[1:])["keys"] == [key("k1"), key("k0"), UNNAMED]
    cluster.store(RECORD_PATH, {"version": 1, "signed": {"k0": 2_000.0, "k1": None}})
    cluster.serve()
    assert cluster.step().out.endswith("done: removed k0 from the bucket\n")
    assert cluster.stored(KEYS_PATH[1:])["keys"] == [key("k1"), UNNAMED]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (discovery("https://other.example.com"), "belongs to the issuer https://other.example.com, but"),
        (b"<html>", "is not a discovery document"),
        (b"[]", "is not a discovery document"),
    ],
)
def test_bucket_of_another_issuer_is_not_changed(cluster: Cluster, stored: Any, words: str) -> None:
    cluster.store(DISCOVERY_PATH[1:], stored)
    cluster.store(KEYS_PATH[1:], {"keys": [key("theirs")]})
    for done in (cluster.publish(), cluster.rotate("--step", *FAST), cluster.rotate("--check", *FAST)):
        assert (done.status, words in done.err) == (1, True)
    assert cluster.stored_kids() == ["theirs"]


def test_private_key_of_the_cluster_is_not_published(cluster: Cluster) -> None:
    cluster.fake.documents[KEYS_PATH] = {"keys": [key("k1") | {"d": "secret"}]}
    assert "contains a private key" in cluster.publish().err
    assert "Contents" not in cluster.s3.list_objects_v2(Bucket="shop-oidc")


@pytest.mark.parametrize("bucket", ["shop-oidc", "https://shop-oidc", "s3://", "s3://a/../b c", "s3://UPPER"])
def test_invalid_bucket_is_named_in_the_error(cluster: Cluster, bucket: str) -> None:
    done = cluster.rotate("--check", *FAST, bucket=bucket)
    assert done.status == 2
    assert f"BUCKET is {bucket!r}" in done.err


def test_missing_bucket_has_a_fix(cluster: Cluster) -> None:
    done = cluster.rotate("--check", *FAST, bucket="s3://no-such-bucket")
    assert done.status == 1
    assert "Check the bucket's name" in done.err


# API servers


def _opener(fakes: list[FakeApiServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function whose connections reach one API server after the other, as through a load balancer."""
    opened = 0

    def opening() -> AbstractContextManager[Kubernetes]:
        nonlocal opened
        path = tmp_path / f"kubeconfig-{opened}"
        path.write_text(json.dumps(kubeconfig(fakes[opened % len(fakes)].url)))
        monkeypatch.setenv("KUBECONFIG", str(path))
        opened += 1
        return cluster_opener(None, "irsa-sidecar setup rotate")()

    return opening


def test_each_api_server_is_found_behind_a_load_balancer(
    aws_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        first, second = (stack.enter_context(api_server()) for _ in range(2))
        configure(first, "k1", started_at=5.0, servers=2)
        configure(second, "k2", started_at=6.0, servers=2)
        found = find_signers(_opener([first, first, second], tmp_path, monkeypatch))
        assert (sorted(found.signing), found.started_at) == (["k1", "k2"], 6.0)
        assert [each["kid"] for each in found.documents.keys["keys"]] == ["k1", "k2"]
        missed = find_signers(_opener([first], tmp_path, monkeypatch))
        assert (sorted(missed.signing), missed.started_at) == (["k1"], None)


def test_api_servers_behind_one_address_are_found(
    aws_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosted control planes list only the address of their load balancer."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(api_server()) for _ in range(2))
        configure(first, "k1", started_at=5.0)
        configure(second, "k2", "k1", started_at=6.0)
        found = find_signers(_opener([first, first, second], tmp_path, monkeypatch))
        assert (sorted(found.signing), found.started_at, sorted(found.accepted)) == (["k1", "k2"], 6.0, ["k1"])


def test_unreached_api_server_causes_a_remark(cluster: Cluster) -> None:
    configure(cluster.fake, "k1", servers=2)
    assert "Not every API server responded" in cluster.rotate("--check", *FAST).err


@pytest.mark.parametrize(
    ("path", "response", "words"),
    [
        (METRICS_PATH, (200, b"y 1\n"), "no valid process_start_time_seconds"),
        (METRICS_PATH, (200, b"process_start_time_seconds x\n"), "no valid process_start_time_seconds"),
        (METRICS_PATH, (200, b"process_start_time_seconds nan\n"), "no valid process_start_time_seconds"),
        (METRICS_PATH, (200, b"process_start_time_seconds 1e300\n"), "no valid process_start_time_seconds"),
        (ENDPOINTS_PATH, (200, {"endpoints": None}), "the API servers are not known"),
        (ENDPOINTS_PATH, (404, {}), "the API servers are not known"),
        (METRICS_PATH, (403, {"message": "forbidden: /metrics"}), "forbidden: /metrics"),
        (TOKEN_PATH, (201, {"status": {}}), "a token without a key ID"),
        (TOKEN_PATH, (201, {"status": {"token": "x.y"}}), "a token without a key ID"),
        (TOKEN_PATH, (201, {"status": {"token": jwt.encode({}, "k" * 32)}}), "a token without a key ID"),
        (TOKEN_PATH, (201, {"status": {"token": token_of({})}}), "a token without a valid time"),
        (TOKEN_PATH, (201, {"status": {"token": token_of({"iat": -1})}}), "a token without a valid time"),
        (TOKEN_PATH, (201, {"status": {"token": token_of({"iat": True})}}), "a token without a valid time"),
    ],
)
def test_unusable_api_server_stops_the_command(
    cluster: Cluster, path: str, response: tuple[int, Any], words: str
) -> None:
    cluster.fake.broken[path] = response
    with pytest.raises(SidecarError, match=words):
        find_signers(cluster_opener(None, "irsa-sidecar setup rotate"))
    assert cluster.rotate("--check", *FAST).status == 1
