"""The table of set-ups with broken settings, tokens or issuers. Doctor must report each fault first."""

from tests.unit.doctor.breakages import (
    Broken,
    invalid_signature,
    issuer_has_a_port,
    issuer_publishes_another_name,
    issuer_with_cluster_name,
    legacy_token,
    no_settings,
    region_is_missing,
    role_of_another_partition,
    roles_file_with_a_mistake,
    sidecar_with,
    token_file_with,
    token_is_a_directory,
    token_is_copied_into_the_setting,
    token_is_half_written,
    token_with,
    token_with_symmetric_signature,
)
from tests.unit.doctor.set_up import ANOTHER_KEY

BROKEN_IDENTITY = (
    # the fault, the function that causes it, the check that finds it, and words from the headline
    Broken("nothing is set", no_settings, "settings.role", "no setting here names a role"),
    Broken("a role that is not an ARN", sidecar_with(AWS_ROLE_ARN="app"), "settings.values", "AWS_ROLE_ARN is 'app'"),
    Broken("no role", sidecar_with(AWS_ROLE_ARN=None), "settings.values", "AWS_ROLE_ARN is not set"),
    Broken("no region", region_is_missing, "settings.values", "AWS_REGION is not set"),
    Broken(
        "an invalid listening address",
        sidecar_with(IRSA_SIDECAR_LISTEN="4772"),
        "settings.values",
        "IRSA_SIDECAR_LISTEN is '4772'",
    ),
    Broken(
        "a missing CA bundle",
        sidecar_with(AWS_CA_BUNDLE="/nowhere", AWS_ENDPOINT_URL_STS="https://sts.example"),
        "settings.values",
        "AWS_CA_BUNDLE is '/nowhere'",
    ),
    Broken(
        "a proxy password that is not percent-encoded",
        sidecar_with(HTTPS_PROXY="http://user:p@ss#w%rd@127.0.0.1:1", AWS_ENDPOINT_URL_STS="https://sts.example"),
        "settings.values",
        "HTTPS_PROXY's user and password must be percent-encoded",
    ),
    Broken(
        "an unknown key in the roles file",
        roles_file_with_a_mistake,
        "settings.values",
        "line 3: rolearn is",
    ),
    Broken(
        "a role in China with a region in Europe",
        role_of_another_partition,
        "settings.partition",
        "is in partition aws-cn, but AWS_REGION is 'eu-west-1'",
    ),
    Broken(
        "the token itself instead of its path",
        token_is_copied_into_the_setting,
        "settings.values",
        "AWS_WEB_IDENTITY_TOKEN_FILE is a token",
    ),
    Broken(
        "no token volume",
        sidecar_with(AWS_WEB_IDENTITY_TOKEN_FILE="/nowhere/token"),
        "token.file",
        "/nowhere/token does not exist",
    ),
    Broken("an empty token", token_file_with(""), "token.file", "another-token is empty"),
    Broken("a half-written token", token_is_half_written, "token.file", "another-token holds no JWT"),
    Broken("a directory instead of the token", token_is_a_directory, "token.file", "is not a regular file"),
    Broken("a legacy token", legacy_token, "token.times", "the token has no exp: it is a legacy Secret token"),
    Broken(
        "an expired token",
        token_with(iat=lambda now: int(now) - 7200, nbf=None, exp=lambda now: int(now) - 3600),
        "token.times",
        "the token expired at",
    ),
    Broken(
        "a token from the future",
        token_with(iat=lambda now: int(now) + 7200, exp=lambda now: int(now) + 9000),
        "token.times",
        "the token is issued",
    ),
    Broken(
        "two audiences",
        token_with(aud=["sts.amazonaws.com", "vault"]),
        "token.audience",
        "the token has several audiences (sts.amazonaws.com, vault)",
    ),
    Broken("no audience", token_with(aud=None), "token.audience", "the token has no aud"),
    Broken("no subject", token_with(sub=None), "token.subject", "the token has no sub"),
    Broken("a token without a key id", token_with(kid=None), "token.signature", "the token's header has no kid"),
    Broken(
        "a token with another algorithm", token_with_symmetric_signature, "token.signature", "the token's alg is HS256"
    ),
    Broken(
        "the cluster's internal name as issuer",
        issuer_with_cluster_name,
        "issuer.url",
        "iss is https://kubernetes.default.svc.cluster.local, a name that only the cluster",
    ),
    Broken(
        "an issuer with a port",
        issuer_has_a_port,
        "issuer.url",
        "iss is https://oidc.example.com:6443, which has a port",
    ),
    Broken(
        "an issuer with an extra slash",
        issuer_publishes_another_name,
        "issuer.documents",
        "the issuer in the discovery document is 'http://127.0.0.1:",
    ),
    Broken(
        "a key that is not published",
        token_with(key=ANOTHER_KEY, kid="another"),
        "issuer.key",
        "the token's kid is another; the issuer publishes",
    ),
    Broken(
        "a signature by another key",
        token_with(key=ANOTHER_KEY),
        "issuer.verification",
        "does not verify the signature",
    ),
    Broken("an invalid signature", invalid_signature, "issuer.verification", "does not verify the signature"),
)
