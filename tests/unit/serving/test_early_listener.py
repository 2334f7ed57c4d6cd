"""Test the listener that `run` opens before all other imports."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.subjects import free_port
from sidecar.serving import early_listener
from sidecar.serving.authorization import is_created_by_us
from sidecar.serving.early_listener import EarlyListener, open_early, take
from sidecar.serving.listen import as_sockets

LISTEN = "IRSA_SIDECAR_LISTEN"
SECRET_FILE = "IRSA_SIDECAR_AUTHORIZATION_TOKEN_FILE"
MODE = "IRSA_SIDECAR_AUTHORIZATION_MODE"


@pytest.fixture(autouse=True)
def hardened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Return a list with an entry for each call of `harden`, which would also change the processes of later tests."""
    calls: list[bool] = []
    monkeypatch.setattr(early_listener, "harden", lambda: calls.append(True))
    yield calls
    assert take() is None


def opened(environ: dict[str, str]) -> EarlyListener | None:
    open_early(environ)
    return take()


def can_listen(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_port_is_open_and_secret_exists(tmp_path: Path, hardened: list[bool]) -> None:
    secret, port = tmp_path / "secret", free_port()
    early = opened({LISTEN: f"127.0.0.1:{port}", SECRET_FILE: str(secret), MODE: "0600"})
    assert early is not None
    listeners = as_sockets(early.sockets)
    socket.create_connection(("127.0.0.1", port)).close()
    assert {listener.gettimeout() for listener in listeners} == {0}
    assert secret.stat().st_mode & 0o777 == 0o600
    assert is_created_by_us(early.secrets[str(secret)].value)
    assert hardened == [True]
    for listener in listeners:
        listener.close()


def test_listener_without_a_secret_file() -> None:
    early = opened({LISTEN: "127.0.0.1:0", SECRET_FILE: ""})
    assert early is not None
    assert early.secrets == {}
    for listener in early.sockets:
        listener.close()


@pytest.mark.parametrize(
    "other",
    [
        {"IRSA_SIDECAR_CONFIG": "/roles.yaml"},
        {SECRET_FILE: "{tmp}/{role}"},
        {MODE: "0777"},
        {LISTEN: "somewhere"},
        {LISTEN: "0.0.0.0:0"},
        {SECRET_FILE: "{tmp}"},
        {SECRET_FILE: "{tmp}/absent/secret"},
        {SECRET_FILE: "a\0b"},
    ],
)
def test_unusual_settings_open_nothing(tmp_path: Path, other: dict[str, str]) -> None:
    port = free_port()
    settings = {LISTEN: f"127.0.0.1:{port}", SECRET_FILE: str(tmp_path / "secret"), **other}
    environ = {name: value.replace("{tmp}", str(tmp_path)) for name, value in settings.items()}
    assert opened(environ) is None
    assert can_listen(port)
    assert list(tmp_path.iterdir()) == []


def test_port_in_use_leaves_the_secret_unchanged(tmp_path: Path) -> None:
    """The secret may be in use by the process that listens on the port."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        environ = {LISTEN: f"127.0.0.1:{holder.getsockname()[1]}", SECRET_FILE: str(tmp_path / "secret")}
        assert opened(environ) is None
    assert list(tmp_path.iterdir()) == []
