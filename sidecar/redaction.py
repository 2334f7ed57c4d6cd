"""
Remove user names and passwords from the URLs in a text. Pure.

Rule: whatever we show to a person, in a message, a log or a report, passes `without_user_info`. Settings such as
AWS_ENDPOINT_URL and HTTPS_PROXY hold passwords, and other programs quote them in their errors.
"""

_USER_INFO = r"""([A-Za-z][A-Za-z0-9+.-]*://)[^\s"'<>]*(?:@|%40|\uff20)"""
"""
From the scheme to the last @ of the word. RFC 3986 lets the user info end at the first / ? or #, but people write
passwords with these characters unencoded, and the @ itself encoded or full-width. An @ in a path is rare, and then the
host is hidden as well.
"""

HIDDEN = "***"


def without_user_info(text: str) -> str:
    """Return the text with `***` instead of all that stands between `://` and `@` in a URL."""
    if "://" not in text or not any(at in text for at in ("@", "%40", "\uff20")):
        return text
    import re  # noqa: PLC0415  errors.py is loaded before the listener is bound, and few texts need this

    return re.sub(_USER_INFO, rf"\1{HIDDEN}@", text)
