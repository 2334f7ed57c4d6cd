"""
The difference of two documents as a JSON Patch (RFC 6902), which is how a webhook answers. Pure.

Three operations of the six, and no `move`, so that a patch in an audit log reads as what was done. Items of a list are
taken for the same by name, so that a container put in front of others is one operation. (The package jsonpatch compares
lists by position and then shortens by moves; tests apply ours with it.)

Rule: the time is that of the documents' length, whatever is in them. Who may make a Pod can give a container ten
thousand variables of one name, for which difflib, whose time goes with the square, would hold up a whole cluster.
"""

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

Operation = dict[str, Any]


def json_patch(before: Any, after: Any, path: str = "") -> list[Operation]:
    """The operations that make `after` of `before`, in the order in which they apply."""
    return list(_differences(before, after, path))


def applied(document: Any, patch: list[Operation]) -> Any:
    """
    The document with the patch applied in place, whatever kind of mapping and list it is made of, comments and all.

    Only for what json_patch made. Returns the document, or another if it was replaced whole.
    """
    for operation in patch:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")][1:] or [
            ""
        ]
        if operation["path"] == "":
            document = operation["value"]
            continue
        target = document
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        _apply(target, last, operation)
    return document


def _differences(before: Any, after: Any, path: str) -> Iterator[Operation]:
    if before is after:  # most of a document, and it may be deeper than this can go
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_mappings(before, after, path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, path)
    elif before != after or isinstance(before, bool) != isinstance(after, bool):  # to Python, true is 1
        yield {"op": "replace", "path": path, "value": after}


def _of_mappings(before: dict[str, Any], after: dict[str, Any], path: str) -> Iterator[Operation]:
    for key, value in before.items():
        place = f"{path}/{_escaped(key)}"
        if key in after:
            yield from _differences(value, after[key], place)
        else:
            yield {"op": "remove", "path": place}
    for key, value in after.items():
        if key not in before:
            yield {"op": "add", "path": f"{path}/{_escaped(key)}", "value": value}


def _of_lists(before: list[Any], after: list[Any], path: str) -> Iterator[Operation]:
    old_start = start = 0
    for old, new in [*matched_items(before, after), (len(before), len(after))]:
        # All before `start` is as it will be, so that is where the next operation finds its place.
        for _gone in range(old_start, old):
            yield {"op": "remove", "path": f"{path}/{start}"}
        for index in range(start, new):
            yield {"op": "add", "path": f"{path}/{index}", "value": after[index]}
        if old < len(before):
            yield from _differences(before[old], after[new], f"{path}/{new}")
        old_start, start = old + 1, new + 1


def matched_items(before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Where an item of `before` is in `after`, as far as the order is the same: both places rise."""
    places = {identity: place for place, identity in enumerate(_identities(after))}
    reached = -1
    for old, identity in enumerate(_identities(before)):
        new = places.get(identity, -1)
        if new > reached:
            yield old, new
            reached = new


def _identities(items: Sequence[Any]) -> Iterator[Hashable]:
    """Of each item, which of the items of one name it is included."""
    seen: Counter[str] = Counter()
    for item in items:
        name = _identity(item)
        yield name, seen[name]
        seen[name] += 1


def _identity(item: Any) -> str:
    """What makes an item of a list the same one: the merge keys of Kubernetes' lists, or all of it."""
    name = (item.get("mountPath") or item.get("name")) if isinstance(item, dict) else item
    return name if isinstance(name, str) else json.dumps(name or item, sort_keys=True)


def _apply(target: Any, last: str, operation: Operation) -> None:
    key: Any = int(last) if isinstance(target, list) else last
    if operation["op"] == "remove":
        del target[key]
    elif operation["op"] == "add" and isinstance(target, list):
        target.insert(key, operation["value"])
    else:
        target[key] = operation["value"]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
