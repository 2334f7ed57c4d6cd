"""
Find the lines of the conditions of trust policies in the configuration file. Pure.

Rule: the lines are only for messages. A condition without a line, for example from a merge key, has the line None.
"""

from collections.abc import Iterator, Mapping

import yaml

from sidecar import strict_yaml
from sidecar.local.trust_policy import TrustPolicy
from sidecar.strict_yaml import Node

ConditionLines = Mapping[tuple[int, str, str], int]
"""The line of each condition of one policy, by index of the statement, operator and key as the file spells them."""


def role_lines(content: bytes | str, path: str) -> list[ConditionLines]:
    """Return the lines of the conditions of each role in the text of a valid configuration file."""
    roles = _members(strict_yaml.compose(content, path)).get("roles")
    return [dict(_condition_lines(role)) for role in _items(roles)]


def with_lines(policy: TrustPolicy, lines: ConditionLines) -> TrustPolicy:
    """Return the policy with the lines of its conditions."""
    return TrustPolicy(
        tuple(
            statement._replace(
                conditions=tuple(
                    each._replace(line=lines.get((index, each.text, each.key))) for each in statement.conditions
                )
            )
            for index, statement in enumerate(policy.statements)
        )
    )


def _condition_lines(role: Node) -> Iterator[tuple[tuple[int, str, str], int]]:
    statements = _members(_members(role).get("trust_policy")).get("Statement")
    for index, statement in enumerate(_items(statements)):
        for operator, keys in _members(_members(statement).get("Condition")).items():
            for key in _keys(keys):
                yield (index, operator, key.value), strict_yaml.line_of(key)


def _keys(node: Node | None) -> list[Node]:
    return [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []


def _members(node: Node | None) -> dict[str, Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value if isinstance(key, yaml.ScalarNode)}


def _items(node: Node | None) -> list[Node]:
    """Return the items of a list. A policy may have one statement instead of a list."""
    if node is None:
        return []
    return list(node.value) if isinstance(node, yaml.SequenceNode) else [node]
