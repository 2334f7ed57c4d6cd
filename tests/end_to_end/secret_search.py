"""
Search output for every secret that a process had in memory.

The search finds any 16 characters of a secret, as they are or in base64, base64url, hexadecimal or URL encoding.
"""

import base64
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import trio

from tests.support.fakes.scripted_sts import Reply, error_reply, good_reply
from tests.support.fakes.tokens import service_account_token
from tests.support.processes import GUARD_SECONDS, pod_environment

PIECE = 16
"""The length of a piece in characters. A shorter piece is useless to an attacker, and could be in a log by chance."""


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
    """Return a function that encodes a secret at three offsets, without the characters that depend on adjacent text."""

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
    """Return the name and the encoding of each secret that has a piece in `shown`."""
    text = shown.decode("latin-1") if isinstance(shown, bytes) else shown
    found = (pieces.get(text[start : start + PIECE]) for start in range(len(text) - PIECE + 1))
    return {name for name in found if name is not None}


# Responses of STS, or of another server at its address


def granted() -> Reply:
    expiration = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    body = good_reply("ASIAFAKE0001", expiration=expiration).body.decode()
    body = body.replace("ASIAFAKE0001/secret", SECRET_ACCESS_KEY).replace("ASIAFAKE0001/session", SESSION_TOKEN)
    return Reply(200, body.encode())


REQUEST_ECHOED = f"POST / HTTP/1.1\r\nHost: sts\r\n\r\nAction=AssumeRoleWithWebIdentity&WebIdentityToken={TOKEN}"


def _damaged(**changes: str) -> Reply:
    """Return the response of `granted` with renamed elements."""
    body = granted().body.decode()
    for old, new in changes.items():
        body = body.replace(f"<{old}>", f"<{new}>").replace(f"</{old}>", f"</{new}>")
    return Reply(200, body.encode())


BAD_REPLIES = {
    "an error that quotes the token": error_reply(400, "InvalidIdentityToken", f"The token {TOKEN} is not valid"),
    "an error that quotes the token's signature": error_reply(403, "AccessDenied", f"signature {SIGNATURE} by nobody"),
    "an error that quotes half of the token": error_reply(400, "ExpiredTokenException", TOKEN[: len(TOKEN) // 2]),
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
    "a session token with a final space": Reply(200, granted().body.replace(b"</SessionToken>", b" </SessionToken>")),
    "credentials as an error": Reply(400, granted().body),
    "credentials as JSON": Reply(200, json.dumps({"SecretAccessKey": SECRET_ACCESS_KEY, "t": SESSION_TOKEN}).encode()),
}  # fmt: skip


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


class Pod:
    """A directory for all files that a process may write, and the environment of a process that uses the directory."""

    def __init__(self, directory: Path, sts_url: str) -> None:
        self.directory = directory
        self.token_file = directory / "token"
        self.authorization_file = directory / "authorization"
        self.token_file.write_text(TOKEN)
        self.authorization_file.write_text(AUTHORIZATION)
        for name in ("home", "tmp"):
            (directory / name).mkdir(exist_ok=True)
        places = {"HOME": str(directory / "home"), "TMPDIR": str(directory / "tmp")}
        # The image has all modules compiled. In this test, no late import may write a `.pyc` file.
        self.environment = pod_environment(self.token_file, sts_url, **places, PYTHONDONTWRITEBYTECODE="1")

    @property
    def with_authorization(self) -> dict[str, str]:
        return {**self.environment, "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE": str(self.authorization_file)}

    def written(self) -> dict[str, bytes]:
        """Return the content of all files except the two files that must contain a secret."""
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


STARTS_THAT_FAIL: Mapping[str, Mapping[str, str]] = {
    "a token instead of its path": {"AWS_WEB_IDENTITY_TOKEN_FILE": TOKEN},
    "an STS address with a password": {"AWS_ENDPOINT_URL_STS": f"https://user:{PROXY_PASSWORD}@127.0.0.1:1"},
    "an invalid proxy": {
        "AWS_ENDPOINT_URL_STS": "https://sts.example",
        "HTTPS_PROXY": f"gopher://user:{PROXY_PASSWORD}@127.0.0.1:1",
    },
    "an invalid CA bundle": {"AWS_CA_BUNDLE": "{token_file}", "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:1"},
}
