"""
Run all parts of IRSA on this machine, in one process.

The parts are an OIDC issuer with rotating keys, a kubelet that renews a service account token, an STS, and the daemon.
The STS checks the token against the keys and the trust policy of the role. With CMD, the program runs that command with
credentials and returns its exit status. Without CMD, it prints `export` lines and serves until it is interrupted. With
--background, it serves in its own session until `irsa-sidecar local --stop`. On a terminal, it explains each event on
stderr: the token, each condition of the trust policy, and who gets credentials.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TextIO

import trio

from sidecar.client.application import until_signalled
from sidecar.client.detached import Place, end_detached, open_place, run_detached
from sidecar.client.environment import Offer, client_variables, with_loopback
from sidecar.client.shell_lines import echo_line, failing_visibly, print_failure, restoring_lines
from sidecar.commands.local_run import EXPLAINED, STS_URL, Shell, run_local
from sidecar.config.settings import LOG_FORMATS, LOG_LEVELS
from sidecar.errors import ConfigurationError
from sidecar.extras import import_extra

EXAMPLE = """\
examples:
  irsa-sidecar local -- $SHELL                        # a shell with credentials; exit ends everything
  irsa-sidecar local --log-level warning --open -- $SHELL    # shows each step on a page in the browser
  irsa-sidecar local --config local.yaml -- aws sts get-caller-identity
  eval "$(irsa-sidecar local --background)"           # this shell gets credentials, also after Ctrl-C
  eval "$(irsa-sidecar local --stop)"                 # ends the background process"""

FREE_PORT = "127.0.0.1:0"

_NOT_COMPARED = frozenset({"config", "open"})
"""Flags that do not make two starts different. The content of the file of --config is compared instead."""


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
    parser.add_argument(
        "--background", action="store_true", help="print the shell lines, and serve in the background until --stop"
    )
    parser.add_argument(
        "--stop", action="store_true", help="end the process of --background, and print lines that unset its variables"
    )
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
    _check_flags(args)
    if args.stop:
        return _stop()
    settings = _settings(args)
    if args.background:
        return _start_in_background(args, settings)
    status = _run(args, settings, Shell(sys.stdout, lambda _page: f"# kill {os.getpid()} stops irsa-sidecar local\n"))
    if args.command:
        return status
    # A shell reads these lines only if `local` stopped early. Otherwise stdout is already closed.
    print_failure("irsa-sidecar local")
    return 0


def _run(args: argparse.Namespace, settings: Any, shell: Shell) -> int:
    return trio.run(until_signalled, partial(run_local, args, settings, shell))


def _start_in_background(args: argparse.Namespace, settings: Any) -> int:
    """
    Print the lines for the shell when a new process serves, or when one with the same settings already serves.

    End a new process if nobody can read the lines.
    """

    def run(report: TextIO) -> int:
        return _run(args, settings, Shell(report, partial(_introduction, place)))

    with open_place(os.environ) as place:
        started = run_detached(place, run, _fingerprint(args, settings))
        try:
            print(started.text, end="", flush=True)
        except OSError:
            if started.is_new:
                end_detached(place)
            raise
    return 0


def _fingerprint(args: argparse.Namespace, settings: Any) -> str:
    """Return a text that is equal for equal settings, also from another directory or a shell with our variables."""
    flags = {name: value for name, value in vars(args).items() if name not in _NOT_COMPARED}
    paths = [path and os.path.abspath(path) for path in (args.authorization_token_file, args.jwks_file)]
    no_proxy = with_loopback(os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or "")
    return sha256(repr((sorted(flags.items()), paths, no_proxy, settings)).encode()).hexdigest()


def _introduction(place: Place, page_url: str | None) -> str:
    """Return the line that names the background process, its log, its page and the command that ends it."""
    page = "" if page_url is None else f" Its page is {page_url}"
    return echo_line(
        f"irsa-sidecar local runs in the background as process {os.getpid()}. Its log is {place.log}.{page}\n"
        'To end it, run: eval "$(irsa-sidecar local --stop)"'
    )


def _stop() -> int:
    """End the background process if it runs, and print the lines that remove its variables from the shell."""
    with open_place(os.environ) as place:
        pid = end_detached(place)
    result = "does not run in the background" if pid is None else f"no longer runs in the background (process {pid})"
    text = f"irsa-sidecar local {result}. AWS commands in this shell now use your own credentials."
    names = (*client_variables(Offer("", "", "", "any region")), STS_URL)
    print(restoring_lines(names, os.environ) + echo_line(text), end="")
    return 0


def _check_flags(args: argparse.Namespace) -> None:
    """Raise ConfigurationError if two of the flags contradict each other."""
    for flag, is_set in (("--stop", args.stop), ("--background", args.background)):
        if is_set and args.command:
            raise _contradiction(flag, f"the command {args.command[0]} follows", "Remove the flag or the command")
    if args.stop and args.background:
        raise _contradiction("--stop", "--background is set too", "Remove one of the two flags")
    if args.open and args.no_page:
        raise _contradiction("--open", "--no-page turns the page off", "Remove one of the two flags")
    if args.jwks_file and not args.issuer:
        raise ConfigurationError(
            f"--jwks-file is {args.jwks_file}, but --issuer is not set",
            fix="Set --issuer to the issuer of these keys, or add the provider to the file of --config",
            setting="--jwks-file",
        )


def _contradiction(flag: str, problem: str, fix: str) -> ConfigurationError:
    return ConfigurationError(f"{flag} is set, but {problem}", fix=fix, setting=flag)


def _settings(args: argparse.Namespace) -> Any:
    """Return the settings of the local services, from the file of --config and the flags."""
    config = import_extra("sidecar.local.config", "irsa-sidecar local", "local")
    settings = config.read_config(args.config)
    return settings.with_provider(args.issuer, jwks_file=args.jwks_file) if args.issuer else settings
