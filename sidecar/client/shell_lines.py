"""
Print lines for a shell that evaluates the output of a command, as in `eval "$(irsa-sidecar local)"`.

Rule: a command that fails prints lines that fail when a shell evaluates them. Otherwise the shell would evaluate an
empty text successfully, and the next `aws` would use the person's own credentials.

Each line ends with a semicolon, because fish joins lines by spaces. `export NAME=value` works in sh, bash, dash, zsh,
ksh and fish. fish has no `unset`, so it runs `set -eg` instead.

Rule: only this shell changes. In fish, `set -e` without a scope would erase a universal variable in all shells.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from sidecar.client.environment import WINS_OVER_US

STAYS_SET = frozenset({"NO_PROXY", "no_proxy"})
"""Variables that `unset_lines` omits. The person may have set them before, and one more host in them is harmless."""


_HAS_UNSET = "command -v unset >/dev/null"
"""Command that fails only in fish, because `command` finds only programs there."""

_MARKER = re.compile(r"irsa-sidecar-[a-z]+-failed")
"""The value that `failure_lines` gives to variables. It contains the name of the failed command."""

_HIDE_IN_FISH = """\
for name in {names}; if set -qx $name; set -gx $name ""; \
echo "irsa-sidecar: warning: $name is a universal variable of fish. It is empty in this shell now, and some \
SDKs report an error for an empty profile or file name. To remove it from all shells, run: set -eU $name" >&2; \
end; end"""
"""
Code for fish that gives an empty global value to the variables that are exported from another scope.

An unexported global variable does not help: programs would still get the universal variable of the same name.
"""


def export_lines(variables: Mapping[str, str]) -> str:
    """Return the lines that set the variables, and that remove variables which SDKs read before these."""
    exports = (f"export {name}={shlex.quote(value)};\n" for name, value in variables.items())
    hide = f"eval {shlex.quote(_HIDE_IN_FISH.format(names=' '.join(WINS_OVER_US)))}"
    return "".join(exports) + unset_lines(WINS_OVER_US) + f"{_HAS_UNSET} || {hide};\n"


def unset_lines(names: Iterable[str], hidden: Iterable[str] = ()) -> str:
    """
    Return the lines that remove the variables from this shell. In fish, they also remove the `hidden` ones.

    If a variable is read-only, the shell reports this.
    """
    listed = " ".join(name for name in names if name not in STAYS_SET)
    in_fish = " ".join((listed, *hidden))
    return f"{_HAS_UNSET} || set -eg {in_fish};\n{_HAS_UNSET} && unset {listed};\n"


def restoring_lines(names: Iterable[str], environ: Mapping[str, str]) -> str:
    """
    Return the lines that undo the lines of this module in a shell with the variables `environ`.

    They remove the variables `names`, the markers of `failure_lines`, and in fish the empty values of `export_lines`.
    """
    failed = [name for name in WINS_OVER_US if _MARKER.fullmatch(environ.get(name, ""))]
    return unset_lines((*names, *failed), [name for name in WINS_OVER_US if environ.get(name) == ""])


def echo_line(text: str) -> str:
    """Return the line that prints the text on stderr. The output of a script on stdout does not change."""
    return f"echo {shlex.quote(text)} >&2;\n"


@contextmanager
def failing_visibly(command: str) -> Iterator[None]:
    """Print the lines of `failure_lines` if the block fails, also for wrong usage and Ctrl-C."""
    try:
        yield
    except BaseException as exc:
        if not (isinstance(exc, SystemExit) and not exc.code):  # --help exits with 0
            print_failure(command)
        raise


def print_failure(command: str) -> None:
    """Write the lines to stdout, unless stdout is a terminal, which evaluates nothing."""
    if sys.stdout is None or sys.stdout.isatty():
        return
    with suppress(OSError, ValueError):
        sys.stdout.write(failure_lines(command))
        sys.stdout.flush()


def failure_lines(command: str) -> str:
    """
    Return the lines for a `command` that failed.

    They disable every source of AWS credentials in that shell, print the reason to stderr, and end with status 1.
    """
    return "".join(f"{line};\n" for line in _failure(command))


def _failure(command: str) -> Iterator[str]:
    marker = f"{command.replace(' ', '-')}-failed"
    for name, value in _disabling(marker).items():
        yield f"export {name}={shlex.quote(value)}"
    text = (
        f"{command} failed. Its error messages show the reason. This shell has no AWS credentials now, so that no "
        "command uses your own credentials by mistake. To use your own credentials, start a new shell."
    )
    yield f"printf '%s\\n' {shlex.quote(text)} >&2"
    yield "false"


def _disabling(marker: str) -> Mapping[str, str]:
    """Return variables that give SDKs no valid credentials. `marker` appears in the SDKs' error messages."""
    names = [name for name in WINS_OVER_US if name != "AWS_CREDENTIAL_EXPIRATION"]  # botocore parses it as a date
    return dict.fromkeys(names, marker) | {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:1/{marker}",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_CONFIG_FILE": os.devnull,
    }
