"""
Run all parts of IRSA on this machine, in one process.

The parts are an OIDC issuer with rotating keys, a kubelet that renews a service account token, an STS, and the daemon.
The STS checks the token against the keys and the trust policy of the role. With CMD, the program runs that command with
credentials and returns its exit status. Without CMD, it prints `export` lines and serves until it is interrupted. On a
terminal, it explains each event on stderr: the token, each condition of the trust policy, and who gets credentials.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import trio

from sidecar.client.application import private_directory, run_application, until_signalled, with_daemon
from sidecar.client.browser import open_browser
from sidecar.client.environment import WINS_OVER_US, Offer, client_variables
from sidecar.client.first_credentials import wait_for_attempts
from sidecar.client.shell_lines import failing_visibly, print_failure
from sidecar.client.signals import open_signals
from sidecar.config.settings import LOG_FORMATS, LOG_LEVELS, Config, read_config
from sidecar.console import warn
from sidecar.daemon.daemon import REAL_CLOCK, Daemon
from sidecar.errors import ConfigurationError
from sidecar.extras import import_extra
from sidecar.local.event_log import daemon_log, service_emit
from sidecar.local.events import Emit
from sidecar.local.feed import Feed, Subscription
from sidecar.log import make_logger
from sidecar.refresh.refresher import Sources
from sidecar.role import parse_whole_number

EXAMPLE = """\
examples:
  irsa-sidecar local -- aws sts get-caller-identity
  irsa-sidecar local --log-level warning -- $SHELL    # a shell with credentials; exit ends everything
  irsa-sidecar local --open -- $SHELL                 # shows each step on a page in the browser
  irsa-sidecar local --config local.yaml --issuer https://oidc.example.com/id/A"""

EXPLAINED = "explained"
"""The format of the log for people: one line per event, with the conditions of the trust policy."""

FREE_PORT = "127.0.0.1:0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="YAML file with the account, region, roles, providers and ports"
    )
    parser.add_argument(
        "--issuer", metavar="URL", help="also accept tokens of this issuer, for example a cluster's issuer"
    )
    parser.add_argument(
        "--jwks-file",
        metavar="FILE",
        type=Path,
        help="with --issuer: file with that issuer's keys, if its URL is not reachable",
    )
    parser.add_argument("--duration", metavar="SECONDS|max", default="3600", help="lifetime of credentials [3600]")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", default=FREE_PORT, help=f"address for credentials [{FREE_PORT}]"
    )
    parser.add_argument(
        "--admin-listen", metavar="HOST:PORT", default=FREE_PORT, help=f"address for probes [{FREE_PORT}]"
    )
    parser.add_argument(
        "--authorization-token-file",
        metavar="FILE",
        help="file for the secret that clients must send; a secret that you wrote into the file stays valid",
    )
    parser.add_argument("--page-port", metavar="PORT", default="0", help="port of the page on loopback [a free port]")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--no-page", action="store_true", help="serve no page")
    parser.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="level of the log on stderr [info]")
    parser.add_argument(
        "--log-format",
        choices=(EXPLAINED, *LOG_FORMATS),
        help=f"format of the log [{EXPLAINED} on a terminal, else console]",
    )
    parser.add_argument("command", nargs="*", metavar="CMD", help="the command and its arguments, after --")


def guard(arguments: Sequence[str]) -> AbstractContextManager[None]:
    """Return a context. Without CMD, it makes a failure visible to the shell that evaluates the output."""
    return nullcontext() if "--" in arguments else failing_visibly("irsa-sidecar local")


def main(args: argparse.Namespace) -> int:
    status = trio.run(until_signalled, partial(_local, args))
    if args.command:
        return status
    # A shell reads these lines only if `local` stopped early. Otherwise stdout is already closed (_close_stdout).
    print_failure("irsa-sidecar local")
    return 0


async def _local(args: argparse.Namespace) -> int:
    services_module, settings = _local_services(args)
    log_format = args.log_format or _default_format()
    log = None if log_format == EXPLAINED else make_logger(log_format, args.log_level)[0]
    feed = Feed(REAL_CLOCK.wall)
    with private_directory() as directory, feed.subscribe() as events:
        async with trio.open_nursery() as nursery:
            emit = service_emit(log, feed)
            start = partial(services_module.serve_local, settings, Path(directory), emit=emit, clock=REAL_CLOCK)
            services = await nursery.start(start)
            page = None if args.no_page else await _start_page(args, nursery, services, feed, emit)
            if page is not None and log is not None:  # the terminal has the address in its header
                log.info("page_served", url=page.url)
            extra = {"AWS_ENDPOINT_URL_STS": services.sts_url}
            body = partial(run_application, args.command, extra=extra) if args.command else partial(_serve, extra)
            if log is None:
                urls = {"issuer": services.issuer_url, "STS": services.sts_url, "role": services.role_arn}
                urls["token"] = str(services.token_file)
                urls |= {} if page is None else {"page": page.url}
                body = partial(_explained, args, events, urls, body)
            status = await with_daemon(
                _daemon_config(args, services),
                partial(_opened, page, body) if page is not None and args.open else body,
                daemon_log(log, feed),
                wait=wait_for_attempts,
                sources=Sources(services.machinery.daemon_clock.clock),
                on_start=partial(_connect, services, page),
            )
            nursery.cancel_scope.cancel()
    return status


def _default_format() -> str:
    return EXPLAINED if sys.stderr is not None and sys.stderr.isatty() else "console"


async def _explained(
    args: argparse.Namespace,
    events: Subscription,
    urls: Mapping[str, str],
    body: Callable[[Offer], Awaitable[int]],
    offer: Offer,
) -> int:
    """Run `body`, and explain the events on stderr. The header has the names and values in `urls`."""
    display = import_extra("sidecar.local.terminal.display", "irsa-sidecar local", "local")
    config_name = str(args.config) if args.config else None
    with display.open_terminal(2) as fd:
        shown = display.Display(fd, events, args.log_level, config_name=config_name)
        status: int = await shown.accompany({**urls, "daemon": offer.url}, partial(body, offer))
    return status


async def _start_page(args: argparse.Namespace, nursery: trio.Nursery, services: Any, feed: Feed, emit: Emit) -> Any:
    """Serve the page, and return it when its port responds."""
    serving = import_extra("sidecar.local.page.serving", "irsa-sidecar local", "local")
    port = parse_whole_number("--page-port", args.page_port, 0, 65_535)
    return await nursery.start(partial(serving.serve_page, port, services, feed, emit=partial(emit, component="page")))


def _connect(services: Any, page: Any, daemon: Daemon) -> None:
    """Connect the controls and the page with the daemon."""

    def refresh() -> None:
        for served in daemon.roles:
            served.refresher.refresh_now()

    services.machinery.refresh = refresh
    if page is not None:
        page.daemon = partial(_daemon_state, daemon)


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


async def _opened(page: Any, body: Callable[[Offer], Awaitable[int]], offer: Offer) -> int:
    """Open the page in a browser, and run the body."""
    async with open_signals((signal.SIGINT, signal.SIGTERM)) as signals:
        try:
            open_browser(page.one_time_url(), signals.mask)
        except OSError as exc:
            warn(f"the browser cannot be started ({exc.strerror}). Open {page.url} yourself.")
        return await body(offer)


def _local_services(args: argparse.Namespace) -> tuple[Any, Any]:
    """Return the module of the local services, and their settings."""
    services = import_extra("sidecar.local.services", "irsa-sidecar local", "local")
    config = import_extra("sidecar.local.config", "irsa-sidecar local", "local")
    settings = config.read_config(args.config)
    if args.jwks_file and not args.issuer:
        raise ConfigurationError(
            f"--jwks-file is {args.jwks_file}, but --issuer is not set",
            fix="Set --issuer to the issuer of these keys, or add the provider to the file of --config",
            setting="--jwks-file",
        )
    if args.open and args.no_page:
        raise ConfigurationError(
            "--open is set, but --no-page turns the page off", fix="Remove one of the two flags", setting="--open"
        )
    if args.issuer:
        settings = settings.with_provider(args.issuer, jwks_file=args.jwks_file)
    return services, settings


def _daemon_config(args: argparse.Namespace, services: Any) -> Config:
    """Return the configuration of the daemon, read from the variables that a Pod would have."""
    environ = {
        "AWS_ROLE_ARN": services.role_arn,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(services.token_file),
        "AWS_REGION": services.region,
        "AWS_ENDPOINT_URL_STS": services.sts_url,
    }
    flags = {
        "listen": args.listen,
        "admin_listen": args.admin_listen,
        "authorization_token_file": args.authorization_token_file,
        "duration_seconds": args.duration,
    }
    return read_config(environ, flags)


async def _serve(extra: dict[str, str], offer: Offer) -> int:
    """Print the shell's variables, then wait for a signal."""
    variables = client_variables(offer, os.environ.get("NO_PROXY", "")) | extra
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f"unset {' '.join(WINS_OVER_US)}")
    print(f"# kill {os.getpid()} stops irsa-sidecar local", flush=True)
    _close_stdout()
    async with open_signals((signal.SIGINT, signal.SIGTERM)) as signals:
        with signals.listen() as received:
            await received.receive()
    return 0


def _close_stdout() -> None:
    """Close stdout, so that a shell's `$(…)` returns while this process continues."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
