"""Check that the reference has every log event and every metric of the code, and no other."""

import ast
import json
import re
from pathlib import Path

import pytest

import sidecar
from sidecar.local.event_log import PROBLEMS
from tests.docs.reference.log_calls import INDIRECT, LEVELS, Unnamed, calls_in, found_calls
from tests.docs.reference.log_event_notes import FIELDS, TOPICS, EventNote
from tests.docs.reference.log_events import calls_by_event, fields_of, sources
from tests.docs.reference.metric_notes import LABELS, USES
from tests.docs.reference.metrics import of_the_daemon, of_the_webhook
from tests.docs.reference.pages import path_of

PACKAGE = Path(sidecar.__file__).parent
CALLS, UNNAMED = found_calls()
BY_EVENT = calls_by_event(CALLS)
NOTES = [note for notes in TOPICS.values() for note in notes]
METRICS = [*of_the_daemon(), *of_the_webhook()]


# Log events


def test_event_of_every_logger_call_is_found() -> None:
    """If a function gets the event's name as a value, add the function to INDIRECT with the possible names."""
    assert UNNAMED == []


def test_every_event_is_described_once() -> None:
    assert sorted(note.name for note in NOTES) == sorted(BY_EVENT)


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.name)
def test_note_has_other_fields_only_if_a_call_has_a_mapping(note: EventNote) -> None:
    calls = BY_EVENT[note.name]
    allowed = any(call.has_others or "exc" in call.fields for call in calls)
    assert not note.others or allowed


def test_every_field_has_one_meaning() -> None:
    assert {name for note in NOTES for name in fields_of(note, BY_EVENT[note.name])} == set(FIELDS)
    assert list(FIELDS) == sorted(FIELDS)


@pytest.mark.parametrize("note", [note for note in NOTES if note.level], ids=lambda note: note.name)
def test_level_in_a_note_is_a_level_of_its_calls(note: EventNote) -> None:
    named = {level for level in LEVELS if f"`{level}`" in note.level}
    assert named
    assert named <= {level for call in BY_EVENT[note.name] for level in call.levels}


def test_problems_of_the_local_services_have_an_action() -> None:
    """An event that needs an action is a warning, so that `local --log-level warning` shows it."""
    local = {note.name: note for note in NOTES if "local" in sources(BY_EVENT[note.name])}
    assert {name for name, note in local.items() if note.action} == PROBLEMS


def test_example_has_fields_of_its_event() -> None:
    blocks = re.findall(r"```json\n(.*?)\n```", path_of("log-events").read_text(encoding="utf-8"))
    example = json.loads(blocks[0])
    note = next(note for note in NOTES if note.name == example["event"])
    assert set(example) - {"event", "level", "time"} <= set(fields_of(note, BY_EVENT[note.name]))


def test_indirect_names_occur_in_their_module() -> None:
    for (path, _), names in INDIRECT.items():
        texts = {
            node.value
            for node in ast.walk(ast.parse((PACKAGE / path).read_text(encoding="utf-8")))
            if isinstance(node, ast.Constant)
        }
        assert {name for name in names if not name.startswith("pod_")} <= texts


def test_each_form_of_a_call_is_found() -> None:
    source = """
log = log.bind(role=1)
def one(self):
    self._log.info("a", x=1)
    log = self.log.info if x else self.log.debug
    log("b" if y else "c", **z)
    (log.warning if x else log.error)("d")
    def two():
        emit("e")
    events.emit("f")
    math.log("g")
    log.info(name)
"""
    found = list(calls_in("x.py", source))
    assert [
        (call.event, call.levels, call.fields, call.has_others) for call in found if not isinstance(call, Unnamed)
    ] == [
        ("a", ("info",), ("x",), False),
        ("b", ("info", "debug"), (), True),
        ("c", ("info", "debug"), (), True),
        ("d", ("warning", "error"), (), False),
        ("e", (), (), False),
    ]
    assert [each for each in found if isinstance(each, Unnamed)] == [Unnamed("x.py", 12, "one")]


# Metrics


def test_every_metric_has_a_use() -> None:
    assert set(USES) == {metric.name for metric in METRICS}


def test_every_label_has_a_meaning() -> None:
    assert set(LABELS) == {label for metric in METRICS for label in metric.labels}


def test_every_metric_in_the_code_is_scraped() -> None:
    """A metric without a sample in `of_the_daemon` would be missing from the page."""
    names = {name for path in PACKAGE.rglob("*.py") for name in _families_in(path)}
    assert names == {metric.name for metric in METRICS}


def _families_in(path: Path) -> set[str]:
    """Return the names of the families that a module creates."""
    calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
    named = [
        call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("Family", "histogram_family")
    ]
    return {str(call.args[0].value) for call in named if isinstance(call.args[0], ast.Constant)}
