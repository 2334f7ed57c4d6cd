"""
Serve an STS that responds to every AssumeRoleWithWebIdentity at once, so that a benchmark measures only the daemon.

    python benchmarks/stub_sts.py [PORT] [SECONDS]

The program prints its URL. Its sessions last SECONDS (3600).
"""

import argparse
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

REPLY = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <Audience>sts.amazonaws.com</Audience>
    <AssumedRoleUser>
      <AssumedRoleId>AROAEXAMPLEROLEID0001:shop.cart</AssumedRoleId>
      <Arn>arn:aws:sts::111122223333:assumed-role/app/shop.cart</Arn>
    </AssumedRoleUser>
    <Provider>arn:aws:iam::111122223333:oidc-provider/oidc.example.com/id/A</Provider>
    <Credentials>
      <AccessKeyId>ASIAEXAMPLE{number:09d}</AccessKeyId>
      <SecretAccessKey>{secret}</SecretAccessKey>
      <SessionToken>{token}</SessionToken>
      <Expiration>{expiration}</Expiration>
    </Credentials>
    <SubjectFromWebIdentityToken>system:serviceaccount:shop:cart</SubjectFromWebIdentityToken>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>00000000-0000-4000-8000-000000000000</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>"""


class StubSts(BaseHTTPRequestHandler):
    """A handler that counts its responses, so that all credentials differ. `GET /returned` returns the count."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    """The buffer size -1 sends head and body in one segment. A second segment could wait 40 ms for the first ACK."""
    life_seconds: ClassVar[float] = 3600
    returned: ClassVar[int] = 0

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        StubSts.returned += 1
        self._send("text/xml", reply(StubSts.returned, datetime.now(UTC) + timedelta(seconds=StubSts.life_seconds)))

    def do_GET(self) -> None:
        self._send("text/plain", str(StubSts.returned).encode())

    def _send(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing, because a measurement must not wait for a terminal."""


def reply(number: int, expires_at: datetime) -> bytes:
    """Return a response of realistic size. Session tokens of web identities have about 1 KiB."""
    expiration = expires_at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return REPLY.format(number=number, secret="s" * 40, token="T" * 900, expiration=expiration).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an STS that responds at once.")
    parser.add_argument("port", type=int, nargs="?", default=0, help="port [0: a free one]")
    parser.add_argument("seconds", type=float, nargs="?", default=3600, help="lifetime of a session [3600]")
    args = parser.parse_args()
    StubSts.life_seconds = args.seconds
    server = ThreadingHTTPServer(("127.0.0.1", args.port), StubSts)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
