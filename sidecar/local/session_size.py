"""
Calculate the size of a session token, which STS has limited since September 2026. Pure.

Session policies, session tags and inherited transitive tags are in the session token, whose limit is 4,096 bytes. AWS
packs them in an undocumented way. Here each of them counts in full, so a request that this STS accepts is small enough
for AWS.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sidecar.local.parameters import Parameters
from sidecar.oidc.sts_rejection import StsRejection

MAX_TOKEN_BYTES = 4096
"""STS's limit for a session token (AWS announcement of 2026-09-15; `MinimumSessionTokenSize` in the STS model)."""

PLAIN_TOKEN_BYTES = 600
"""The approximate size of an STS session token without policies and tags."""

MAX_POLICY_CHARACTERS = 2048
"""Limit for session policy and policy ARNs together, in plain text (AWS STS API reference)."""

Tags = tuple[tuple[str, str], ...]


class SessionSize(NamedTuple):
    """
    The session token's size, and the percentage that is used of the space for policies and tags.

    `packed_percent` is None if there are no policies and tags.
    """

    token_bytes: int
    packed_percent: int | None

    @property
    def utilization_percent(self) -> int:
        return _percent(self.token_bytes, MAX_TOKEN_BYTES)


def session_size(parameters: Parameters, inherited: Tags) -> SessionSize:
    """
    Return the size of the requested session. `inherited` are the inherited transitive tags.

    Raises StsRejection if the session is too large.
    """
    policies = [item["arn"] for item in parameters.get("PolicyArns", []) if "arn" in item]
    policies += [parameters["Policy"]] if "Policy" in parameters else []
    _check_plain_text(policies)
    tags = [*tags_of(parameters), *inherited]
    content = _bytes(policies) + sum(_bytes(tag) for tag in tags)
    size = PLAIN_TOKEN_BYTES + content
    if size > MAX_TOKEN_BYTES:
        raise StsRejection(
            "PackedPolicyTooLarge",
            f"The session token exceeded the maximum allowed size of {MAX_TOKEN_BYTES} bytes: it has {size} bytes.",
            reason=f"policies and tags, {len(inherited)} of them inherited, have {content} bytes in the session token",
        )
    packed = _percent(content, MAX_TOKEN_BYTES - PLAIN_TOKEN_BYTES) if policies or tags else None
    return SessionSize(max(size, int(parameters.get("MinimumSessionTokenSize", 0))), packed)


def tags_of(parameters: Parameters) -> Tags:
    return tuple((tag["Key"], tag.get("Value", "")) for tag in parameters.get("Tags", []))


def _check_plain_text(policies: Iterable[str]) -> None:
    percent = _percent(sum(map(len, policies)), MAX_POLICY_CHARACTERS)
    if percent > 100:
        raise StsRejection(
            "PackedPolicyTooLarge",
            f"Packed policy consumes {percent}% of allotted space, please use smaller policy.",
            reason=f"session policy and policy ARNs have more than {MAX_POLICY_CHARACTERS} characters together",
        )


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _percent(part: int, whole: int) -> int:
    return -(-100 * part // whole)
