"""Write docs/reference/log-events.md: every log event with its level, meaning, action and fields."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from sidecar.local.event_log import PROBLEMS
from tests.docs.reference import markdown
from tests.docs.reference.log_calls import LEVELS, Call, found_calls
from tests.docs.reference.log_event_notes import FIELDS, TOPICS, EventNote
from tests.docs.reference.markdown import bullets, code, codes, section, sentences, table

_RENAMED = {"exc": ("exception", "stack")}
"""The fields that log.py writes instead of a field at the call, by the name of the field at the call."""

_INTRODUCTION = """
The daemon and the webhook write one JSON object per line to stderr.
On a terminal, and with `IRSA_SIDECAR_LOG_FORMAT=console`, the lines have a format for people.
No event holds a secret, a token or a password.

Each line has `event`, `level` and `time` (UTC, ISO 8601) in addition to the fields of the event.
A line has at most 4096 bytes, so long values are shortened and end in `…`.
The process drops a line that stderr does not accept at once, and counts it in `irsa_sidecar_log_lines_dropped_total`.
"""

_EXAMPLE = """
{"role_name": "default", "code": "AccessDenied", "reason": "AccessDenied: Not authorized to perform …", \
"next_step": "wait", "failures": 3, "retry_in_seconds": 17.2, "still_serving_until": "2026-01-02T03:04:05Z", \
"event": "refresh_failed", "level": "warning", "time": "2026-01-02T02:41:07Z"}
"""


def page() -> str:
    calls = calls_by_event(found_calls()[0])
    notes = sorted((note for each in TOPICS.values() for note in each), key=lambda note: note.name)
    return markdown.page(
        "Log events",
        "This page lists every event that irsa-sidecar logs, with its meaning, its fields and the necessary action.",
        sentences(_INTRODUCTION),
        markdown.fenced(_EXAMPLE, "json"),
        section(
            2,
            "All events",
            table(
                ("event", "level", "logged by"),
                ((_link(note.name), level_of(note, calls[note.name]), sources(calls[note.name])) for note in notes),
            ),
        ),
        *(section(2, topic, *(_section(note, calls[note.name]) for note in each)) for topic, each in TOPICS.items()),
        section(2, "Fields", table(("field", "meaning"), ((code(name), text) for name, text in FIELDS.items()))),
    )


def calls_by_event(calls: Iterable[Call]) -> Mapping[str, list[Call]]:
    found: defaultdict[str, list[Call]] = defaultdict(list)
    for call in calls:
        found[call.event].append(call)
    return found


def fields_of(note: EventNote, calls: Iterable[Call]) -> list[str]:
    """Return the fields of an event, in the order of the calls."""
    at_calls = [name for call in calls for name in (*_bound(call), *call.fields)]
    return list(dict.fromkeys(name for field in (*at_calls, *note.others) for name in _RENAMED.get(field, (field,))))


def _bound(call: Call) -> tuple[str, ...]:
    """Return the fields that the logger adds. Only events about clients have `endpoint`, so it is excluded."""
    return tuple(name for name in call.bound if name != "endpoint")


def level_of(note: EventNote, calls: Iterable[Call]) -> str:
    """Return the levels of an event, lowest first."""
    if note.level:
        return note.level
    found = {level for call in calls for level in call.levels or (_local_level(call.event),)}
    return " or ".join(code(level) for level in LEVELS if level in found)


def _local_level(event: str) -> str:
    return "warning" if event in PROBLEMS else "info"


def sources(calls: Iterable[Call]) -> str:
    """Return the commands that log an event. `exec` and `local` also run the daemon."""
    packages = {re.split("[/_.]", call.path.removeprefix("commands/"))[0] for call in calls}
    commands = [name for name in ("webhook", "local") if name in packages]
    return codes([*(["run"] if packages - {"webhook", "local"} else []), *commands])


def _link(name: str) -> str:
    return f"[{code(name)}](#{name})"


def _section(note: EventNote, calls: list[Call]) -> str:
    facts = (
        ("Level", level_of(note, calls)),
        ("Logged by", sources(calls)),
        ("Fields", codes(fields_of(note, calls))),
        ("What to do", note.action),
    )
    return section(3, code(note.name), sentences(note.meaning), bullets(facts))
