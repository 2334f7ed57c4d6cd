"""
Choose the sidecar's resources, in the form of Kubernetes: `{"requests": {…}, "limits": {…}}`. Pure.

Rule: a Pod of the QoS class Guaranteed stays in that class. A Pod has the class if every container has limits for CPU
and memory, and equal requests (Kubernetes documentation, Pod Quality of Service Classes). In such a Pod the
sidecar's requests equal its limits too. In other Pods, the sidecar has no CPU limit by default, because a throttled
sidecar may respond after the SDKs' timeout of 1 s.
"""

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.kubernetes.document import Document

RESOURCES: Document = {
    # A running sidecar uses 29 MiB of resident memory.
    "requests": {"cpu": "10m", "memory": "40Mi"},
    # The memory above the request is for a probe's process (12 MiB), or for the signer of a chain's steps (10 MiB).
    "limits": {"memory": "64Mi"},
}

GUARANTEED_CPU, GUARANTEED_MEMORY = "100m", "64Mi"
"""The sidecar's resources in a Guaranteed Pod. A start takes 1.5 s with 100m of CPU, and 20 s with 10m."""

NAMES = ("cpu", "memory", "ephemeral-storage")
"""The resources that the sidecar can use."""

MIN_MEMORY_LIMIT = "16Mi"
"""Lowest memory limit. With less, the sidecar never starts; usually the unit is wrong (64 or 64m, not 64Mi)."""

MAX_CHARACTERS = 1000

_UNITS: dict[str, Decimal] = {
    "": Decimal(1),
    "m": Decimal("1e-3"),
    "u": Decimal("1e-6"),
    "n": Decimal("1e-9"),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", start=1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)},
}

_QUANTITY = re.compile(
    r"\+?([0-9]{1,18}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})(?:([eE][+-]?[0-9]{1,2})|([A-Za-z]{0,2}))", re.ASCII
)

_MAX_QUANTITY = 2**63 - 1


def read_quantity(value: Any) -> Decimal:
    """
    Return the number of a Kubernetes quantity, such as `100m`, `64Mi`, `1e3` or 2 (API reference, Quantity).

    Raises ValueError if the value is not a quantity, is negative or is too large.
    """
    found = _QUANTITY.fullmatch(str(value)) if _is_scalar(value) else None
    if found is None or (found[3] or "") not in _UNITS:
        raise ValueError("not a quantity")
    amount = Decimal(found[1] + (found[2] or "")) * _UNITS[found[3] or ""]
    if amount > _MAX_QUANTITY:
        raise ValueError("larger than any quantity")
    return amount


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def check_resources(setting: str, text: str) -> Document:
    """
    Return the resources in `text`, which is JSON or YAML.

    Raises ConfigurationError if the text contains no valid resources.
    """
    from sidecar import strict_yaml  # noqa: PLC0415  a YAML parser, only for flags that need it

    example = f"Use requests and limits, such as {json.dumps(RESOURCES)}"
    if len(text) > MAX_CHARACTERS:
        raise ConfigurationError(f"{setting} has {len(text)} characters", fix=example, setting=setting)
    try:
        read = strict_yaml.load(text, setting)
    except ConfigurationError as exc:
        problem = f"{setting} is {text[:100]!r}, which is not JSON or YAML. {exc.problem}"
        raise ConfigurationError(problem, fix=example, setting=setting) from exc
    if not isinstance(read, dict) or not all(isinstance(part, dict) for part in read.values()):
        problem = f"{setting} is {text[:100]!r}, which is not a mapping of requests and limits"
        raise ConfigurationError(problem, fix=example, setting=setting)
    if unknown := [str(key) for key in read if key not in ("requests", "limits")]:
        problem = f"{setting} has {unknown[0][:100]!r}, which is neither requests nor limits"
        raise ConfigurationError(problem, fix=example, setting=setting)
    for kind, amounts in read.items():
        for name, value in amounts.items():
            _check_amount(setting, kind, name, value)
    for name, request in read.get("requests", {}).items():
        limit = read.get("limits", {}).get(name)
        if limit is not None and read_quantity(limit) < read_quantity(request):
            raise ConfigurationError(
                f"{setting} has limits.{name} {limit}, which is less than requests.{name} {request}",
                fix="Set a limit that is not below the request",
                setting=setting,
            )
    return {kind: {name: str(value) for name, value in amounts.items()} for kind, amounts in read.items()}


def _check_amount(setting: str, kind: str, name: Any, value: Any) -> None:
    if name not in NAMES:
        raise ConfigurationError(
            f"{setting} has {kind}.{str(name)[:100]}, which the sidecar does not use",
            fix=f"Use {', '.join(NAMES[:-1])} or {NAMES[-1]}",
            setting=setting,
        )
    shown = str(value)[:100] if _is_scalar(value) else type(value).__name__
    place = f"{setting} has {kind}.{name} {shown!r}"
    unit, sample = ("1m", "10m") if name == "cpu" else ("1", "64Mi")
    try:
        amount = read_quantity(value)
    except ValueError:
        problem, fix = f"{place}, which is not a quantity of Kubernetes", f"Use a quantity such as {sample}"
        raise ConfigurationError(problem, fix=fix, setting=setting) from None
    if amount % read_quantity(unit):
        problem, fix = f"{place}, which is a fraction of its unit {unit}", f"Use a whole number, such as {sample}"
        raise ConfigurationError(problem, fix=fix, setting=setting)
    if (kind, name) == ("limits", "memory") and amount < read_quantity(MIN_MEMORY_LIMIT):
        problem, fix = f"{place}, with which the sidecar never starts", f"Set at least {MIN_MEMORY_LIMIT}"
        raise ConfigurationError(problem, fix=fix, setting=setting)


def resources_in(spec: Document, others: Iterable[Document], resources: Document) -> Document:
    """Return the sidecar's resources in a Pod with these other containers, or none if the Pod has its own resources."""
    if spec.get("resources"):
        # The Pod's own resources (Kubernetes 1.32) decide its class. The containers' requests together must not
        # exceed the Pod's requests or limits, so any request of the sidecar may be too much.
        return {}
    if not all(map(_is_guaranteed, others)):
        return resources
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    both = {
        "cpu": limits.get("cpu") or _more(requests.get("cpu"), GUARANTEED_CPU),
        "memory": limits.get("memory") or _more(requests.get("memory"), GUARANTEED_MEMORY),
    }
    return {"requests": {**requests, **both}, "limits": {**limits, **both}}


def _more(given: str | None, least: str) -> str:
    return given if given is not None and read_quantity(given) > read_quantity(least) else least


def _is_guaranteed(container: Document) -> bool:
    """Return whether CPU and memory have limits and equal requests. A missing request equals the limit."""
    resources = container.get("resources")
    if not isinstance(resources, dict):
        return False
    limits, requests = resources.get("limits"), resources.get("requests") or {}
    if not isinstance(limits, dict) or not isinstance(requests, Mapping):
        return False
    try:
        amounts = [(read_quantity(limits.get(name)), requests.get(name)) for name in ("cpu", "memory")]
        return all(limit > 0 and (request is None or read_quantity(request) == limit) for limit, request in amounts)
    except ValueError:
        return False
