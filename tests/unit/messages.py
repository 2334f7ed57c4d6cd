"""
List every message of our errors, as the code has them: `python -m tests.unit.messages` rewrites messages.txt.

A message is the `problem` and `fix` of an error class of ours where it is created, with `{…}` for values. A reviewer
reads changes of wording in that file, so other tests need not repeat sentences.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import sidecar

SIDECAR = Path(sidecar.__file__).parent
GOLDEN = Path(__file__).parent / "messages.txt"

ERRORS = frozenset(
    {
        "AwsError", "ConfigurationError", "IssuerError", "KubernetesError", "NoRoleError", "NotVerifiedError",
        "SidecarError", "TokenError", "UnreachableError", "UnusableStateError",
    }
)  # fmt: skip


class Message(NamedTuple):
    """One message: where it is, its problem, its fix, and the setting that it names."""

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
    """Return the content of the golden file."""
    return "".join(f"{message}\n" for message in messages())


def _of_module(path: Path) -> Iterator[Message]:
    module = ".".join(path.relative_to(SIDECAR).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
            texts = [text for text in map(_template, node.args) if text]
            fix = next((_template(keyword.value) for keyword in node.keywords if keyword.arg == "fix"), "")
            if texts or fix:
                yield Message(module, node.lineno, " | ".join(texts), fix)


def _template(node: ast.expr) -> str:
    """Return a text with `{…}` for each value, or an empty text for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("\n", r"\n")
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) if isinstance(part, ast.Constant) else "{…}" for part in node.values)
    return ""


if __name__ == "__main__":
    GOLDEN.write_text(golden_text())
