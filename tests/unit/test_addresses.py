"""Test addresses as people write them, IP literals, and loopback."""

import pytest

from sidecar.addresses import format_address, is_address, is_loopback, is_loopback_host, parse_address
from sidecar.errors import ConfigurationError

SETTING = "IRSA_SIDECAR_LISTEN"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:4772", ("127.0.0.1", 4772)),
        ("[::1]:0", ("::1", 0)),
        ("[::]:4773", ("::", 4773)),
        ("localhost:4772", ("127.0.0.1", 4772)),
        ("LOCALHOST:4772", ("127.0.0.1", 4772)),
        (":4773", ("0.0.0.0", 4773)),
        (" 10.1.2.3:65535 ", ("10.1.2.3", 65535)),
    ],
)
def test_parse_address_accepts_common_forms(text: str, address: tuple[str, int]) -> None:
    assert parse_address(SETTING, text) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "4772", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:٤",
        "::1:4772", "[127.0.0.1]:4772", "[::1:4772", "example.com:4772", "127.1:4772", "http://127.0.0.1:4772",
        "127.0.0.1\0:4772",
    ],
)  # fmt: skip
def test_parse_address_error_names_setting_and_example(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(SETTING, text)
    message = str(caught.value)
    assert message.startswith(SETTING)
    assert repr(text) in message
    assert "127.0.0.1:4772" in message


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::2", False),
        ("10.0.0.127", False),
        ("::ffff:10.0.0.1", False),
        ("7f00::1", False),
        ("localhost", False),
    ],
)
def test_is_loopback_accepts_only_loopback_addresses(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_format_address_brackets_ipv6() -> None:
    assert format_address("127.0.0.1", 4772) == "127.0.0.1:4772"
    assert format_address("::1", 4772) == "[::1]:4772"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("10.0.0.1", True),
        ("[fd00::1]", True),
        ("127.0.0.1", True),
        ("fd00::1", False),
        ("[10.0.0.1]", False),
        ("evil.example", False),
        ("", False),
        ("[]", False),
        ("10.0.0.1.evil.example", False),
    ],
)
def test_is_address_requires_the_form_of_a_url(host: str, *, expected: bool) -> None:
    assert is_address(host) is expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("127.8.9.10", True), ("::1", True), ("localhost.evil.example", False), ("10.0.0.1", False)],
)
def test_is_loopback_host_accepts_localhost(host: str, *, expected: bool) -> None:
    assert is_loopback_host(host) is expected
