"""
Run one command of the command line. Each command is a module of `sidecar.commands`, and no other command is imported.

Rule: the exit status is 0 after success, and for `run` and `webhook` also after SIGTERM or SIGINT. It is 2 for wrong
usage or configuration, and the message names the setting, its value and the fix. It is 1 for any other error. `exec`
returns the status of its command.
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
    "run": "run the daemon, which keeps credentials fresh and serves them",
    "local": "run all of IRSA on this machine: issuer, service account token, STS and daemon",
    "exec": "run one command with credentials",
    "credentials": "print credentials as credential_process JSON or as shell lines",
    "status": "show what the daemons in this Pod or in a cluster have, and when they refresh",
    "doctor": "find the problem between token and SDK, and its fix",
    "audit": "find broken, too wide, exposed and unused parts in a whole cluster and account",
    "who": "find the Pod that used an access key, a role session or a role",
    "token": "show the service account token's claims, and verify it with its issuer's keys",
    "setup": "set up an AWS account and a cluster for IRSA, step by step",
    "webhook": "serve the admission webhook that injects the sidecar into Pods",
    "probe": "exit with 0 if the daemon is ready",
    "completion": "print a script with which bash, zsh or fish completes commands and flags",
    "schema": "print the JSON Schema of a configuration file, for editors",
}

NEAR_THE_TOKEN = frozenset({"credentials", "doctor", "exec", "probe", "status", "token"})
"""
Commands that run in a container with the token. They hide the memory of their processes. `run` hardens itself further.

`probe` and `status` do not read the token, but the /proc/PID/root of their processes shows everything that the
container mounts.
"""

DAEMONS = frozenset({"run", "webhook", "exec"})
"""Commands that do not print a result."""

_USAGE, _FAILURE = 2, 1

_STDOUT_ERRORS = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EROFS})
"""Error numbers that a write to stdout can cause. Errors of files reach this module as SidecarErrors."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. Without `argv`, the process is hardened for this command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    end_as_any_process_would()
    if argv is None:
        _open_standard_descriptors()
        sys.excepthook = _show_traceback
    try:
        status = _run(arguments, is_own_process=argv is None)
        _flush_stdout()
    except (BaseExceptionGroup, SidecarError, KeyboardInterrupt, OSError) as error:
        expected = _expected(error)
        if expected is None:
            raise
        return _report(expected)
    except SystemExit:  # raised by --help, --version or wrong usage
        try:
            _flush_stdout()
        except OSError as error:
            return _give_up_stdout(error)
        raise
    return status


def _open_standard_descriptors() -> None:
    """
    Open /dev/null for each of the descriptors 0, 1 and 2 that is closed.

    Otherwise a socket could get the number 2 and receive log lines. The file object in `sys` becomes None. Python does
    the same for a descriptor that is closed when Python starts.
    """
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is `descriptor`
            setattr(sys, name, None)


def _run(arguments: list[str], *, is_own_process: bool) -> int:
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    if name is None:
        return _top_level(arguments)
    if is_own_process and name in NEAR_THE_TOKEN:
        _hide_process(gives_way=name == "doctor")
    if name not in DAEMONS:
        _report_closed_stdout()
    command = import_module(f"sidecar.commands.{name}")
    guard = getattr(command, "guard", None)
    with nullcontext() if guard is None else guard(arguments[1:]):
        return _run_command(command, f"irsa-sidecar {name}", arguments[1:])


def _hide_process(*, gives_way: bool) -> None:
    from sidecar.startup import hardening  # noqa: PLC0415  `run` imports ctypes only after the bind

    if gives_way:
        hardening.give_way()
    hardening.hide_process()


def _run_command(command: ModuleType, prog: str, arguments: Sequence[str]) -> int:
    """Run the command. If there are no arguments, a command with NO_FLAGS runs without importing a parser."""
    without_flags = getattr(command, "NO_FLAGS", None)
    if not arguments and without_flags is not None:
        status: int = command.main(without_flags)
        return status
    from sidecar.commands.parsing import run_command  # noqa: PLC0415  only with flags

    return run_command(command, prog, arguments)


def _top_level(arguments: list[str]) -> int:
    """
    Print help or the version.

    Raises ConfigurationError if the command does not exist.
    """
    from sidecar.commands.parsing import FlagParser, suggestion  # noqa: PLC0415  only for help and errors

    listing = "\n".join(f"  {name:12} {summary}" for name, summary in COMMANDS.items())
    parser = FlagParser(
        "irsa-sidecar",
        "AWS credentials for Pods, from their service account token.",
        f"commands:\n{listing}\n\n"
        "irsa-sidecar COMMAND --help shows its flags and an example:\n  irsa-sidecar setup --help",
    )
    parser.add_argument("--version", action="version", version=f"irsa-sidecar {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?")
    if not arguments or arguments == ["help"]:
        parser.print_help()
        return 0
    if arguments[0] == "help":
        return _run([*arguments[1:], "--help"], is_own_process=False)
    name = parser.parse_args(arguments[:1]).command or arguments[0]
    parser.print_usage(sys.stderr)
    hint = suggestion(name, [*COMMANDS, "help"])
    raise ConfigurationError(f"there is no command {name!r}{hint}", fix="Run `irsa-sidecar help` to list the commands")


def _expected(error: BaseException) -> BaseException | None:
    """Return the error without trio's groups if it needs no traceback, and None if any part of it needs one."""
    if not isinstance(error, BaseExceptionGroup):
        return error if _is_expected(error) else None
    leaves, others = error.split(_is_expected)
    leaf: BaseException | None = leaves if others is None else None
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf


def _is_expected(error: BaseException) -> bool:
    """Return whether the error needs no traceback: one of ours, Ctrl-C, or an unwritable stdout."""
    is_stdout_error = isinstance(error, OSError) and error.errno in _STDOUT_ERRORS
    return is_stdout_error or isinstance(error, (SidecarError, KeyboardInterrupt))


def _report(expected: BaseException) -> int:
    """Write the error to stderr, and return the exit status."""
    if isinstance(expected, OSError):
        return _give_up_stdout(expected)
    return _complain(expected) if isinstance(expected, SidecarError) else _interrupted()


def _interrupted() -> int:
    from sidecar.console import show_progress  # noqa: PLC0415  only after Ctrl-C

    show_progress("")
    return _FAILURE


def _show_traceback(_kind: type[BaseException], error: BaseException, _trace: object) -> None:
    """Print the traceback of a bug. Unprintable characters are escaped, because messages can hold text from outside."""
    import traceback  # noqa: PLC0415  only after an error

    from sidecar.printable import printable  # noqa: PLC0415  only after an error

    if sys.stderr is not None:
        sys.stderr.write(printable("".join(traceback.format_exception(error)), keep="\n"))


def _flush_stdout() -> None:
    if sys.stdout is not None:  # None if it was closed before the start
        sys.stdout.flush()


def _report_closed_stdout() -> None:
    """Make the first print fail if stdout is closed. Python itself would ignore the closed stdout."""
    if sys.stdout is None:
        from sidecar.commands.closed_stdout import ClosedStdout  # noqa: PLC0415  for a process without stdout

        sys.stdout = ClosedStdout()


def _give_up_stdout(error: OSError) -> int:
    """Report that stdout cannot be written, unless the reader closed the pipe, as `| head` does."""
    if sys.stdout is not None and not sys.stdout.closed:
        # Otherwise the interpreter writes to stdout again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno != errno.EPIPE:
        from sidecar.console import complain  # noqa: PLC0415  only after an error

        complain(f"stdout cannot be written ({error.strerror}). Redirect it to another place.")
    return _FAILURE


def _complain(error: SidecarError) -> int:
    from sidecar.console import complain  # noqa: PLC0415  only after an error

    complain(str(error))
    return _USAGE if isinstance(error, ConfigurationError) else _FAILURE
