"""Describe the paths and statuses of the listeners. Tests compare them with the code."""

from collections.abc import Mapping

STATUSES: Mapping[int, str] = {
    200: "The response has what was requested.",
    400: "The request is not valid HTTP.",
    401: "The client sent no secret, or sent no valid session token to the metadata service.",
    403: "The client may not have the credentials.",
    404: "The path does not exist.",
    405: "The method is not allowed.",
    408: "The request did not arrive completely in time.",
    431: "The head of the request is too large.",
    500: "An error in the daemon. Its log has the details.",
    503: "The daemon has no valid credentials, or too many connections. SDKs retry the request.",
    505: "The version of HTTP is not 1.0 or 1.1.",
}
"""The meaning of each status."""

CREDENTIAL_FIELDS: Mapping[str, str] = {
    "AccessKeyId": "The access key ID.",
    "SecretAccessKey": "The secret access key.",
    "Token": "The session token.",
    "Expiration": "When the credentials expire, in UTC with whole seconds.",
    "AccountId": "The AWS account of the role.",
    "RoleArn": "The ARN of the role, or of the last role of a chain.",
}
"""The fields of the response with credentials, in their order."""

HEADERS: Mapping[str, str] = {
    "Content-Type": "The type of the body. Errors have `application/json`, because Go's and Kotlin's SDKs require it.",
    "Content-Length": "The length of the body in bytes.",
    "Cache-Control": "`no-store`, so that no cache keeps credentials.",
    "Connection": "`close`: a connection has one request.",
    "Retry-After": "With a 503: the time until the client should retry, 1 second.",
    "x-amz-retry-after": "With a 503: the same time in milliseconds, for AWS SDKs since late 2026.",
    "WWW-Authenticate": "With a 401: `Token`.",
    "Allow": "With a 405: the allowed methods.",
    "X-Aws-Ec2-Metadata-Token-Ttl-Seconds": "With the token of a session: its lifetime in seconds.",
}
"""The headers of responses."""

DENIALS: Mapping[str, str] = {
    "no secret": "The client sent no Authorization header.",
    "authorization scheme": "The header has a scheme such as Bearer before the secret.",
    "quoted secret": "The header has quotes around the secret.",
    "wrong secret": "The header has a wrong secret.",
    "unknown user": "The role has `allow_uids`, and the client's user is unknown.",
    "wrong user": "The role has `allow_uids`, and the client's user is not in this list.",
}
"""The values of `reason` in the log event `request_denied`."""

IMDS_DOCUMENTS: Mapping[str, str] = {
    "/latest/meta-data/iam/security-credentials/": "The name of the role.",
    "/latest/meta-data/iam/security-credentials/app": "The credentials of the role, here of `app`.",
    "/latest/meta-data/iam/info": "The account and the partition of the role, in the ARN of an instance profile.",
    "/latest/meta-data/placement/region": "The region of the sidecar.",
    "/latest/meta-data/placement/availability-zone": "The first zone of the region. Old SDKs read the region from it.",
    "/latest/dynamic/instance-identity/document": "The account and the region.",
}
"""The documents of the emulated metadata service."""
