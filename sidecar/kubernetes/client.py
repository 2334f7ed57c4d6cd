"""
The cluster's API, as plain JSON documents in and out.

lightkube is the client here and in the webhook: released in August 2026 by its author and Canonical's charms' choice,
MIT, typed, 4 MB without compiled parts of its own, its client the same under trio; kr8s needs asyncio's loop and leaves
client keys in /tmp, and the official client is 126 MB. What it adds to an HTTP client, kubeconfig's ways to log in, is
all that is used of it: our documents are dicts, which the patch of a Pod is made from too.
"""

import base64
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx2
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import SingleConfig

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.kubernetes.api_refusals import with_next_step
from sidecar.kubernetes.credentials import acting_as, login_of, present
from sidecar.kubernetes.kubeconfig_entries import ClusterEntry
from sidecar.outbound import accept_named, authorities_in
from sidecar.redaction import without_user_info

DEADLINE_SECONDS = 15.0
"""Of one request: a person waits, and the API server itself gives up on an admission webhook after 10 s."""

MERGE_PATCH = "application/merge-patch+json"

FIELD_MANAGER = "irsa-sidecar"
"""Under which managedFields show what was set by us."""


class Connection(ConnectionParams):
    """
    A connection to a cluster's API server, by either client, as kubectl makes it.

    Many a cluster's authority has no key identifier, as those of EKS. It is the only one that is trusted here.
    """

    def httpx_params(self, config: SingleConfig) -> dict[str, Any]:
        """Raises ConfigurationError and OSError if a field of the kubeconfig cannot be used."""
        trust, cluster = _trust(config), config.cluster
        parameters: dict[str, Any] = {
            "base_url": cluster.server,
            "verify": trust,
            "auth": login_of(config, trust),
            "headers": acting_as(config),
            "timeout": self.timeout,
            "trust_env": self.trust_env,
        }
        if isinstance(cluster, ClusterEntry) and cluster.disable_compression:
            parameters["headers"].append(("Accept-Encoding", "identity"))
        if isinstance(cluster, ClusterEntry) and cluster.proxy_url:
            parameters["proxy"] = _proxy(cluster.proxy_url)
        return parameters


def _trust(config: SingleConfig) -> ssl.SSLContext:
    """Return the cluster's authorities with the user's certificate. Data comes before files, as in kubectl."""
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
            f"Context {config.context_name} of the kubeconfig cannot be used: its user has no {field}. Add it."
        )
    return Path(config.abs_file(path)).read_bytes()


def _decoded(field: str, text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as exc:
        raise ConfigurationError(f"{field} of the kubeconfig is not base64: {exc}. Correct it.") from exc


def _proxy(url: str) -> httpx2.Proxy:
    """Raises ConfigurationError for a proxy that httpx cannot use."""
    try:
        if url.partition("://")[0].startswith("socks"):
            import_module("socksio")
        proxy, problem = httpx2.Proxy(url), None
    except (ValueError, httpx2.InvalidURL) as exc:
        proxy, problem = None, exc
    except ImportError as exc:
        raise ConfigurationError(
            f"proxy-url of the kubeconfig is {without_user_info(url)}: SOCKS needs the package socksio. Install it, or "
            "use an HTTP proxy."
        ) from exc
    if proxy is None or not proxy.url.host:
        raise ConfigurationError(
            f"proxy-url of the kubeconfig is {without_user_info(url)}: it is not a proxy's URL. Give http://, https:// "
            "or socks5://, a host and a port."
        ) from problem
    return proxy


class Kubernetes:
    """One cluster. Raises KubernetesError for what it refuses and for what does not reach it."""

    def __init__(self, client: httpx2.Client, config: SingleConfig) -> None:
        self._client = client
        self._config = config
        self.context = config.context_name
        self.server = config.cluster.server
        self.namespace = config.namespace

    def get(self, path: str) -> dict[str, Any] | None:
        """The document at `path`, as /api/v1/namespaces/shop/serviceaccounts/cart; None when it is not there."""
        body = self.get_raw(path)
        return None if body is None else read_document(path, body)

    def get_raw(self, path: str) -> bytes | None:
        """The bytes at `path`, as /openid/v1/jwks; None when it is not there."""
        return self._ask("GET", path)

    def create(self, path: str, document: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create the document in the collection at `path`, and return it as the API server has it."""
        body = self._ask("POST", path, document, parameters=_parameters(dry_run=dry_run))
        return read_document(path, _there(path, body))

    def patch(self, path: str, change: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Apply a JSON merge patch (RFC 7386) to the document at `path`, and return it as it is then."""
        body = self._ask("PATCH", path, change, MERGE_PATCH, parameters=_parameters(dry_run=dry_run))
        return read_document(path, _there(path, body))

    def _ask(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        parameters: Mapping[str, str] | None = None,
    ) -> bytes | None:
        content = None if document is None else json.dumps(document).encode()
        # The key set is application/jwk-set+json, and refused (406) to who takes application/json only.
        headers = {"Accept": "application/json, */*"} | ({"Content-Type": content_type} if content else {})
        try:
            response = self._client.request(method, path, content=content, headers=headers, params=parameters)
        except httpx2.HTTPError as exc:
            raise KubernetesError(
                f"API server {self.server} (context {self.context}) was not reached ({reason(exc)})."
            ) from exc
        except (OSError, ValueError, KeyError) as exc:  # such as a certificate of a login plugin
            raise ConfigurationError(
                f"Context {self.context} of the kubeconfig gives no way to log in ({exc}): does `kubectl get pods` "
                "work?"
            ) from exc
        if response.status_code == 404 and method == "GET":
            return None
        if response.is_error:
            error = refusal(method, path, response.status_code, response.content, self.context)
            raise with_next_step(error, method, path, self._config)
        return response.content


@contextmanager
def open_cluster(config: SingleConfig) -> Iterator[Kubernetes]:
    """The cluster that `config` (kubeconfig.py) says how to reach. Raises ConfigurationError."""
    try:
        client = Client(config, Connection(timeout=httpx2.Timeout(DEADLINE_SECONDS)))
    except (OSError, ValueError) as exc:
        raise ConfigurationError(
            f"Context {config.context_name} of the kubeconfig cannot be used ({exc}): does `kubectl get pods` work?"
        ) from exc
    with client:
        yield Kubernetes(client, config)


def reason(exc: BaseException) -> str:
    """In words: those of its cause where it has none, as a TLS handshake's failure under trio."""
    cause: BaseException | None = exc
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return str(cause) if cause is not None else type(exc).__name__


def refusal(method: str, path: str, status: int, body: bytes, context: str) -> KubernetesError:
    """What the API server said, which is a Status document (API conventions, Response Status Kind)."""
    try:
        said = str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        said = body[:200].decode("utf-8", "replace")
    return KubernetesError(f"The API server of context {context} refused {method} {path} ({status}): {said}", status)


def _parameters(*, dry_run: bool) -> dict[str, str]:
    return {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})


def _there(path: str, body: bytes | None) -> bytes:
    assert body is not None, path
    return body


def read_document(path: str, body: bytes) -> dict[str, Any]:
    """What the API server answered. Raises KubernetesError for what is no JSON object."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise KubernetesError(f"The API server answered {path} with what is no JSON: is a proxy in between?") from exc
    if not isinstance(document, dict):
        raise KubernetesError(f"The API server answered {path} with no document: is a proxy in between?")
    return document
