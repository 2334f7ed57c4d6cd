"""
Remove passwords in URLs, and signed tokens, from a text. Pure.

Rule: every text that people see, in a message, a log or a report, passes through `without_secrets`. Settings such as
AWS_ENDPOINT_URL and HTTPS_PROXY hold passwords, and other programs quote them in their errors. A person can enter a
token where a path or a name is expected.
"""

_USER_INFO = r"""([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*(?:@|%40|\uff20)"""
"""
A pattern for the scheme and everything up to the last @ of the word.

In RFC 3986 the user info ends at the first / ? or #. But people write passwords with these characters unencoded, and
with an encoded or full-width @. An @ in a path is rare. It causes the host to be removed too.
"""

_TOKEN_STARTS = ("eyJ", "eyA", "ewo")
"""The possible beginnings of a JWT: base64url of `{` and the character after it, a quote or white space."""

_TOKEN = rf"(?<![\w-])(?:{'|'.join(_TOKEN_STARTS)})[\w-]{{8,}}\.[\w.-]*"
"""A pattern for a JWT, also if its end is missing after the first full stop."""

HIDDEN = "***"
"""The text that replaces a password or a token."""


def without_secrets(text: str) -> str:
    """Return the text with `***` instead of each JWT, and of everything between `://` and `@` in a URL."""
    if "://" in text and any(at in text for at in ("@", "%40", "\uff20")):
        text = _replaced(_USER_INFO, rf"\1{HIDDEN}@", text)
    return _replaced(_TOKEN, HIDDEN, text) if any(start in text for start in _TOKEN_STARTS) else text


def holds_token(text: str) -> bool:
    """Return whether the text holds a JWT."""
    return any(start in text for start in _TOKEN_STARTS) and _replaced(_TOKEN, "", text) != text


def _replaced(pattern: str, replacement: str, text: str) -> str:
    import re  # noqa: PLC0415  errors.py imports this module before the listener is bound, and few texts need `re`

    return re.sub(pattern, replacement, text)
