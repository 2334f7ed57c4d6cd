"""
Describe each event of the feed in a short sentence for the terminal and the page. Pure.

Rule: the subject of each sentence is the component, whose name is shown before the sentence. For an event without a
sentence in the tables, the name of the event is shown.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from sidecar.printable import printable

MAX_TEXT = 400
"""Longest shown text, in characters. Configuration files and tokens can contain texts of any length."""

Mark = Literal["good", "bad", "note"]
"""The kind of an event: a success, a problem, or neither."""


class Sentence(NamedTuple):
    """The sentence of one event. `{name}` in the text stands for a field of the event."""

    mark: Mark
    text: str


SENTENCES: Mapping[str, Sentence] = MappingProxyType(
    {
        "background_task_failed": Sentence("bad", "restarts the task {task} after {exception}"),
        "caller_identity_returned": Sentence("good", "verified the signature of a call by {arn}"),
        "clock_skew_detected": Sentence("bad", "has a clock that differs from the clock of STS by {seconds} s"),
        "clock_stepped": Sentence("bad", "noticed that its clock jumped by {seconds} s"),
        "control_ended": Sentence("note", "ended the fault “{label}”"),
        "control_failed": Sentence("bad", "could not apply “{label}”: {reason}"),
        "control_started": Sentence("note", "started “{label}”"),
        "credentials_refreshed": Sentence("good", "has new credentials until {expiration}"),
        "credentials_served": Sentence("good", "got the credentials {access_key_id}"),
        "exchange_granted": Sentence("good", "accepted the token and issued credentials"),
        "max_duration_found": Sentence("good", "found the longest session that the role allows, {seconds} s"),
        "older_credentials_ignored": Sentence("note", "ignored credentials that expire earlier than its own"),
        "refresh_failed": Sentence("bad", "could not refresh ({code}), and retries in {retry_in_seconds} s"),
        "page_failed": Sentence("bad", "restarts a task after {exception}"),
        "page_link_rejected": Sentence("bad", "rejected a link that was used before"),
        "request_denied": Sentence("bad", "got no credentials: {reason}"),
        "request_failed": Sentence("bad", "failed to respond to a request because of {exception}"),
        "request_rejected": Sentence("bad", "rejected {operation}: {code}"),
        "request_unanswered": Sentence("bad", "sends no response to {operation}"),
        "role_assumed": Sentence("good", "issued credentials of another role to {caller}"),
        "signing_keys_rotated": Sentence("good", "signs with a new key, and publishes {published_keys} keys"),
        "signing_keys_fetched": Sentence("good", "published its public keys to STS"),
        "token_claims_suspicious": Sentence("bad", "found a problem in the token: {reason}"),
        "token_renewal_failed": Sentence("bad", "could not renew the token: {reason}"),
        "token_renewed": Sentence("good", "wrote a new token to the volume"),
        "trust_statement_not_evaluated": Sentence("note", "does not evaluate a statement: {reason}"),
    }
)
"""The sentences by event. The daemon also has an event token_renewed (OF_THE_DAEMON)."""

OF_THE_DAEMON: Mapping[str, Sentence] = MappingProxyType({"token_renewed": Sentence("good", "noticed the new token")})
"""The sentences for events of the daemon whose name a local service uses too."""


def sentence_of(component: str, name: str, fields: Mapping[str, Any]) -> Sentence:
    """Return the sentence with the values of the fields. Values are shortened, and invisible characters are escaped."""
    own = OF_THE_DAEMON.get(name) if component == "daemon" else None
    found = own or SENTENCES.get(name)
    if found is None:
        mark: Mark = "bad" if fields.get("level") in {"warning", "error", "critical"} else "note"
        return Sentence(mark, escaped(name.replace("_", " ")))
    values = {key: "unknown" if value is None else value for key, value in fields.items()}
    return Sentence(found.mark, escaped(found.text.format_map(_Fields(values))))


def escaped(value: Any) -> str:
    """Return the value as a text of at most MAX_TEXT characters, without characters that hide or reorder text."""
    return printable(str(value), max_length=MAX_TEXT)


class _Fields(dict[str, Any]):
    """The fields of an event. An absent field is shown as unknown."""

    def __missing__(self, _key: str) -> str:
        return "unknown"
