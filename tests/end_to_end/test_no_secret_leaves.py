"""
Search all output of a process for the secrets in the process (secret_search.py).

The search excludes only the output that must contain a secret: a response to an authorized client, the stdout of
`credentials`, the body of the request to STS, the file with the authorization secret, and the credentials file.
"""

import base64
import json
import os
import signal
import stat
import sys
from pathlib import Path

import pytest
import trio

from sidecar.client.exchange import exchange_once
from sidecar.errors import SidecarError
from tests.end_to_end.secret_search import (
    AUTHORIZATION,
    BAD_REPLIES,
    FORMS,
    PIECE,
    PIECES,
    PROXY_PASSWORD,
    SECRET_ACCESS_KEY,
    SECRETS,
    SESSION_TOKEN,
    SIGNATURE,
    STARTS_THAT_FAIL,
    TOKEN,
    Pod,
    granted,
    leaks,
    pieces_of,
)
from tests.support.fakes.scripted_sts import error_reply
from tests.support.processes import GUARD_SECONDS, get, run_daemon, scripted_sts

pytestmark = pytest.mark.usefixtures("nothing_of_this_machine")


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


# Tests of `run` with requests of clients


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


def seen_in_proc(pid: int) -> bytes:
    """Return the arguments and, if readable, the environment of the process from /proc."""
    seen = b""
    for name in ("cmdline", "environ"):
        try:
            seen += Path(f"/proc/{pid}/{name}").read_bytes()
        except (
            FileNotFoundError,
            PermissionError,
        ):  # not Linux, or the process is not dumpable and this user is not root
            continue
    return seen


# The hook writes each line with one system call, because the hook may run in another thread than the log. The parts of
# a `print` could mix with log lines.
REPORT_WRITES = """
import os, sys
os.chdir(os.environ["TMPDIR"])
def report(event, args):
    if event == "open" and (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and ".coverage" not in str(args[0]):
        os.write(2, f"WRITES {args[0]}\\n".encode())
sys.addaudithook(report)
"""


async def test_run_leaks_no_secret_in_responses_logs_or_files(tmp_path: Path) -> None:
    outage = error_reply(503, "ServiceUnavailable", f"The token {TOKEN} has to wait")
    async with scripted_sts(outage) as sts:
        pod = Pod(tmp_path, sts.url)
        async with run_daemon(pod.with_authorization, "--log-level", "debug", prelude=REPORT_WRITES) as running:
            await running.logged("refresh_failed")
            shown = {
                "503": await exchange_bytes(running.url, _request("/v1/credentials", _MINE)),
                "not ready": await exchange_bytes(running.ready_url, _request("/readyz")),
            }
            assert all(b" 503 " in response and b"has to wait" in response for response in shown.values())
            sts.replies = [granted()]
            await running.logged("credentials_refreshed")
            status, body = await get(running.url, {"Authorization": AUTHORIZATION})
            assert (status, body["SecretAccessKey"], body["Token"]) == (200, SECRET_ACCESS_KEY, SESSION_TOKEN)
            for name, sent in REFUSED_REQUESTS.items():
                shown[name] = await exchange_bytes(running.url, sent)
                assert not shown[name].startswith(b"HTTP/1.1 200"), name
            for path in ("livez", "readyz", "metrics", "status", "", TOKEN, "v1/credentials"):
                url = running.ready_url.replace("readyz", path)
                shown[f"admin {path}"] = await exchange_bytes(url, _request(f"/{path}", _MINE))
            shown["/proc"] = seen_in_proc(running.process.pid)
            assert await running.stop(signal.SIGTERM) == 0
            shown["stdout"] = f"{running.url} {running.ready_url}".encode()
            shown["stderr"] = running.errors.encode()
        shown |= pod.written()
    assert {name: leaks(response) for name, response in shown.items() if leaks(response)} == {}
    assert "WRITES" not in running.errors


async def test_generated_secret_is_only_in_its_file(tmp_path: Path) -> None:
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        pod.authorization_file.unlink()
        async with run_daemon(pod.with_authorization, "--log-level", "debug", prelude=REPORT_WRITES) as running:
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
    assert {name: leaks(response, pieces) for name, response in shown.items() if leaks(response, pieces)} == {}
    written = [line.removeprefix("WRITES ") for line in running.errors.split("\n") if line.startswith("WRITES")]
    draft = str(tmp_path / "authorization.draft")
    assert draft in written
    assert [name for name in written if name != draft and not name.isdigit()] == []
    assert sorted(os.listdir(tmp_path)) == ["authorization", "home", "tmp", "token"]


IMDS = "latest/meta-data/iam/security-credentials/"


async def test_imds_and_the_credentials_file_leak_no_secret(
    tmp_path: Path,
) -> None:
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        file = tmp_path / "shared" / "credentials"
        file.parent.mkdir()
        older = {"IRSA_SIDECAR_IMDS_LISTEN": "127.0.0.1:0", "IRSA_SIDECAR_CREDENTIALS_FILE": str(file)}
        environment = pod.with_authorization | older
        async with run_daemon(environment, "--log-level", "debug", prelude=REPORT_WRITES) as running:
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
    assert {name: leaks(response) for name, response in shown.items() if leaks(response)} == {}


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


async def test_token_in_an_sts_response_is_not_printed(tmp_path: Path) -> None:
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
async def test_error_does_not_show_an_unusable_authorization_secret(tmp_path: Path, content: str) -> None:
    pod = Pod(tmp_path, "http://127.0.0.1:1")
    pod.authorization_file.write_text(content)
    done = await pod.run("run", IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE=str(pod.authorization_file))
    assert done.returncode == 2
    assert str(pod.authorization_file) in done.stderr.decode()
    assert not leaks(done.stderr)


async def test_error_does_not_show_the_proxy_password(tmp_path: Path) -> None:
    """Use a proxy port on which no process listens."""
    proxy = {"HTTPS_PROXY": f"http://user:{PROXY_PASSWORD}@127.0.0.1:1", "NO_PROXY": ""}
    pod = Pod(tmp_path, "https://sts.example")
    done = await pod.run("credentials", **proxy)
    assert done.returncode == 1
    assert b"HTTPS_PROXY" in done.stderr
    assert not leaks(done.stderr)


# The daemon of `exec` and `local` creates its own secrets. The command writes these secrets to a file for the test.


PRINT_SECRETS = """
import json, os, pathlib, sys, urllib.request
environ = os.environ
ours = pathlib.Path(f"/proc/{os.getppid()}/cmdline")
request = urllib.request.Request(environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
request.add_header("Authorization", environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"])
credentials = json.load(urllib.request.urlopen(request))
tokens = [path.read_text() for path in pathlib.Path(environ["TMPDIR"]).glob("*/**/token")]
secrets = {"authorization": environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"], "secret": credentials["SecretAccessKey"],
        "session": credentials["Token"], "tokens": " ".join(tokens)}
pathlib.Path(sys.argv[1]).write_text(json.dumps(secrets))
print(ours.read_text() if ours.exists() else "")
"""


@pytest.mark.parametrize("command", ["exec", "local"])
async def test_exec_and_local_pass_secrets_only_to_the_command(tmp_path: Path, command: str) -> None:
    output_file = tmp_path / "secrets"
    async with scripted_sts(granted()) as sts:
        pod = Pod(tmp_path, sts.url)
        arguments = ["--log-level", "debug", "--", sys.executable, "-c", PRINT_SECRETS, str(output_file)]
        done = await pod.run(command, *arguments)
    assert done.returncode == 0, done.stderr
    output = json.loads(output_file.read_text())
    assert bool(output["tokens"]) is (command == "local")
    output_file.unlink()
    pieces = pieces_of({name: secret for name, secret in output.items() if secret}) | PIECES
    assert not leaks(done.stdout + done.stderr, pieces)
    assert {name for name, data in pod.written().items() if leaks(data, pieces)} == set()
