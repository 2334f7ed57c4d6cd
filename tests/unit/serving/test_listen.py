"""Test listeners on both address families, and their errors."""

import errno
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest

from benchmarks.subjects import free_port
from sidecar.errors import ConfigurationError
from sidecar.serving.listen import RECEIVE_BUFFER_BYTES, bind, listen, start_listening

SETTING = "IRSA_SIDECAR_LISTEN"


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="this machine has no IPv6 loopback")


@needs_ipv6
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_both_families_listen_on_one_port(host: str) -> None:
    listeners = listen(SETTING, (host, 0))
    try:
        assert {listener.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        port = listeners[0].getsockname()[1]
        for loopback in ("127.0.0.1", "::1"):
            socket.create_connection((loopback, port)).close()
    finally:
        for listener in listeners:
            listener.close()


def hop_limit_of_an_answer(listener: socket.socket, client_host: str) -> int:
    with socket.create_connection((client_host, listener.getsockname()[1])):
        listener.settimeout(None)
        connection, _ = listener.accept()
        with connection:
            return connection.getsockopt(*HOP_LIMIT[listener.family])


HOP_LIMIT = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TTL),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS),
}


@needs_ipv6
@pytest.mark.parametrize(("host", "is_limited"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False)])
def test_loopback_listener_has_a_hop_limit_of_one(host: str, *, is_limited: bool) -> None:
    listeners = listen(SETTING, (host, 0))
    clients = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
    try:
        limits = [hop_limit_of_an_answer(listener, clients[listener.family]) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
    assert len(limits) == 2
    assert all((limit == 1) is is_limited for limit in limits)


def test_other_loopback_address_gets_one_listener() -> None:
    (listener,) = listen(SETTING, ("127.0.0.2", 0))
    with listener:
        assert listener.getsockname()[0] == "127.0.0.2"
        assert listener.gettimeout() == 0


@needs_ipv6
@pytest.mark.parametrize("taken", ["127.0.0.1", "::1"])
def test_port_in_use_in_either_family_is_an_error(taken: str) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.create_server((taken, 0), family=family) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            listen(SETTING, ("127.0.0.1", port))
    message = str(caught.value)
    assert SETTING in message
    assert str(port) in message
    assert "ss -ltnp" in message


def test_port_that_another_process_took_closes_all_sockets() -> None:
    """Two sockets may bind one port, but only one of them can listen."""
    setting, address = "LISTEN", ("127.0.0.2", 0)
    first = bind(setting, address)
    port = first[0].getsockname()[1]
    second = bind(setting, ("127.0.0.2", port))
    start_listening(setting, first)
    with pytest.raises(ConfigurationError, match=f"LISTEN: cannot listen on 127.0.0.2:{port}"):
        start_listening(setting, second)
    assert [each.fileno() for each in second] == [-1]
    first[0].close()


@needs_ipv6
def test_failure_of_one_family_closes_the_other_socket() -> None:
    port = free_port()  # a free IPv4 port, because the kernel may assign any other port to another process's connection
    with socket.create_server(("::1", port), family=socket.AF_INET6):
        with pytest.raises(ConfigurationError):
            listen(SETTING, ("127.0.0.1", port))
        socket.create_server(("127.0.0.1", port)).close()


def test_address_that_no_interface_has_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="no interface here has this address"):
        listen(SETTING, ("192.0.2.1", 0))


class WithoutIpv6(socket.SocketType):
    """A socket class that raises the error of a kernel without IPv6."""

    def __init__(self, family: int = socket.AF_INET, *rest: int, **named: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *rest, **named)


def without_any(*_: int) -> socket.SocketType:
    raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_missing_address_family_is_skipped(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.serving.listen.Listener", WithoutIpv6)
    (listener,) = listen(SETTING, (host, 0))
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"


class Unlucky(socket.SocketType):
    """A socket class whose first free ports for IPv4 are in use in IPv6."""

    taken = 2

    def bind(self, address: Any) -> None:
        if self.family == socket.AF_INET6 and Unlucky.taken:
            Unlucky.taken -= 1
            raise OSError(errno.EADDRINUSE, "Address already in use")
        super().bind(address)


@needs_ipv6
def test_free_port_is_free_in_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.serving.listen.Listener", Unlucky)
    listeners = listen(SETTING, ("127.0.0.1", 0))
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])
def test_machine_without_loopback_is_an_error(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.serving.listen.Listener", without_any)
    with pytest.raises(ConfigurationError, match="lacks that address family"):
        listen(SETTING, (host, 0))


def test_early_listener_imports_only_light_modules() -> None:
    script = "import sys, sidecar.serving.early_listener; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {script}"],
        check=True,
        capture_output=True,
        text=True,
    )
    heavy = {
        "typing",
        "re",
        "json",
        "dataclasses",
        "ipaddress",
        "socket",
        "signal",
        "hashlib",
        "trio",
        "ssl",
        "logging",
    }
    assert heavy.isdisjoint(loaded.stdout.split())


def bytes_pushed(client: socket.socket) -> int:
    """Return the number of bytes that the kernel accepts while no process reads, at most a mebibyte."""
    pushed = 0
    with suppress(BlockingIOError):
        while pushed < 1024 * 1024:
            pushed += client.send(bytes(4096))
    return pushed


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", pytest.param("::1", marks=needs_ipv6)])
def test_listen_limits_the_receive_buffer(host: str) -> None:
    """Let a client with a small send buffer send until all buffers are full. Check the size of the server's buffer."""
    for listener in listen(SETTING, (host, 0)):
        address = (listener.getsockname()[0].replace("0.0.0.0", "127.0.0.1"), listener.getsockname()[1])
        with listener, socket.socket(listener.family) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            client.connect(address)
            client.settimeout(0)
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) <= 2 * RECEIVE_BUFFER_BYTES
                assert bytes_pushed(client) <= 4 * RECEIVE_BUFFER_BYTES
