"""
Decide whether a request may reach the page. Pure.

Rules against web pages of others: the Host header names this listener with its port (DNS rebinding), a request from a
script comes from the page itself (Origin, Sec-Fetch-Site), and only a POST changes something. Rule against other users
of this machine: the path contains a secret, which is compared in constant time.
"""

import hmac
from dataclasses import dataclass, field

from sidecar.serving.http_message import Request, Response, text_response

WRONG_HOST = text_response(403, "The Host header does not name this page. Use the address that irsa-sidecar printed.")
WRONG_ORIGIN = text_response(403, "Another web page sent this request. Use the buttons of the page itself.")
NO_PAGE = text_response(404, "There is no page at this address. Use the address that irsa-sidecar printed.")


@dataclass(frozen=True, slots=True)
class Address:
    """The port of the page, and the secret in its path."""

    port: int
    secret: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.secret}/"

    @property
    def hosts(self) -> frozenset[str]:
        """The values of the Host header by which a browser on this machine calls the page."""
        return frozenset(f"{name}:{self.port}" for name in ("127.0.0.1", "localhost"))


def rejection(request: Request, address: Address) -> Response | None:
    """Return the rejection of a request from elsewhere, or None. The secret is not checked here."""
    host = (request.header("host") or "").lower()
    if host not in address.hosts:
        return WRONG_HOST
    origins = {value for name, value in request.headers if name == "origin"}
    if origins - {f"http://{host}"} or (request.method == "POST" and not origins):
        return WRONG_ORIGIN
    sites = {value for name, value in request.headers if name == "sec-fetch-site"}
    is_navigation = request.method == "GET" and request.header("sec-fetch-mode") == "navigate"
    if sites - {"same-origin", "none"} and not is_navigation:
        return WRONG_ORIGIN
    return None


def path_within(request: Request, address: Address) -> str | None:
    """Return the path after the secret, or None if the path does not begin with the secret."""
    _, secret, *rest = [*request.path.split("/", 2), "", ""][:3]
    is_right = hmac.compare_digest(secret.encode("latin-1", "replace"), address.secret.encode("ascii"))
    return rest[0] if is_right and request.path.startswith(f"/{secret}/") else None
