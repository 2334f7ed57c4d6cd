"""
Call the cluster's API with trio.

Rule: every request has a deadline, and every error is a KubernetesError.

kubeconfig.py finds the API server and the credentials as kubectl does. This client runs no login plugin. In a cluster
it uses the Pod's own service account token, and reads the token again after the API server rejects it.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Self, TypeVar

import httpx2
import trio
from lightkube.config.client_adapter import AsyncClient
from lightkube.config.kubeconfig import SingleConfig

from sidecar.errors import ConfigurationError, FileTimeoutError, KubernetesError
from sidecar.file_thread import in_thread
from sidecar.files import file_version
from sidecar.kubernetes.client import FIELD_MANAGER, Connection, TooLongError, api_error, read_document, reason
from sidecar.kubernetes.document import CHECK_PROXIES, Document, reading_objects
from sidecar.kubernetes.kubeconfig_entries import UserEntry
from sidecar.kubernetes.pages import Progress, members

DEADLINE_SECONDS = 5.0
"""Deadline for one request. By default, the API server itself waits 10 s for a webhook."""

WATCH_SECONDS = 60
"""Duration of one watch. The client notices a silently broken connection DEADLINE_SECONDS after this time."""

CHECK_PATH = "Check HTTPS_PROXY, and check that network policies allow connections to the API server"
"""Next step if the API server sends no response."""

PAGE_ITEMS = 100
"""Number of items in one page of a list. A list of 20,000 items takes 200 pages."""

MAX_BYTES = 8 * 1024 * 1024
"""
Maximum size of a response. A page of 100 ServiceAccounts usually has 100 KiB.

An object in etcd has at most 1.5 MiB, so one page could have 150 MiB. After a response that is too long, the client
requests a shorter page.
"""

MAX_OBJECT_BYTES = 1024 * 1024
"""Maximum size of one object that `read` accepts. Its annotations have at most 256 KiB."""

FORBIDDEN = 403

RIGHTS = "k8s/webhook/rbac.yaml"

JSON, JSON_PATCH = "application/json", "application/json-patch+json"

Take = Callable[[str, Document], None]
"""A function that receives a watch event: its type (ADDED, MODIFIED, DELETED) and the document."""


Kept = TypeVar("Kept")


class KubernetesApi:
    """A client for one cluster. Methods raise KubernetesError if a request is rejected or gets no response in time."""

    def __init__(self, connected: "_Connected", config: SingleConfig) -> None:
        self._connected = connected
        self.context = config.context_name
        self.namespace = config.namespace

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Document | None:
        """Return the document at `path`, or None if it does not exist."""
        return await self._request("GET", path, parameters=parameters)

    async def read(self, path: str, keep: Callable[[Document], Kept]) -> Kept | None:
        """Return the result of `keep` for the object at `path`, or None if the object does not exist."""
        content = await self._content("GET", path, max_bytes=MAX_OBJECT_BYTES)
        with reading_objects(path):
            return None if content is None else keep(read_document(path, content))

    async def list(
        self, path: str, parameters: Mapping[str, str], keep: Callable[[Document], Kept]
    ) -> tuple[list[Kept], str]:
        """Return the results of `keep` for all items, read page by page, and the version of the list."""
        items: list[Kept] = []
        following, limit, progress = "", PAGE_ITEMS, Progress()
        while True:
            query = {**parameters, "limit": str(limit)} | ({"continue": following} if following else {})
            try:
                content = await self._content("GET", path, parameters=query)
            except TooLongError:
                if limit == 1:
                    raise
                limit = max(1, limit // 10)
                continue
            if content is None:
                raise KubernetesError(
                    f"The API server of context {self.context} has no {path}", fix=CHECK_PROXIES, status=404
                )
            limit = min(PAGE_ITEMS, 2 * limit)
            before = len(items)
            with reading_objects(path):
                metadata = await _keep_items(path, content, lambda item: items.append(keep(item)))
                following = metadata.get("continue") or ""
                if not following:
                    return items, metadata["resourceVersion"]
                if progress.ends(following, len(items) - before):
                    raise KubernetesError(
                        f"The API server of context {self.context} sends an endless list of {path}", fix=CHECK_PROXIES
                    )

    async def create(self, path: str, document: Document) -> Document:
        return await self._request("POST", path, document) or {}

    async def replace(self, path: str, document: Document) -> Document:
        """Replace the document with the same resourceVersion. Raise KubernetesError 409 if a newer version exists."""
        return await self._request("PUT", path, document) or {}

    async def patch(self, path: str, operations: Sequence[Document]) -> Document:
        """Apply a JSON Patch (RFC 6902) to the document at `path`."""
        return await self._request("PATCH", path, list(operations), JSON_PATCH) or {}

    async def watch(self, path: str, version: str, parameters: Mapping[str, str], take: Take) -> str:
        """Pass the events after `version` to `take` until the watch ends. Return the last version."""
        query = {
            **parameters,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        ended: KubernetesError | None = None
        try:
            with trio.fail_after(WATCH_SECONDS + DEADLINE_SECONDS):
                client = await self._connected.client()
                async with client.stream("GET", path, params=query) as response:
                    if response.is_error:
                        raise self._api_error("watch", path, response.status_code, await response.aread())
                    async for line in response.aiter_lines():
                        try:
                            version = _event(line, path, take) or version
                        except KubernetesError as error:
                            # Raise the error when the API server has ended the watch, after WATCH_SECONDS.
                            # Cancelling the watch earlier would leave httpx's generators running.
                            ended = ended or error
        except trio.TooSlowError:
            pass  # the next watch begins at `version`, so no event is lost
        except (httpx2.HTTPError, httpx2.InvalidURL, ConfigurationError, OSError) as exc:
            raise self._connection_error(exc) from exc
        if ended is not None:
            raise ended
        return version

    async def _request(
        self,
        method: str,
        path: str,
        document: Any = None,
        content_type: str = JSON,
        parameters: Mapping[str, str] | None = None,
    ) -> Document | None:
        content = None if document is None else json.dumps(document).encode()
        headers = {"Content-Type": content_type} if content else {}
        query = dict(parameters or {}) | ({"fieldManager": FIELD_MANAGER} if content else {})
        response = await self._content(method, path, content=content, headers=headers, parameters=query)
        return None if response is None else read_document(path, response)

    async def _content(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
        **sent: Any,
    ) -> bytes | None:
        """
        Return the content of the response, or None if the object of a GET does not exist.

        Raises TooLongError if the content is longer than `max_bytes`, by default MAX_BYTES, and another KubernetesError
        if the request is rejected or gets no response in time.
        """
        limit = MAX_BYTES if max_bytes is None else max_bytes
        headers = {"Accept": JSON, **sent.pop("headers", {})}
        content = bytearray()
        too_long = TooLongError(f"The API server's response to {method} {path} is over {limit} bytes")
        try:
            with trio.fail_after(DEADLINE_SECONDS):
                client = await self._connected.client()
                async with client.stream(method, path, headers=headers, params=parameters or {}, **sent) as response:
                    await _receive(response, content, limit)
        except trio.TooSlowError as exc:
            if len(content) > limit:
                raise too_long from exc
            raise KubernetesError(
                f"The API server did not respond to {method} {path} within {DEADLINE_SECONDS:.0f} s", fix=CHECK_PATH
            ) from exc
        except (httpx2.HTTPError, httpx2.InvalidURL, ConfigurationError, OSError) as exc:
            raise self._connection_error(exc) from exc
        if response.status_code == 404 and method == "GET":
            return None
        if response.is_error:
            raise self._api_error(method, path, response.status_code, bytes(content[:limit]))
        if len(content) > limit:
            raise too_long
        return bytes(content)

    def _api_error(self, method: str, path: str, status: int, body: bytes) -> KubernetesError:
        """Return the API server's error. If a permission is missing, name the manifest that grants it."""
        error = api_error(method, path, status, body, self.context)
        if status != FORBIDDEN:
            return error
        fix = f"Grant the webhook that permission: {RIGHTS} contains all permissions that the webhook needs"
        return KubernetesError(error.problem, fix=fix, status=status, reason=error.reason)

    def _connection_error(self, exc: Exception) -> KubernetesError:
        problem = f"The API server of context {self.context} was not reached ({reason(exc)})"
        return KubernetesError(problem, fix=CHECK_PATH)


async def _receive(response: httpx2.Response, content: bytearray, limit: int) -> None:
    """Add the content of the response, or slightly more than `limit` bytes of it."""
    async for piece in response.aiter_bytes():
        # The rest is discarded, because leaving the loop would leave httpx's generators running.
        if len(content) <= limit:
            content += piece


async def _keep_items(path: str, content: bytes, keep: Callable[[Document], None]) -> Document:
    """
    Pass each item of the list to `keep`, and let other tasks run in between. Return the metadata of the list.

    Raises KubernetesError if the content is not JSON.
    """
    metadata: Document = {}
    try:
        for name, value in members(content):
            if name == "items" and value is not None:
                keep(value)
                await trio.lowlevel.checkpoint()
            elif name == "metadata":
                metadata = value
    except (ValueError, RecursionError) as exc:
        raise KubernetesError(f"The API server's response to {path} is not JSON", fix=CHECK_PROXIES) from exc
    return metadata


def _event(line: str, path: str, take: Take) -> str | None:
    """
    Pass one event to `take`, and return its version. Return None for an empty line.

    Raises KubernetesError for an event that reports an error, and for a line that is not an event.
    """
    if not line.strip():
        return None
    event = read_document(path, line.encode())
    kind, document = event.get("type"), event.get("object") or {}
    with reading_objects(path):
        if kind == "ERROR":
            raise KubernetesError(f"The watch of {path} ended: {document.get('message')}", status=document.get("code"))
        if kind != "BOOKMARK":
            take(str(kind), document)
        return str(document["metadata"]["resourceVersion"])


@asynccontextmanager
async def open_api(config: SingleConfig) -> AsyncIterator[KubernetesApi]:
    """
    Open the cluster in `config`.

    Raises ConfigurationError if the settings are invalid, or if the user logs in with a plugin.
    """
    if isinstance(config.user, UserEntry) and config.user.exec is not None:
        raise ConfigurationError(
            f"Context {config.context_name} of the kubeconfig logs in with a plugin, which the webhook does not run",
            fix="Use a kubeconfig with a client certificate or a token, or run the webhook in the cluster",
        )
    async with AsyncExitStack() as stack:
        yield KubernetesApi(await _Connected(config, stack).start(), config)


class _Connected:
    """The client for one API server. The client is replaced when the file with the cluster's authority changes."""

    def __init__(self, config: SingleConfig, stack: AsyncExitStack) -> None:
        self._config = config
        self._stack = stack
        named = config.cluster.certificate_auth
        self._path = None if named is None else str(config.abs_file(named))
        self._file_version = None if self._path is None else file_version(self._path)

    async def start(self) -> Self:
        """
        Create the first client.

        Raises ConfigurationError if the kubeconfig cannot be used.
        """
        try:
            await self._use(self._created())
        except _UNUSABLE as exc:
            text = f"Context {self._config.context_name} of the kubeconfig cannot be used ({exc})"
            raise ConfigurationError(text, fix="Correct the certificates and the user of that context") from exc
        return self

    async def client(self) -> httpx2.AsyncClient:
        """
        Return the client, which is new if the file with the cluster's authority has changed.

        If that file cannot be read, return the previous client, and try again on the next call.
        """
        if self._path is not None:
            with suppress(FileTimeoutError, *_UNUSABLE):
                version = await in_thread(self._path, file_version, self._path)
                if version not in {None, self._file_version}:
                    await self._use(await in_thread(self._path, self._created))
                    self._file_version = version
        return self._client

    def _created(self) -> httpx2.AsyncClient:
        # trio enforces the deadlines, in `_content` and `watch`.
        return AsyncClient(self._config, Connection(timeout=httpx2.Timeout(None)))

    async def _use(self, client: httpx2.AsyncClient) -> None:
        """Use this client from now on. The stack closes the previous client later, because a watch may use it."""
        self._client = await self._stack.enter_async_context(client)


_UNUSABLE = (ConfigurationError, OSError, ValueError)
