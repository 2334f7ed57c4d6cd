"""
Check that any bytes in the configuration of `local` lead to complete settings or one ConfigurationError.

Accepted settings are read completely, including trust policies, because `local` reads them at its start.
"""

from urllib.parse import urlsplit

from sidecar.errors import ConfigurationError
from sidecar.local.config import LocalConfig, parse_config
from sidecar.local.trust_policy import MAX_POLICY_CHARACTERS, parse_policy
from tests.fuzz.fuzz_roles import is_one_message

PATH = "local.yaml"
POLICY = "the trust policy"


def target(data: bytes) -> None:
    try:
        config = parse_config(data, PATH)
    except ConfigurationError as error:
        is_one_message(str(error), PATH)
    else:
        _can_be_used(config)


def _can_be_used(config: LocalConfig) -> None:
    assert config.roles
    for url in (config.issuer_url, *(provider.issuer for provider in config.providers)):
        assert url is None or (urlsplit(url).hostname and urlsplit(url).port != 0)
    for role in config.roles:
        if role.trust_policy:
            try:
                parse_policy(role.trust_policy, POLICY)
            except ConfigurationError as error:
                is_one_message(str(error), POLICY, 2 * MAX_POLICY_CHARACTERS)
