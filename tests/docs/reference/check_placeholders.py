"""
Name the values in the findings of doctor, such as `HOST`, so that a reader knows the kind of each value.

A value without a name appears as `…`.
"""

import ast
from collections.abc import Mapping

_OF_FUNCTIONS: Mapping[str, str] = {"duration_text": "DURATION", "instant_text": "TIME", "shown": "URL"}
"""The placeholders for calls of these functions."""

OF_EXPRESSIONS: Mapping[str, str] = {
    "', '.join(ALGORITHMS)": "ALGORITHMS",
    "', '.join(found)": "VARIABLES",
    "', '.join(missing)": "FIELDS",
    "', '.join(others)": "CONTAINERS",
    "', '.join(published.algorithms)": "ALGORITHMS",
    "', '.join(settings)": "KEYS",
    "', '.join(unreachable)": "HOSTS",
    "','.join(INJECTORS)": "KINDS",
    "'behind' if skew > 0 else 'ahead of'": "behind (or ahead of)",
    "_issuer_key(facts)": "ISSUER",
    "abs(skew)": "N",
    "accepted": "PATTERNS",
    "address": "ADDRESS",
    "audience": "AUDIENCE",
    "decision.reason": "REASON",
    "event": "issued (or valid from)",
    "facts.address": "ADDRESS",
    "facts.algorithm": "ALGORITHM",
    "facts.arn": "OTHER-ROLE",
    "facts.context": "CONTEXT",
    "facts.environ[found[0]]": "VALUE",
    "facts.kid": "KID",
    "facts.name": "POD",
    "facts.namespace": "NAMESPACE",
    "facts.readiness": "REASON",
    "facts.role.role_arn": "ROLE",
    "facts.role.token_file": "FILE",
    "facts.role_arn": "ROLE",
    "facts.root": "PATH",
    "facts.setting": "SETTING",
    "facts.sts_url": "URL",
    "facts.token.audience": "AUDIENCE",
    "facts.token.audience_claim": "CLAIM",
    "facts.token.issuer": "ISSUER",
    "facts.token.subject": "SUBJECT",
    "facts.tokens[0]": "FILE",
    "first.path": "PATH",
    "first.sdk.minimum_text": "VERSION",
    "first.sdk.name": "SDK",
    "first.version": "VERSION",
    "found.reason": "REASON",
    "found[0]": "VARIABLE",
    "grace": "SECONDS",
    "host": "HOST",
    "issuer": "ISSUER",
    "kids": "KIDS",
    "limit": "LIMIT",
    "listen": "ADDRESS",
    "misnamed.meant": "LABEL",
    "misnamed.name": "OTHER-LABEL",
    "name": "CONTAINER",
    "mount['mountPath']": "PATH",
    "observed": "REASON",
    "own": "PATH",
    "path": "PATH",
    "port": "PORT",
    "problem": "PROBLEM",
    "provider_arn(facts)": "PROVIDER",
    "proxies[0]": "VARIABLE",
    "reach.host": "HOST",
    "reach.proxy": "PROXY",
    "reach.reason": "REASON",
    "reach.reason.removesuffix('.')": "REASON",
    "reach.took('connect')": "DURATION",
    "real": "SECONDS",
    "reason or 'not started yet'": "REASON",
    "requested": "SECONDS",
    "response.error": "ERROR",
    "response.expiration[:40]": "VALUE",
    "restarts": "COUNT",
    "role": "ROLE",
    "sdks": "SDKS",
    "seconds": "N",
    "secret.file": "FILE",
    "secret.problem": "PROBLEM",
    "served_arn": "OTHER-ROLE",
    "served_while_terminating_seconds(token, session)": "N",
    "subject": "SUBJECT",
    "token.audience": "AUDIENCE",
    "token.audience_claim": "CLAIM",
    "use": "URL",
    "value": "VALUE",
    "volume": "VOLUME",
    "volume.path": "FILE",
    "who": "INJECTOR",
}
"""The placeholders for these expressions in the f-strings of the checks."""


def placeholder(value: ast.expr) -> str | None:
    """Return the name for a value in a finding, or None."""
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in _OF_FUNCTIONS:
        return _OF_FUNCTIONS[value.func.id]
    return OF_EXPRESSIONS.get(ast.unparse(value))
