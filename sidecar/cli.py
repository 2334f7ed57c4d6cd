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

from sidecar import __version__
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.startup.early_signals import end_as_any_process_would

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

DAEMONS = frozenset({"run", "webhook", "exec"})
"""Commands whose work is not to print."""

_USAGE, _FAILURE = 2, 1

_OF_PRINTING = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EROFS})
"""Of writing to stdout. Those of files are errors of ours by the time they are here."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Without `argv` the process is this command's own, and is hardened."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    end_as_any_process_would()
    if argv is None:
        sys.excepthook = _show_traceback
    try:
        status = _run(arguments, is_own_process=argv is None)
        _print_the_rest()
    except (BaseExceptionGroup, SidecarError, KeyboardInterrupt, OSError) as error:
        expected = _expected(error)
        if expected is None:
            raise
        return _told(expected)
    except SystemExit:  # of --help, --version or wrong usage
        try:
            _print_the_rest()
        except OSError as error:
            return _give_up_stdout(error)
        raise
    return status


def _run(arguments: list[str], *, is_own_process: bool) -> int:
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if name is None:
        return _top_level(arguments)
    if is_own_process and name in READ_THE_TOKEN:
        _hide_process(gives_way=name == "doctor")
    if name not in DAEMONS:
        _report_closed_stdout()
    command = import_module(f"sidecar.commands.{name}")
    guard = getattr(command, "guard", None)
    with nullcontext() if guard is None else guard(arguments[1:]):
        return _run_command(command, f"irsa-sidecar {name}", arguments[1:])


def _hide_process(*, gives_way: bool) -> None:
    from sidecar.startup import hardening  # noqa: PLC0415  ctypes, which `run` imports only after its listener is bound

    if gives_way:
        hardening.give_way()
    hardening.hide_process()


def _run_command(command: ModuleType, prog: str, arguments: Sequence[str]) -> int:
    """Run the command. Without arguments, a command that has NO_FLAGS needs no parser, which saves its import."""
    without_flags = getattr(command, "NO_FLAGS", None)
    if not arguments and without_flags is not None:
        status: int = command.main(without_flags)
        return status
    from sidecar.commands.parsing import run_command  # noqa: PLC0415  for those who give flags

    return run_command(command, prog, arguments)


def _top_level(arguments: list[str]) -> int:
    """Print help or the version, or report a command that does not exist."""
    from sidecar.commands.parsing import FlagParser, suggestion  # noqa: PLC0415  for people

    listing = "\n".join(f"  {name:12} {summary}" for name, summary in COMMANDS.items())
    parser = FlagParser(
        "irsa-sidecar",
        "AWS credentials for Pods, from their service account token.",
        f"commands:\n{listing}\n\nirsa-sidecar COMMAND --help says more, with an example:\n  irsa-sidecar setup --help",
    )
    parser.add_argument("--version", action="version", version=f"irsa-sidecar {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?")
    if not arguments or arguments == ["help"]:
        parser.print_help()
        return 0
    if arguments[0] == "help":
        return _run([*arguments[1:], "--help"], is_own_process=False)
    named = parser.parse_args(arguments[:1]).command or arguments[0]
    parser.print_usage(sys.stderr)
    meant = suggestion(named, [*COMMANDS, "help"]) or "."
    raise ConfigurationError(f"there is no command {named!r}{meant} `irsa-sidecar help` lists the commands.")


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
    if sys.stdout is not None:  # None where it was closed before the start
        sys.stdout.flush()


def _report_closed_stdout() -> None:
    """Make the first print fail as on any stdout that cannot be written. Python itself would print nothing."""
    if sys.stdout is None:
        from sidecar.commands.closed_stdout import ClosedStdout  # noqa: PLC0415  for a process without stdout

        sys.stdout = ClosedStdout()


def _give_up_stdout(error: OSError) -> int:
    """Report that stdout cannot be written, unless its reader has seen enough, such as `| head`."""
    if sys.stdout is not None and not sys.stdout.closed:
        # Otherwise the interpreter would try again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:
        from sidecar.console import complain  # noqa: PLC0415  for processes that end

        complain(f"stdout cannot be written ({error.strerror}): give it another place.")
    return _FAILURE


def _complain(error: SidecarError) -> int:
    from sidecar.console import complain  # noqa: PLC0415  for processes that end

    complain(str(error))
    return _USAGE if isinstance(error, ConfigurationError) else _FAILURE
