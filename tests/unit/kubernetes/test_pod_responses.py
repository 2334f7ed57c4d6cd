"""Test that a Pod behind the API server's proxy cannot harm the client or the other requests."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from sidecar.errors import KubernetesError
from sidecar.kubernetes.client import Kubernetes, open_cluster
from sidecar.kubernetes.kubeconfig import find_cluster
from tests.support.fakes.api_server import kubeconfig
from tests.support.fakes.threaded import serving

Write = Callable[[bytes], object]

PATH = "/api/v1/namespaces/shop/pods/cart:4773/proxy/status"


class Pod:
    """A Pod that sends `head` and then what `send` writes. `requests` has the head of each request."""

    def __init__(self) -> None:
        self.head = "HTTP/1.1 200 OK\r\n"
        self.send: Callable[[Write], object] = lambda _write: None
        self.requests: list[str] = []


@pytest.fixture
def pod() -> Pod:
    return Pod()


@pytest.fixture
def kubernetes(pod: Pod, tmp_path: Path, no_proxies: None) -> Iterator[Kubernetes]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pod.requests.append(f"{self.path}\n{self.headers}")
            with suppress(OSError):  # the client may close the connection first
                self.wfile.write(f"{pod.head}Connection: close\r\n\r\n".encode())
                pod.send(self.wfile.write)

        def log_message(self, *_: object) -> None:
            """Ignore log messages of http.server."""

    with serving(Handler) as url:
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(url, {"token": "secret"})))
        with open_cluster(find_cluster({"KUBECONFIG": str(tmp_path / "kubeconfig")})) as found:
            yield found


def read(kubernetes: Kubernetes, *, seconds: float = 30.0) -> bytes:
    return kubernetes.read_from_pod(PATH, max_bytes=1000, seconds=seconds)


def test_body_is_returned(kubernetes: Kubernetes, pod: Pod) -> None:
    pod.send = lambda write: write(b"body")
    assert read(kubernetes) == b"body"
    assert "Accept-Encoding: identity" in pod.requests[0]


def test_endless_body_is_cut(kubernetes: Kubernetes, pod: Pod) -> None:
    def send(write: Write) -> None:
        while True:
            write(b"x" * 1000)

    pod.send = send
    with pytest.raises(KubernetesError, match="over 1000 bytes"):
        read(kubernetes)


def test_compressed_body_is_rejected(kubernetes: Kubernetes, pod: Pod) -> None:
    pod.head += "Content-Encoding: gzip\r\n"
    pod.send = lambda write: write(gzip.compress(b"0" * 100_000)[:900])
    with pytest.raises(KubernetesError, match="compressed"):
        read(kubernetes)


def test_slow_body_ends_at_the_deadline(kubernetes: Kubernetes, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a part of the body. When it arrives, the client's clock is past the deadline, before a read times out."""
    times = iter([0.0])
    monkeypatch.setattr("sidecar.kubernetes.client.time", SimpleNamespace(monotonic=lambda: next(times, 100.0)))
    pod.send = lambda write: write(b"x")
    with pytest.raises(KubernetesError, match="no complete response within 30 s"):
        read(kubernetes)


def test_redirect_is_not_followed(kubernetes: Kubernetes, pod: Pod) -> None:
    pod.head = "HTTP/1.1 307 Temporary Redirect\r\nLocation: /api/v1/secrets\r\n"
    with pytest.raises(KubernetesError) as raised:
        read(kubernetes)
    assert raised.value.status == 307
    assert len(pod.requests) == 1


def test_cookies_are_not_sent_with_the_next_request(kubernetes: Kubernetes, pod: Pod) -> None:
    pod.head += "Set-Cookie: session=x; Path=/\r\nSet-Cookie: big=" + "x" * 4000 + "\r\n"
    for _ in range(2):
        read(kubernetes)
    assert "cookie" not in pod.requests[1].lower()


def test_broken_response_is_an_error(kubernetes: Kubernetes, pod: Pod) -> None:
    pod.head = "nonsense\r\n"
    with pytest.raises(KubernetesError, match="not reached"):
        read(kubernetes)


def test_missing_permission_names_the_subresource(kubernetes: Kubernetes, pod: Pod) -> None:
    pod.head = "HTTP/1.1 403 Forbidden\r\n"
    with pytest.raises(KubernetesError, match=r"get pods/proxy.*can-i get pods --subresource=proxy -n shop"):
        read(kubernetes)
