"""Read CloudTrail's event history, which every account has for 90 days."""

import json

from sidecar.attribution.target import Target
from sidecar.setup.aws import Aws

ACTION = "cloudtrail:LookupEvents"
"""The IAM action that the calls need."""


def attribute_of(target: Target) -> dict[str, str]:
    """Return the attribute for LookupEvents, which accepts only one. In CloudTrail, a session name is a user name."""
    if target.access_key_id:
        return {"AttributeKey": "AccessKeyId", "AttributeValue": target.access_key_id}
    if target.session_name:
        return {"AttributeKey": "Username", "AttributeValue": target.session_name}
    return {"AttributeKey": "ResourceName", "AttributeValue": target.role_name}


def look_up(profile: str | None, region: str | None, attribute: dict[str, str]) -> str:
    """
    Return the events with the attribute and all AssumeRoleWithWebIdentity events as JSON, or "" if there are none.

    Raises SidecarError if CloudTrail rejects a call.
    """
    exchanges = {"AttributeKey": "EventName", "AttributeValue": "AssumeRoleWithWebIdentity"}
    with Aws(profile, region) as aws:
        events = [
            {"CloudTrailEvent": str(event.get("CloudTrailEvent"))}
            for each in (attribute, exchanges)
            for event in aws.call("cloudtrail", "LookupEvents", LookupAttributes=[each]).get("Events", ())
        ]
    unique = {event["CloudTrailEvent"]: event for event in events}
    return json.dumps({"Events": list(unique.values())}) if unique else ""
