"""Test the reading of the daemon on this machine."""

import pytest

from sidecar.addresses import parse_address
from sidecar.errors import ConfigurationError, SidecarError
from sidecar.status.here import admin_address_here, read_here
from tests.unit.commands.fake_daemon import running_daemon
from tests.unit.status.conftest import READY

VARIABLE = "IRSA_SIDECAR_ADMIN_LISTEN"


@pytest.mark.parametrize(
    ("flag", "value", "address"),
    [
        (None, None, ("127.0.0.1", 4773)),
        (None, "", ("127.0.0.1", 4773)),
        (None, "[::]:9090", ("::1", 9090)),
        (":9091", "off", ("127.0.0.1", 9091)),
    ],
)
def test_flag_has_priority_over_the_variable(flag: str | None, value: str | None, address: tuple[str, int]) -> None:
    assert admin_address_here(flag, {} if value is None else {VARIABLE: value}) == address


def test_variable_that_is_off_is_named() -> None:
    with pytest.raises(ConfigurationError, match=f"{VARIABLE} is off"):
        admin_address_here(None, {VARIABLE: "off"})


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def test_state_of_the_daemon_is_read() -> None:
    with running_daemon(raw=HEAD + READY) as daemon:
        assert read_here(parse_address("x", daemon.address)).is_available
    assert daemon.requests[0].startswith(b"GET /status ")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (HEAD + b"<html>", "not a daemon with a status: the response is not JSON"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "has no /status"),
        (b"SSH-2.0-x\r\n", "No daemon responds"),
    ],
)
def test_other_program_on_the_address_is_an_error(raw: bytes, words: str) -> None:
    with running_daemon(raw=raw) as daemon, pytest.raises(SidecarError, match=words):
        read_here(parse_address("x", daemon.address))
