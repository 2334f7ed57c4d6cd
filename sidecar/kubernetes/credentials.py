"""
How a request to the API server says who it is from: a token, a password, a plugin's answer, and whom it acts as.

Rule: what the kubeconfig says of the user is in every request, as kubectl sends it.
"""

import base64
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
"""Punctuation that a header's name may have (RFC 9110, section 5.1), without the %, which escapes others here."""


class Login(httpx2.Auth):
    """
    The Authorization header of each request, and the name that the server's certificate has to have.

    `read` returns the header and when it expires. It is called for the first request, after it expired, and after the
    API server refused it.
    """

    def __init__(self, read: Callable[[], tuple[str | None, float | None]], server_name: str | None) -> None:
        self._read = read
        self._server_name = server_name
        self._header: str | None = None
        self._is_read = False
        self._expires_at: float | None = None

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        if self._is_stale():
            self._keep(self._read())
        response = yield self._dressed(request)
        if response.status_code == UNAUTHORIZED and self._keep(self._read()):
            yield self._dressed(request)

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        if self._is_stale():
            self._keep(await trio.to_thread.run_sync(self._read))
        response = yield self._dressed(request)
        if response.status_code == UNAUTHORIZED and self._keep(await trio.to_thread.run_sync(self._read)):
            yield self._dressed(request)

    def _is_stale(self) -> bool:
        return not self._is_read or (self._expires_at is not None and time.time() >= self._expires_at)

    def _keep(self, found: tuple[str | None, float | None]) -> bool:
        """Return whether the header is another than before."""
        before, (self._header, self._expires_at) = self._header, found
        self._is_read = True
        return self._header != before

    def _dressed(self, request: httpx2.Request) -> httpx2.Request:
        if self._header is not None:
            request.headers["Authorization"] = self._header
        if self._server_name:
            request.extensions["sni_hostname"] = self._server_name
        return request


def login_of(config: SingleConfig, trust: ssl.SSLContext) -> Login:
    """
    Return how the context's user logs in, in client-go's order: token file, token, password, plugin.

    A client certificate that a plugin prints goes into `trust`.
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
    """Return whether the way is encrypted or stays on this machine. kubectl sends no secret over http:// at all."""
    return not server.lower().startswith("http://") or is_loopback_host(urlsplit(server).hostname or "")


def acting_as(config: SingleConfig) -> list[tuple[str, str]]:
    """Return the headers of impersonation (client-go, impersonatingRoundTripper)."""
    user = config.user
    if not isinstance(user, UserEntry) or not user.impersonate:
        return []
    headers = [("Impersonate-User", user.impersonate)]
    if user.impersonate_uid:
        headers.append(("Impersonate-Uid", user.impersonate_uid))
    headers += [("Impersonate-Group", group) for group in user.impersonate_groups or ()]
    for name, values in (user.impersonate_extra or {}).items():
        headers += [(f"Impersonate-Extra-{quote(name, safe=_HEADER_CHARACTERS)}", value) for value in values]
    return headers


def _token_in(config: SingleConfig, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise ConfigurationError(
            f"Context {config.context_name} of the kubeconfig gives no way to log in: tokenFile {path} cannot be read "
            f"({reason}). Correct its path."
        ) from exc


def _from_plugin(config: SingleConfig, plugin: Plugin, trust: ssl.SSLContext) -> tuple[str | None, float | None]:
    found = run_plugin(config, plugin)
    if found.certificate and found.key:
        present(trust, found.certificate.encode(), found.key.encode())
    return (f"Bearer {found.token}" if found.token else None), found.expires_at


def present(trust: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Show this client certificate to servers. OpenSSL reads it from a file. Raises OSError and ValueError."""
    with tempfile.NamedTemporaryFile() as file:  # of mode 0600
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        trust.load_cert_chain(file.name)
