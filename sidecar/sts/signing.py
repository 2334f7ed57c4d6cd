"""
The signature of a request that goes out with credentials (AWS Signature Version 4), by botocore's own signer.

Imported only where a role has a chain: botocore's signer brings 4 MiB of modules with it, and nothing else of a Pod's
needs them. It reads no clock of this machine's, as that may be wrong.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, cast

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest

from sidecar.credentials import Credentials

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

SERVICE = "sts"


class _Keys(NamedTuple):
    """What the signer wants of botocore's ReadOnlyCredentials, whose module would bring in 2 MiB more."""

    access_key: str
    secret_key: str
    token: str


def signature_headers(
    url: str, headers: Mapping[str, str], body: bytes, credentials: Credentials, *, region: str, at: datetime
) -> dict[str, str]:
    """
    The headers to add to a POST of `body` to `url`, so that STS takes it as one of the session with `credentials`.

    All of `headers` are signed, and must go out as they are. `at` is the time by STS's clock (aware), which takes
    what is no more than a quarter of an hour off; `region` is the one whose STS it is.
    """
    dated = {
        "X-Amz-Date": at.astimezone(UTC).strftime(SIGV4_TIMESTAMP),
        "X-Amz-Security-Token": credentials.session_token,
    }
    keys = _Keys(credentials.access_key_id, credentials.secret_access_key, credentials.session_token)
    signer = SigV4Auth(cast("ReadOnlyCredentials", keys), SERVICE, region)
    request = AWSRequest("POST", url, {**headers, **dated}, body)
    request.context["timestamp"] = dated["X-Amz-Date"]
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    names = signer.signed_headers(signer.headers_to_sign(request))
    return {
        **dated,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={signer.scope(request)}, "
        f"SignedHeaders={names}, Signature={signature}",
    }
