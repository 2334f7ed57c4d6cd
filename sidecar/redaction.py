"""
Remove user names and passwords from the URLs in a text. Pure.

Rule: every text that people see, in a message, a log or a report, passes through `without_user_info`. Settings such as
AWS_ENDPOINT_URL and HTTPS_PROXY hold passwords, and other programs quote them in their errors.
"""

_USER_INFO = r"""([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*(?:@|%40|\uff20)"""
"""
A pattern for the scheme and everything up to the last @ of the word.

In RFC 3986 the user info ends at the first / ? or #. But people write passwords with these characters unencoded, and
with an encoded or full-width @. An @ in a path is rare. It causes the host to be removed too.
"""

HIDDEN = "***"
"""The text that replaces a user name and password."""


def without_user_info(text: str) -> str:
    """Return the text with `***` instead of everything between `://` and `@` in a URL."""
    if "://" not in text or not any(at in text for at in ("@", "%40", "\uff20")):
        return text
    import re  # noqa: PLC0415  errors.py imports this module before the listener is bound, and few texts need `re`

    return re.sub(_USER_INFO, rf"\1{HIDDEN}@", text)
