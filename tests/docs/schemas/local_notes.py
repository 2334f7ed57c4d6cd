"""Describe the settings of the file of `local`. docs/local-sts.md shows an example of each."""

from collections.abc import Mapping

SETTINGS: Mapping[str, str] = {
    "account_id": "The number of the local AWS account.",
    "region": "The region of the local STS.",
    "audience": "The audience of the local tokens, which the local STS accepts.",
    "namespace": "The namespace of the Pod in the token.",
    "service_account": "The service account of the Pod in the token.",
    "pod": "The name of the Pod in the token.",
    "node": "The name of the node in the token.",
    "token_lifetime_seconds": "The lifetime of a token. The local kubelet renews the token after 80 % of this time.",
    "key_rotation_seconds": "The time after which the local issuer uses a new signing key.",
    "issuer_url": "The issuer in the local tokens (iss), such as a cluster's issuer. Default: the local issuer's URL.",
    "issuer_port": "The port of the local issuer. 0 is a free port.",
    "sts_port": "The port of the local STS. 0 is a free port.",
    "sts_host": "The address of the local STS. With another address than loopback, Pods of a cluster can reach it.",
    "roles": "The roles of the local account, and of others. The daemon uses the first role.",
    "providers": "Other issuers whose tokens the local STS accepts.",
}
"""The settings at the top of the file."""

OF_A_ROLE: Mapping[str, str] = {
    "name": "The name of a role in the local account. Set either name or arn.",
    "arn": "The ARN of the role. Set either name or arn.",
    "trust_policy": "The trust policy, in which {issuer} is the local issuer. Default: the role trusts the local Pod.",
    "max_session_duration": "The longest session of the role, in seconds.",
}
"""The settings of a role."""

OF_A_PROVIDER: Mapping[str, str] = {
    "issuer": "The URL of the issuer, exactly as in the claim iss of its tokens.",
    "audiences": "The accepted audiences. Default: sts.amazonaws.com.",
    "jwks_file": "The file with the keys of the issuer. Default: STS fetches the keys from the issuer.",
}
"""The settings of another issuer."""
