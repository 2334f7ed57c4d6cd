"""The table of set-ups with a broken STS, network path, trust policy or daemon. Doctor must report each fault first."""

from datetime import UTC, datetime
from functools import partial

from tests.support.fakes.scripted_sts import Reply as StsReply
from tests.support.fakes.scripted_sts import error_reply
from tests.unit.doctor.breakages import (
    DENIED,
    Broken,
    _cart_only,
    clock_is_two_hours_behind,
    proxy_denies,
    region_is_misspelt,
    sidecar_with,
    sts_is_a_black_hole,
    sts_replies,
    sts_with_certificate,
    token_with,
    unreachable_proxy,
    with_iam,
)
from tests.unit.doctor.set_up import UNREACHABLE, SetUp

BROKEN_EXCHANGE = (
    # the fault, the function that causes it, the check that finds it, and words from the headline
    Broken(
        "a region that does not exist",
        region_is_misspelt,
        "sts.name",
        "sts.eu-wset-1.amazonaws.com does not resolve here",
    ),
    Broken(
        "no process listening at STS",
        sidecar_with(AWS_ENDPOINT_URL_STS=UNREACHABLE),
        "sts.connect",
        "no connection to 127.0.0.1:1 (Connection refused)",
    ),
    Broken(
        "a network that drops packets to STS",
        sts_is_a_black_hole,
        "sts.connect",
        "(no response within",
        is_silent=True,
    ),
    Broken(
        "an untrusted certificate authority",
        sts_with_certificate(is_trusted=False),
        "sts.tls",
        ", signed by trustme v",
    ),
    Broken("a certificate for another name", sts_with_certificate("sts.example.com"), "sts.tls", "Hostname mismatch"),
    Broken(
        "an expired certificate",
        sts_with_certificate(not_after=datetime(2020, 1, 1, tzinfo=UTC)),
        "sts.tls",
        "certificate has expired",
    ),
    Broken(
        "an unreachable proxy",
        unreachable_proxy,
        "sts.connect",
        "no connection to the proxy 127.0.0.1:1 (Connection refused)",
    ),
    Broken(
        "a proxy that denies the connection",
        proxy_denies,
        "sts.proxy",
        "does not allow connections to sts.eu-west-1.amazonaws.com (it returns 403)",
    ),
    Broken(
        "another program instead of STS",
        sts_replies(StsReply(raw=b"SSH-2.0-OpenSSH\r\n\r\n")),
        "sts.response",
        "accepts the connection but does not respond (the server does not speak HTTP)",
    ),
    Broken(
        "a clock two hours behind",
        clock_is_two_hours_behind,
        "sts.clock",
        "s behind STS's: AWS rejects signatures that are 5 minutes off",
    ),
    Broken(
        "a web page instead of the response of STS",
        sts_replies(StsReply(200, b"<html>Sign in</html>")),
        "exchange.granted",
        "STS returned a malformed response",
    ),
    Broken(
        "another audience",
        token_with(aud=["vault"]),
        "exchange.granted",
        "aud is vault, and STS rejects the token",
    ),
    Broken(
        "another audience, with permission to read IAM",
        with_iam(lambda at: at.with_token(aud=["vault"]), lambda _at, _iam: None),
        "exchange.granted",
        "aud is vault; the provider accepts sts.amazonaws.com",
    ),
    Broken(
        "a client (azp) that the provider lacks, with permission to read IAM",
        with_iam(lambda at: at.with_token(azp="party-1"), lambda _at, _iam: None),
        "exchange.granted",
        "azp is party-1; the provider accepts sts.amazonaws.com",
    ),
    Broken(
        "an issuer without a provider",
        token_with(iss="https://oidc.example.com/id/B"),
        "exchange.granted",
        "account 111122223333 has no IAM OIDC provider for iss https://oidc.example.com/id/B",
    ),
    Broken(
        "a trust policy for another service account",
        sidecar_with(AWS_ROLE_ARN="arn:aws:iam::111122223333:role/refusing"),
        "exchange.granted",
        "sub is system:serviceaccount:default:app, aud is sts.amazonaws.com, but the trust policy of",
    ),
    Broken(
        "a trust policy for another service account, with permission to read IAM",
        with_iam(DENIED, _cart_only),
        "exchange.granted",
        "the trust policy does not allow this: Statement Cart: Condition StringEquals",
    ),
    Broken(
        "a role that does not exist",
        with_iam(partial(SetUp.but, AWS_ROLE_ARN="arn:aws:iam::111122223333:role/nobody"), lambda _at, _iam: None),
        "exchange.granted",
        "aud is sts.amazonaws.com; the role arn:aws:iam::111122223333:role/nobody does not exist",
    ),
    Broken(
        "sessions longer than the role allows",
        sidecar_with(IRSA_SIDECAR_DURATION="43200"),
        "exchange.granted",
        "IRSA_SIDECAR_DURATION is 43200, but arn:aws:iam::111122223333:role/app allows only shorter sessions",
    ),
    Broken(
        "STS not activated in this region",
        sts_replies(error_reply(403, "RegionDisabledException", "STS is not activated")),
        "exchange.granted",
        "does not serve account 111122223333. STS returns RegionDisabledException",
    ),
    Broken(
        "an issuer that STS cannot reach",
        sts_replies(error_reply(400, "IDPCommunicationError", "unreachable")),
        "exchange.granted",
        "STS returns IDPCommunicationError: unreachable",
    ),
    Broken(
        "throttling by STS",
        sts_replies(error_reply(400, "Throttling", "Rate exceeded")),
        "exchange.granted",
        "STS returns Throttling: Rate exceeded",
    ),
    Broken(
        "no running daemon",
        sidecar_with(IRSA_SIDECAR_LISTEN="127.0.0.1:1"),
        "endpoint.connection",
        "no process listens at http://127.0.0.1:1/v1/credentials",
    ),
)
