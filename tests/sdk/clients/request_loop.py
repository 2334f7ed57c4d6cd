"""
Run the loop of every Python client: read one request per line from stdin, and write one JSON line per response.

`get` returns the credentials of the SDK's default chain. `whoami` returns the ARN that STS reports to a caller with
these credentials. A failure returns `{"error": …}`, with the text of an uncaught exception.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TypedDict


class Credentials(TypedDict):
    """The parts of credentials that a client shows. A part that the client does not show is None."""

    accessKeyId: str | None
    secretAccessKey: str | None
    sessionToken: str | None


def handle_requests(handlers: Mapping[str, Callable[[], object]]) -> None:
    """Respond to requests until stdin ends."""
    for line in sys.stdin:
        try:
            response = handlers[line.strip()]()
        except Exception:  # noqa: BLE001  the tests read the text of every exception
            response = {"error": traceback.format_exc()}
        print(json.dumps(response), flush=True)
