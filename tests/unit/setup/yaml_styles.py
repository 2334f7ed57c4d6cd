"""Write a value as YAML in the styles that people and tools use."""

from itertools import count
from random import Random
from typing import Any

import yaml

from sidecar.setup.yaml.scalars import resolve_scalar

_COMMENTS = ["# a comment", "#", "# name: not-an-entry", "#- item", "# {{ not a template }}"]


class Writer:
    """
    A writer that formats one value in a random style.

    `has_aliases` lets equal parts become aliases and merge keys. `has_flow` lets parts be in braces and brackets.
    """

    def __init__(self, random: Random, *, has_aliases: bool = False, has_flow: bool = True) -> None:
        self._random = random
        self._has_aliases = has_aliases
        self._has_flow = has_flow
        self._step = random.choice([1, 2, 2, 2, 4])
        self._anchors: list[tuple[str, Any]] = []
        self._numbers = count()

    def document(self, value: Any) -> str:
        """Return the value as a YAML document."""
        random = self._random
        lines = self._block(value, 0)
        if random.random() < 0.2:
            lines = [*lines, "# the end"]
        if random.random() < 0.1:
            lines = ["", "# the start", *lines]
        newline = random.choice(["\n", "\n", "\n", "\r\n"])
        return newline.join(lines) + random.choice([newline, newline, ""])

    def _chance(self, share: float) -> bool:
        return self._random.random() < share

    def _block(self, value: Any, indent: int) -> list[str]:
        """Return the lines for a mapping or list that is not empty."""
        lines: list[str] = []
        entries = self._entries(value) if isinstance(value, dict) else [("-", each) for each in value]
        for key, each in entries:
            if self._chance(0.1):
                lines.append(self._random.choice(["", " " * indent + self._random.choice(_COMMENTS)]))
            lines += self._entry(key, each, indent)
        return lines

    def _entries(self, value: dict[str, Any]) -> list[tuple[str, Any]]:
        """Return the written keys with their values. A merge key may replace some of them."""
        for name, base in self._anchors:
            if self._has_aliases and isinstance(base, dict) and base and base.keys() <= value.keys():
                own = {key: each for key, each in value.items() if key not in base or base[key] != each}
                if len(own) < len(value) and self._chance(0.7):
                    return [("<<:", _Alias(name)), *((self._key(key), each) for key, each in own.items())]
        return [(self._key(key), each) for key, each in value.items()]

    def _key(self, key: str) -> str:
        return f"{self._text(key, is_key=True)}:"

    def _entry(self, intro: str, value: Any, indent: int) -> list[str]:
        margin = " " * indent
        inline = self._inline(value)
        if inline is not None:
            return self._with_comment([f"{margin}{intro}{self._gap()}{line}" for line in inline[:1]] + inline[1:])
        name = f"a{next(self._numbers)}" if self._has_aliases and self._chance(0.3) else ""
        lines = self._nested(intro, value, indent, f" &{name}" if name else "")
        if name:
            self._anchors.append((name, value))
        return lines

    def _nested(self, intro: str, value: Any, indent: int, anchor: str) -> list[str]:
        if intro == "-":
            return self._item(value, indent, anchor)
        step = self._random.choice([0, 0, 2, self._step]) if isinstance(value, list) else self._step
        return [*self._with_comment([f"{' ' * indent}{intro}{anchor}"]), *self._block(value, indent + step)]

    def _item(self, value: Any, indent: int, anchor: str) -> list[str]:
        if anchor or self._chance(0.05):
            intro = [f"{' ' * indent}-{anchor}"]
            return [*(self._with_comment(intro) if anchor else intro), *self._block(value, indent + 2)]
        gap = self._random.choice([1, 1, 1, 3])
        lines = [line for line in self._block(value, indent + 1 + gap) if line.strip()]
        while lines[0].lstrip().startswith("#"):
            lines = lines[1:]
        return [f"{' ' * indent}-{' ' * gap}{lines[0].lstrip()}", *lines[1:]]

    def _gap(self) -> str:
        return self._random.choice([" ", " ", " ", "  "])

    def _with_comment(self, lines: list[str]) -> list[str]:
        """Return the lines. A single line may get white space or a comment at its end."""
        if len(lines) == 1 and self._chance(0.15):
            return [lines[0] + self._random.choice([" # c", "  # it's: a", " ", "\t", "\t# t"])]
        return lines

    def _inline(self, value: Any) -> list[str] | None:
        """Return the value for the line of its key, or None for a collection on its own lines."""
        if isinstance(value, _Alias):
            return [f"*{value.name}"]
        for name, known in self._anchors:
            if type(known) is type(value) and known == value and self._chance(0.6):
                return [f"*{name}"]
        if not isinstance(value, dict | list):
            return [self._scalar(value)]
        if not value or (self._has_flow and self._chance(0.2)):
            return [self._flow(value)]
        return None

    def _flow(self, value: Any) -> str:
        if isinstance(value, dict):
            space = self._random.choice(["", " "])
            entries = [f"{self._text(key, in_flow=True)}: {self._flow(each)}" for key, each in value.items()]
            return "{" + space + self._joined(entries) + space + "}"
        if isinstance(value, list):
            return "[" + self._joined([self._flow(each) for each in value]) + "]"
        return self._scalar(value, in_flow=True)

    def _joined(self, entries: list[str]) -> str:
        comma = self._random.choice([", ", ", ", ",  "])
        return comma.join(entries) + ("," if entries and self._chance(0.1) else "")

    def _scalar(self, value: Any, *, in_flow: bool = False) -> str:
        if isinstance(value, str):
            return self._text(value, in_flow=in_flow)
        if value is None:
            return self._random.choice(["null", "~", "Null"])
        if isinstance(value, bool):
            return self._random.choice(["true", "yes", "on", "True"] if value else ["false", "no", "Off", "FALSE"])
        if isinstance(value, int) and value >= 0:
            return self._random.choice([str(value), str(value), f"0{value:o}", f"0x{value:x}"])
        return str(value)

    def _text(self, text: str, *, in_flow: bool = False, is_key: bool = False) -> str:
        choices = ['"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"']
        if "\n" not in text:
            choices.append("'" + text.replace("'", "''") + "'")
            if _is_plain(text, in_flow=in_flow or is_key):
                choices += [text] * 4
        return self._random.choice(choices)


class _Alias:
    def __init__(self, name: str) -> None:
        self.name = name


def _is_plain(text: str, *, in_flow: bool) -> bool:
    """Return whether all YAML readers read the unquoted text as the same string."""
    if not text or text != text.strip() or any(each in text for each in ("#", ": ", "\t")) or text.endswith(":"):
        return False
    if text[0] in "-?:,[]{}#&*!|>'\"%@`" or (in_flow and set(text) & set(",[]{}:")):
        return False
    is_text = isinstance(resolve_scalar(text, None, is_implicit=True), str)
    return is_text and yaml.safe_load(text) == text
