"""
Fake an API server's storage and wire behaviour: documents by path, optimistic concurrency, watches.

The fake stores the documents of tests and clients. `resourceVersion` counts up, a write with an old version is a
conflict, and a dry run changes nothing. A watch streams all changes after its version. `faults` replaces the storage
for the next requests. No client sends a DELETE, so the fake responds with 501.
"""

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jsonpatch

from tests.support.fakes.threaded import serving

Document = dict[str, Any]


class FakeApiServer:
    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.requests: list[tuple[str, str]] = []
        self.bodies: list[Document] = []
        self.headers: list[dict[str, str]] = []
        self.raw_headers: list[list[tuple[str, str]]] = []
        """The headers of each request, with repeated names."""
        self.faults: list[tuple[int, Any]] = []
        """The status and body of each of the next responses. Their requests do not access the documents."""
        self.broken: dict[str, tuple[int, Any]] = {}
        """The status and body of every response to a path."""
        self.proxied: dict[str, Callable[[], tuple[int, bytes]]] = {}
        """The functions that return the status and body of the Pods behind the proxy, by the path."""
        self.forbidden: set[tuple[str, str]] = set()
        """The missing permissions: verb and resource, as in a Role."""
        self.admit: Callable[[str, Document], Document] = lambda _path, document: document
        """The admission of a new document in a collection: webhooks and policies change the document here."""
        self.url = ""
        self.is_closing = False
        self.open_watches = 0
        self._version = 0
        self._events: list[tuple[int, str, Document]] = []
        self._changed = threading.Condition()

    def put(self, path: str, document: Document) -> Document:
        """Store the document, as another client would."""
        with self._changed:
            kind = "MODIFIED" if path in self.documents else "ADDED"
            return self._store(path, json.loads(json.dumps(document)), kind)

    def remove(self, path: str) -> None:
        with self._changed:
            self._version += 1
            self._events.append((self._version, "DELETED", self.documents.pop(path)))
            self._changed.notify_all()

    def forget_history(self) -> None:
        """Compact the history, so that a watch from an older version gets the error 410 Gone."""
        with self._changed:
            self._version += 1
            self._events = [(self._version, "COMPACTED", {})]
            self._changed.notify_all()

    def _store(self, path: str, document: Document, kind: str) -> Document:
        self._version += 1
        document.setdefault("metadata", {})["resourceVersion"] = str(self._version)
        self.documents[path] = document
        self._events.append((self._version, kind, json.loads(json.dumps(document))))
        self._changed.notify_all()
        return document

    # Handling of requests

    def respond(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        with self._changed:
            if path in self.broken:
                return self.broken[path]
            if self.faults:
                return self.faults.pop(0)
            document: Any = json.loads(body) if body else {}
            is_dry = query.get("dryRun") == ["All"]
            if method == "GET":
                return self._get(path, _name_in(query), _page(query))
            if method == "POST":
                name = document["metadata"].get("name") or document["metadata"]["generateName"] + "x"
                return self._write(f"{path}/{name}", self.admit(path, document), is_dry=is_dry, must_exist=False)
            if path not in self.documents:
                return _status(404, f"{path} not found")
            change = self._patch if method == "PATCH" else partial(self._write, must_exist=True)
            return change(path, document, is_dry=is_dry)

    def _patch(self, path: str, change: Any, *, is_dry: bool) -> tuple[int, Any]:
        if isinstance(change, dict):
            return self._write(path, merge(self.documents[path], change), is_dry=is_dry, must_exist=True)
        try:
            document = jsonpatch.apply_patch(self.documents[path], change)
        except jsonpatch.JsonPatchTestFailed as exc:
            return _status(422, f"the server rejected our request due to an error in our request: {exc}")
        return self._write(path, document, is_dry=is_dry, must_exist=True)

    def _get(self, path: str, name: str | None, page: tuple[int, int]) -> tuple[int, Any]:
        if path in self.documents:
            return 200, self.documents[path]
        items = [
            found
            for place, found in self.documents.items()
            if _is_in(place, path) and name in {None, found["metadata"].get("name")}
        ]
        if items or path.rsplit("/", 1)[-1] in _COLLECTIONS:
            first, limit = page
            metadata = {"resourceVersion": str(self._version)}
            if first + limit < len(items):
                metadata["continue"] = str(first + limit)
            return 200, {**_list_type(items), "metadata": metadata, "items": items[first : first + limit]}
        return _status(404, f"{path} not found")

    def _write(self, path: str, document: Document, *, is_dry: bool, must_exist: bool) -> tuple[int, Any]:
        before = self.documents.get(path)
        if before is not None and not must_exist:
            return _status(409, f"{path} already exists")
        version = document.get("metadata", {}).get("resourceVersion")
        if before is not None and version not in {None, before["metadata"]["resourceVersion"]}:
            return _status(409, f"Operation cannot be fulfilled on {path}: the object has been modified")
        if is_dry:
            return 200, document
        return (200 if before else 201), self._store(path, document, "MODIFIED" if before else "ADDED")

    def from_pod(self, target: str) -> tuple[int, bytes] | None:
        """Return the response of a Pod behind the proxy, or None if the path has no such Pod."""
        found = self.proxied.get(urlsplit(target).path)
        return None if found is None else found()

    def refusal(self, method: str, target: str) -> tuple[int, Any] | None:
        """Return the API server's error if the client lacks the permission for the request."""
        path = urlsplit(target).path.split("/")
        if "proxy" in path:
            path = [*path[: path.index("proxy") - 1], "pods/proxy", path[path.index("proxy") - 1].partition(":")[0]]
        is_whole = path[-1] in _COLLECTIONS
        resource = path[-1] if is_whole else path[-2]
        verb = _VERBS.get(method) or ("watch" if "watch=" in target else "list" if is_whole else "get")
        if (verb, resource) not in self.forbidden:
            return None
        group = path[2] if path[1] == "apis" else ""
        cannot = f'User "me" cannot {verb} resource "{resource}" in API group "{group}"'
        return _status(403, f"{resource} is forbidden: {cannot}")

    def watch(self, target: str) -> Iterator[bytes]:
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        after = int(query["resourceVersion"][0])
        # The fake waits in real time, like the API server's timeout. No test waits until the end of this time.
        ends_at = time.monotonic() + int(query.get("timeoutSeconds", ["60"])[0])
        self.open_watches += 1
        try:
            while not self.is_closing and time.monotonic() < ends_at:
                with self._changed:
                    news = [event for event in self._events if event[0] > after]
                    if not news:
                        self._changed.wait(0.02)
                        continue
                for version, kind, document in news:
                    after = version
                    if kind == "COMPACTED":
                        yield json.dumps(
                            {"type": "ERROR", "object": _status(410, "too old resource version")[1]}
                        ).encode()
                        return
                    is_named = _name_in(query) in {None, document["metadata"].get("name")}
                    if is_named and _kind_of(document) == path.rsplit("/", 1)[-1]:
                        yield json.dumps({"type": kind, "object": document}).encode()
        finally:
            self.open_watches -= 1


_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_COLLECTIONS = {
    "cronjobs",
    "daemonsets",
    "deployments",
    "events",
    "mutatingwebhookconfigurations",
    "networkpolicies",
    "nodes",
    "pods",
    "secrets",
    "serviceaccounts",
    "statefulsets",
}


def _is_in(place: str, collection: str) -> bool:
    """Return whether a document's path is in the collection, which covers one namespace or all namespaces."""
    parent, _, _ = place.rpartition("/")
    if parent == collection:
        return True
    head, _, kind = collection.rpartition("/")
    return parent.startswith(f"{head}/namespaces/") and parent.endswith(f"/{kind}")


def _list_type(items: list[Document]) -> Document:
    """Return the type of a list of these items. Go's client decodes a list only with its type."""
    first = items[0] if items else {}
    return {"kind": f"{first.get('kind', '')}List", "apiVersion": first.get("apiVersion", "v1")}


def _name_in(query: dict[str, list[str]]) -> str | None:
    """Return the name in `fieldSelector=metadata.name=NAME`."""
    selector = query.get("fieldSelector", [""])[0]
    return selector.partition("metadata.name=")[2] or None


def _page(query: dict[str, list[str]]) -> tuple[int, int]:
    """Return the index of the first item and the number of items, as `limit` and `continue` require."""
    return int(query.get("continue", ["0"])[0]), int(query.get("limit", ["1000000"])[0])


def _kind_of(document: Document) -> str:
    return f"{document.get('kind', '').lower()}s"


def merge(document: Any, change: Any) -> Any:
    """Return the merged document (RFC 7386)."""
    if not isinstance(change, dict):
        return change
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _status(code: int, message: str) -> tuple[int, Document]:
    return code, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    """Without this setting, each body would wait for a delayed acknowledgement of the response's head."""
    fake: FakeApiServer

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.fake.requests.append((self.command, self.path))
        self.fake.headers.append(dict(self.headers))
        self.fake.raw_headers.append(self.headers.items())
        if body:
            self.fake.bodies.append(json.loads(body))
        refusal = self.fake.refusal(self.command, self.path)
        if refusal is None and "watch=" in self.path and urlsplit(self.path).path not in self.fake.broken:
            self._stream()
            return
        status, document = refusal or self.fake.from_pod(self.path) or self.fake.respond(self.command, self.path, body)
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with suppress(OSError):  # the client does not read a body that is too long
            self.wfile.write(content)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in self.fake.watch(self.path):
                self.wfile.write(b"%x\r\n%s\n\r\n" % (len(line) + 1, line))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815  the standard library's names

    def log_message(self, *_: object) -> None:
        """Ignore log messages of http.server."""


@contextmanager
def api_server(tls: ssl.SSLContext | None = None) -> Iterator[FakeApiServer]:
    """Run an API server on a free loopback port until the block ends."""
    fake = FakeApiServer()
    with serving(type("Handler", (_Handler,), {"fake": fake}), tls) as fake.url:
        try:
            yield fake
        finally:
            fake.is_closing = True


def kubeconfig(url: str, user: Document | None = None) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": url}}],
        "users": [{"name": "me", "user": user or {}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": "shop"}}],
    }
