"""
List every message of our errors from the source code: `python -m tests.unit.messages` rewrites messages.txt.

A message is the `problem` and `fix` in a call of one of our error classes, with `{…}` for values. Calls of functions
that return an error of ours count too, and a variable is replaced by its text. A reviewer reads changes of wording in
that file, so other tests need not repeat sentences.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sidecar

SIDECAR = Path(sidecar.__file__).parent
GOLDEN = Path(__file__).parent / "messages.txt"

ERRORS = frozenset(
    {
        "AwsError", "ConfigurationError", "ExchangeError", "Explanation", "IssuerError", "KubernetesError",
        "NoRoleError", "NotVerifiedError", "SidecarError", "TokenError", "UnreachableError", "UnusableStateError",
        "_UnknownAuthorityError",
    }
)  # fmt: skip


class Message(NamedTuple):
    """One message: its module and line, its problem, and its fix."""

    module: str
    line: int
    problem: str
    fix: str

    def __str__(self) -> str:
        """Return the line of the golden file. It has no line number, which changes with every edit."""
        return f"{self.module}: {self.problem}" + (f" → {self.fix}" if self.fix else "")


def messages() -> list[Message]:
    """Return the messages of all modules, in the order of the code."""
    return [message for path in sorted(SIDECAR.rglob("*.py")) for message in _of_module(path)]


def golden_text() -> str:
    """Return the text that the golden file must contain."""
    return "".join(f"{message}\n" for message in messages())


def _of_module(path: Path) -> Iterator[Message]:
    module = ".".join(path.relative_to(SIDECAR).with_suffix("").parts)
    tree = ast.parse(path.read_text())
    makers = ERRORS | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id in ERRORS
    }
    texts = _Texts(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node.func) in makers]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        parts = [text for node in call.args if (text := texts.of(node, call.lineno))]
        fix = next((texts.fix_of(keyword.value, call.lineno) for keyword in call.keywords if keyword.arg == "fix"), "")
        if re.search(r"\w", "".join(parts) + fix):
            yield Message(module, call.lineno, " | ".join(parts).lstrip(" :"), fix)


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


class _Texts:
    """The texts in a module, with `{…}` for each value."""

    def __init__(self, tree: ast.Module) -> None:
        self._assigned: list[tuple[str, int, ast.expr]] = []
        """The name, the line and the value of each assignment, in any order."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                self._assigned += [pair for target in node.targets for pair in self._pairs(target, node.value)]

    def _pairs(self, target: ast.expr, value: ast.expr) -> Iterator[tuple[str, int, ast.expr]]:
        if isinstance(target, ast.Name):
            yield target.id, target.lineno, value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its_value in zip(target.elts, value.elts, strict=True):
                yield from self._pairs(one, its_value)

    def fix_of(self, node: ast.expr, line: int) -> str:
        """Return the text of a fix, or `{…}` for a fix that is chosen when the error occurs."""
        is_empty = isinstance(node, ast.Constant) and not node.value
        return self.of(node, line) or ("" if is_empty else "{…}")

    def of(self, node: ast.expr, line: int) -> str:
        """Return the text of an expression. A name has the text of its last assignment before the line."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value.replace("\n", r"\n")
        if isinstance(node, ast.JoinedStr):
            return "".join(self.of(part, line) if isinstance(part, ast.Constant) else "{…}" for part in node.values)
        if isinstance(node, ast.Name):
            found = [(at <= line, at, value) for name, at, value in self._assigned if name == node.id]
            return self.of(max(found, key=lambda each: each[:2])[2], line) if found else ""
        return ""


if __name__ == "__main__":
    GOLDEN.write_text(golden_text())
