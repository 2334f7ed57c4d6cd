"""
Read the findings of a doctor check from its syntax tree: the status, the text and the next step.

A value that is known only when doctor runs appears as a name in capitals, or as `…`. Alternatives are joined by `Or:`.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from sidecar.doctor import finding
from sidecar.doctor.checks import __name__ as checks_package
from tests.docs.reference.check_placeholders import placeholder

UNKNOWN = "…"

_STATUS = {finding.failed.__name__: "FAILED", finding.warning.__name__: "warning", "failure": "FAILED"}
"""
The status of each function that creates a finding.

`failure` for facts about STS is only a warning if the exchange succeeded.
"""

COMMAND = "kubectl "
"""The beginning of a next step that is a shell command."""

_SEVERAL = re.compile(f"{UNKNOWN}(?: ?{UNKNOWN})+")

Function = Callable[..., Any]


class CodedFinding(NamedTuple):
    """One finding in the code."""

    status: str
    text: str
    next_step: str


def findings_of(evaluate: Function) -> list[CodedFinding]:
    """Return the failures and warnings of a check, in the order of the code."""
    found = [each for function in _reached(evaluate) for each in _findings_in(function)]
    return list(dict.fromkeys(found))


def _reached(evaluate: Function) -> list[Function]:
    """Return the function, and all functions in the checks that it calls."""
    reached = [evaluate]
    for function in reached:
        for node in ast.walk(_tree(function)):
            used = function.__globals__.get(node.id) if isinstance(node, ast.Name) else None
            if inspect.isfunction(used) and used.__module__.startswith(checks_package) and used not in reached:
                reached.append(used)
    return reached


def _tree(function: Function) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _findings_in(function: Function) -> Iterator[CodedFinding]:
    tree, names = _tree(function), function.__globals__
    texts = {
        target.id: node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
        status = _STATUS.get(_name(call.func))
        if status is not None and call.args:
            text, *others = (_short(_text(argument, texts, names)) for argument in call.args)
            yield CodedFinding(status, text, others[0] if others else "")


def _short(text: str) -> str:
    """Return the text with one `…` for several unknown values in a row, unless the text is a command."""
    return text if text.startswith(COMMAND) else _SEVERAL.sub(UNKNOWN, text)


def _name(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _text(node: ast.expr, texts: Mapping[str, ast.expr], names: Mapping[str, Any]) -> str:
    """Return the text of an expression, with a placeholder for each unknown value."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, texts, names) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        known = _text(node.value, texts, names) if isinstance(node.value, (ast.Name, ast.Constant)) else UNKNOWN
        return placeholder(node.value) or UNKNOWN if known == UNKNOWN else known
    if isinstance(node, ast.IfExp):
        return _alternatives(_text(each, texts, names) for each in (node.body, node.orelse))
    return _text_of_name(node.id, texts, names) if isinstance(node, ast.Name) else _returned(node, names)


def _text_of_name(name: str, texts: Mapping[str, ast.expr], names: Mapping[str, Any]) -> str:
    if isinstance(names.get(name), (str, int, float)):
        return str(names[name])
    assigned = texts.get(name)
    return _text(assigned, {}, names) if isinstance(assigned, (ast.Constant, ast.JoinedStr)) else UNKNOWN


def _returned(call: ast.expr, names: Mapping[str, Any]) -> str:
    """Return the texts that a function in the checks returns."""
    function = names.get(_name(call.func)) if isinstance(call, ast.Call) else None
    if not inspect.isfunction(function) or not function.__module__.startswith(checks_package):
        return UNKNOWN
    values = (each.value for each in ast.walk(_tree(function)) if isinstance(each, ast.Return) and each.value)
    return _alternatives(_text(value, {}, function.__globals__) for value in values)


def _alternatives(texts: Iterator[str]) -> str:
    return ". Or: ".join(dict.fromkeys(text for text in texts if text and text != UNKNOWN)) or UNKNOWN
