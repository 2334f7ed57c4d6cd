"""
Call the cluster's API with plain JSON documents.

lightkube is the client here and in the webhook. Its author released it in August 2026, Canonical's charms use it, and
its licence is MIT. It is typed, has 4 MB and no compiled parts of its own, and has a client for trio.
kr8s needs asyncio's event loop and leaves client keys in /tmp, and the official client has 126 MB. This package uses
only the types of lightkube's kubeconfig support, and has its own code for the files and the logins. Documents are
dicts, because the patch of a Pod is also computed from dicts.
"""

import base64
import json
import ssl
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.cookiejar import DefaultCookiePolicy
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import SingleConfig

from sidecar.authorities import accept_named, authorities_in
from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes.api_errors import with_next_step
from sidecar.kubernetes.credentials import impersonation_headers, login_of, present
from sidecar.kubernetes.document import CHECK_PROXIES
from sidecar.kubernetes.kubeconfig_entries import ClusterEntry
from sidecar.kubernetes.pages import Progress, members
from sidecar.redaction import without_secrets

DEADLINE_SECONDS = 15.0
"""Deadline for the next part of a response. The API server may wait 10 s for an admission webhook."""

RESPONSE_SECONDS = 120.0
"""Deadline for one response. A page of 5 MiB then needs 0.4 Mbit/s."""

MERGE_PATCH = "application/merge-patch+json"

PAGE_ITEMS = 500
"""Number of documents in one page of a collection, as in kubectl's default chunk size."""

MAX_BYTES = 16 * 1024 * 1024
"""
Maximum size of a response. A page of 500 Pods usually has 5 MiB.

An object in etcd has at most 1.5 MiB by default, so one page could have 750 MiB. After a page that is too long, the
client requests a shorter page.
"""

FIELD_MANAGER = "irsa-sidecar"
"""The name in managedFields for the fields that irsa-sidecar sets."""


class Connection(ConnectionParams):
    """
    A connection to a cluster's API server, with kubectl's rules, for both clients.

    If the kubeconfig names an authority, only this authority is trusted. The authority needs no key identifier, because
    the authorities of many clusters, such as EKS clusters, have none.
    """

    def httpx_params(self, config: SingleConfig) -> dict[str, Any]:
        """
        Return the client's parameters.

        Raises ConfigurationError, OSError or ValueError if a field is unusable.
        """
        trust, cluster = _trust(config), config.cluster
        parameters: dict[str, Any] = {
            "base_url": cluster.server,
            "verify": trust,
            "auth": login_of(config, trust),
            "headers": impersonation_headers(config),
            "timeout": self.timeout,
            "trust_env": self.trust_env,
        }
        if isinstance(cluster, ClusterEntry) and cluster.disable_compression:
            parameters["headers"].append(("Accept-Encoding", "identity"))
        if isinstance(cluster, ClusterEntry) and cluster.proxy_url:
            parameters["proxy"] = _proxy(cluster.proxy_url)
        return parameters


def _trust(config: SingleConfig) -> ssl.SSLContext:
    """Return a context with the cluster's authorities and the user's certificate. Data has priority over a path."""
    cluster, user = config.cluster, config.user
    if cluster.insecure:
        trust = httpx2.create_ssl_context(verify=False)
    elif cluster.certificate_auth_data:
        text = _decoded("certificate-authority-data", cluster.certificate_auth_data).decode("ascii", "replace")
        trust = authorities_in(text=text)
    elif cluster.certificate_auth:
        trust = authorities_in(file=str(config.abs_file(cluster.certificate_auth)))
    else:
        trust = httpx2.create_ssl_context()
    if user is not None and (user.client_cert or user.client_cert_data):
        present(
            trust,
            _content(config, "client-certificate", user.client_cert, user.client_cert_data),
            _content(config, "client-key", user.client_key, user.client_key_data),
        )
    return accept_named(trust)


def _content(config: SingleConfig, field: str, path: str | None, data: str | None) -> bytes:
    if data:
        return _decoded(f"{field}-data", data)
    if not path:
        raise ConfigurationError(
            f"Context {config.context_name} of the kubeconfig cannot be used: its user has no {field}",
            fix="Add it",
        )
    return Path(config.abs_file(path)).read_bytes()


def _decoded(field: str, text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as exc:
        raise ConfigurationError(
            f"{field} of the kubeconfig is not base64: {exc}",
            fix="Correct it",
        ) from exc


def _proxy(url: str) -> httpx2.Proxy:
    """
    Return the proxy.

    Raises ConfigurationError if httpx cannot use the proxy.
    """
    try:
        if url.partition("://")[0].startswith("socks"):
            import_module("socksio")
        proxy, problem = httpx2.Proxy(url), None
    except (ValueError, httpx2.InvalidURL) as exc:
        proxy, problem = None, exc
    except ImportError as exc:
        raise ConfigurationError(
            f"proxy-url of the kubeconfig is {without_secrets(url)}: SOCKS needs the package socksio",
            fix="Install socksio, or use an HTTP proxy",
        ) from exc
    if proxy is None or not proxy.url.host:
        raise ConfigurationError(
            f"proxy-url of the kubeconfig is {without_secrets(url)}: it is not a proxy's URL",
            fix="Use http://, https:// or socks5:// with a host and a port",
        ) from problem
    return proxy


class TooLongError(KubernetesError):
    """A response of the API server that is longer than the client accepts."""


class Kubernetes:
    """
    A client for one cluster.

    Methods raise KubernetesError if a request is rejected or gets no response, and ConfigurationError if the
    kubeconfig's login cannot be used.
    """

    def __init__(self, client: httpx2.Client, config: SingleConfig) -> None:
        self._client = client
        self._config = config
        self.context = config.context_name
        self.server = config.cluster.server
        self.namespace = config.namespace

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the document at `path`, such as /api/v1/namespaces/shop/serviceaccounts/cart, or None for 404."""
        body = self.get_raw(path)
        return None if body is None else read_document(path, body)

    def get_raw(self, path: str) -> bytes | None:
        """Return the bytes at `path`, such as /openid/v1/jwks, or None if the path does not exist."""
        return self._request("GET", path)

    def read_from_pod(self, path: str, *, max_bytes: int, seconds: float) -> bytes:
        """
        Return the body of a Pod's response with the status 200, which the API server passes on from the Pod.

        A Pod may send anything. Therefore the response is limited in size and time, and must not be compressed.
        """
        ends_at = time.monotonic() + seconds
        headers, content = {"Accept": "*/*", "Accept-Encoding": "identity"}, bytearray()
        stream = partial(self._client.stream, "GET", path, headers=headers, follow_redirects=False)
        too_slow = KubernetesError(f"there was no complete response within {seconds:.0f} s")
        with self._mapped_errors(), _mapped_timeout(too_slow), stream(timeout=httpx2.Timeout(seconds)) as response:
            encoding = response.headers.get("Content-Encoding", "identity")
            for piece in response.iter_raw():
                content += piece
                if len(content) > max_bytes:
                    break
                if time.monotonic() > ends_at:
                    raise too_slow
        if response.status_code != 200:
            error = api_error("GET", path, response.status_code, bytes(content), self.context)
            raise with_next_step(error, "GET", path, self._config)
        if encoding != "identity" or len(content) > max_bytes:
            raise TooLongError(f"the response is compressed or has over {max_bytes} bytes")
        return bytes(content)

    def items(self, path: str) -> Iterator[Any]:
        """
        Yield the documents of the collection at `path`, which is read page by page.

        Only one document at a time is in memory as Python objects.

        Raises KubernetesError with the status 404 if there is no such collection.
        """
        following, limit, progress = "", PAGE_ITEMS, Progress()
        while True:
            try:
                body = self.get_raw(f"{path}?limit={limit}{following}")
            except TooLongError:
                if limit == 1:
                    raise
                limit = max(1, limit // 10)
                continue
            if body is None:
                raise KubernetesError(
                    f"The API server of context {self.context} has no {path}", fix=CHECK_PROXIES, status=404
                )
            token, count = yield from _items_of(path, body)
            if not token:
                return
            if progress.ends(token, count):
                sender = f"API server {self.server} (context {self.context})"
                raise KubernetesError(f"{sender} sends an endless list of {path}", fix=CHECK_PROXIES)
            following, limit = f"&continue={quote(token, safe='')}", min(PAGE_ITEMS, 2 * limit)

    def create(self, path: str, document: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create the document in the collection at `path`, and return the document from the API server."""
        body = self._request("POST", path, document, parameters=_parameters(dry_run=dry_run))
        return read_document(path, _present(path, body))

    def patch(self, path: str, change: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Apply a JSON merge patch (RFC 7386) to the document at `path`, and return the new document."""
        body = self._request("PATCH", path, change, MERGE_PATCH, parameters=_parameters(dry_run=dry_run))
        return read_document(path, _present(path, body))

    def _request(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        parameters: Mapping[str, str] | None = None,
    ) -> bytes | None:
        content = None if document is None else json.dumps(document).encode()
        # The key set has the type application/jwk-set+json. A client that accepts only application/json gets 406.
        headers = {"Accept": "application/json, */*"} | ({"Content-Type": content_type} if content else {})
        stream = partial(self._client.stream, method, path, content=content, headers=headers, params=parameters)
        with self._mapped_errors(), stream() as response:
            received = _received(response)
        if response.status_code == 404 and method == "GET":
            return None
        if response.is_error:
            error = api_error(method, path, response.status_code, received, self.context)
            raise with_next_step(error, method, path, self._config)
        if len(received) > MAX_BYTES:
            raise TooLongError(
                f"The API server's response to {method} {path} is over {MAX_BYTES} bytes", fix=CHECK_PROXIES
            )
        return received

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        """Raise our errors instead of those of the HTTP client and of the login."""
        try:
            yield
        except httpx2.HTTPError as exc:
            sender = f"API server {self.server} (context {self.context})"
            raise KubernetesError(f"{sender} was not reached ({reason(exc)})", fix=CHECK_PROXIES) from exc
        except httpx2.InvalidURL as exc:
            raise KubernetesError(f"A path for the API server of context {self.context} is invalid ({exc})") from exc
        except (OSError, ValueError, KeyError) as exc:  # for example, a login plugin's certificate is invalid
            raise ConfigurationError(
                f"Context {self.context} of the kubeconfig has no usable login ({exc})", fix=_TRY_KUBECTL
            ) from exc


@contextmanager
def _mapped_timeout(error: KubernetesError) -> Iterator[None]:
    """Raise this error if the API server accepted the request, and no response came in time."""
    try:
        yield
    except httpx2.ReadTimeout as exc:
        raise error from exc


def _received(response: httpx2.Response) -> bytes:
    """
    Return the content of the response, or slightly more than MAX_BYTES of it.

    Raises ReadTimeout if the content is not complete after RESPONSE_SECONDS.
    """
    content, ends_at = bytearray(), time.monotonic() + RESPONSE_SECONDS
    for piece in response.iter_bytes():
        content += piece
        if len(content) > MAX_BYTES:
            break
        if time.monotonic() > ends_at:
            raise httpx2.ReadTimeout(f"the response was not complete after {RESPONSE_SECONDS:.0f} s")
    return bytes(content)


def _items_of(path: str, body: bytes) -> Generator[Any, None, tuple[str, int]]:
    """
    Yield the items of one page, and return the token of the next page, or "", and the number of items.

    Raises KubernetesError if the page is not a list of the API server.
    """
    metadata: Any = None
    count = 0
    try:
        for name, value in members(body):
            if name == "items" and value is not None:
                count += 1
                yield value
            elif name == "metadata":
                metadata = value
        return str((metadata or {}).get("continue") or ""), count
    except (ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise KubernetesError(f"The API server's response to {path} is not JSON", fix=CHECK_PROXIES) from exc


@contextmanager
def open_cluster(config: SingleConfig) -> Iterator[Kubernetes]:
    """
    Open the cluster in `config` (kubeconfig.py).

    Raises ConfigurationError if its settings are invalid.
    """
    try:
        client = Client(config, Connection(timeout=httpx2.Timeout(DEADLINE_SECONDS)))
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"Context {config.context_name} of the kubeconfig cannot be used ({exc})", fix=_TRY_KUBECTL
        ) from exc
    # A Pod behind the API server's proxy can send cookies, which the next requests must not contain.
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    with client:
        yield Kubernetes(client, config)


def reason(exc: BaseException) -> str:
    """
    Return the text of the exception or of the nearest cause that has a text. Without any text, return the type's name.

    For example, after a failed TLS handshake with trio, only the cause has a text.
    """
    cause: BaseException | None = exc
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause) if cause is not None else type(exc).__name__


def api_error(method: str, path: str, status: int, body: bytes, context: str) -> KubernetesError:
    """Return the error in the response, usually a Status document (API conventions, Response Status Kind)."""
    try:
        message = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = body[:200].decode("utf-8", "replace")
    problem = f"The API server of context {context} rejected {method} {path} ({status}): {message}"
    return KubernetesError(problem, status=status, reason=message)


def _parameters(*, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})


def _present(path: str, body: bytes | None) -> bytes:
    assert body is not None, path
    return body


_TRY_KUBECTL = "Correct the kubeconfig until `kubectl get pods` works"


def read_document(path: str, body: bytes) -> dict[str, Any]:
    """
    Return the JSON object in a response from the API server.

    Raises KubernetesError if there is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise KubernetesError(f"The API server's response to {path} is not JSON", fix=CHECK_PROXIES) from exc
    if not isinstance(document, dict):
        raise KubernetesError(f"The API server's response to {path} is not a JSON object", fix=CHECK_PROXIES)
    return document
