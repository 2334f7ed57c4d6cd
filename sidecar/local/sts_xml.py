"""
Write the XML of STS's responses. Pure.

In the AWS Query protocol, the result is in an element with the name of the operation, next to the metadata. An error
is in ErrorResponse. Names and nesting are those of botocore's sts service model, with which the tests parse the XML.
"""

import re
from collections.abc import Mapping
from xml.sax.saxutils import escape

NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
CONTENT_TYPE = "text/xml"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 forbids. A caller's values and a token's claims may have them."""

Tree = Mapping[str, "str | Tree | None"]
"""Element names to text or children. An element with None is omitted."""


def result(operation: str, members: Tree, request_id: str) -> bytes:
    return _document(
        f"{operation}Response",
        {f"{operation}Result": members, "ResponseMetadata": {"RequestId": request_id}},
    )


def error(code: str, message: str, request_id: str, *, is_ours: bool = False) -> bytes:
    """Return an error response. `is_ours` marks an error of the server, which AWS calls the receiver."""
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
