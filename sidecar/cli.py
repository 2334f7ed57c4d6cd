"""
The command line: one module of `sidecar.commands` for each command, and only the one asked for is imported.

Exit status: 0 done, or stopped by SIGTERM or SIGINT; 2 wrong usage or configuration, with a message that names
the setting, its value and the fix; 1 anything else.
"""

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from sidecar import __version__
from sidecar.early_stop import end_as_any_process_would
from sidecar.errors import ConfigurationError, SidecarError

if TYPE_CHECKING:
    import argparse  # which a Pod is spared: its `run` has no flags

COMMANDS = {
    "run": "the daemon: keep credentials fresh and serve them",
    "local": "all of IRSA on this machine: issuer, service account token, STS and the daemon",
    "exec": "the daemon around one command",
    "credentials": "the daemon's credentials, or of one exchange, as credential_process JSON or shell lines",
    "doctor": "what is wrong between token and SDK, and the next step",
    "token": "what the service account token says, and whether its issuer's keys verify it",
    "setup": "an AWS account and a cluster for IRSA, step by step",
    "webhook": "inject the sidecar into Pods that ask for it: a mutating admission webhook",
    "probe": "exit 0 when the daemon is ready",
}

READ_THE_TOKEN = frozenset({"credentials", "doctor", "exec", "probe", "token"})
"""
Commands that run beside the daemon, in a container where the token is mounted. `run` hardens itself further.

`probe` does not read the token, but everything that its container mounts can be read through its /proc/PID/root.
"""

_USAGE, _FAILURE = 2, 1

_OF_PRINTING = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Of writing to stdout. Those of files are errors of ours by the time they are here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Without `argv` the process is this command's own, and is hardened."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if name is None:
        return _top_level(arguments)
    end_as_any_process_would()
    if argv is None:
        sys.excepthook = _show_traceback
    if argv is None and name in READ_THE_TOKEN:
        _hide_process(gives_way=name == "doctor")
    try:
        command = import_module(f"sidecar.commands.{name}")
        guard = getattr(command, "guard", None)
        with nullcontext() if guard is None else guard(arguments[1:]):
            status = run_command(command, f"irsa-sidecar {name}", arguments[1:])
            _print_the_rest()
    except (BaseExceptionGroup, SidecarError, KeyboardInterrupt, OSError) as error:
        expected = _expected(error)
        if expected is None:
            raise
        return _told(expected)
    return status


def _hide_process(*, gives_way: bool) -> None:
    from sidecar import hardening  # noqa: PLC0415  ctypes, which `run` imports only after its listener is bound

    if gives_way:
        hardening.give_way()
    hardening.hide_process()


def run_command(command: ModuleType, prog: str, arguments: Sequence[str]) -> int:
    """Parse the arguments as the command's module declares them, and run it. Returns its exit status."""
    args = getattr(command, "NO_FLAGS", None)
    if arguments or args is None:
        parser = _parser(prog, command.__doc__, command.EXAMPLE)
        command.add_arguments(parser)
        args = parser.parse_args(arguments)
    status: int = command.main(args)
    return status


def _parser(prog: str, description: str | None, epilog: str) -> "argparse.ArgumentParser":
    from argparse import ArgumentParser, RawDescriptionHelpFormatter  # noqa: PLC0415  for those who give flags

    def formatter(prog: str) -> RawDescriptionHelpFormatter:
        # A width of its own: asking for the terminal's imports shutil and three compressors, before the listener is
        # bound.
        return RawDescriptionHelpFormatter(prog, width=100)

    return ArgumentParser(
        prog=prog, description=description, epilog=epilog, formatter_class=formatter, allow_abbrev=False
    )


def _top_level(arguments: list[str]) -> int:
    """Help, version, or what is wrong with the command's name."""
    listing = "\n".join(f"  {name:12} {summary}" for name, summary in COMMANDS.items())
    parser = _parser(
        "irsa-sidecar",
        "AWS credentials for Pods, from their service account token.",
        f"commands:\n{listing}\n\nirsa-sidecar COMMAND --help says more, with an example.",
    )
    parser.add_argument("--version", action="version", version=f"irsa-sidecar {__version__}")
    parser.add_argument("command", metavar="COMMAND", choices=COMMANDS)
    parser.parse_args(arguments[:1])
    parser.print_usage(sys.stderr)
    return _USAGE


def _expected(error: BaseException) -> BaseException | None:
    """What needs no traceback, out of the groups that trio wraps it in; None for, or beside, anything else."""
    if not isinstance(error, BaseExceptionGroup):
        return error if _is_no_surprise(error) else None
    leaves, others = error.split(_is_no_surprise)
    leaf: BaseException | None = leaves if others is None else None
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


def _is_no_surprise(error: BaseException) -> bool:
    """What we raised ourselves, an interruption, or a stdout that takes nothing."""
    is_of_printing = isinstance(error, OSError) and error.errno in _OF_PRINTING
    return is_of_printing or isinstance(error, (SidecarError, KeyboardInterrupt))


def _told(expected: BaseException) -> int:
    """Say what a person can do something about. Returns the exit status."""
    if isinstance(expected, OSError):
        return _give_up_stdout(expected)
    return _complain(expected) if isinstance(expected, SidecarError) else _FAILURE


def _show_traceback(_kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """Print the traceback of a fault of ours. Its messages can hold text from outside."""
    import traceback  # noqa: PLC0415  for processes that end

    from sidecar.printable import printable  # noqa: PLC0415  for processes that end

    if sys.stderr is not None:
        sys.stderr.write(printable("".join(traceback.format_exception(error)), keep="\n"))


def _print_the_rest() -> None:
    if sys.stdout is not None:  # as it is where it was closed before
        sys.stdout.flush()


def _give_up_stdout(error: OSError) -> int:
    """What could not be printed is told, unless its reader has seen enough, as `| head` has."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would try once more at its end
    if error.errno != errno.EPIPE:
        from sidecar.remarks import remark  # noqa: PLC0415  for processes that end

        remark(f"stdout cannot be written ({error.strerror}): give it another place.")
    return _FAILURE


def _complain(error: SidecarError) -> int:
    from sidecar.remarks import remark  # noqa: PLC0415  for processes that end

    remark(str(error))
    return _USAGE if isinstance(error, ConfigurationError) else _FAILURE
