"""Plan the changes that make an AWS account accept an issuer's tokens for an audience. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from sidecar.errors import ConfigurationError
from sidecar.setup.plan import Call, Plan
from sidecar.setup.resources import OidcProvider, tag_list

MAX_THUMBPRINTS = 5
MAX_AUDIENCES = 100
"""IAM's limits for one provider (API reference, CreateOpenIDConnectProvider)."""


def plan_provider(current: OidcProvider | None, wanted: OidcProvider) -> Plan:
    """
    Plan the creation of the provider, or the additions of audiences, thumbprints and tags that it lacks.

    Nothing is removed, but an existing tag may get another value.

    Raises ConfigurationError if the provider would exceed IAM's limits.
    """
    planned = wanted if current is None else _joined(current, wanted)
    if len(planned.audiences) > MAX_AUDIENCES:
        raise ConfigurationError(
            f"--audience would be number {len(planned.audiences)} of {planned.title}, but IAM accepts {MAX_AUDIENCES}",
            fix="Remove one that is not used (aws iam remove-client-id-from-open-id-connect-provider)",
            setting="--audience",
        )
    if len(planned.thumbprints) > MAX_THUMBPRINTS:
        raise ConfigurationError(
            f"{planned.title} has {MAX_THUMBPRINTS} thumbprints, the maximum in IAM, and none is "
            f"{wanted.thumbprints[0]}",
            fix="Remove one (aws iam update-open-id-connect-provider-thumbprint)",
        )
    return Plan(planned, current, tuple(_creation(planned) if current is None else _update(current, planned)))


def _joined(current: OidcProvider, wanted: OidcProvider) -> OidcProvider:
    return replace(
        current,
        audiences=_union(current.audiences, wanted.audiences),
        thumbprints=_union(current.thumbprints, wanted.thumbprints),
        tags={**current.tags, **wanted.tags},
    )


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


def _creation(planned: OidcProvider) -> Iterator[Call]:
    parameters = planned.document()
    yield Call("CreateOpenIDConnectProvider", parameters, "create the provider")


def _update(current: OidcProvider, planned: OidcProvider) -> Iterator[Call]:
    provider = {"OpenIDConnectProviderArn": planned.arn}
    for audience in planned.audiences[len(current.audiences) :]:
        yield Call("AddClientIDToOpenIDConnectProvider", provider | {"ClientID": audience}, f"add audience {audience}")
    if planned.thumbprints != current.thumbprints:
        thumbprints = {"ThumbprintList": list(planned.thumbprints)}
        yield Call("UpdateOpenIDConnectProviderThumbprint", provider | thumbprints, "update its thumbprints")
    if tags := {key: value for key, value in planned.tags.items() if current.tags.get(key) != value}:
        yield Call("TagOpenIDConnectProvider", provider | {"Tags": tag_list(tags)}, f"tag it with {', '.join(tags)}")
