"""
Read the issuer's name from a certificate's DER bytes (RFC 5280). Pure.

Python's `ssl` returns no details of a certificate that it rejects. The issuer's name is the most useful detail, because
the issuer is usually a company's proxy. The package cryptography could read the name, but the image does not contain
that package.
"""

from collections.abc import Iterator

_SEQUENCE, _SET, _OBJECT, _VERSION = 0x30, 0x31, 0x06, 0xA0
_COMMON_NAME, _ORGANIZATION = bytes((0x55, 4, 3)), bytes((0x55, 4, 10))

_ENCODINGS = {0x1E: "utf-16-be", 0x1C: "utf-32-be", 0x14: "latin-1"}
"""Encodings of the string types that use neither ASCII nor UTF-8 (X.690, 8.21)."""


def signer(der: bytes) -> str | None:
    """Return the issuer's name, such as `Amazon RSA 2048 M01 (Amazon)`, or None if the bytes contain no such name."""
    try:
        names = dict(_issuer_names(der))
    except (ValueError, IndexError, UnicodeDecodeError):
        return None
    common, organization = names.get(_COMMON_NAME), names.get(_ORGANIZATION)
    if common and organization:
        return f"{common} ({organization})"
    return common or organization


def _issuer_names(der: bytes) -> Iterator[tuple[bytes, str]]:
    certificate = _only(der, _SEQUENCE)
    fields = [field for field in _elements(_only(certificate, _SEQUENCE)) if field[0] != _VERSION]
    for tag, name in _elements(fields[2][1]):  # the issuer follows the serial number and the signature algorithm
        if tag == _SET:
            (_, kind), (encoding, text) = _elements(_only(name, _SEQUENCE))
            yield kind, _printable(text.decode(_ENCODINGS.get(encoding, "utf-8")))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)[:100]


def _only(data: bytes, tag: int) -> bytes:
    """
    Return the content of the first element.

    Raises ValueError if the element has another tag.
    """
    found, content = next(_elements(data), (0, b""))
    if found != tag:
        raise ValueError(f"element {found:#x} instead of {tag:#x}")
    return content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("an element is cut off")
        yield tag, data[at : at + length]
        at += length
