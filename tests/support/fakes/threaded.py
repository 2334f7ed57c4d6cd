"""Run servers of the standard library in threads."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _QuietServer(ThreadingHTTPServer):
    """A server without error output, because in some tests a client rejects the server's certificate."""

    def handle_error(self, *_: object) -> None:
        """Ignore errors of connections."""


@contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler],
    tls: ssl.SSLContext | None = None,
    listener: socket.socket | None = None,
) -> Iterator[str]:
    """
    Run the server on a free loopback port, and yield its URL. All its threads end with the block.

    `listener` is a socket that the server uses instead, for example a socket of another network namespace.
    """
    server = (_QuietServer if tls else ThreadingHTTPServer)(("127.0.0.1", 0), handler, bind_and_activate=not listener)
    if listener is not None:
        server.socket.close()
        server.socket, server.server_address = listener, listener.getsockname()
    if tls is not None:  # the handshake happens in the thread of the connection
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
