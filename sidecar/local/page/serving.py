"""
Serve the page on loopback, beside the local services.

Rule: the services and the daemon do not depend on the page. If one of the page's tasks fails, they continue.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import jwt
import trio

from sidecar.background import keep_running
from sidecar.local.control_panel import ControlPanel
from sidecar.local.events import Emit
from sidecar.local.feed import Feed
from sidecar.local.listening import LOOPBACK, listen
from sidecar.local.page.access import Address
from sidecar.local.page.live import LiveState
from sidecar.local.page.server import PageServer, new_secret
from sidecar.local.page.state import PageState, shown_claims, shown_controls, unchecked
from sidecar.local.sentences import escaped
from sidecar.local.services import LocalServices

NO_DAEMON: Mapping[str, Any] = MappingProxyType(
    {"is_serving": False, "served": 0, "not_served": 0, "failures": 0, "next_attempt_in_seconds": 0.0}
)
"""The state that the page shows before the daemon starts."""


class OpenPage:
    """
    A running page.

    `daemon` is a function that returns the current state of the daemon. The command replaces it before the daemon runs.
    """

    def __init__(self, services: LocalServices, panel: ControlPanel, address: Address) -> None:
        self.address = address
        self.one_time_url: Callable[[], str] = lambda: address.url
        """A function that returns a link for the command line of a browser."""
        self.daemon: Callable[[], Mapping[str, Any]] = lambda: NO_DAEMON
        self._services = services
        self._panel = panel

    @property
    def url(self) -> str:
        return self.address.url

    def facts(self) -> Mapping[str, Any]:
        """Return the content of the page that does not come from events."""
        services, machinery = self._services, self._services.machinery
        account, newest = machinery.sts.account, machinery.tokens.newest
        return {
            "audiences": [escaped(each) for each in account.providers[services.issuer_url].audiences],
            "policies": {escaped(arn): unchecked(role.trust_policy) for arn, role in account.roles.items()},
            "token": None if newest is None else _token(newest.raw),
            "controls": shown_controls(self._panel.active, machinery.clock.monotonic()),
            **self.daemon(),
        }


async def serve_page(
    port: int,
    services: LocalServices,
    feed: Feed,
    *,
    emit: Emit,
    task_status: trio.TaskStatus[OpenPage] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Serve the page until cancelled. The task reports OpenPage when the port responds.

    Raises ConfigurationError if the port is not available.
    """
    clock = services.machinery.clock
    with await listen("--page-port", LOOPBACK, port) as listener:
        panel = ControlPanel(services.machinery.effects(), monotonic=clock.monotonic, emit=emit)
        page = OpenPage(services, panel, Address(listener.getsockname()[1], new_secret()))
        roles = tuple(escaped(arn) for arn in services.machinery.sts.account.roles)
        live = LiveState(feed, PageState(roles), page.facts, clock.wall)
        server = PageServer(page.address, live, panel, emit)
        page.one_time_url = server.one_time_url
        report = partial(_emit_failure, emit)
        async with trio.open_nursery() as nursery:
            for task in (live.run, panel.run, partial(server.http_server(report).serve, [listener])):
                nursery.start_soon(keep_running, task, report)
            task_status.started(page)


def _token(raw: str) -> Mapping[str, Any]:
    """Return the header and the claims of the token without its signature, so that nobody can use the token."""
    parts = jwt.decode_complete(raw, options={"verify_signature": False})
    return {
        "header": shown_claims(parts["header"]),
        "claims": shown_claims(parts["payload"]),
        "issued_at": parts["payload"]["iat"],
        "expires_at": parts["payload"]["exp"],
    }


def _emit_failure(emit: Emit, exc: Exception) -> None:
    emit("page_failed", exception=type(exc).__name__)
