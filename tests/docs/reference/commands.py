"""Write docs/reference/commands.md: every command and step, with its flags, defaults, examples and exit status."""

import re
from argparse import SUPPRESS, Action
from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from sidecar.cli import COMMANDS
from sidecar.commands.parsing import FlagParser
from sidecar.commands.setup import STEPS
from tests.docs.reference import markdown
from tests.docs.reference.command_notes import COMMON, EXIT_STATUS
from tests.docs.reference.markdown import code, fenced, marked, section, sentence, sentences, table

_INTRODUCTION = """
Every command and every step of `setup` has `--help`, which shows its flags and an example.
`irsa-sidecar help` lists the commands, and `irsa-sidecar --version` prints the version.
"""

_OTHER_STATUS = "If a status of a command has another meaning, the section of the command has a table."

_DEFAULT = re.compile(r"\s*\[(?P<default>[^\]]+)\](?=\s*(?:\([A-Z_]+\))?$)")
"""The pattern for the default at the end of a help text."""

_VARIABLE = re.compile(r"\s*\((?P<variable>(?:IRSA_SIDECAR|AWS)_[A-Z_]+)\)$")

_EXAMPLES = re.compile(r"^examples?\b", re.MULTILINE)

_SETTINGS_OF_RUN = "[Settings](settings.md) describes each flag of `run`, with its variable and its accepted values."


class Command(NamedTuple):
    """One command or step: its name, its one-line summary, its module and its parser."""

    name: str
    summary: str
    module: ModuleType
    parser: FlagParser


def page() -> str:
    return markdown.page(
        "Commands",
        "This page lists every command and step of irsa-sidecar, with its flags, defaults, examples and exit status.",
        _INTRODUCTION,
        section(2, "All commands", table(("command", "purpose"), map(_row, commands()))),
        section(2, "Exit status", table(("status", "meaning"), COMMON), _OTHER_STATUS),
        *map(_section, commands()),
    )


def commands() -> Iterator[Command]:
    """Yield every command. The steps of `setup` follow the command `setup`."""
    for name, summary in COMMANDS.items():
        yield _command(name, summary, f"sidecar.commands.{name}")
        if name == "setup":
            for step, of_step in STEPS.items():
                yield _command(f"setup {step}", of_step, f"sidecar.setup.steps.{step.replace('-', '_')}")


def _command(name: str, summary: str, module_name: str) -> Command:
    module = import_module(module_name)
    parser = FlagParser(f"irsa-sidecar {name}", module.__doc__, module.EXAMPLE)
    module.add_arguments(parser)
    return Command(name, summary, module, parser)


def shown_actions(command: Command) -> list[Action]:
    """Return the flags and arguments of a command, without --help and hidden flags."""
    return [action for action in command.parser._actions if action.help != SUPPRESS and action.dest != "help"]


def _row(command: Command) -> tuple[str, str]:
    name = f"irsa-sidecar {command.name}"
    return f"[{code(name)}](#{name.replace(' ', '-')})", sentence(command.summary)


def _section(command: Command) -> str:
    actions = shown_actions(command)
    flags = [action for action in actions if action.option_strings]
    arguments = [action for action in actions if not action.option_strings]
    return section(
        2,
        code(f"irsa-sidecar {command.name}"),
        sentences(command.module.__doc__ or ""),
        _SETTINGS_OF_RUN if command.name == "run" else "",
        _arguments(arguments),
        _flags(flags),
        fenced(_example(command.module.EXAMPLE)),
        _exit_status(command.name),
    )


def _example(text: str) -> str:
    """Return the examples without the list of steps, which the page already contains."""
    return text[next(found.start() for found in _EXAMPLES.finditer(text)) :]


def _arguments(arguments: Sequence[Action]) -> str:
    rows = ((code(_argument(each)), _meaning_of_argument(each)) for each in arguments)
    return table(("argument", "meaning"), rows) if arguments else ""


def _meaning_of_argument(action: Action) -> str:
    """Return the meaning of an argument, with the default if the argument is optional."""
    return f"{_meaning(action)} {_default(action)}".rstrip() if action.nargs == "?" else _meaning(action)


def _argument(action: Action) -> str:
    name = str(action.metavar or action.dest)
    return {"?": f"[{name}]", "*": f"[{name}…]", "+": f"{name}…", "...": f"[{name}]"}.get(str(action.nargs), name)


def _flags(flags: Sequence[Action]) -> str:
    rows = ((code(_flag(each)), " ".join(filter(None, [_meaning(each), _default(each)]))) for each in flags)
    return table(("flag", "meaning"), rows) if flags else ""


def _flag(action: Action) -> str:
    name = ", ".join(action.option_strings)
    if action.nargs == 0:
        return name
    return f"{name} {action.metavar or (action.dest.upper() if action.choices is None else '|'.join(action.choices))}"


def _default(action: Action) -> str:
    """Return a sentence about the default, or an empty string if there is no default."""
    if action.required:
        return "Required."
    if action.nargs == 0:
        return ""
    if isinstance(action.default, str) and "%(default)s" in (action.help or ""):
        return f"Default: {code(action.default)}."
    if found := _DEFAULT.search(action.help or ""):
        return f"Default: {_as_code(found['default'])}."
    return f"Default: {code(str(action.default))}." if isinstance(action.default, (str, int)) else ""


def _as_code(default: str) -> str:
    """Return a default as code if it is one word, otherwise with only its code words marked."""
    return code(default) if " " not in default else marked(default)


def _meaning(action: Action) -> str:
    text = _DEFAULT.sub("", action.help or "").strip()
    variable = _VARIABLE.search(text)
    text = _VARIABLE.sub("", text)
    whole = sentence(text)
    if variable:
        whole += f" Variable: {code(variable['variable'])}."
    return f"{whole} Can be repeated." if type(action).__name__ == "_AppendAction" and "repeat" not in text else whole


def _exit_status(name: str) -> str:
    rows = EXIT_STATUS.get(name)
    return table(("exit status", "meaning"), ((status, marked(text)) for status, text in rows)) if rows else ""
