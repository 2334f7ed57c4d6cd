"""
Find every log event in the syntax trees of the code. The module is pure, except that it reads the files.

Rule: each call of a logger or of an `emit` function contains the event's name, or INDIRECT has the function of the
call. A call of another form fails a test, so no event is missed.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import sidecar
from sidecar.local.events import FEED_ONLY_FIELDS

PACKAGE = Path(sidecar.__file__).parent

LEVELS = ("debug", "info", "warning", "error", "critical")

_LOGGERS = frozenset({"log", "_log"})
_EMITTERS = frozenset({"emit", "_emit"})

INDIRECT: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("serving/audit.py", "_emit"): ("credentials_served", "request_denied"),
    ("serving/audit.py", "record"): (),
    ("serving/audit.py", "flush"): (),
    ("local/sts.py", "_add_session"): ("exchange_granted", "role_assumed"),
    ("webhook/service.py", "_log_result"): ("pod_injected", "pod_denied", "pod_denied_temporarily"),
}
"""The functions that get an event's name as a value, by file and function, each with the possible names."""


class Call(NamedTuple):
    """
    One call that logs an event.

    `levels` is empty for an event of the local services, because the level of such an event is chosen when it is
    logged. `fields` are the field names at the call. `has_others` means that a mapping adds further fields. `bound` are
    the fields that a logger of the same file adds to all its events.
    """

    event: str
    path: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]
    has_others: bool
    bound: tuple[str, ...]


class Unnamed(NamedTuple):
    """A call of a logger whose event cannot be found."""

    path: str
    line: int
    function: str


@cache
def found_calls() -> tuple[list[Call], list[Unnamed]]:
    """Return the calls with their events, and the calls whose event cannot be found."""
    calls: list[Call] = []
    unnamed: list[Unnamed] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for found in calls_in(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")):
            if isinstance(found, Call):
                calls.append(found)
            else:
                unnamed.append(found)
    return calls, unnamed


def calls_in(path: str, source: str) -> Iterator[Call | Unnamed]:
    """Yield the calls in one file."""
    module = ast.parse(source)
    bound = tuple(sorted({name for call in _calls(module) if _is_bind(call) for name in _keywords(call)}))
    for function in ast.walk(module):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            local_loggers = _local_loggers(function)
            for call in _own_calls(function):
                levels = _levels(call.func, local_loggers)
                if levels is not None and call.args:
                    yield from _events(path, function.name, call, levels, bound)


def _events(
    path: str, function: str, call: ast.Call, levels: tuple[str, ...], bound: tuple[str, ...]
) -> Iterator[Call | Unnamed]:
    names = _names(call.args[0]) or INDIRECT.get((path, function))
    if names is None:
        yield Unnamed(path, call.lineno, function)
    has_others = any(keyword.arg is None for keyword in call.keywords)
    for name in names or ():
        fields = tuple(field for field in _keywords(call) if field not in FEED_ONLY_FIELDS)
        yield Call(name, path, levels, fields, has_others, bound)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _own_calls(function: ast.AST) -> Iterator[ast.Call]:
    """Yield the calls in a function, except the calls in nested functions."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(child, ast.Call):
            yield child
        yield from _own_calls(child)


def _keywords(call: ast.Call) -> list[str]:
    return [keyword.arg for keyword in call.keywords if keyword.arg is not None]


def _is_bind(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "bind" and _last_name(call.func.value) in _LOGGERS


def _last_name(node: ast.AST) -> str | None:
    """Return the last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _levels(function: ast.AST, local_loggers: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    """Return the levels at which a call of this function logs, or None if the function does not log."""
    if isinstance(function, ast.IfExp):
        both = (_levels(function.body, local_loggers), _levels(function.orelse, local_loggers))
        return None if None in both else tuple(level for each in both for level in each or ())
    if isinstance(function, ast.Attribute) and function.attr in LEVELS and _last_name(function.value) in _LOGGERS:
        return (function.attr,)
    if isinstance(function, ast.Name) and function.id in local_loggers:
        return local_loggers[function.id]
    is_kubernetes_event = isinstance(function, ast.Attribute) and _last_name(function.value) == "events"
    return () if _last_name(function) in _EMITTERS and not is_kubernetes_event else None


def _local_loggers(function: ast.AST) -> dict[str, tuple[str, ...]]:
    """Return the levels of each variable that contains a logger's method."""
    found: dict[str, tuple[str, ...]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp) and (levels := _levels(node.value, {})):
            found |= {target.id: levels for target in node.targets if isinstance(target, ast.Name)}
    return found


def _names(argument: ast.AST) -> tuple[str, ...] | None:
    """Return the possible event names in an argument, or None if the argument is not a string literal."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return (argument.value,)
    if isinstance(argument, ast.IfExp):
        both = (_names(argument.body), _names(argument.orelse))
        return None if None in both else (both[0] or ()) + (both[1] or ())
    return None
