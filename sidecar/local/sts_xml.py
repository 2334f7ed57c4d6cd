"""
Write the XML in the responses of STS. Pure.

In the AWS Query protocol, the result is in an element with the operation's name, next to the metadata. An error is in
ErrorResponse. Names and nesting follow botocore's sts service model, which the tests use to parse the XML.
"""

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
CONTENT_TYPE = "text/xml"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Pattern for characters that XML 1.0 forbids. A caller's values and a token's claims may contain them."""

Tree = Mapping[str, "str | Tree | None"]
"""Element names and their text or children. An element with None is omitted."""


def result(operation: str, members: Tree, request_id: str) -> bytes:
    return _document(
        f"{operation}Response",
        {f"{operation}Result": members, "ResponseMetadata": {"RequestId": request_id}},
    )


def error(code: str, message: str, request_id: str, *, is_ours: bool = False) -> bytes:
    """Return an error response. `is_ours` is true for a server error, for which AWS calls itself the receiver."""
    body: Tree = {"Type": "Receiver" if is_ours else "Sender", "Code": code, "Message": message}
    return _document("ErrorResponse", {"Error": body, "RequestId": request_id})


def _document(name: str, children: Tree) -> bytes:
    return f'<{name} xmlns="{NAMESPACE}">\n{_lines(children, "  ")}</{name}>\n'.encode()


def _lines(tree: Tree, indent: str) -> str:
    return "".join(_element(name, content, indent) for name, content in tree.items() if content is not None)


def _element(name: str, content: "str | Tree", indent: str) -> str:
    if isinstance(content, str):
        return f"{indent}<{name}>{escape(_NOT_XML.sub(_REPLACEMENT, content))}</{name}>\n"
    return f"{indent}<{name}>\n{_lines(content, indent + '  ')}{indent}</{name}>\n"
