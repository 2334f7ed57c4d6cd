"""
Read the file of accepted findings, `.irsa-sidecar-audit.yaml`, and the baseline. Pure.

Rule: each entry names a rule, an object, a reason and an end date. An entry that lacks one of them is an error, because
otherwise nobody would remember why the finding was accepted.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

from sidecar.audit.finding import Finding
from sidecar.config.yaml_values import ListOf, ParsedBy, Place, Reader, read_mapping, read_text
from sidecar.errors import ConfigurationError
from sidecar.local.condition_operators import is_like
from sidecar.strict_yaml import Node, compose, line_of, reading

FILE = ".irsa-sidecar-audit.yaml"

MAX_ENTRIES = 10_000


class Acceptance(NamedTuple):
    """
    An accepted finding. `subject` is the object as the report shows it, and may have `*` as a wildcard.

    `until` is the end of the acceptance's last day, in Unix seconds. `line` is the entry's line in the file.
    """

    rule: str
    subject: str
    reason: str
    until: float
    line: int = 0

    def matches(self, finding: Finding) -> bool:
        return finding.rule == self.rule and is_like(str(finding.subject), self.subject)


def read_acceptances(text: bytes, path: str) -> tuple[Acceptance, ...]:
    """
    Return the entries of the file.

    Raises ConfigurationError with the line and the fix if an entry is invalid.
    """
    with reading(path):
        node = compose(text, path)
        if node is None:
            return ()
        document = read_mapping(Place(path, line_of(node)), node, {"accepted": ListOf(_entry, MAX_ENTRIES, "entries")})
        return tuple(document.get("accepted", ()))


def _end_of_day(place: str, text: str) -> float:
    try:
        day = date.fromisoformat(text)
    except ValueError as exc:
        raise ConfigurationError(
            f"{place} is {text[:100]!r}, which is not a date", fix="Write a date such as 2027-03-31", setting=place
        ) from exc
    return datetime.combine(day, time.max, UTC).timestamp()


_KEYS: Mapping[str, Reader] = {
    "rule": read_text,
    "subject": read_text,
    "reason": read_text,
    "until": ParsedBy(_end_of_day),
}


def _entry(place: Place, node: Node) -> Acceptance:
    found = read_mapping(place, node, _KEYS)
    for key in _KEYS:
        if not found.get(key):
            raise place.error(f" has no `{key}`", fix=f"Add `{key}:`")
    return Acceptance(found["rule"], found["subject"], found["reason"], found["until"], place.line)


def read_baseline(text: bytes, path: str) -> frozenset[str]:
    """
    Return the fingerprints in an earlier report in JSON.

    Raises ConfigurationError if the file is not such a report.
    """
    try:
        return frozenset(_fingerprints(json.loads(text)))
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ConfigurationError(
            f"--baseline is {path}, which is not a report of this command",
            fix="Create it with `irsa-sidecar audit --output json`",
            setting="--baseline",
        ) from exc


def _fingerprints(document: Any) -> list[str]:
    found = [*document["findings"], *document["known"], *document["accepted"]]
    return [str(each["fingerprint"]) for each in found]
