"""Test what STS reports about each call: claims, conditions with their lines, and the decision."""

from typing import Any

import pytest

from sidecar.local.config import parse_config
from sidecar.local.exchange import Exchange, claims_of
from sidecar.local.policy_lines import role_lines, with_lines
from sidecar.local.trust_policy import parse_policy
from tests.unit.local.conftest import APP, AUDIENCE, ISSUER, KEY, POD, World
from tests.unit.local.test_trust_policy import CONTEXT, PROVIDER, TOKEN, WEB_IDENTITY, policy, statement

FILE = """\
roles:
  - name: app
    trust_policy:
      Version: 2012-10-17
      Statement:
        - Effect: Allow
          Principal: {Federated: "*"}
          Action: sts:AssumeRoleWithWebIdentity
          Condition:
            StringEquals:
              "{issuer}:aud": sts.amazonaws.com
              "{issuer}:sub":
                - system:serviceaccount:default:app
        - Effect: Deny
          Principal: "*"
          Action: sts:AssumeRoleWithWebIdentity
          Condition: {StringLike: {"{issuer}:sub": "*:other"}}
  - name: plain
  - name: single
    trust_policy:
      Statement: {Condition: {StringEquals: {a: b}}}
"""


def exchange_of(world: World) -> Exchange:
    exchange = world.events[-1][1]["exchange"]
    assert isinstance(exchange, Exchange)
    return exchange


async def test_granted_call_reports_claims_and_conditions(world: World) -> None:
    await world.call()
    exchange = exchange_of(world)
    assert exchange.is_allowed
    assert (exchange.role_arn, exchange.access_key_id) == (APP, world.events[-1][1]["access_key_id"])
    assert exchange.claims is not None
    assert exchange.claims[:3] == (ISSUER, POD.subject, (AUDIENCE,))
    assert exchange.claims.kid == world.issuer.keys.active.kid
    (compared,) = exchange.compared
    assert [(c.key, c.actual, c.holds) for c in compared.comparisons] == [
        (f"{KEY}:sub", (POD.subject,), True),
        (f"{KEY}:aud", (AUDIENCE,), True),
    ]


async def test_denied_call_reports_the_false_condition(world: World) -> None:
    await world.call(WebIdentityToken=world.token(sub="system:serviceaccount:shop:till"))
    exchange = exchange_of(world)
    assert not exchange.is_allowed
    assert [comparison.holds for comparison in exchange.compared[0].comparisons] == [False, True]
    assert exchange.compared[0].comparisons[0].actual == ("system:serviceaccount:shop:till",)
    assert exchange.access_key_id is None


@pytest.mark.parametrize(
    ("changes", "reason"), [({"exp": 1}, "expired"), ({"aud": ["vault"]}, "client ids"), ({"iss": "x"}, "issuer")]
)
async def test_invalid_token_reports_its_claims(world: World, changes: dict[str, Any], reason: str) -> None:
    await world.call(WebIdentityToken=world.token(**changes))
    exchange = exchange_of(world)
    assert exchange.claims is not None
    assert exchange.claims.sub == POD.subject
    assert exchange.compared == ()
    assert reason in exchange.reason


async def test_text_that_is_not_a_token_has_no_claims(world: World) -> None:
    await world.call(WebIdentityToken="no.token.here")
    assert exchange_of(world).claims is None


@pytest.mark.parametrize("token", [None, "", "a.b.c", "x" * 5000])
def test_malformed_token_has_no_claims(token: str | None) -> None:
    assert claims_of(token) is None


async def test_claims_of_odd_types_are_short_texts(world: World) -> None:
    claims = claims_of(world.token(sub={"a": 1}, aud=["x" * 9000, 7], exp="soon"))
    assert claims is not None
    assert claims.sub == "{'a': 1}"
    assert claims.exp is None
    assert [len(text) for text in claims.aud] == [500, 1]


def test_lines_of_conditions_are_the_lines_in_the_file() -> None:
    first, plain, single = role_lines(FILE, "local.yaml")
    assert first == {
        (0, "StringEquals", "{issuer}:aud"): 11,
        (0, "StringEquals", "{issuer}:sub"): 12,
        (1, "StringLike", "{issuer}:sub"): 17,
    }
    assert plain == {}
    assert single == {(0, "StringEquals", "a"): 21}


def test_configuration_has_the_lines_of_each_role() -> None:
    config = parse_config(FILE.rsplit("  - name: single", 1)[0], "local.yaml")
    assert [len(role.condition_lines) for role in config.roles] == [3, 0]


def test_comparison_has_the_line_of_its_condition() -> None:
    lines = {(0, "StringEquals", "oidc.test/id/A:sub"): 7}
    read = with_lines(
        policy(statement({"StringEquals": {"oidc.test/id/A:sub": "x", "oidc.test/id/A:aud": "y"}})), lines
    )
    decision = read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT)
    assert [comparison.line for comparison in decision.compared[0].comparisons] == [7, None]


def test_statement_for_another_principal_is_not_compared() -> None:
    other = statement(Principal={"Federated": PROVIDER.replace("id/A", "id/B")}, Sid="Other")
    read = parse_policy({"Statement": [other, statement()]}, "app")
    assert [each.label for each in read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT).compared] == ["Statement 2"]


def test_unknown_statement_is_compared_with_its_reason() -> None:
    read = policy(statement({"Bool": {"aws:SecureTransport": "true"}}))
    (compared,) = read.evaluate(WEB_IDENTITY, TOKEN, CONTEXT).compared
    assert compared.unknown == "the condition operator Bool is not evaluated here"
