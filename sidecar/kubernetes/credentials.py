"""
Authenticate requests to the API server with a token, a password or a login plugin, and with impersonation.

Rule: every request contains all settings of the kubeconfig's user, as kubectl sends them. Like kubectl, do not send a
token or password over an unencrypted connection to another host. A value that a header cannot hold is an error here,
because the HTTP client's own message would show the secret.
"""

import base64
import re
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
import trio
from lightkube.config.kubeconfig import SingleConfig

from sidecar.addresses import is_loopback_host
from sidecar.errors import ConfigurationError
from sidecar.kubernetes.exec_plugin import run_plugin
from sidecar.kubernetes.kubeconfig_entries import ClusterEntry, Plugin, UserEntry

UNAUTHORIZED = 401

_HEADER_CHARACTERS = "!#$&'*+-.^_`|~"
"""Punctuation in a header's name (RFC 9110, section 5.1), except %, which escapes other characters here."""

_NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Login(httpx2.Auth):
    """
    The Authorization header for each request, and the required name in the server's certificate.

    `read` returns the header and its expiration, or None for a value that does not exist. It is called for the first
    request, when the header has expired, and when the API server has rejected the header.
    """

    def __init__(self, read: Callable[[], tuple[str | None, float | None]], server_name: str | None) -> None:
        self._read = read
        self._server_name = server_name
        self._header: str | None = None
        self._is_read = False
        self._expires_at: float | None = None

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        if self._is_stale():
            self._set_header(self._read())
        response = yield self._with_login(request)
        if response.status_code == UNAUTHORIZED and self._set_header(self._read()):
            yield self._with_login(request)

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if self._is_stale():
            self._set_header(await trio.to_thread.run_sync(self._read))
        response = yield self._with_login(request)
        if response.status_code == UNAUTHORIZED and self._set_header(await trio.to_thread.run_sync(self._read)):
            yield self._with_login(request)

    def _is_stale(self) -> bool:
        return not self._is_read or (self._expires_at is not None and time.time() >= self._expires_at)

    def _set_header(self, found: tuple[str | None, float | None]) -> bool:
        """Set the header. Return whether the header differs from the previous header."""
        before, (header, self._expires_at) = self._header, found
        self._header = None if header is None else _checked(header, "its token or password")
        self._is_read = True
        return self._header != before

    def _with_login(self, request: httpx2.Request) -> httpx2.Request:
        if self._header is not None:
            request.headers["Authorization"] = self._header
        if self._server_name:
            request.extensions["sni_hostname"] = self._server_name
        return request


def login_of(config: SingleConfig, trust: ssl.SSLContext) -> Login:
    """
    Return the login of the context's user.

    It uses the first of these that the user has, in client-go's order: token file, token, password, plugin. If the user
    has none, or secrets may not be sent to the server, the requests have no Authorization header.

    If a plugin prints a client certificate, the certificate is added to `trust`.
    """
    user, cluster = config.user, config.cluster
    server_name = cluster.tls_server_name if isinstance(cluster, ClusterEntry) else None
    plugin = user.exec if isinstance(user, UserEntry) else None
    if not _may_send_secrets(cluster.server):
        return Login(lambda: (None, None), server_name)
    if user is not None and user.token_file:
        path = str(config.abs_file(user.token_file))
        return Login(lambda: (f"Bearer {_token_in(config, path)}", None), server_name)
    if user is not None and user.token:
        header = f"Bearer {user.token}"
        return Login(lambda: (header, None), server_name)
    if user is not None and user.username:
        pair = base64.b64encode(f"{user.username}:{user.password or ''}".encode()).decode()
        return Login(lambda: (f"Basic {pair}", None), server_name)
    if plugin is not None:
        return Login(lambda: _from_plugin(config, plugin, trust), server_name)
    return Login(lambda: (None, None), server_name)


def _may_send_secrets(server: str) -> bool:
    """Return whether the connection is encrypted or local. kubectl sends no secret over other connections."""
    return not server.lower().startswith("http://") or is_loopback_host(urlsplit(server).hostname or "")


def _checked(value: str, subject: str) -> str:
    """
    Return the value without spaces around it.

    Raises ConfigurationError if a header cannot contain the value.
    """
    if _NOT_IN_A_HEADER.search(value):
        raise ConfigurationError(
            f"The kubeconfig has no usable login: {subject} has a line break or another control character",
            fix="Remove the character, for example the line break at the end",
            setting="KUBECONFIG",
        )
    return value.strip(" \t")


def impersonation_headers(config: SingleConfig) -> list[tuple[str, bytes]]:
    """
    Return the headers for impersonation (client-go, impersonatingRoundTripper). Values are UTF-8, as from kubectl.

    Raises ConfigurationError if a header cannot contain a value.
    """
    user = config.user
    if not isinstance(user, UserEntry) or not user.impersonate:
        return []
    headers = [("Impersonate-User", user.impersonate)]
    if user.impersonate_uid:
        headers.append(("Impersonate-Uid", user.impersonate_uid))
    headers += [("Impersonate-Group", group) for group in user.impersonate_groups or ()]
    for name, values in (user.impersonate_extra or {}).items():
        headers += [(f"Impersonate-Extra-{quote(name, safe=_HEADER_CHARACTERS)}", value) for value in values]
    return [(name, _checked(value, "a value of `as`").encode()) for name, value in headers]


def _token_in(config: SingleConfig, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise ConfigurationError(
            f"Context {config.context_name} of the kubeconfig has no usable login: tokenFile {path} cannot be read "
            f"({reason})",
            fix="Correct its path",
        ) from exc


def _from_plugin(config: SingleConfig, plugin: Plugin, trust: ssl.SSLContext) -> tuple[str | None, float | None]:
    found = run_plugin(config, plugin)
    if found.certificate and found.key:
        present(trust, found.certificate.encode(), found.key.encode())
    return (f"Bearer {found.token}" if found.token else None), found.expires_at


def present(trust: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """
    Add a client certificate to the context, through a temporary file, because OpenSSL reads certificates from files.

    Raises OSError or ValueError if the certificate is invalid.
    """
    with tempfile.NamedTemporaryFile() as file:  # the file's mode is 0600
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        trust.load_cert_chain(file.name)
