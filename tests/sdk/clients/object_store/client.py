"""
Use Rust's object_store, as DataFusion, delta-rs and polars do, through the Python package obstore.

object_store does not show its credentials. But it can presign a URL without a request to S3, and the URL contains the
access key and the session token.
"""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.store import S3Store

from tests.sdk.clients.request_loop import Credentials, handle_requests

# By default object_store retries for three minutes before it reports the error.
store = S3Store("bucket", retry_config={"max_retries": 2})


def get() -> Credentials:
    url = obstore.sign(store, "GET", "key", timedelta(minutes=1))
    query = parse_qs(urlsplit(url).query)
    return Credentials(
        accessKeyId=query["X-Amz-Credential"][0].partition("/")[0],
        secretAccessKey=None,
        sessionToken=query["X-Amz-Security-Token"][0],
    )


handle_requests({"get": get})
