"""
Use AWS CLI v1 with one process per question, as in a shell.

It has no command that prints credentials. A URL that it presigns, without a request, names them.
"""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.sdk.clients.answering import Credentials, answer_questions

AWS = str(Path(sys.executable).parent / "aws")


class CliError(Exception):
    """An error of the CLI: its stderr."""


def aws(*arguments: str) -> str:
    done = subprocess.run([AWS, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CliError(done.stderr)
    return done.stdout


def get() -> Credentials:
    query = parse_qs(urlsplit(aws("s3", "presign", "s3://bucket/key").strip()).query)
    return Credentials(
        accessKeyId=query["AWSAccessKeyId"][0], secretAccessKey=None, sessionToken=query["x-amz-security-token"][0]
    )


def whoami() -> object:
    return {"arn": json.loads(aws("sts", "get-caller-identity", "--output", "json"))["Arn"]}


answer_questions({"get": get, "whoami": whoami})
