"""
Respond to requests for the page: its files, the stream of its state, and its controls.

Rule: the path in a request never becomes the path of a file. Every response forbids the browser all actions that the
page does not need. A mistake in the page can therefore neither load content from elsewhere nor send data there.
"""

import secrets
from collections.abc import Callable, Mapping
from importlib.resources import files
from types import MappingProxyType

from sidecar.local.control_panel import ControlPanel
from sidecar.local.controls import CONTROLS
from sidecar.local.events import Emit
from sidecar.local.page.access import NO_PAGE, Address, path_within, rejection
from sidecar.local.page.live import LiveState
from sidecar.serving.connection_budget import Budget
from sidecar.serving.http_message import Request, Response, Send, text_response
from sidecar.serving.http_server import Limits, Server

MAX_CONNECTIONS = 64
"""Maximum number of connections. A browser opens at most 6 to one server, and a process has few file descriptors."""

MAX_STREAMS = 16
"""Maximum number of open pages. The stream of each page occupies a connection until the page is closed."""

LIMITS = Limits(max_head_bytes=16 * 1024, max_body_bytes=0, respond_seconds=30.0)
"""HTTP limits of the page. A response may wait for a new key, which takes a second on a slow machine."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

SECURITY_HEADERS = (
    ("Content-Security-Policy", _POLICY),
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)
"""Headers of every response. With `require-trusted-types-for`, a script cannot insert text as HTML."""

_FILES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The file and the content type for each path of the page."""

_LINK_PREFIX = "/open/"

_USED = text_response(
    410, "This link works once and was used. Use the other address that irsa-sidecar printed, or start it again."
)
_TOO_MANY = text_response(503, "Too many pages are open. Close one of them, and load this page again.")


def new_secret() -> str:
    return secrets.token_urlsafe(24)


class PageServer:
    """The HTTP interface of one page."""

    def __init__(self, address: Address, live: LiveState, panel: ControlPanel, emit: Emit) -> None:
        self.address = address
        self._live = live
        self._panel = panel
        self._emit = emit
        self.streams = 0
        self._link: str | None = None
        self._files = MappingProxyType(_read_files())

    def one_time_url(self) -> str:
        """
        Return a link that leads to the page once.

        The command line of a browser is visible to other users of the machine, and so is a link in it.
        """
        self._link = new_secret()
        return f"http://127.0.0.1:{self.address.port}{_LINK_PREFIX}{self._link}"

    def http_server(self, report: Callable[[Exception], None]) -> Server:
        return Server(self.respond, report, Budget(MAX_CONNECTIONS), LIMITS)

    async def respond(self, request: Request) -> Response:
        """Return the response to any request, with the headers that protect the page."""
        response = rejection(request, self.address) or self._opened(request) or await self._route(request)
        headers = (*SECURITY_HEADERS, *response.headers)
        return Response(response.status, response.body, response.content_type, headers, response.write_body)

    def _opened(self, request: Request) -> Response | None:
        """
        Return the response to a one-time link, or None for another request.

        A used or wrong link gets a 410. A wrong link also invalidates the current link.
        """
        if not request.path.startswith(_LINK_PREFIX) or request.method != "GET":
            return None
        link, self._link = self._link, None
        if link is None or not secrets.compare_digest(request.path.encode(), f"{_LINK_PREFIX}{link}".encode()):
            self._emit("page_link_rejected")
            return _USED
        return text_response(303, "The page is at another address.", ("Location", f"/{self.address.secret}/"))

    async def _route(self, request: Request) -> Response:
        path = path_within(request, self.address)
        if path is None:
            return NO_PAGE
        if path.startswith("controls/"):
            return _only(request, "POST") or await self._press(path)
        if path == "events":
            return _only(request, "GET") or self._stream()
        return _only(request, "GET", "HEAD") or self._files.get(path, NO_PAGE)

    async def _press(self, path: str) -> Response:
        """Start or end the control in `controls/NAME/start` or `controls/NAME/end`, and return the response."""
        _, name, action = [*path.split("/"), "", ""][:3]
        control = CONTROLS.get(name)
        if control is None or action not in {"start", "end"} or path.count("/") != 2:
            return text_response(404, "There is no such control.")
        if not await (self._panel.start if action == "start" else self._panel.end)(control):
            return text_response(500, "The control failed. The events on the page contain the reason.")
        return text_response(200, "Done.")

    def _stream(self) -> Response:
        """Return the stream of the state (WHATWG HTML, section 9.2: Server-sent events)."""
        if self.streams >= MAX_STREAMS:
            return _TOO_MANY
        return Response(200, b"", "text/event-stream", write_body=self._follow)

    async def _follow(self, send: Send) -> None:
        self.streams += 1
        try:
            await self._live.stream(send)
        finally:
            self.streams -= 1


def _only(request: Request, *methods: str) -> Response | None:
    if request.method in methods:
        return None
    return text_response(405, f"The method here is {' or '.join(methods)}.", ("Allow", ", ".join(methods)))


def _read_files() -> Mapping[str, Response]:
    folder = files(__package__)
    return {path: Response(200, folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}
