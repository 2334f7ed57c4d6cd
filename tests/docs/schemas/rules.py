"""
List the rules of the parsers that a JSON Schema cannot express. Tests pass the examples to schema and parser.

The rules of strict_yaml.py are not in the list, because a text that breaks them has no value that a schema can judge.
"""

from typing import NamedTuple

_WITHOUT_TOKEN = "{name: app, role_arn: 'arn:aws:iam::111122223333:role/app'}"
_ROLE = "{name: app, role_arn: 'arn:aws:iam::111122223333:role/app', token_file: /token, %s}"
_STEP = "{role_arn: 'arn:aws:iam::444455556666:role/data', %s}"


class Rule(NamedTuple):
    """A rule, a file that only the parser rejects, and a pattern of the parser's messages about this rule."""

    text: str
    example: str
    message: str


def _role(keys: str) -> str:
    return f"[{_ROLE % keys}]"


def _step(keys: str) -> str:
    return _role(f"chain: [{_STEP % keys}]")


ROLES = (
    Rule(
        "Each name of a role occurs once.",
        f"[{_ROLE % ''}, {_ROLE % ''}]",
        "an earlier role has the name",
    ),
    Rule(
        "A role needs `token_file` if AWS_WEB_IDENTITY_TOKEN_FILE is not set.",
        f"[{_WITHOUT_TOKEN}]",
        "has no token_file, and AWS_WEB_IDENTITY_TOKEN_FILE is not set",
    ),
    Rule(
        "`token_file` is a path and not the token itself.",
        f"[{_WITHOUT_TOKEN[:-1]}, token_file: eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl}}]",
        "is a token",
    ),
    Rule(
        "The session policy and `policy_arns` together do not exceed the limit of STS.",
        _role("policy: {Id: " + "a" * 2048 + "}"),
        "characters with its policy_arns",
    ),
    Rule(
        "A policy in a string is JSON or YAML, and its result is a mapping.",
        _role("policy: '[]'"),
        r"is not a policy|is text that is not JSON|in its text|: policy, line|this is not valid YAML",
    ),
    Rule("A policy has at most 1000 parts.", _role(f"policy: {{Id: [{'1, ' * 1000}]}}"), "has more than 1000 parts"),
    Rule("`transitive_tags` has only keys of `tags`.", _step("transitive_tags: [team]"), "which is not in `tags`"),
    Rule(
        "The keys of `tags` differ in more than upper and lower case.",
        _step("tags: {team: a, Team: b}"),
        "two keys that are equal for STS",
    ),
    Rule(
        "A number in quotes has the same limits as a number without quotes.",
        _role("duration: '1'"),
        "is not a valid number of seconds|is not a user id",
    ),
    Rule(
        "A number is in decimal notation. Where text is possible, the parser checks the characters of the number.",
        _role("duration: 3_600"),
        "",
    ),
    Rule("A file does not use the merge key `<<`.", f"{{<<: {{}}, roles: {_role('')}}}", "merge key"),
)
"""The rules of the roles file. The rule about notation has no pattern, because it has the messages of other rules."""

LOCAL = (
    Rule(
        "A URL has a host, and a valid port if it has one.",
        "{issuer_url: 'https://a:0'}",
        "which has no usable host and port",
    ),
    Rule("A whole number has no decimal point.", "{sts_port: 1.0}", "which is not valid"),
)
"""The rules of the file of `local`."""
