"""
The cluster's API under trio: every request has a deadline, and all that goes wrong is a KubernetesError.

Which API server, and how to log in there, is found as kubectl finds it (setup/kubeconfig.py). A login plugin is not run
here: in a cluster the Pod's own service account token is used, read again when it is refused.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Self, TypeVar

import httpx2
import trio
from lightkube.config.client_adapter import AsyncClient
from lightkube.config.kubeconfig import SingleConfig

from sidecar.errors import ConfigurationError, FileTimeoutError, KubernetesError
from sidecar.file_thread import in_thread
from sidecar.files import file_version
from sidecar.kubernetes.client import FIELD_MANAGER, Connection, read_document, reason, refusal
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.kubeconfig_entries import UserEntry

DEADLINE_SECONDS = 5.0
"""Of one request: the API server itself waits for a webhook for 10 s unless told otherwise."""

WATCH_SECONDS = 60
"""How long a watch lasts. One that was cut without a word is noticed within that time."""

PAGE_ITEMS = 100
"""Of a list. With 256 KiB of annotations each, as much as there may be, a page is 25 MiB; 20,000 take 200 of them."""

FORBIDDEN = 403

RIGHTS = "k8s/webhook/rbac.yaml"

JSON, JSON_PATCH = "application/json", "application/json-patch+json"

Take = Callable[[str, Document], None]
"""What becomes of an event of a watch: its kind (ADDED, MODIFIED, DELETED) and the document."""


Kept = TypeVar("Kept")


class KubernetesApi:
    """One cluster. Raises KubernetesError for what it refuses and for what does not reach it in time."""

    def __init__(self, connected: "_Connected", config: SingleConfig) -> None:
        self._connected = connected
        self.context = config.context_name
        self.namespace = config.namespace

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Document | None:
        """The document at `path`; None when it is not there."""
        return await self._ask("GET", path, parameters=parameters)

    async def read(self, path: str, keep: Callable[[Document], Kept]) -> Kept | None:
        """What `keep` makes of the object at `path`; None when it is not there."""
        document = await self.get(path)
        with _as_the_api_server_writes_it(path):
            return None if document is None else keep(document)

    async def list(
        self, path: str, parameters: Mapping[str, str], keep: Callable[[Document], Kept]
    ) -> tuple[list[Kept], str]:
        """What is to be kept of each item of the collection at `path`, page by page, and the version of the list."""
        items: list[Kept] = []
        following = ""
        while True:
            asked = {**parameters, "limit": str(PAGE_ITEMS)} | ({"continue": following} if following else {})
            page = await self.get(path, asked)
            if page is None:
                raise KubernetesError(f"The API server of context {self.context} has no {path}.", 404)
            with _as_the_api_server_writes_it(path):
                items += map(keep, page.get("items") or ())
                following = page["metadata"].get("continue") or ""
                if not following:
                    return items, page["metadata"]["resourceVersion"]

    async def create(self, path: str, document: Document) -> Document:
        return await self._ask("POST", path, document) or {}

    async def replace(self, path: str, document: Document) -> Document:
        """Put the document in place of the one with its resourceVersion; a newer one is a KubernetesError 409."""
        return await self._ask("PUT", path, document) or {}

    async def patch(self, path: str, operations: Sequence[Document]) -> Document:
        """Apply a JSON Patch (RFC 6902)."""
        return await self._ask("PATCH", path, list(operations), JSON_PATCH) or {}

    async def watch(self, path: str, version: str, parameters: Mapping[str, str], take: Take) -> str:
        """Hand on what happens after `version` for a while. Returns the version that it got to."""
        asked = {
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
                async with client.stream("GET", path, params=asked) as response:
                    if response.is_error:
                        raise self._refused("watch", path, response.status_code, await response.aread())
                    async for line in response.aiter_lines():
                        try:
                            version = _event(line, path, take) or version
                        except KubernetesError as error:
                            # The API server ends the watch then. Leaving now would leave httpx's generators behind.
                            ended = ended or error
        except trio.TooSlowError:
            pass  # the next one tells what happened since
        except (httpx2.HTTPError, ConfigurationError, OSError) as exc:
            raise self._unreached(exc) from exc
        if ended is not None:
            raise ended
        return version

    async def _ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        content_type: str = JSON,
        parameters: Mapping[str, str] | None = None,
    ) -> Document | None:
        content = None if document is None else json.dumps(document).encode()
        headers = {"Accept": JSON} | ({"Content-Type": content_type} if content else {})
        asked = dict(parameters or {}) | ({"fieldManager": FIELD_MANAGER} if content else {})
        try:
            with trio.fail_after(DEADLINE_SECONDS):
                client = await self._connected.client()
                response = await client.request(method, path, content=content, headers=headers, params=asked)
        except trio.TooSlowError as exc:
            raise KubernetesError(
                f"The API server did not answer {method} {path} in {DEADLINE_SECONDS:.0f} s."
            ) from exc
        except (httpx2.HTTPError, ConfigurationError, OSError) as exc:
            raise self._unreached(exc) from exc
        if response.status_code == 404 and method == "GET":
            return None
        if response.is_error:
            raise self._refused(method, path, response.status_code, response.content)
        return read_document(path, response.content)

    def _refused(self, method: str, path: str, status: int, body: bytes) -> KubernetesError:
        """Of a right that is missing the API server says verb, resource and API group; where they are to be had, we."""
        error = refusal(method, path, status, body, self.context)
        if status != FORBIDDEN:
            return error
        return KubernetesError(f"{error}. Give it that right: {RIGHTS} has all that the webhook needs.", status)

    def _unreached(self, exc: Exception) -> KubernetesError:
        return KubernetesError(f"The API server of context {self.context} was not reached ({reason(exc)}).")


def _event(line: str, path: str, take: Take) -> str | None:
    """Hand one event on. Returns its version. Raises KubernetesError for the end of what can be watched."""
    if not line.strip():
        return None
    event = read_document(path, line.encode())
    kind, document = event.get("type"), event.get("object") or {}
    with _as_the_api_server_writes_it(path):
        if kind == "ERROR":
            raise KubernetesError(f"The watch of {path} ended: {document.get('message')}", document.get("code"))
        if kind != "BOOKMARK":
            take(str(kind), document)
        return str(document["metadata"]["resourceVersion"])


@contextmanager
def _as_the_api_server_writes_it(path: str) -> Iterator[None]:
    """While documents are read: what lacks what every document has is an answer of somebody else's."""
    try:
        yield
    except (KeyError, TypeError, AttributeError) as exc:
        raise KubernetesError(
            f"The API server answered {path} with what is no Kubernetes object: is a proxy in between?"
        ) from exc


@asynccontextmanager
async def open_api(config: SingleConfig) -> AsyncIterator[KubernetesApi]:
    """The cluster that `config` says how to reach. Raises ConfigurationError."""
    if isinstance(config.user, UserEntry) and config.user.exec is not None:
        raise ConfigurationError(
            f"Context {config.context_name} of the kubeconfig logs in by a plugin, which the webhook does not run: "
            "give it a kubeconfig with a client certificate or a token, or run it in the cluster."
        )
    async with AsyncExitStack() as stack:
        yield KubernetesApi(await _Connected(config, stack).start(), config)


class _Connected:
    """The client of one API server, created again when the file with the cluster's authority changes."""

    def __init__(self, config: SingleConfig, stack: AsyncExitStack) -> None:
        self._config = config
        self._stack = stack
        named = config.cluster.certificate_auth
        self._path = None if named is None else str(config.abs_file(named))
        self._identity = None if self._path is None else file_version(self._path)

    async def start(self) -> Self:
        """Raises ConfigurationError if the kubeconfig cannot be used."""
        try:
            await self._take(self._created())
        except _UNUSABLE as exc:
            text = f"Context {self._config.context_name} of the kubeconfig cannot be used ({exc})."
            raise ConfigurationError(text) from exc
        return self

    async def client(self) -> httpx2.AsyncClient:
        """Return the client. A file that cannot be read leaves the one before, and is tried again the next time."""
        if self._path is not None:
            with suppress(FileTimeoutError, *_UNUSABLE):
                identity = await in_thread(self._path, file_version, self._path)
                if identity not in {None, self._identity}:
                    await self._take(await in_thread(self._path, self._created))
                    self._identity = identity
        return self._client

    def _created(self) -> httpx2.AsyncClient:
        # Deadlines are ours, in trio's time.
        return AsyncClient(self._config, Connection(timeout=httpx2.Timeout(None)))

    async def _take(self, client: httpx2.AsyncClient) -> None:
        """A client before ends with the stack, because a watch may still use it."""
        self._client = await self._stack.enter_async_context(client)


_UNUSABLE = (ConfigurationError, OSError, ValueError)
