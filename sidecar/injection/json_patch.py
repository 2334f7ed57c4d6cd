"""
Return the difference of two documents as a JSON Patch (RFC 6902), the form of a webhook's response. Pure.

A patch has three of the six operations, and no `move`, so a patch in an audit log shows the changes. Items of a list
are matched by their names, so a new first container is one operation. The package jsonpatch is not used here, because
it compares lists by position and then shortens the patch by moves. The tests apply our patches with jsonpatch.

Rule: the time is proportional to the length of the documents, whatever they contain. A user who can create a Pod can
give a container ten thousand variables with one name. difflib, whose time grows with the square, would then delay
all Pods of the cluster.
"""

import json
from collections.abc import Hashable, Iterator, Sequence
from itertools import chain
from typing import Any

Operation = dict[str, Any]


def json_patch(before: Any, after: Any, path: str = "") -> list[Operation]:
    """Return the operations that change `before` into `after`, in the order in which they apply."""
    return list(_differences(before, after, path))


def applied(document: Any, patch: list[Operation]) -> Any:
    """
    Apply a patch of `json_patch` in place. Return the document, or a new document if the patch replaces the whole.

    The document may consist of any kind of mapping and list, for example with comments.
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
    if before is after:  # most parts are the same object, and may be nested deeper than Python can recurse
        return
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _mapping_differences(before, after, path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _list_differences(before, after, path)
    elif before != after or isinstance(before, bool) != isinstance(after, bool):  # in Python, True equals 1
        yield {"op": "replace", "path": path, "value": after}


def _mapping_differences(before: dict[str, Any], after: dict[str, Any], path: str) -> Iterator[Operation]:
    for key, value in before.items():
        if key not in after:
            yield {"op": "remove", "path": f"{path}/{_escaped(key)}"}
        elif value is not after[key]:
            yield from _differences(value, after[key], f"{path}/{_escaped(key)}")
    for key, value in after.items():
        if key not in before:
            yield {"op": "add", "path": f"{path}/{_escaped(key)}", "value": value}


def _list_differences(before: list[Any], after: list[Any], path: str) -> Iterator[Operation]:
    old_start = start = same = _same_items(before, after)
    matched = ((same + old, same + new) for old, new in matched_items(before[same:], after[same:]))
    for old, new in chain(matched, [(len(before), len(after))]):
        # Everything before `start` is in its final place, so the next operation applies at `start`.
        for _gone in range(old_start, old):
            yield {"op": "remove", "path": f"{path}/{start}"}
        for index in range(start, new):
            yield {"op": "add", "path": f"{path}/{index}", "value": after[index]}
        if old < len(before):
            yield from _differences(before[old], after[new], f"{path}/{new}")
        old_start, start = old + 1, new + 1


def _same_items(before: Sequence[Any], after: Sequence[Any]) -> int:
    """Return how many items at the start are the same objects. Injection mostly adds items at the end."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((place for place, (old, new) in pairs if old is not new), min(len(before), len(after)))


def matched_items(before: Sequence[Any], after: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Yield the two positions of each item that both lists have. Both positions increase; other items are omitted."""
    places = {identity: place for place, identity in enumerate(_identities(after))}
    reached = -1
    for old, identity in enumerate(_identities(before)):
        new = places.get(identity, -1)
        if new > reached:
            yield old, new
            reached = new


def _identities(items: Sequence[Any]) -> Iterator[Hashable]:
    """Yield a key for each item: its name, and its number among the items with that name."""
    seen: dict[str, int] = {}
    for item in items:
        name = _identity(item)
        number = seen.get(name, 0)
        yield name, number
        seen[name] = number + 1


def _identity(item: Any) -> str:
    """Return the text that identifies an item: its value of Kubernetes' merge key, or the whole item as JSON."""
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
