"""
The cluster's API, as plain JSON documents in and out.

lightkube is the client here and in the webhook: released in August 2026 by its author and Canonical's charms' choice,
MIT, typed, 4 MB without compiled parts of its own, its client the same under trio; kr8s needs asyncio's loop and leaves
client keys in /tmp, and the official client is 126 MB. What it adds to an HTTP client, kubeconfig's ways to log in, is
all that is used of it: our documents are dicts, which the patch of a Pod is made from too.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx2
from lightkube.config.client_adapter import Client, ConnectionParams
from lightkube.config.kubeconfig import SingleConfig
from lightkube.core.exceptions import ConfigError

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.outbound import accept_named

DEADLINE_SECONDS = 15.0
"""Of one request: a person waits, and the API server itself gives up on an admission webhook after 10 s."""

MERGE_PATCH = "application/merge-patch+json"

FIELD_MANAGER = "irsa-sidecar"
"""Under which managedFields show what was set by us."""


class Connection(ConnectionParams):
    """
    A connection to a cluster's API server, by either client: its certificate is verified as kubectl verifies it.

    Many a cluster's authority has no key identifier, as those of EKS. It is the only one that is trusted here.
    """

    def httpx_params(self, config: SingleConfig) -> dict[str, Any]:
        parameters: dict[str, Any] = super().httpx_params(config)
        return parameters | {"verify": accept_named(parameters["verify"])}


class Kubernetes:
    """One cluster. Raises KubernetesError for what it refuses and for what does not reach it."""

    def __init__(self, client: httpx2.Client, config: SingleConfig) -> None:
        self._client = client
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
        except (ConfigError, OSError, ValueError, KeyError) as exc:  # what a login plugin does wrong
            raise ConfigurationError(
                f"Context {self.context} of the kubeconfig gives no way to log in ({exc}): does `kubectl get pods` "
                "work?"
            ) from exc
        if response.status_code == 404 and method == "GET":
            return None
        if response.is_error:
            raise refusal(method, path, response.status_code, response.content, self.context)
        return response.content


@contextmanager
def open_cluster(config: SingleConfig) -> Iterator[Kubernetes]:
    """The cluster that `config` (kubeconfig.py) says how to reach. Raises ConfigurationError."""
    try:
        client = Client(config, Connection(timeout=httpx2.Timeout(DEADLINE_SECONDS)))
    except (ConfigError, OSError, ValueError) as exc:
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
    except (ValueError, KeyError, TypeError):
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
    except ValueError as exc:
        raise KubernetesError(f"The API server answered {path} with what is no JSON: is a proxy in between?") from exc
    if not isinstance(document, dict):
        raise KubernetesError(f"The API server answered {path} with no document: is a proxy in between?")
    return document
