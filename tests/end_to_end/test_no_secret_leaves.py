"""
Search every byte that leaves a process for every secret that the process held.

Only the places that must carry a secret are left out: the authorized 200, the stdout of `credentials`, the body of the
request to STS, the file with the authorization secret, and the credentials file where one is set. The search finds any
16 characters of a secret, as they are or in base64, base64url, hexadecimal or URL encoding.
"""

import base64
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from sidecar.client.exchange import exchange_once
from sidecar.doctor.report import as_json, as_text
from sidecar.doctor.run import examine
from sidecar.errors import SidecarError
from tests.support.fakes.scripted_sts import Reply, error_reply, good_reply
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import GUARD_SECONDS, get, pod_environment, run_daemon, scripted_sts

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")

PIECE = 16
"""Length of a piece in characters. A shorter piece has no value for an attacker and could appear in a log by chance."""


def _random_text(length: int, alphabet: str, seed: int) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=length))


_URL_SAFE = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_BASE64 = _URL_SAFE.replace("-_", "+/")

SIGNATURE = base64.urlsafe_b64encode(random.Random(1).randbytes(256)).decode().rstrip("=")
TOKEN = f"{service_account_token(time.time()).rpartition('.')[0]}.{SIGNATURE}"
SECRET_ACCESS_KEY = _random_text(40, _BASE64, seed=2)
SESSION_TOKEN = "IQoJb3JpZ2lu" + _random_text(700, _BASE64, seed=3) + "=="
AUTHORIZATION = _random_text(43, _URL_SAFE, seed=4)
PROXY_PASSWORD = _random_text(24, _URL_SAFE, seed=5)

SECRETS = {
    "token": TOKEN,
    "secret access key": SECRET_ACCESS_KEY,
    "session token": SESSION_TOKEN,
    "authorization": AUTHORIZATION,
    "proxy password": PROXY_PASSWORD,
}


def _in_base64(encode: Callable[[bytes], bytes]) -> Callable[[str], Iterator[str]]:
    """Return the base64 of a secret at each of three offsets, without the characters that depend on its neighbours."""

    def forms(text: str) -> Iterator[str]:
        for skipped in range(3):
            whole = text[skipped : len(text) - (len(text) - skipped) % 3]
            yield encode(whole.encode()).decode()

    return forms


FORMS: Mapping[str, Callable[[str], Iterator[str]]] = {
    "as it is": lambda text: iter([text]),
    "URL-encoded": lambda text: iter([quote(text, safe=""), quote(quote(text, safe=""), safe="")]),
    "in base64": _in_base64(base64.b64encode),
    "in base64url": _in_base64(base64.urlsafe_b64encode),
    "in hexadecimal": lambda text: iter([text.encode().hex()]),
}


def pieces_of(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return the name and the encoding of the secret for each piece."""
    return {
        form[start : start + PIECE]: f"{name}, {kind}"
        for name, secret in secrets.items()
        for kind, forms in FORMS.items()
        for form in forms(secret)
        for start in range(len(form) - PIECE + 1)
    }


PIECES = pieces_of(SECRETS)


def leaks(shown: bytes | str, pieces: Mapping[str, str] = PIECES) -> set[str]:
    """Return the names of the secrets of which a piece is in `shown`."""
    text = shown.decode("latin-1") if isinstance(shown, bytes) else shown
    found = (pieces.get(text[start : start + PIECE]) for start in range(len(text) - PIECE + 1))
    return {name for name in found if name is not None}


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("name", SECRETS)
def test_search_finds_each_piece_in_each_encoding(name: str, kind: str) -> None:
    for form in FORMS[kind](SECRETS[name]):
        middle = len(form) // 2
        shown = f'{{"reason": "{form[middle - PIECE // 2 : middle + PIECE // 2]}"}}'
        assert any(found.startswith(name) for found in leaks(shown))
    assert not leaks(
        json.dumps({"event": "credentials_refreshed", "role_name": "default", "access_key_id": "ASIAFAKE0001"})
    )


@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_search_finds_base64_of_a_secret_among_other_text(before: str) -> None:
    assert leaks(base64.b64encode(f"{before}{SECRET_ACCESS_KEY}:x".encode()))


# Responses of STS, or of a server in its place


def granted() -> Reply:
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    body = good_reply("ASIAFAKE0001", expiration=expiration).body.decode()
    body = body.replace("ASIAFAKE0001/secret", SECRET_ACCESS_KEY).replace("ASIAFAKE0001/session", SESSION_TOKEN)
    return Reply(200, body.encode())


REQUEST_ECHOED = f"POST / HTTP/1.1\r\nHost: sts\r\n\r\nAction=AssumeRoleWithWebIdentity&WebIdentityToken={TOKEN}"


def _damaged(**changes: str) -> Reply:
    """Return a 200 with all secrets in it, in which one element is invalid."""
    body = granted().body.decode()
    for old, new in changes.items():
        body = body.replace(f"<{old}>", f"<{new}>").replace(f"</{old}>", f"</{new}>")
    return Reply(200, body.encode())


BAD_REPLIES = {
    "an error that quotes the token": error_reply(400, "InvalidIdentityToken", f"The token {TOKEN} is not valid"),
    "an error that quotes its signature": error_reply(403, "AccessDenied", f"signature {SIGNATURE} by nobody"),
    "an error that quotes half of it": error_reply(400, "ExpiredTokenException", TOKEN[: len(TOKEN) // 2]),
    "an error whose code is the token": error_reply(400, TOKEN, "see the code"),
    "a proxy's page": Reply(502, f"<html><h1>Bad</h1><pre>{REQUEST_ECHOED}</pre></html>".encode()),
    "a proxy's page with base64": Reply(500, base64.b64encode(REQUEST_ECHOED.encode())),
    "a proxy's page with the form as it was sent": Reply(500, f"WebIdentityToken={quote(TOKEN)}".encode()),
    "a page instead of credentials": Reply(200, f"<html>{TOKEN}</html>".encode()),
    "the token instead of HTTP": Reply(raw=TOKEN.encode() + b"\r\n\r\n"),
    "an invalid header": Reply(raw=f"HTTP/1.1 200 OK\r\n{TOKEN}\r\n\r\n".encode()),
    "a status line with the token": Reply(raw=f"HTTP/1.1 {TOKEN}\r\n\r\n".encode()),
    "a redirect with the token": Reply(302, b"", {"Location": f"http://127.0.0.1:1/?WebIdentityToken={TOKEN}"}),
    "an encoding that is the token": Reply(200, b"x", {"Content-Encoding": TOKEN}),
    "a Retry-After that is the token": Reply(503, b"", {"Retry-After": TOKEN}),
    "a Date that is the token": Reply(500, b"", {"Date": TOKEN}),
    "credentials cut off": Reply(200, granted().body[:-200]),
    "credentials cut off in transit": Reply(200, granted().body, cut_after=len(granted().wire) - 300),
    "credentials without an expiration": _damaged(Expiration="Expires"),
    "credentials without an ARN": _damaged(Arn="Name"),
    "credentials as a session token": Reply(200, granted().body.replace(b"</SessionToken>", b" </SessionToken>")),
    "credentials as an error": Reply(400, granted().body),
    "credentials as JSON": Reply(200, json.dumps({"SecretAccessKey": SECRET_ACCESS_KEY, "t": SESSION_TOKEN}).encode()),
}  # fmt: skip


# Requests of clients


def _request(path: str = "/v1/credentials", *headers: str, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{method} {path} {version}", "Host: 127.0.0.1", *headers, "", ""]).encode()


_MINE = f"Authorization: {AUTHORIZATION}"

REFUSED_REQUESTS = {
    "no secret": _request(),
    "a wrong secret": _request("/v1/credentials", _MINE[:-1]),
    "a longer secret": _request("/v1/credentials", _MINE + "x"),
    "a scheme": _request("/v1/credentials", f"Authorization: Bearer {AUTHORIZATION}"),
    "the secret twice": _request("/v1/credentials", _MINE, _MINE),
    "the secret only in the query": _request(f"/v1/credentials?authorization={AUTHORIZATION}"),
    "the secret in the path": _request(f"/v1/credentials/{AUTHORIZATION}", _MINE),
    "the token in the path": _request(f"/{TOKEN}", _MINE),
    "the secret as Host": _request("/v1/credentials", _MINE).replace(b"127.0.0.1", AUTHORIZATION.encode()),
    "the secret as the method": _request(method=AUTHORIZATION),
    "the secret as the version": _request(version=AUTHORIZATION),
    "forwarded by a proxy": _request("/v1/credentials", _MINE, f"X-Forwarded-For: {AUTHORIZATION}"),
    "a body": _request("/v1/credentials", _MINE, f"Content-Length: {len(TOKEN)}") + TOKEN.encode(),
    "HEAD": _request("/v1/credentials", _MINE, method="HEAD"),
    "POST": _request("/v1/credentials", _MINE, "Content-Length: 0", method="POST"),
    "TRACE, which would echo": _request("/v1/credentials", _MINE, method="TRACE"),
    "CONNECT": _request(f"{AUTHORIZATION}:443", _MINE, method="CONNECT"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + AUTHORIZATION.encode(),
    "TLS": b"\x16\x03\x01\x02\x00\x01" + AUTHORIZATION.encode(),
    "a head that is too long": _request("/v1/credentials", _MINE, *[f"X-{i}: {TOKEN}" for i in range(30)]),
    "a head that ends early": _request("/v1/credentials", _MINE)[:-6],
    "a header without a colon": _request("/v1/credentials", AUTHORIZATION),
}


async def exchange_bytes(url: str, sent: bytes) -> bytes:
    """Send the bytes and return all bytes of the response until the connection closes."""
    host, _, port = url.split("/")[2].rpartition(":")
    received = bytearray()
    with trio.fail_after(GUARD_SECONDS):
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            try:
                await stream.send_all(sent)
                await stream.send_eof()
                async for piece in stream:
                    received += piece
            except trio.BrokenResourceError:  # rejected before all bytes were sent
                pass
    return bytes(received)


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def seen_in_proc(pid: int) -> bytes:
    """Return the arguments and, if readable, the environment of the process from /proc."""
    seen = b""
    for name in ("cmdline", "environ"):
        try:
            seen += Path(f"/proc/{pid}/{name}").read_bytes()
        except (FileNotFoundError, PermissionError):  # no Linux; or hardened, and this test does not run as root
            continue
    return seen


# Write each line with one call: a thread writes the credentials file, and the parts that `print` writes would mix with
# the log.
WRITES_TOLD = """
import os, sys
os.chdir(os.environ["TMPDIR"])
def tell(event, args):
    if event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and ".coverage" not in str(args[0]):
        os.write(2, f"WRITES {args[0]}\\n".encode())
sys.addaudithook(tell)
"""


class Pod:
    """A directory for every file that a process may write, and the environment that sets it."""

    def __init__(self, directory: Path, sts_url: str) -> None:
        self.directory = directory
        self.token_file = directory / "token"
        self.authorization_file = directory / "authorization"
        self.token_file.write_text(TOKEN)
        self.authorization_file.write_text(AUTHORIZATION)
        for name in ("home", "tmp"):
            (directory / name).mkdir(exist_ok=True)
        places = {"HOME": str(directory / "home"), "TMPDIR": str(directory / "tmp")}
        # The image has all modules compiled. Here, no late import may write a `.pyc` file.
        self.environment = pod_environment(self.token_file, sts_url, **places, PYTHONDONTWRITEBYTECODE="1")

    @property
    def with_authorization(self) -> dict[str, str]:
        return {**self.environment, "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(self.authorization_file)}

    def written(self) -> dict[str, bytes]:
        """Return the content of all files except the two that hold a secret."""
        return {
            name: data for name, data in files_below(self.directory).items() if name not in {"token", "authorization"}
        }

    async def run(self, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
        with trio.fail_after(GUARD_SECONDS):
            return await trio.run_process(
                [sys.executable, "-m", "sidecar", *arguments],
                env=self.environment | environment,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
            )


async def test_run_leaks_no_secret_to_requests_logs_metrics_or_files(tmp_path: Path) -> None:
    outage = error_reply(503, "ServiceUnavailable", f"The token {TOKEN} has to wait")
    async with scripted_sts(outage) as sts:
        pod = Pod(tmp_path, sts.url)
        async with run_daemon(pod.with_authorization, "--log-level", "debug", prelude=WRITES_TOLD) as running:
            await running.logged("refresh_failed")
            shown = {
                "503": await exchange_bytes(running.url, _request("/v1/credentials", _MINE)),
                "not ready": await exchange_bytes(running.ready_url, _request("/readyz")),
            }
            assert all(b" 503 " in said and b"has to wait" in said for said in shown.values())
            sts.replies = [granted()]
            await running.logged("credentials_refreshed")
            status, body = await get(running.url, {"Authorization": AUTHORIZATION})
            assert (status, body["SecretAccessKey"], body["Token"]) == (200, SECRET_ACCESS_KEY, SESSION_TOKEN)
            for name, sent in REFUSED_REQUESTS.items():
                shown[name] = await exchange_bytes(running.url, sent)
                assert not shown[name].startswith(b"HTTP/1.1 200"), name
            for path in ("livez", "readyz", "metrics", TOKEN, "v1/credentials"):
                url = running.ready_url.replace("readyz", path)
                shown[f"admin {path}"] = await exchange_bytes(url, _request(f"/{path}", _MINE))
            shown["/proc"] = seen_in_proc(running.process.pid)
            assert await running.stop(signal.SIGTERM) == 0
            shown["stdout"] = f"{running.url} {running.ready_url}".encode()
            shown["stderr"] = running.errors.encode()
        shown |= pod.written()
    assert {name: leaks(said) for name, said in shown.items() if leaks(said)} == {}
    assert "WRITES" not in running.errors


async def test_generated_secret_is_only_in_its_file(tmp_path: Path) -> None:
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        pod.authorization_file.unlink()
        async with run_daemon(pod.with_authorization, "--log-level", "debug", prelude=WRITES_TOLD) as running:
            await running.logged("credentials_refreshed")
            secret = pod.authorization_file.read_text()
            shown = {
                "refusal": await exchange_bytes(running.url, _request("/v1/credentials", f"Authorization: {secret}x"))
            }
            shown["/proc"] = seen_in_proc(running.process.pid)
            await running.stop(signal.SIGTERM)
            shown["stderr"] = running.errors.encode()
        shown |= pod.written()
        pieces = pieces_of({"made": secret})
    assert {name: leaks(said, pieces) for name, said in shown.items() if leaks(said, pieces)} == {}
    written = [line.removeprefix("WRITES ") for line in running.errors.split("\n") if line.startswith("WRITES")]
    draft = str(tmp_path / "authorization.draft")
    assert draft in written
    assert [name for name in written if name != draft and not name.isdigit()] == []
    assert sorted(os.listdir(tmp_path)) == ["authorization", "home", "tmp", "token"]


IMDS = "latest/meta-data/iam/security-credentials/"


async def test_older_client_forms_show_credentials_only_where_meant(
    tmp_path: Path,
) -> None:
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        file = tmp_path / "shared" / "credentials"
        file.parent.mkdir()
        older = {"IRSA_SIDECAR_IMDS_LISTEN": "127.0.0.1:0", "IRSA_SIDECAR_CREDENTIALS_FILE": str(file)}
        environment = pod.with_authorization | older
        async with run_daemon(environment, "--log-level", "debug", prelude=WRITES_TOLD) as running:
            await running.logged("credentials_file_written", profiles=["default"])
            url, ttl = running.imds_url, "X-aws-ec2-metadata-token-ttl-seconds: 60"
            opened = await exchange_bytes(url, _request("/latest/api/token", ttl, method="PUT"))
            session = opened.partition(b"\r\n\r\n")[2].decode()
            asked = _request(f"/{IMDS}cart", f"X-aws-ec2-metadata-token: {session}")
            assert SECRET_ACCESS_KEY.encode() in await exchange_bytes(url, asked)
            shown = {
                "a session": opened,
                "version 1": await exchange_bytes(url, _request(f"/{IMDS}cart")),
                "another's session": await exchange_bytes(url, asked.replace(session.encode(), b"0" * len(session))),
                "forwarded": await exchange_bytes(url, asked.replace(b"Host:", b"X-Forwarded-For: x\r\nHost:")),
                **{
                    path: await exchange_bytes(url, asked.replace(f"{IMDS}cart".encode(), path.encode()))
                    for path in (IMDS, "latest/meta-data/iam/info", "latest/dynamic/instance-identity/document", TOKEN)
                },
            }
            for name, sent in REFUSED_REQUESTS.items():
                shown[name] = await exchange_bytes(url, sent)
            shown["/proc"] = seen_in_proc(running.process.pid)
            assert await running.stop(signal.SIGTERM) == 0
            shown["stderr"] = running.errors.encode()
        shown |= pod.written()
    written = [line.removeprefix("WRITES ") for line in running.errors.split("\n") if line.startswith("WRITES")]
    draft = f"{file}.draft"
    assert draft in written
    assert [name for name in written if name != draft and not name.isdigit()] == []
    assert os.listdir(file.parent) == ["credentials"]
    kept = shown.pop("shared/credentials").decode()
    assert kept.count(SECRET_ACCESS_KEY) == kept.count(SESSION_TOKEN) == 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert not leaks(kept.replace(SECRET_ACCESS_KEY, "").replace(SESSION_TOKEN, ""))
    assert {name: leaks(said) for name, said in shown.items() if leaks(said)} == {}


async def test_sts_gets_the_token_only_in_the_body(tmp_path: Path) -> None:
    async with scripted_sts(granted()) as sts:
        done = await Pod(tmp_path, sts.url).run("credentials")
    assert done.returncode == 0
    (request,) = sts.requests
    assert TOKEN.encode() in request.body
    assert not leaks(f"{request.line} {request.headers}")


@pytest.mark.parametrize("what", BAD_REPLIES)
async def test_bad_sts_response_leaks_no_secret_in_the_error(tmp_path: Path, what: str) -> None:
    async with scripted_sts(BAD_REPLIES[what]) as sts:
        with pytest.raises(SidecarError) as caught:
            await exchange_once(Pod(tmp_path, sts.url).environment)
    assert len(sts.requests) == 1
    assert not leaks(f"{caught.value} {caught.value!r}")


async def test_token_echoed_by_sts_is_not_printed(tmp_path: Path) -> None:
    async with scripted_sts(BAD_REPLIES["the token instead of HTTP"]) as sts:
        done = await Pod(tmp_path, sts.url).run("credentials")
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"irsa-sidecar: ")
    assert not leaks(done.stderr)


async def test_credentials_are_only_on_stdout(tmp_path: Path) -> None:
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        for form in ("json", "env"):
            done = await pod.run("credentials", "--format", form)
            assert SECRET_ACCESS_KEY in done.stdout.decode()
            assert not leaks(done.stderr)
    assert not leaks(b"".join(pod.written().values()))


async def test_token_command_prints_claims_without_the_signature(tmp_path: Path) -> None:
    pod = Pod(tmp_path, "http://127.0.0.1:1")
    for content in (
        TOKEN,
        TOKEN.rpartition(".")[0],
        f"{TOKEN}.{TOKEN}",
        f"Bearer {TOKEN}",
        TOKEN * 30,
        f"{SIGNATURE}.x.y",
    ):
        pod.token_file.write_text(content)
        done = await pod.run("token")
        assert (done.returncode == 0) == (content == TOKEN)
        assert not leaks(done.stdout + done.stderr)


STARTS_THAT_FAIL: Mapping[str, Mapping[str, str]] = {
    "a token instead of its path": {"AWS_WEB_IDENTITY_TOKEN_FILE": TOKEN},
    "an STS with a password": {"AWS_ENDPOINT_URL_STS": f"https://user:{PROXY_PASSWORD}@127.0.0.1:1"},
    "an invalid proxy": {
        "AWS_ENDPOINT_URL_STS": "https://sts.example",
        "HTTPS_PROXY": f"gopher://user:{PROXY_PASSWORD}@127.0.0.1:1",
    },
    "an invalid CA bundle": {"AWS_CA_BUNDLE": "{token_file}", "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:1"},
}


@pytest.mark.parametrize("what", STARTS_THAT_FAIL)
@pytest.mark.parametrize("command", ["run", "credentials"])
async def test_failed_start_shows_no_secret(tmp_path: Path, command: str, what: str) -> None:
    pod = Pod(tmp_path, "http://127.0.0.1:1")
    changes = {name: value.format(token_file=pod.token_file) for name, value in STARTS_THAT_FAIL[what].items()}
    done = await pod.run(command, **changes)
    assert done.returncode == 2
    assert done.stderr.startswith(b"irsa-sidecar: ")
    assert not leaks(done.stderr)


@pytest.mark.parametrize("content", [AUTHORIZATION + "\n" + AUTHORIZATION, AUTHORIZATION + "é", AUTHORIZATION * 200])
async def test_unusable_authorization_file_is_not_quoted(tmp_path: Path, content: str) -> None:
    pod = Pod(tmp_path, "http://127.0.0.1:1")
    pod.authorization_file.write_text(content)
    done = await pod.run("run", IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=str(pod.authorization_file))
    assert done.returncode == 2
    assert str(pod.authorization_file) in done.stderr.decode()
    assert not leaks(done.stderr)


async def test_proxy_password_is_in_no_error(tmp_path: Path) -> None:
    """Use a proxy port on which no process listens."""
    proxy = {"HTTPS_PROXY": f"http://user:{PROXY_PASSWORD}@127.0.0.1:1", "NO_PROXY": ""}
    pod = Pod(tmp_path, "https://sts.example")
    done = await pod.run("credentials", **proxy)
    assert done.returncode == 1
    assert b"HTTPS_PROXY" in done.stderr
    assert not leaks(done.stderr)


# doctor, which reads all of these

NOWHERE = {
    "HTTPS_PROXY": f"http://user:{PROXY_PASSWORD}@127.0.0.1:1",
    "NO_PROXY": "",
}
"""Proxy that keeps all requests on this machine: only the proxy could reach the issuer of the token."""


async def _told_by_doctor(environ: Mapping[str, str]) -> str:
    report = await examine(environ, metadata_address=None)
    return as_text(report, width=200, colours=False) + as_json(report) + repr(report)


@pytest.mark.parametrize("what", BAD_REPLIES)
async def test_doctor_hides_secrets_in_bad_sts_responses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    async with scripted_sts(BAD_REPLIES[what]) as sts:
        shown = await _told_by_doctor(Pod(tmp_path, sts.url).with_authorization | NOWHERE)
    assert not leaks(shown)


ECHOES = {
    "an error with it": Reply(403, json.dumps({"message": f"not {AUTHORIZATION}"}).encode()),
    "an error with half of it": Reply(403, json.dumps({"Message": f"not {AUTHORIZATION[:20]}"}).encode()),
    "an error with its name": Reply(403, json.dumps({AUTHORIZATION: AUTHORIZATION}).encode()),
    "credentials": Reply(
        200,
        json.dumps(
            dict.fromkeys(("AccessKeyId", "Expiration", "RoleArn", AUTHORIZATION), AUTHORIZATION)
            | {"SecretAccessKey": SECRET_ACCESS_KEY, "Token": SESSION_TOKEN}
        ).encode(),
    ),
    "text": Reply(200, AUTHORIZATION.encode()),
    "not HTTP": Reply(raw=AUTHORIZATION.encode() + b"\r\n\r\n"),
}


@pytest.mark.parametrize("what", ECHOES)
async def test_doctor_quotes_no_secret_of_a_false_daemon(tmp_path: Path, what: str) -> None:
    async with scripted_sts(ECHOES[what]) as other:
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{other.url}v1/credentials?x={AUTHORIZATION}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": AUTHORIZATION,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "AWS_SESSION_TOKEN": SESSION_TOKEN,
            "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
            "AWS_REGION": "eu-west-1",
        }
        shown = await _told_by_doctor(environment | NOWHERE)
    assert not leaks(shown)


@pytest.mark.parametrize("form", ["--strict", "--json"])
async def test_doctor_prints_and_writes_no_secret(tmp_path: Path, form: str) -> None:
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        done = await pod.run(
            "doctor", form, "--no-imds", **NOWHERE, IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=str(pod.authorization_file)
        )
    assert b"STS issues ASIAFAKE0001" in done.stdout
    assert done.stderr == b""
    assert not leaks(done.stdout)
    assert pod.written() == {}


@pytest.mark.parametrize("what", STARTS_THAT_FAIL)
async def test_doctor_names_an_unusable_setting_without_its_secret(tmp_path: Path, what: str) -> None:
    pod = Pod(tmp_path, "http://127.0.0.1:1")
    changes = {name: value.format(token_file=pod.token_file) for name, value in STARTS_THAT_FAIL[what].items()}
    done = await pod.run("doctor", "--no-imds", **NOWHERE | changes)
    assert done.returncode == 1
    assert done.stdout.startswith(b"Failed: ")
    assert not leaks(done.stdout + done.stderr)


# The daemon that runs a command: it has secrets of its own, so the command prints them

TELL_ALL = """
import json, os, pathlib, sys, urllib.request
environ = os.environ
ours = pathlib.Path(f"/proc/{os.getppid()}/cmdline")
request = urllib.request.Request(environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
request.add_header("Authorization", environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
given = json.load(urllib.request.urlopen(request))
tokens = [path.read_text() for path in pathlib.Path(environ["TMPDIR"]).glob("*/**/token")]
told = {"authorization": environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"], "secret": given["SecretAccessKey"],
        "session": given["Token"], "tokens": " ".join(tokens)}
pathlib.Path(sys.argv[1]).write_text(json.dumps(told))
print(ours.read_text() if ours.exists() else "")
"""


@pytest.mark.parametrize("command", ["exec", "local"])
async def test_exec_gives_its_secrets_only_to_the_command(tmp_path: Path, command: str) -> None:
    output_file = tmp_path / "told"
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        arguments = ["--log-level", "debug", "--", sys.executable, "-c", TELL_ALL, str(output_file)]
        done = await pod.run(command, *arguments)
    assert done.returncode == 0, done.stderr
    output = json.loads(output_file.read_text())
    assert bool(output["tokens"]) is (command == "local")
    output_file.unlink()
    pieces = pieces_of({name: secret for name, secret in output.items() if secret}) | PIECES
    assert not leaks(done.stdout + done.stderr, pieces)
    assert {name for name, data in pod.written().items() if leaks(data, pieces)} == set()
