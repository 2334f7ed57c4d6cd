"""
Sign requests with credentials (AWS Signature Version 4), using botocore's signer.

Rules. The module is imported only for role chains: botocore's signer loads 4 MiB of modules, which nothing else in a
Pod needs. The module does not read this machine's clock, because the clock may be wrong.
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
    """
    The attributes of botocore's ReadOnlyCredentials that the signer reads.

    Importing botocore.credentials would take 2 MiB more.
    """

    access_key: str
    secret_key: str
    token: str


def signature_headers(
    url: str, headers: Mapping[str, str], body: bytes, credentials: Credentials, *, region: str, at: datetime
) -> dict[str, str]:
    """
    Return the headers that sign a POST of `body` to `url` with `credentials`.

    All of `headers` are signed, and must be sent unchanged. `at` is the time on STS's clock (aware); STS tolerates 15
    minutes. `region` is the region of this STS.
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
