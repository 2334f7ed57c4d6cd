"""
Put AWS_SDK_UA_APP_ID into the User-Agent, by which CloudTrail distinguishes applications. Pure.

Rule: the application id is checked as in botocore (botocore/useragent.py). A forbidden character becomes `-`, and an id
that is too long causes a warning. We also cut a long id, because every exchange sends the header.
"""

import string

from sidecar.errors import Explanation

APP_ID = "AWS_SDK_UA_APP_ID"

MAX_LENGTH = 50
"""Maximum length of an application id (AWS SDKs and Tools reference, Application ID)."""

_ALLOWED = frozenset(string.ascii_letters + string.digits + "!$%&'*+-.^_`|~,#")


def with_app_id(agent: str, app_id: str | None) -> str:
    """Return the User-Agent, followed by `app/…` if there is an application id."""
    return f"{agent} app/{_sent(app_id)}" if app_id else agent


def app_id_warning(app_id: str) -> Explanation | None:
    """Return a warning if the application id cannot be sent unchanged, else None."""
    sent = _sent(app_id)
    if sent == app_id:
        return None
    if len(app_id) > MAX_LENGTH:
        return Explanation(
            f"{APP_ID} is {len(app_id)} characters long: only {sent!r} is sent",
            fix=f"Shorten it to {MAX_LENGTH} characters",
        )
    return Explanation(
        f"{APP_ID} is {app_id!r}: it is sent as {sent!r}",
        fix="Use ASCII letters, digits and !$%&'*+-.^_`|~,# without spaces",
    )


def _sent(app_id: str) -> str:
    return "".join(character if character in _ALLOWED else "-" for character in app_id[:MAX_LENGTH])
