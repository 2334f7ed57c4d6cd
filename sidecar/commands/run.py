"""Keep a role's credentials fresh and serve them to the Pod's AWS SDKs. Ends with 0 on SIGTERM or SIGINT."""

import argparse
import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from types import ModuleType
from typing import Any

from sidecar.config import PREFIX, SETTINGS, Address, Config, read_roles, read_settings
from sidecar.listen import format_address, listen

EXAMPLE = """\
example, in a Pod whose token volume is mounted:
  AWS_ROLE_ARN=arn:aws:iam::111122223333:role/app AWS_REGION=eu-west-1 \\
  AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token \\
  irsa-sidecar run

and in the application's container:
  AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:4772/v1/credentials"""

LEFT_OUT = (
    "anyio",
    "awscrt",
    "brotli",
    "click",
    "colorama",
    "cryptography",
    "h2",
    "pygments",
    "rich",
    "socksio",
    "zstandard",
)
"""
Packages that ours use if they happen to be installed, and that a Pod would pay up to 15 MiB for: PyJWT without
cryptography, structlog and httpx without terminal colours, botocore's signer without the one in C. Only unverified
claims are read here, and only HTTP/1.1 is spoken.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for setting in SETTINGS:
        default = f" [{setting.default}]" if setting.default else ""
        parser.add_argument(
            setting.flag,
            dest=setting.field,
            metavar=setting.metavar,
            help=f"{setting.meaning}{default} ({PREFIX}{setting.variable})",
        )
    parser.add_argument(
        "--allow-non-loopback",
        action="store_true",
        help="let --listen and --imds-listen be addresses that others can reach",
    )


def main(args: argparse.Namespace) -> int:
    """Bind first, import later: early requests wait in the kernel's queue instead of being refused."""
    gc.disable()
    signal.signal(signal.SIGTERM, _stopped_early)
    config, defaults = read_settings(os.environ, vars(args), allow_non_loopback=args.allow_non_loopback)
    listeners = listen("IRSA_SIDECAR_LISTEN", config.listen)
    admin_listeners = listen("IRSA_SIDECAR_ADMIN_LISTEN", config.admin_listen) if config.admin_listen else []
    imds_listeners = listen("IRSA_SIDECAR_IMDS_LISTEN", config.imds_listen) if config.imds_listen else []
    _print_free_port(config.listen, listeners, "v1/credentials")
    _print_free_port(config.admin_listen, admin_listeners, "readyz")
    _print_free_port(config.imds_listen, imds_listeners, "")
    _leave_out_what_run_does_not_need()  # before the roles: what reads a file of them imports PyJWT
    roles_now = partial(read_roles, config, os.environ, defaults)
    config = config._replace(roles=roles_now())
    from sidecar.hardening import harden  # noqa: PLC0415  ctypes takes 3 ms, which trio would spend a little later

    refusals = harden()
    from sidecar import daemon  # noqa: PLC0415

    if refusals:
        _tell_what_is_open(config, refusals)
    return daemon.run(config, listeners, admin_listeners, roles_now, imds_listeners)


def _stopped_early(*_: object) -> None:
    """SIGTERM before the daemon listens for it: nothing is in flight, so nothing needs an orderly end."""
    raise SystemExit(0)


def _print_free_port(asked: Address | None, bound: Sequence[socket.socket], path: str) -> None:
    if asked is not None and asked[1] == 0:
        print(f"http://{format_address(*bound[0].getsockname()[:2])}/{path}", flush=True)


def _tell_what_is_open(config: Config, refusals: list[str]) -> None:
    from sidecar.log import default_format, make_logger  # noqa: PLC0415  not before the bind

    log, _ = make_logger(config.log_format or default_format(), config.log_level)
    log.warning("hardening_refused", refused=refusals, why="the kernel or the sandbox does not do it; the rest holds")


STOOD_IN_FOR = ("asyncio",)
"""Imported without need: structlog's asynchronous methods, which nobody calls here, take 1.5 MiB to be there."""


def _leave_out_what_run_does_not_need() -> None:
    """Make `import` say that they are not there, which their users are ready for, or give an empty module."""
    modules: dict[str, Any] = sys.modules
    for name in LEFT_OUT:
        modules.setdefault(name, None)
    for name in STOOD_IN_FOR:
        modules.setdefault(name, ModuleType(name))
    if sys.platform.startswith("linux"):
        _start_no_process()


def _start_no_process() -> None:
    """
    Let `ctypes.util` find no library, where it would run ldconfig, gcc or ld to look for one.

    Trio asks it for libpthread as it is imported, to name worker threads, which it goes without just as well: 3 ms,
    and the only process that this one would ever start.
    """
    import ctypes.util  # noqa: PLC0415  trio imports it anyway, and dear modules with it

    def find_library(name: str) -> str | None:  # noqa: ARG001  the name of the argument is the original's
        return None

    ctypes.util.find_library = find_library
