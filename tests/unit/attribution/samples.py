"""Create log lines with the daemon's own logger, and CloudTrail records in the form of AWS's documentation."""

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

from sidecar.log import make_logger

KEY, CHAINED_KEY, OTHER_KEY = "ASIAIOSFODNN7EXAMPLE", "ASIACHAINEDKEY000001", "ASIAOTHERKEY00000001"
ROLE, CHAINED_ROLE = "arn:aws:iam::111122223333:role/cart", "arn:aws:iam::444455556666:role/orders"
SESSION = "shop.cart-7d4b9c-x2x9z"
ARN = f"arn:aws:sts::111122223333:assumed-role/cart/{SESSION}"
PROVIDER = "arn:aws:iam::111122223333:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE"
START = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
NODE_ADDRESS = "203.0.113.10"


def log_line(event: str, **fields: Any) -> str:
    """Return the line that the daemon's logger writes."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end) as reader:
        logger, _ = make_logger("json", "info", fd=write_end)
        logger.info(event, **fields)
        os.close(write_end)
        return reader.read().strip()


def refreshed(key: str = KEY, role: str = ROLE) -> str:
    expiration = (START + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return log_line(
        "credentials_refreshed",
        role_name="default",
        role_arn=role,
        access_key_id=key,
        expiration=expiration,
        refresh_in_seconds=1800,
    )


def served(key: str = KEY, **fields: Any) -> str:
    return log_line("credentials_served", role_name="default", access_key_id=key, peer="127.0.0.1:40000", **fields)


def time_text(minutes: int) -> str:
    return (START + timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")


def exchange(key: str = KEY, session: str = SESSION, **changes: Any) -> dict[str, Any]:
    """Return the record of an exchange (IAM User Guide, Example AssumeRoleWithWebIdentity record)."""
    subject = "system:serviceaccount:shop:cart"
    return {
        "eventVersion": "1.08",
        "userIdentity": {
            "type": "WebIdentityUser",
            "principalId": f"{PROVIDER}:sts.amazonaws.com:{subject}",
            "userName": subject,
            "identityProvider": PROVIDER,
        },
        "eventTime": time_text(0),
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRoleWithWebIdentity",
        "awsRegion": "eu-west-1",
        "sourceIPAddress": NODE_ADDRESS,
        "userAgent": "irsa-sidecar/1.0",
        "requestParameters": {"roleArn": ROLE, "roleSessionName": session},
        "responseElements": {
            "credentials": {"accessKeyId": key, "expiration": "Nov 28, 2026, 1:00:00 PM", "sessionToken": "redacted"},
            "subjectFromWebIdentityToken": subject,
            "assumedRoleUser": {"arn": f"arn:aws:sts::111122223333:assumed-role/cart/{session}"},
            "provider": PROVIDER,
            "audience": "sts.amazonaws.com",
        },
        "eventType": "AwsApiCall",
        "recipientAccountId": "111122223333",
        **changes,
    }


def chain_step() -> dict[str, Any]:
    """Return the record of the AssumeRole call with which the session of KEY obtained CHAINED_KEY."""
    return {
        "eventTime": time_text(1),
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRole",
        "userIdentity": {"type": "AssumedRole", "arn": ARN, "accessKeyId": KEY},
        "sourceIPAddress": NODE_ADDRESS,
        "userAgent": "irsa-sidecar/1.0",
        "requestParameters": {"roleArn": CHAINED_ROLE, "roleSessionName": SESSION},
        "responseElements": {"credentials": {"accessKeyId": CHAINED_KEY, "expiration": "Nov 28, 2026, 1:00:00 PM"}},
    }


def call(name: str = "GetObject", key: str = KEY, minutes: int = 5, **changes: Any) -> dict[str, Any]:
    """Return the record of a call that the session's credentials signed."""
    return {
        "eventTime": time_text(minutes),
        "eventSource": "s3.amazonaws.com",
        "eventName": name,
        "userIdentity": {"type": "AssumedRole", "arn": ARN, "accessKeyId": key},
        "sourceIPAddress": NODE_ADDRESS,
        "userAgent": "Boto3/1.40",
        **changes,
    }


def trail_file(*records: dict[str, Any]) -> str:
    return json.dumps({"Records": list(records)})
