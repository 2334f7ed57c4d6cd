"""Return all commands with their flags and values, as completion scripts and manual pages need them."""

import re
from argparse import Action
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from sidecar.cli import COMMANDS
from sidecar.commands.audit import FORMATS
from sidecar.commands.setup import STEPS
from sidecar.config.settings import LOG_LEVELS
from tests.docs.reference import commands as parsers


class Kind(Enum):
    """The proposals of a shell for a value."""

    FILES = "files"
    DIRECTORIES = "directories"
    PROGRAM = "program"
    """A program, and then the arguments of this program."""
    WORDS = "words"
    TEXT = "text"
    """Nothing, because only the user knows the value."""


class Values(NamedTuple):
    """The values of a flag or an argument. `words` are the proposals of the kind WORDS."""

    kind: Kind
    words: tuple[str, ...] = ()
    is_list: bool = False


class Flag(NamedTuple):
    """A flag. A switch has no `values`. `placeholder` is the name of the value in `--help`."""

    names: tuple[str, ...]
    meaning: str
    placeholder: str = ""
    values: Values | None = None
    is_repeatable: bool = False

    @property
    def name(self) -> str:
        """Return the long name."""
        return self.names[-1]


class Argument(NamedTuple):
    """The argument of a command that is not a flag. No command has two."""

    placeholder: str
    meaning: str
    values: Values


class Command(NamedTuple):
    """A command. `words` are the words after `irsa-sidecar`, and `children` are the words that may follow them."""

    words: tuple[str, ...]
    summary: str
    flags: tuple[Flag, ...] = ()
    argument: Argument | None = None
    children: Mapping[str, str] = {}

    @property
    def path(self) -> str:
        return " ".join(self.words)


_BY_PLACEHOLDER: Mapping[str, Values] = {
    "FILE": Values(Kind.FILES),
    "DIRECTORY": Values(Kind.DIRECTORIES),
    "DIR": Values(Kind.DIRECTORIES),
    "CMD": Values(Kind.PROGRAM),
    "LEVEL": Values(Kind.WORDS, LOG_LEVELS),
    "FORMAT[=FILE]": Values(Kind.WORDS, tuple(FORMATS)),
}
"""The values that the placeholder of a flag determines."""

_HELP = Flag(("-h", "--help"), "show this help message and exit")

_VERSION = Flag(("--version",), "show program's version number and exit")


def commands() -> Iterator[Command]:
    """Yield the program itself, which has no words, then `help`, then each command and step."""
    yield Command((), "AWS credentials for Pods", (_HELP, _VERSION), children={**COMMANDS, "help": "show help"})
    yield Command(("help",), "show help", children=COMMANDS)
    yield Command(("help", "setup"), COMMANDS["setup"], children=STEPS)
    for found in parsers.commands():
        yield _command(found)


def _command(found: parsers.Command) -> Command:
    words = tuple(found.name.split())
    if words == ("setup",):
        return Command(words, found.summary, (_HELP,), children=STEPS)
    actions = parsers.shown_actions(found)
    flags = tuple(_flag(found, each) for each in actions if each.option_strings)
    arguments = [each for each in actions if not each.option_strings]
    if len(arguments) > 1:
        raise NotImplementedError(f"{found.name} has {len(arguments)} arguments, and the scripts support one.")
    return Command(words, found.summary, (_HELP, *flags), _argument(found, arguments[0]) if arguments else None)


def _flag(command: parsers.Command, action: Action) -> Flag:
    return Flag(
        tuple(action.option_strings),
        _meaning(command, action),
        _placeholder(action),
        None if action.nargs == 0 else _values(action),
        type(action).__name__ == "_AppendAction",
    )


def _argument(command: parsers.Command, action: Action) -> Argument:
    return Argument(_placeholder(action), _meaning(command, action), _values(action))


def _placeholder(action: Action) -> str:
    return "" if action.nargs == 0 else str(action.metavar or action.dest.upper())


def _meaning(command: parsers.Command, action: Action) -> str:
    return " ".join(command.parser._get_formatter()._expand_help(action).split())


def _values(action: Action) -> Values:
    if action.choices is not None:
        found = Values(Kind.WORDS, tuple(map(str, action.choices)))
    else:
        found = _BY_PLACEHOLDER.get(_placeholder(action)) or _of_alternatives(_placeholder(action))
    return found._replace(is_list=action.nargs in {"+", "*"} and found.kind is not Kind.PROGRAM)


def _of_alternatives(placeholder: str) -> Values:
    """Return the literal alternatives of a placeholder, such as `max` in `SECONDS|max`."""
    words = tuple(part for part in placeholder.split("|") if re.fullmatch(r"[a-z0-9-]+", part))
    return Values(Kind.WORDS, words) if words else Values(Kind.TEXT)
