"""
Run the loop of every Python client: one question per line on stdin, one JSON line per answer on stdout.

`get` returns the credentials of the SDK's default chain. `whoami` returns the ARN that STS reports to a caller with
these credentials. A failure returns `{"error": …}`, with the text of an uncaught exception.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TypedDict


class Credentials(TypedDict):
    """Credentials as far as the client shows them. None is a part that stays inside it."""

    accessKeyId: str | None
    secretAccessKey: str | None
    sessionToken: str | None


def answer_questions(questions: Mapping[str, Callable[[], object]]) -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        try:
            answer = questions[line.strip()]()
        except Exception:  # noqa: BLE001  whatever it is, a person would read it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
