"""
Rust's object_store, which DataFusion, delta-rs and polars use, through its Python package obstore.

It shows its credentials to nobody; what it presigns, without asking S3, names them.
"""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.store import S3Store

from tests.sdk.clients.answering import Credentials, answer_questions

# It would try again for three minutes before it says what is wrong.
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
