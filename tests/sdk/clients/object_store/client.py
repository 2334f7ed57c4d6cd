"""
Use Rust's object_store, as DataFusion, delta-rs and polars do, through its Python package obstore.

It does not show its credentials. A URL that it presigns, without a request to S3, names them.
"""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.store import S3Store

from tests.sdk.clients.answering import Credentials, answer_questions

# By default it retries for three minutes before it reports the error.
store = S3Store("bucket", retry_config={"max_retries": 2})


def get() -> Credentials:
    url = obstore.sign(store, "GET", "key", timedelta(minutes=1))
    query = parse_qs(urlsplit(url).query)
    return Credentials(
        accessKeyId=query["X-Amz-Credential"][0].partition("/")[0],
        secretAccessKey=None,
        sessionToken=query["X-Amz-Security-Token"][0],
    )


answer_questions({"get": get})
