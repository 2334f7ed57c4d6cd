"""
The loop of every Python client here: a question a line on stdin, an answer a line of JSON on stdout.

`get` is answered with the set that the SDK's default chain gives, `whoami` with the ARN that STS tells a caller who
signed with it. What goes wrong is answered as `{"error": …}`, in the words that a person reads who did not catch it.
"""

import json
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import TypedDict


class Credentials(TypedDict):
    """A set as far as the client shows it: None is what stays inside it."""

    accessKeyId: str | None
    secretAccessKey: str | None
    sessionToken: str | None


def answer_questions(questions: Mapping[str, Callable[[], object]]) -> None:
    """Until stdin ends."""
    for line in sys.stdin:
        try:
            answer = questions[line.strip()]()
        except Exception:  # noqa: BLE001  whatever it is, a person would read it
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
