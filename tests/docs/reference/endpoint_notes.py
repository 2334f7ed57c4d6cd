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

STATUS_FIELDS: Mapping[str, Mapping[str, str]] = {
    "the document": {
        "schema_version": "The version of the form of this document.",
        "version": "The version of irsa-sidecar.",
        "now": "The time on the clock of the daemon.",
        "started_at": "When the daemon started.",
        "uptime_seconds": "The seconds since the start. A small number after a restart of the container.",
        "is_available": "True if every role has valid credentials.",
        "roles": "The roles, in the order of the configuration.",
    },
    "a role": {
        "name": "The name of the role, `default` without a roles file.",
        "role_arn": "The ARN of the role, or of the last role of a chain.",
        "state": "The state of the role, from the table below.",
        "expires_at": "When the credentials expire or expired, corrected by the clock skew.",
        "expires_in_seconds": "The seconds until then. Negative if the credentials have expired.",
        "next_refresh_at": "When the daemon makes its next attempt. A new token can make the attempt earlier.",
        "next_refresh_in_seconds": "The seconds until then. 0 while an attempt is in progress.",
        "token_expires_at": "When the service account token expires, by its `exp` claim.",
        "token_expires_in_seconds": "The seconds until then, on the wall clock of the daemon.",
        "session_seconds": "The duration of the last session that STS granted.",
        "clock_skew_seconds": "The seconds by which the clock of STS is ahead of the clock of the daemon.",
        "last_call": "The last call to STS that has ended, or null.",
        "error": "Why the last attempt failed, or null if it succeeded or no attempt has ended yet.",
        "served": "The number of responses with credentials since the start. It can be one second old.",
        "clients": "The last users that got credentials, newest first. There are at most five.",
    },
    "`last_call`": {
        "code": "`success`, the error code of STS, or a code of irsa-sidecar such as `Timeout`.",
        "http_status": "The HTTP status, or null if there was no response.",
        "at": "When the call ended.",
        "seconds_ago": "The seconds since then.",
        "duration_seconds": "The duration of the call.",
    },
    "`error`": {
        "code": "The code of the error. `Stuck` means that the loop of the role does not run.",
        "message": "The reason and the fix, as `/readyz` shows them.",
        "needs_person": "True if only a person can fix the error, so that retries do not help.",
    },
    "an element of `clients`": {
        "uid": "The user id of the client, or null if it is unknown.",
        "pid": "The process id of the user's last client. It is null if the Pod's processes are not shared.",
        "last_served_at": "When the daemon last recognized the user of a response with credentials. It determines the "
        "users of at most ten responses per second.",
        "seconds_ago": "The seconds since then.",
    },
}
"""The fields of the document of /status, by object, in their order."""
