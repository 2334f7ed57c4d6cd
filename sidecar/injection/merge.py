"""
Merge our version of a part of a Pod into the existing part, as a strategic merge patch of Kubernetes does. Pure.

Rule: fields and items that only the existing part has stay at their positions.
"""

from typing import Any

_MERGE_KEYS = {"env": "name", "volumeMounts": "mountPath", "ports": "containerPort", "volumes": "name"}
"""The key that identifies the items of each list (Kubernetes API reference, patch merge key)."""


def strategic_merge(existing: Any, ours: Any, key: str = "") -> Any:
    """
    Return `existing` with everything in `ours` merged into it. `key` is the name of both in their parent.

    A list without a merge key is merged item by item if both have the same length, and replaced otherwise.
    """
    if isinstance(existing, dict) and isinstance(ours, dict):
        merged = {name: strategic_merge(existing.get(name), value, name) for name, value in ours.items()}
        return {**existing, **merged}
    if not (isinstance(existing, list) and isinstance(ours, list)):
        return ours
    if key in _MERGE_KEYS:
        return _merge_by_key(existing, ours, _MERGE_KEYS[key])
    has_same_length = len(existing) == len(ours)
    return [strategic_merge(a, b) for a, b in zip(existing, ours, strict=True)] if has_same_length else ours


def _merge_by_key(existing: list[Any], ours: list[Any], name: str) -> list[Any]:
    pairs = ((item, next((own for own in ours if own[name] == item.get(name)), None)) for item in existing)
    merged = [item if own is None else strategic_merge(item, own) for item, own in pairs]
    return merged + [own for own in ours if not any(own[name] == item.get(name) for item in existing)]
