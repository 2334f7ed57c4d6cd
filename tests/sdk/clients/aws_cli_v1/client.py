"""
Use AWS CLI v1 with one process per request, as in a shell.

AWS CLI v1 has no command that prints credentials. But it can presign a URL without a request, and the URL contains the
access key and the session token.
"""

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.sdk.clients.request_loop import Credentials, handle_requests

AWS = str(Path(sys.executable).parent / "aws")


class CliError(Exception):
    """A failure of the CLI. The text is its stderr."""


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


handle_requests({"get": get, "whoami": whoami})
