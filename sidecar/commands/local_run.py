"""
Run the parts of `irsa-sidecar local` in one process: the local services, the page, the daemon and the display.

The parts end together, when the command ends or a signal arrives.
"""

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import trio

from sidecar.client.application import private_directory, run_application, with_daemon
from sidecar.client.browser import open_browser
from sidecar.client.environment import Offer, client_variables
from sidecar.client.first_credentials import wait_for_attempts
from sidecar.client.shell_lines import export_lines
from sidecar.client.signals import open_signals
from sidecar.config.settings import Config, read_config
from sidecar.console import warn
from sidecar.daemon.daemon import REAL_CLOCK, Daemon
from sidecar.errors import ConfigurationError
from sidecar.extras import import_extra
from sidecar.local.event_log import daemon_log, service_emit
from sidecar.local.events import Emit
from sidecar.local.feed import Feed, Subscription
from sidecar.log import Logger, make_logger
from sidecar.refresh.refresher import Sources

EXPLAINED = "explained"
"""The format of the log for people: one line per event, with the conditions of the trust policy."""

STS_URL = "AWS_ENDPOINT_URL_STS"

MAX_PORT = 65_535

Body = Callable[[Offer], Awaitable[int]]
"""The type of a function that runs while the daemon serves the offer, and returns the exit status."""


@dataclass(frozen=True, slots=True)
class Shell:
    """
    The shell that evaluates our output: the stream that it reads, and the function that returns the last lines.

    The argument of `ending` is the URL of the page, or None without a page.
    """

    report: TextIO
    ending: Callable[[str | None], str]


@dataclass(frozen=True, slots=True)
class _Parts:
    """The running services, and the page, if any."""

    services: Any
    page: Any

    @property
    def page_url(self) -> str | None:
        return None if self.page is None else self.page.url

    def header(self) -> Mapping[str, str]:
        """Return the names and values of the terminal's header."""
        services = self.services
        urls = {"issuer": services.issuer_url, "STS": services.sts_url, "role": services.role_arn}
        urls["token"] = str(services.token_file)
        return urls | ({} if self.page is None else {"page": self.page.url})


async def run_local(args: argparse.Namespace, settings: Any, shell: Shell) -> int:
    """Run all parts until the command of `args` ends, or without a command until a signal arrives."""
    log = _log(args)
    feed = Feed(REAL_CLOCK.wall)
    with private_directory() as directory, feed.subscribe() as events:
        async with trio.open_nursery() as nursery:
            emit = service_emit(log, feed)
            parts = await _start_parts(args, settings, Path(directory), nursery, emit=emit, feed=feed)
            if parts.page is not None and log is not None:  # the terminal has the address in its header
                log.info("page_served", url=parts.page.url)
            body = _body(args, parts, shell)
            status = await with_daemon(
                _daemon_config(args, parts.services),
                body if log is not None else partial(_explained, args, events, parts.header(), body),
                daemon_log(log, feed),
                wait=wait_for_attempts,
                sources=Sources(parts.services.machinery.daemon_clock.clock),
                on_start=partial(_connect, parts),
            )
            nursery.cancel_scope.cancel()
    return status


def _log(args: argparse.Namespace) -> Logger | None:
    """Return the logger, or None if the display explains the events instead."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    log_format = args.log_format or (EXPLAINED if is_terminal else "console")
    return None if log_format == EXPLAINED else make_logger(log_format, args.log_level)[0]


async def _start_parts(
    args: argparse.Namespace, settings: Any, directory: Path, nursery: trio.Nursery, *, emit: Emit, feed: Feed
) -> _Parts:
    """Start the services, then the page. Each responds when this function returns."""
    module = import_extra("sidecar.local.services", "irsa-sidecar local", "local")
    services = await nursery.start(partial(module.serve_local, settings, directory, emit=emit, clock=REAL_CLOCK))
    if args.no_page:
        return _Parts(services, None)
    serving = import_extra("sidecar.local.page.serving", "irsa-sidecar local", "local")
    serve = partial(
        serving.serve_page, _page_port(args.page_port), services, feed, emit=partial(emit, component="page")
    )
    return _Parts(services, await nursery.start(serve))


def _page_port(text: str) -> int:
    """
    Return the port in the value of --page-port.

    Raises ConfigurationError if the value is not a port.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= MAX_PORT):
        raise ConfigurationError(
            f"--page-port is {text!r}, which is not a port",
            fix=f"Use a port from 1 to {MAX_PORT}, or 0 for a free port",
            setting="--page-port",
        )
    return int(text)


def _body(args: argparse.Namespace, parts: _Parts, shell: Shell) -> Body:
    """Return the function that runs the command, or serves the shell. With --open, it opens the page first."""
    extra = {STS_URL: parts.services.sts_url}
    body: Body = partial(_serve, extra, shell, parts.page_url)
    if args.command:
        body = partial(run_application, args.command, extra=extra)
    return partial(_opened, parts.page, body) if args.open else body


async def _explained(
    args: argparse.Namespace, events: Subscription, urls: Mapping[str, str], body: Body, offer: Offer
) -> int:
    """Run `body`, and explain the events on stderr. The header has the names and values in `urls`."""
    display = import_extra("sidecar.local.terminal.display", "irsa-sidecar local", "local")
    config_name = str(args.config) if args.config else None
    with display.open_terminal(2) as fd:
        shown = display.Display(fd, events, args.log_level, config_name=config_name)
        status: int = await shown.accompany({**urls, "daemon": offer.url}, partial(body, offer))
    return status


async def _opened(page: Any, body: Body, offer: Offer) -> int:
    """Open the page in a browser, and run the body."""
    async with open_signals((signal.SIGINT, signal.SIGTERM)) as signals:
        try:
            open_browser(page.one_time_url(), signals.mask)
        except OSError as exc:
            warn(f"the browser cannot be started ({exc.strerror}). Open {page.url} yourself.")
        return await body(offer)


async def _serve(extra: Mapping[str, str], shell: Shell, page_url: str | None, offer: Offer) -> int:
    """Write the lines for the shell, then wait for a signal."""
    no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    variables = client_variables(offer, no_proxy) | dict(extra)
    shell.report.write(export_lines(variables) + shell.ending(page_url))
    shell.report.flush()
    _close(shell.report)
    async with open_signals((signal.SIGINT, signal.SIGTERM)) as signals:
        with signals.listen() as received:
            await received.receive()
    return 0


def _close(report: TextIO) -> None:
    """Close the descriptor of the report, so that a shell's `$(…)` returns while this process continues."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, report.fileno())
    os.close(nowhere)


def _connect(parts: _Parts, daemon: Daemon) -> None:
    """Connect the controls and the page with the daemon."""

    def refresh() -> None:
        for served in daemon.roles:
            served.refresher.refresh_now()

    parts.services.machinery.refresh = refresh
    if parts.page is not None:
        parts.page.daemon = partial(_daemon_state, daemon)


def _daemon_state(daemon: Daemon) -> dict[str, Any]:
    """Return the state of the daemon for the page."""
    now, served, responses = daemon.clock.now(), daemon.role, daemon.metrics.requests
    return {
        "is_serving": served.valid_snapshot(now) is not None,
        "served": responses.get(200, 0),
        "not_served": sum(count for status, count in responses.items() if status != 200),
        "failures": served.refresher.progress.schedule.failures,
        "next_attempt_in_seconds": served.next_attempt_at - now.monotonic,
    }


def _daemon_config(args: argparse.Namespace, services: Any) -> Config:
    """Return the configuration of the daemon, read from the variables that a Pod would have."""
    environ = {
        "AWS_ROLE_ARN": services.role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(services.token_file),
        "AWS_REGION": services.region,
        STS_URL: services.sts_url,
    }
    flags = {
        "listen": args.listen,
        "admin_listen": args.admin_listen,
        "authorization_token_file": args.authorization_token_file,
        "duration_seconds": args.duration,
    }
    return read_config(environ, flags)
