"""Keep the credentials of each role fresh, and serve them to the Pod's AWS SDKs. Exits with 0 on SIGTERM or SIGINT."""

import gc
import os
import signal
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

from sidecar.addresses import Address, format_address
from sidecar.config.settings import PREFIX, SETTINGS, Config, read_roles, read_settings
from sidecar.errors import ConfigurationError
from sidecar.files import file_version
from sidecar.role import secret_files
from sidecar.serving import early_listener
from sidecar.serving.authorization import start_secrets
from sidecar.serving.listen import Listener, as_sockets, bind, listen, start_listening
from sidecar.startup.early_signals import end_at_once_on_signals
from sidecar.startup.lean_imports import lean_imports

if TYPE_CHECKING:
    import argparse

EXAMPLE = """\
example, in a Pod whose token volume is mounted:
  AWS_ROLE_ARN=arn:aws:iam::111122223333:role/app AWS_REGION=eu-west-1 \\
  AWS_WEB_IDENTITY_TOKEN_FILE=/var/run/secrets/eks.amazonaws.com/serviceaccount/token \\
  irsa-sidecar run

and in the application's container:
  AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:4772/v1/credentials"""

NO_FLAGS = SimpleNamespace(allow_non_loopback=False)
"""Parsed arguments of a command line without flags, as in a Pod. Importing argparse would cost 0.6 MiB there."""


def add_arguments(parser: "argparse.ArgumentParser") -> None:
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
        help="let --listen and --imds-listen be addresses that other machines can reach",
    )


def main(args: "argparse.Namespace | SimpleNamespace") -> int:
    """
    Run the daemon.

    Raises ConfigurationError if settings are missing or invalid. The error lists all of them.
    """
    try:
        return _main(args)
    except ConfigurationError as error:
        from sidecar.daemon.setting_checks import every_problem  # noqa: PLC0415  for a process that ends

        raise every_problem(error, os.environ, vars(args), allow_non_loopback=args.allow_non_loopback) from error


def _main(args: "argparse.Namespace | SimpleNamespace") -> int:
    """Listen before the imports, so that early requests wait in the kernel's queue and are not refused."""
    gc.disable()  # __main__.py has done so already if there are no flags
    end_at_once_on_signals()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the roles are read below in any case
    config, defaults = read_settings(os.environ, vars(args), allow_non_loopback=args.allow_non_loopback)
    early = early_listener.take()
    listeners = bind("IRSA_SIDECAR_LISTEN", config.listen) if early is None else early.sockets
    admin_listeners = listen("IRSA_SIDECAR_ADMIN_LISTEN", config.admin_listen) if config.admin_listen else []
    imds_listeners = listen("IRSA_SIDECAR_IMDS_LISTEN", config.imds_listen) if config.imds_listen else []
    roles_now = partial(read_roles, config, os.environ, defaults)
    as_read = file_version(config.config_file) if config.config_file else None
    config = config._replace(roles=roles_now())
    from sidecar.startup.hardening import harden  # noqa: PLC0415  ctypes, which trio imports anyway

    refusals = harden()
    if early is None:
        secrets = start_secrets(secret_files(config.roles), config.authorization_mode)
        # The secrets come first, because a client that finds the port open also needs the file with the secret.
        start_listening("IRSA_SIDECAR_LISTEN", listeners)
    else:
        secrets = early.secrets
    _print_free_port(config.listen, listeners, "v1/credentials")
    _print_free_port(config.admin_listen, admin_listeners, "readyz")
    _print_free_port(config.imds_listen, imds_listeners, "")
    with lean_imports() as unchecked:
        from sidecar.daemon.daemon import Listeners  # noqa: PLC0415
        from sidecar.daemon.run import RolesFile, run  # noqa: PLC0415

    if refusals:
        _log_refused_hardening(config, refusals)
    if unchecked:
        _log_real_imports(config, unchecked)
    all_listeners = Listeners(as_sockets(listeners), admin_listeners, imds_listeners)
    return run(config, all_listeners, RolesFile(roles_now, as_read), secrets)


def _print_free_port(configured: Address | None, bound: Sequence[Listener], path: str) -> None:
    if configured is not None and configured[1] == 0:
        print(f"http://{format_address(*bound[0].getsockname()[:2])}/{path}", flush=True)


def _log_real_imports(config: Config, unchecked: list[str]) -> None:
    from sidecar.log import default_format, make_logger  # noqa: PLC0415  not before the bind

    log, _ = make_logger(config.log_format or default_format(), config.log_level)
    log.debug("lean_imports_skipped", packages=unchecked, reason="nobody has checked these versions")


def _log_refused_hardening(config: Config, refusals: list[str]) -> None:
    from sidecar.log import default_format, make_logger  # noqa: PLC0415  not before the bind

    log, _ = make_logger(config.log_format or default_format(), config.log_level)
    log.warning(
        "hardening_failed", failed=refusals, reason="the kernel or the sandbox rejects them; the other measures work"
    )
