"""What has to change so that an account takes an issuer's tokens for an audience. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from sidecar.errors import ConfigurationError
from sidecar.setup.plan import Call, Plan
from sidecar.setup.resources import OidcProvider, tag_list

MAX_THUMBPRINTS = 5
MAX_AUDIENCES = 100
"""IAM's, for one provider (API reference, CreateOpenIDConnectProvider)."""


def plan_provider(now: OidcProvider | None, wanted: OidcProvider) -> Plan:
    """Audiences, thumbprints and tags are added, none is taken away. Raises ConfigurationError at IAM's limits."""
    then = wanted if now is None else _joined(now, wanted)
    if len(then.audiences) > MAX_AUDIENCES:
        raise ConfigurationError(
            f"--audience would be number {len(then.audiences)} of {then.title}, and IAM takes {MAX_AUDIENCES}: remove "
            "one that is not used (aws iam remove-client-id-from-open-id-connect-provider)."
        )
    if len(then.thumbprints) > MAX_THUMBPRINTS:
        raise ConfigurationError(
            f"{then.title} has {MAX_THUMBPRINTS} thumbprints, the most that IAM takes, and none is "
            f"{wanted.thumbprints[0]}: remove one (aws iam update-open-id-connect-provider-thumbprint)."
        )
    return Plan(then, now, tuple(_creation(then) if now is None else _update(now, then)))


def _joined(now: OidcProvider, wanted: OidcProvider) -> OidcProvider:
    return replace(
        now,
        audiences=_union(now.audiences, wanted.audiences),
        thumbprints=_union(now.thumbprints, wanted.thumbprints),
        tags={**now.tags, **wanted.tags},
    )


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


def _creation(then: OidcProvider) -> Iterator[Call]:
    parameters = then.document()
    yield Call("CreateOpenIDConnectProvider", parameters, "create the provider")


def _update(now: OidcProvider, then: OidcProvider) -> Iterator[Call]:
    provider = {"OpenIDConnectProviderArn": then.arn}
    for audience in then.audiences[len(now.audiences) :]:
        yield Call("AddClientIDToOpenIDConnectProvider", provider | {"ClientID": audience}, f"add audience {audience}")
    if then.thumbprints != now.thumbprints:
        thumbprints = {"ThumbprintList": list(then.thumbprints)}
        yield Call("UpdateOpenIDConnectProviderThumbprint", provider | thumbprints, "write its thumbprints")
    if tags := {key: value for key, value in then.tags.items() if now.tags.get(key) != value}:
        yield Call("TagOpenIDConnectProvider", provider | {"Tags": tag_list(tags)}, f"tag it with {', '.join(tags)}")
