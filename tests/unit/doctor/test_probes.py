"""The probes collect facts from real files, sockets and bytes."""

import io
import json
import os
import random
import socket
import ssl
import sys
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import botocore
import pytest
import trio
import trustme
from cryptography import x509
from trio.testing import MockClock

from sidecar.daemon.credentials_file import HEADER
from sidecar.doctor.checks.certificate import signer
from sidecar.doctor.checks.endpoint import EndpointFacts
from sidecar.doctor.checks.sdks import BOTOCORE, CHECKS, FoundSdk, SdkFacts
from sidecar.doctor.probes import aws, endpoint, environment, issuer, metadata, network_path, sdks, token
from sidecar.doctor.probes.endpoint import Endpoint, Keys
from sidecar.role import Role
from sidecar.serving.h11_server import Request, Response
from tests.support.exchanges import STS_HOST, Authority, Resolver, scripted
from tests.support.fakes.scripted_sts import Reply as RawReply
from tests.support.fakes.scripted_sts import ScriptedSts
from tests.support.fakes.tokens import service_account_token
from tests.support.served_peer import serving

SECRET = "s3cret-of-the-endpoint-that-must-not-be-shown"


# The token's mount

PLAIN = "36 35 0:50 / /var/run/secrets/app ro - tmpfs tmpfs rw"
SUB_PATH = "37 35 0:50 /..2026_01_02_03_04_05.678901/token /var/run/secrets/app/token ro - tmpfs tmpfs rw"
SUB_PATH_OF_A_DIRECTORY = "38 35 0:50 /..2026_01_02_03_04_05.678901/a /var/run/secrets/app ro - tmpfs tmpfs rw"
WITH_A_BLANK = r"39 35 0:50 /x /var/run/a\040b/token ro - tmpfs tmpfs rw"


@pytest.mark.parametrize(
    ("path", "table", "is_sub_path"),
    [
        ("/var/run/secrets/app/token", "", False),
        ("/var/run/secrets/app/token", PLAIN, False),
        ("/var/run/secrets/app/token", f"{PLAIN}\n{SUB_PATH}", True),
        ("/var/run/secrets/app/token", SUB_PATH_OF_A_DIRECTORY, True),
        ("/var/run/secrets/application/token", SUB_PATH_OF_A_DIRECTORY, False),
        ("/var/run/a b/token", WITH_A_BLANK, True),
        ("/var/run/secrets/app/token", "nonsense", False),
    ],
)
def test_mount_table_shows_a_sub_path_mount(
    path: str,
    table: str,
    is_sub_path: bool,  # noqa: FBT001  a column of the table
) -> None:
    assert token.is_sub_path(path, table) is is_sub_path


def test_missing_mount_table_means_no_sub_path(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(service_account_token(1_800_000_000.0))
    facts = token.collect(Role("default", "arn", str(path), None, 3600), 0.0, mounts="/nowhere/mountinfo")
    assert facts.file is not None
    assert not facts.file.is_sub_path
    assert (facts.kid, facts.algorithm) == ("k1", "RS256")


# Certificates


def _certificate(organization: str = "Company Proxy") -> bytes:
    certificate = trustme.CA(organization_name=organization).issue_cert("sts.example")
    return ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())


def test_signer_is_the_same_as_with_cryptography() -> None:
    assert signer(_certificate("Ämter & Söhne")) == "Ämter & Söhne"
    der = _certificate()
    issuer = x509.load_der_x509_certificate(der).issuer
    (organization,) = issuer.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    assert signer(der) == organization.value


def test_invalid_certificate_has_no_signer() -> None:
    der = _certificate()
    print("seed 7")
    source = random.Random(7)
    assert signer(b"") is None
    for _ in range(300):
        spoilt = bytearray(der)
        for _ in range(source.randint(1, 5)):
            spoilt[source.randrange(len(spoilt))] = source.randrange(256)
        signer(bytes(spoilt[: source.randrange(len(spoilt))]))
        signer(source.randbytes(source.randrange(60)))


# SDKs


def _put(root: Path, path: str, content: bytes = b"") -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def _fat_jar() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as jar:
        jar.writestr("BOOT-INF/lib/auth-2.20.1.jar", b"")
    return buffer.getvalue()


def _program(text: bytes) -> bytes:
    return b"\x7fELF" + b"\0" * 1024 * 1024 + text + b"\0" * 100


def _package(name: str, version: str) -> bytes:
    return json.dumps({"name": name, "version": version}).encode()


TRACES = {
    "lib/python3.12/site-packages/botocore-1.34.40.dist-info/METADATA": (b"", "botocore (Python) 1.34.40"),
    "lib/python3/dist-packages/botocore-1.29.27.egg-info": (b"", "botocore (Python) 1.29.27"),
    "usr/local/aws-cli/v2/2.13.0/dist/aws": (b"", "AWS CLI 2 2.13.0"),
    "app/node_modules/aws-sdk/package.json": (_package("aws-sdk", "2.1400.0"), "JavaScript SDK 2 2.1400.0"),
    "app/node_modules/@aws-sdk/credential-provider-node/package.json": (
        _package("@aws-sdk/credential-provider-node", "3.300.0"),
        "JavaScript SDK 3 3.300.0",
    ),
    "app/aws-java-sdk-core-1.12.700.jar": (b"", "Java SDK 1 1.12.700"),
    "app/spring.jar": (_fat_jar(), "Java SDK 2 2.20.1"),
    "app/aws-config-jvm-1.0.0.jar": (b"", "Kotlin SDK 1.0.0"),
    "gems/specifications/aws-sdk-core-3.180.0.gemspec": (b"", "Ruby SDK 3.180.0"),
    "app/vendor/composer/installed.json": (
        json.dumps({"packages": [{"name": "aws/aws-sdk-php", "version": "3.280.0"}, "odd"]}).encode(),
        "PHP SDK 3.280.0",
    ),
    "app/web.deps.json": (b'{"libraries": {"AWSSDK.Core/3.7.100.1": {}}}', ".NET SDK (AWSSDK.Core) 3.7.100.1"),
    "app/server": (
        _program(b"\tdep\tgithub.com/aws/aws-sdk-go-v2/config\tv1.18.0\th1:x\n"),
        "Go SDK 2 (module config) 1.18.0",
    ),
    "app/old-server": (_program(b"\tdep\tgithub.com/aws/aws-sdk-go\tv1.44.0\th1:x\n"), "Go SDK 1 1.44.0"),
    "app/rust-server": (_program(b"/registry/src/index-1/aws-config-1.1.7/src/ecs.rs"), "Rust SDK (aws-config) 1.1.7"),
}


def searched(root: Path) -> SdkFacts:
    search = sdks.Search(str(root))
    search.run()
    return search.facts


@pytest.mark.parametrize("name", ["missing", "file"])
def test_root_that_is_not_a_directory_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (check,) = CHECKS
    finding = check.evaluate(searched(tmp_path / name))
    assert finding is not None
    assert finding.seen == f"{tmp_path / name} is not a directory"
    assert "--files" in finding.next_step


@pytest.mark.parametrize("path", TRACES)
def test_sdk_is_found_by_its_trace_and_judged_by_version(path: str, tmp_path: Path) -> None:
    content, words = TRACES[path]
    _put(tmp_path, path, content)
    facts = searched(tmp_path)
    (found,) = facts.found
    assert f"{found.sdk.name} {found.version}" == words
    assert not found.is_new_enough
    assert found._replace(version=found.sdk.minimum_text).is_new_enough


def test_unreadable_and_misleading_files_are_skipped(tmp_path: Path) -> None:
    _put(tmp_path, "a/botocore-1.34.41.dist-info/METADATA")
    _put(tmp_path, "a/aws-sdk/package.json", b"not json")
    _put(tmp_path, "a/credential-provider-node/package.json", b"[]")
    _put(tmp_path, "a/broken.jar", b"PK")
    _put(tmp_path, "a/composer/installed.json", b'"text"')
    _put(tmp_path, "b/composer/installed.json", b'{"packages": 7}')
    _put(tmp_path, "b/aws-sdk/package.json", b"[" * 100_000)
    _put(tmp_path, "b/aws-sdk-2/package.json", b'{"name": {"name": []}}')
    os.mkfifo(tmp_path / "a" / "pipe.jar")
    os.mkfifo(tmp_path / "a" / "program")
    (tmp_path / "a" / "zero.jar").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "b" / "web.deps.json")
    _put(tmp_path, "a/text", b"\tdep\tgithub.com/aws/aws-sdk-go\tv1.44.0" + b"x" * 2_000_000)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    facts = searched(tmp_path)
    assert [found.version for found in facts.found] == ["1.34.41"]
    assert facts.found[0].is_new_enough
    assert facts.is_complete


def test_search_stops_at_the_file_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdks, "MAX_FILES", 3)
    for number in range(9):
        _put(tmp_path, f"file{number}")
    assert not searched(tmp_path).is_complete


async def test_hanging_search_keeps_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    hangs, release = threading.Event(), threading.Event()

    def traces(path: str) -> Iterator[FoundSdk]:
        if path == "hangs.jar":
            hangs.set()
            release.wait()
        yield FoundSdk(BOTOCORE, "1.0", path)

    async def let_the_deadline_pass() -> None:
        await trio.to_thread.run_sync(hangs.wait)
        mock_clock.jump(60)

    monkeypatch.setattr(sdks, "_traces", traces)
    monkeypatch.setattr(sdks, "_paths", lambda _root: iter(["first", "hangs.jar", "last"]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(let_the_deadline_pass)
        facts = await sdks.collect(str(tmp_path))
    release.set()
    assert [found.path for found in facts.found] == ["first"]
    assert not facts.is_complete


# AWS's configuration files


@pytest.mark.parametrize(
    ("content", "settings"),
    [
        ("[default]\naws_access_key_id = A\naws_secret_access_key = B\n", ("aws_access_key_id",)),
        ("[profile default]\nsso_session = x\n", ("sso_session",)),
        ("[default]\nrole_arn = arn\nsource_profile = base\n", ("role_arn",)),
        ("[default]\nrole_arn = arn\ncredential_source = EcsContainer\n", None),
        ("[other]\naws_access_key_id = A\n", None),
        (f"{HEADER}[default]\naws_access_key_id = A\n", None),
        ("[default]\nregion = eu-west-1\n", None),
        ("no section\n", None),
        ("[default\n", None),
    ],
)
def test_credentials_of_the_default_profile_are_found(
    tmp_path: Path, content: str, settings: tuple[str, ...] | None
) -> None:
    (tmp_path / "config").write_text(content)
    facts = environment.collect({"AWS_CONFIG_FILE": str(tmp_path / "config")}, ())
    assert facts.files == (() if settings is None else ((str(tmp_path / "config"), settings),))
    assert facts.has_region_file is ("region" in content)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[default]\nregion\n  continued = x\n", "Python's configuration parser fails on it"),
        (b"no section\n", "it is not a configuration file"),
        (b"[default\n", "it is not a configuration file"),
        (b"[default]\n" + b"a" * environment.MAX_CONFIGURATION_BYTES, "it is over 1024 KiB"),
    ],
)
def test_invalid_configuration_file_has_a_problem(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "config").write_bytes(content)
    facts = environment.collect({"AWS_CONFIG_FILE": str(tmp_path / "config")}, ())
    # Python 3.13 and newer raise a configparser error, or accept the file.
    others = {"", "it is not a configuration file"} if "parser" in problem and sys.version_info >= (3, 13) else set()
    assert dict(facts.unreadable).get(str(tmp_path / "config"), "") in {problem, *others}
    assert facts.files == ()


def test_configuration_path_that_is_not_a_file_never_blocks(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    paths = [str(tmp_path / "fifo"), str(tmp_path), "/dev/zero", "/dev/null", "\0", "/nowhere"]
    seen = {path: dict(environment.collect({"AWS_CONFIG_FILE": path}, ()).unreadable).get(path) for path in paths}
    assert seen == {
        str(tmp_path / "fifo"): "it is not a regular file",
        str(tmp_path): "it is not a regular file",
        "/dev/zero": "it is not a regular file",
        "/dev/null": None,
        "\0": "the path is not one that a file can have",
        "/nowhere": None,
    }


def test_home_directory_and_readable_tokens_are_found(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\ncredential_process = x\n")
    (tmp_path / "token").touch()
    for environ in ({"HOME": str(tmp_path)}, {"HOME": str(tmp_path), "AWS_CONFIG_FILE": "~/.aws/config"}):
        facts = environment.collect(environ, [str(tmp_path / "token"), "/nowhere"])
        assert facts.files == ((str(tmp_path / ".aws" / "config"), ("credential_process",)),)
        assert facts.tokens == (str(tmp_path / "token"),)


# The endpoint


@asynccontextmanager
async def listening(*replies: Response) -> AsyncIterator[tuple[str, list[Request]]]:
    requests: list[Request] = []
    remaining = list(replies)

    async def answer(request: Request) -> Response:
        requests.append(request)
        return remaining.pop(0) if len(remaining) > 1 else remaining[0]

    async with serving(answer) as url:
        yield f"{url}/v1/credentials", requests


def _json(status: int, body: Any) -> Response:
    return Response(status, json.dumps(body).encode(), "application/json")


async def collect(url: str, secret: str | None = SECRET, file: str | None = None) -> tuple[EndpointFacts, Keys | None]:
    return await endpoint.collect(Endpoint("SETTING", url, file, secret, is_expected=True, role_arn=None))


async def test_endpoint_probe_sends_the_request_of_an_sdk() -> None:
    async with listening(_json(404, {})) as (url, requests):
        await collect(f"{url}?a=1&b=%2F")
    (request,) = requests
    assert (request.method, request.target) == ("GET", "/v1/credentials?a=1&b=%2F")
    assert request.header("host") == url.split("/")[2]
    assert request.header("authorization") == SECRET


async def test_endpoint_that_is_not_ready_is_called_again(autojump_clock: object) -> None:
    body = {
        "AccessKeyId": "ASIAFAKEFAKEFAKE",
        "SecretAccessKey": "s",
        "Token": "t",
        "Expiration": "2027-01-15T09:00:00Z",
    }
    autojump_clock.autojump_threshold = 0.02  # type: ignore[attr-defined]  # loopback is real
    async with listening(_json(503, {"message": "not yet"}), _json(200, body)) as (url, requests):
        facts, keys = await collect(url)
    assert len(requests) == 2
    assert facts.response is not None
    assert (facts.response.status, keys) == (200, Keys("ASIAFAKEFAKEFAKE", "s", "t"))


@pytest.mark.parametrize("piece", [SECRET, SECRET[3:20], f"Authorization: {SECRET}"])
async def test_message_that_quotes_the_secret_is_not_shown(piece: str) -> None:
    async with listening(_json(403, {"message": f"I was sent {piece}"})) as (url, _):
        facts, _ = await collect(url)
    assert facts.response is not None
    assert facts.response.message == "(its message is not shown, because it quotes the secret)"


async def test_endpoint_facts_hold_no_credentials() -> None:
    wrong = {"AccessKeyId": SECRET, "SecretAccessKey": SECRET, "Token": SECRET, "Expiration": SECRET, SECRET * 2: 1}
    async with listening(_json(200, wrong | {"RoleArn": SECRET})) as (url, _):
        facts, _ = await collect(url, secret=None)
    assert SECRET not in str(facts)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"[" * 60_000, b"\xff", json.dumps({"Expiration": "2027-99-99T09:00:00Z"}).encode()]
)
async def test_invalid_body_yields_no_credentials(body: bytes) -> None:
    async with listening(Response(200, body, "application/json")) as (url, _):
        facts, keys = await collect(url)
    assert keys is None
    assert facts.response is not None
    assert facts.response.expires_at is None


@pytest.mark.parametrize("url", ["https://127.0.0.1:1/", "http://sts.example/", "http://[::1", "", "http://\0/"])
async def test_secret_is_sent_only_to_loopback(url: str) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver())
    facts, keys = await collect(url)
    assert (facts.response, keys) == (None, None)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"SSH-2.0-x\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n" + b"x" * 1_048_577, ""),
    ],
)
async def test_invalid_or_oversized_http_counts_as_no_response(raw: bytes, words: str) -> None:
    async with scripted(RawReply(raw=raw)) as server:
        facts, _ = await collect(server.url)
    assert facts.response is not None
    assert facts.response.error
    assert words in facts.response.error


async def test_silent_endpoint_times_out(autojump_clock: object) -> None:
    async with scripted(RawReply(delay_seconds=999.0)) as server:
        facts, _ = await collect(server.url)
    assert facts.response is not None
    assert facts.response.error == "no response within 5 s"


@pytest.mark.parametrize(
    ("content", "problem", "newline"),
    [
        (b"secret", "", False),
        (b"secret\n", "", True),
        (b"secret\r\n", "", True),
        (b"", "it is empty", False),
        (b"two\nlines", "it holds more than one line of visible ASCII", False),
        (b"\xff", "it holds more than one line of visible ASCII", False),
        (b"x" * 5000, "it is over 4096 bytes", False),
    ],
)
async def test_secret_file_is_read_as_sdks_read_it(
    tmp_path: Path,
    content: bytes,
    problem: str,
    newline: bool,  # noqa: FBT001  a column of the table
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    facts, _ = await collect("http://127.0.0.1:1", "secret", str(path))
    assert (facts.secret.problem, facts.secret.ends_in_newline) == (problem, newline)
    assert facts.secret.are_equal
    assert (await collect("http://127.0.0.1:1", "secret", str(tmp_path)))[
        0
    ].secret.problem == "it is not a regular file"


# The node's metadata service, and the network path to a server


@pytest.mark.parametrize(
    "raw", [b"nonsense\r\n\r\n", b"HTTP/1.1 500 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 99]
)
async def test_server_that_is_not_imds_yields_no_role(raw: bytes) -> None:
    async with scripted(RawReply(raw=raw)) as server:
        facts = await metadata.collect(server.url.rstrip("/"))
    assert facts.role is None


async def test_silent_metadata_service_times_out_after_a_second(autojump_clock: object) -> None:
    began = trio.current_time()
    async with scripted(RawReply(delay_seconds=999.0)) as server:
        facts = await metadata.collect(server.url.rstrip("/"))
    assert (facts.has_v1, facts.has_v2) == (False, False)
    assert trio.current_time() - began < 3
    assert not (await metadata.collect("http://[::1")).has_v1


async def test_http_proxy_gets_the_whole_url(monkeypatch: pytest.MonkeyPatch, no_proxies: None) -> None:
    async with scripted(RawReply(400, b"", {"Date": "Fri, 15 Jan 2027 08:00:00 GMT"})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        path = await network_path.collect("http://sts.example/", None)
    assert path.failed_step == ""
    assert path.skew_seconds is not None
    assert proxy.requests[0].line == "GET http://sts.example/ HTTP/1.1"


async def test_proxy_gets_its_user_but_the_path_hides_it(monkeypatch: pytest.MonkeyPatch, no_proxies: None) -> None:
    async with scripted(RawReply(407, b"")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//us%40er:pass@"))
        path = await network_path.collect("https://sts.example/", None)
    assert (path.failed_step, path.reason, path.proxy) == (
        "proxy",
        "it returns 407",
        f"127.0.0.1:{proxy.port}",
    )
    assert proxy.requests[0].header("proxy-authorization") == "Basic dXNAZXI6cGFzcw=="
    assert "pass" not in str(path)


async def test_path_through_a_proxy_is_encrypted_end_to_end(
    monkeypatch: pytest.MonkeyPatch, no_proxies: None, tmp_path: Path
) -> None:
    """Use a proxy that tunnels to an STS with a certificate."""
    authority = Authority(tmp_path)
    async with (
        scripted(RawReply(400, b""), tls=authority.server(), host=STS_HOST) as sts,
        trio.open_nursery() as nursery,
    ):
        proxy_url = await nursery.start(_tunnel_to, sts)
        monkeypatch.setenv("HTTPS_PROXY", proxy_url)
        path = await network_path.collect(sts.url, authority.bundle)
        nursery.cancel_scope.cancel()
    assert (path.failed_step, path.reason) == ("", "")
    assert path.authority is not None
    assert [name for name, _ in path.seconds] == ["name", "connect", "proxy", "tls", "answer"]


async def _tunnel_to(sts: ScriptedSts, *, task_status: trio.TaskStatus[str]) -> None:
    async def pump(source: trio.SocketStream, target: trio.SocketStream) -> None:
        async for piece in source:
            await target.send_all(piece)

    async def tunnel(client: trio.SocketStream) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += await client.receive_some()
        server = await trio.open_tcp_stream("127.0.0.1", sts.port)
        await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with server, trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, server)
            await pump(server, client)
            nursery.cancel_scope.cancel()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    task_status.started(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    await trio.serve_listeners(tunnel, listeners)


class _TwoAddresses(Resolver):
    """A resolver that returns two addresses. No process listens on the first."""

    async def getaddrinfo(self, _host: Any, port: Any, *_: int) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*kind, ("127.0.0.9", port)), (*kind, ("127.0.0.1", port))]


async def test_all_addresses_of_a_name_are_tried(no_proxies: None) -> None:
    trio.socket.set_custom_hostname_resolver(_TwoAddresses())
    async with scripted(RawReply(400, b"")) as server:
        path = await network_path.collect(f"http://sts.example:{server.port}/", None)
    assert (path.failed_step, path.addresses) == ("", ("127.0.0.9", "127.0.0.1"))


async def test_invalid_ca_bundle_fails_the_tls_step(tmp_path: Path, no_proxies: None) -> None:
    trio.socket.set_custom_hostname_resolver(Resolver(STS_HOST))
    async with scripted(RawReply(400, b""), tls=Authority(tmp_path).server(), host=STS_HOST) as sts:
        path = await network_path.collect(sts.url, "/nowhere")
    assert path.failed_step == "tls"
    assert "AWS_CA_BUNDLE is '/nowhere'" in path.reason


async def test_issuer_is_not_called_without_iss_or_valid_bundle(tmp_path: Path) -> None:
    path = tmp_path / "token"
    for changes, reason in (({"iss": None}, None), ({}, "tls")):
        path.write_text(service_account_token(1_800_000_000.0, **changes))
        facts = token.collect(Role("default", "arn", str(path), None, 3600), 0.0)
        found = await issuer.collect(facts, is_aws=True, ca_bundle="/nowhere")
        assert (found.error and found.error.reason) == reason


def test_botocore_without_service_models_counts_as_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert aws.is_installed()
    monkeypatch.setattr(botocore, "BOTOCORE_ROOT", str(tmp_path))
    assert not aws.is_installed()
