"""Use boto3 with one session, as an application does. The client with Debian 12's botocore also runs this program."""

import os

import boto3

from tests.sdk.clients.request_loop import Credentials, handle_requests

session = boto3.Session()


def get() -> Credentials:
    credentials = session.get_credentials()
    if credentials is None:
        raise LookupError("Unable to locate credentials")  # boto3's own clients raise this error
    access_key, secret_key, token, *_ = credentials.get_frozen_credentials()
    return Credentials(accessKeyId=access_key, secretAccessKey=secret_key, sessionToken=token)


def whoami() -> object:
    # botocore before 1.31 does not read the variable automatically.
    client = session.client("sts", endpoint_url=os.environ["AWS_ENDPOINT_URL_STS"])
    return {"arn": client.get_caller_identity()["Arn"]}


handle_requests({"get": get, "whoami": whoami})
