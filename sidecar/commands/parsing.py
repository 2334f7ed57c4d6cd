"""
Parse a command's flags, print help that fits the terminal, and suggest a correction for a misspelt name.

`run` has no flags in a Pod, and then does not import this module.
"""

import os
import re
import sys
from argparse import SUPPRESS, Action, ArgumentError, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any, NoReturn

from sidecar.commands.help_text import fitted
from sidecar.errors import ConfigurationError

MIN_WIDTH, DEFAULT_WIDTH, MAX_WIDTH = 40, 100, 120
"""Limits and default of the help's width, in columns. The default applies if the output is not a terminal."""

_FLAG_AND_VALUE = re.compile(r"\[?--[a-z-]+ [^\s|\[]\S*")
"""Pattern for a flag and its value in a usage line, with the brackets around them."""

_NO_BREAK = "\N{NO-BREAK SPACE}"
"""A space at which `textwrap` does not break a line."""

_USAGE_INDENT = "  "

_MAY_BE_EMPTY = frozenset({("irsa-sidecar audit", "--cluster")})
"""The flags that may be empty, by command. k8s/audit sets --cluster from a ConfigMap, where it is empty without EKS."""


def _with_values(usage: str, width: int) -> str:
    """Return the usage with a no-break space between each flag and its value, if both fit into one line."""

    def joined(found: re.Match[str]) -> str:
        fits = len(_USAGE_INDENT + found[0]) <= width
        return found[0].replace(" ", _NO_BREAK) if fits else found[0]

    return _FLAG_AND_VALUE.sub(joined, usage)


def help_width() -> int:
    """Return the columns for help texts: COLUMNS, or the width of the terminal, within limits, or else the default."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        return min(max(int(columns), MIN_WIDTH), MAX_WIDTH)
    try:  # shutil.get_terminal_size would import three compressors
        return min(max(os.get_terminal_size(1).columns, MIN_WIDTH), MAX_WIDTH)
    except OSError:
        return DEFAULT_WIDTH


class _Formatter(RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        self.columns = help_width()
        super().__init__(prog, width=self.columns)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return fitted(super()._fill_text(text, width, indent), self.columns)

    def _format_usage(
        self, usage: str | None, actions: Iterable[Action], groups: Iterable[Any], prefix: str | None
    ) -> str:
        text = super()._format_usage(usage, actions, groups, prefix)
        if all(len(line) <= self.columns for line in text.splitlines()):
            return text
        from textwrap import fill  # noqa: PLC0415  for narrow terminals

        return (
            fill(
                _with_values(" ".join(text.split()), self.columns),
                self.columns,
                subsequent_indent=_USAGE_INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            ).replace(_NO_BREAK, " ")
            + "\n\n"
        )


class FlagParser(ArgumentParser):
    """An ArgumentParser that suggests the right flag, choice or command. On wrong usage, it exits with 2."""

    def __init__(self, prog: str, description: str | None, epilog: str) -> None:
        super().__init__(
            prog=prog, description=description, epilog=epilog, formatter_class=_Formatter, allow_abbrev=False
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the parsed arguments. Exit with 2 if an argument is unknown."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings if action.help != SUPPRESS]
            self.error(f"unrecognized arguments: {' '.join(unknown)}{_for_flags(unknown, flags)}")
        return found

    def _check_value(self, action: Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except ArgumentError as exc:
            choices = [str(choice) for choice in action.choices or ()]
            exc.message = f"{exc.message}{suggestion(str(value), choices)}"
            raise

    def _get_values(self, action: Action, arg_strings: list[str]) -> Any:
        """
        Return the value. Reject `--flag=--`, because argparse before Python 3.13 drops this value.

        Raises ConfigurationError for an empty value, which usually comes from an unset variable of the shell, such as
        `--pod "$POD"`. If the flag was ignored, the command would use another Pod or cluster.
        """
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:
            raise ArgumentError(action, "expected one argument")
        flag = next(iter(action.option_strings), None)
        if flag is not None and "" in arg_strings and (self.prog, flag) not in _MAY_BE_EMPTY:
            raise ConfigurationError(f"{flag} is '', which is empty", fix="Give a value, or remove it", setting=flag)
        return super()._get_values(action, arg_strings)

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write the message. Unlike argparse, do not ignore a failed write to stdout."""
        if file is sys.stdout and file is not None:
            file.write(message)
        else:
            super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        """Write the usage and the message to stderr, then exit with 2."""
        from sidecar.printable import printable  # noqa: PLC0415  only for an error
        from sidecar.redaction import without_secrets  # noqa: PLC0415  only for an error

        end = "" if message.endswith((".", "?")) else "."
        super().error(f"{printable(without_secrets(message))}{end} `{self.prog} --help` shows the flags.")


def _for_flags(unknown: Sequence[str], flags: Sequence[str]) -> str:
    name = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
    return suggestion(name, flags) if name is not None else ""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `. Did you mean X?` for the most similar known name, or an empty text."""
    from difflib import get_close_matches  # noqa: PLC0415  for misspelt names

    by_fold = {name.lower(): name for name in known}
    begins_alike = [name for name in by_fold if len(word.strip("-")) > 1 and name.startswith(word.lower())]
    near = get_close_matches(word.lower(), by_fold, n=1, cutoff=0.6) or begins_alike[:1]
    return f". Did you mean {by_fold[near[0]]}?" if near else ""


def run_command(command: ModuleType, prog: str, arguments: Sequence[str]) -> int:
    """Parse the arguments that the command's module declares, and run the command. Return its exit status."""
    parser = FlagParser(prog, command.__doc__, command.EXAMPLE)
    command.add_arguments(parser)
    status: int = command.main(parser.parse_args(arguments))
    return status
