"""Test the rules about the whole account, the flags, and inventories that lack a part."""

from collections.abc import Sequence

import msgspec
import pytest

from sidecar.audit.finding import Finding, Rule, Severity
from sidecar.audit.inventory import (
    ASSOCIATIONS,
    CALLER,
    INSTANCES,
    NODES,
    PODS,
    PROVIDERS,
    ROLES,
    SERVICE_ACCOUNTS,
    Account,
    Association,
    Cluster,
    Inventory,
    OidcProvider,
    Problem,
)
from sidecar.audit.judge import judge
from sidecar.audit.relations import Options, Relations
from sidecar.audit.rules import all as all_rules
from tests.unit.audit.conftest import inventory_of
from tests.unit.audit.documents import ISSUER, NOW, PROVIDER_ARN, role_arn, service_account, sidecar_pod
from tests.unit.audit.world import CASES, RIGHT, Case, Parts

replace = msgspec.structs.replace


def findings(inventory: Inventory, rule: str, options: Options | None = None) -> Sequence[Finding]:
    report = judge(inventory, NOW.timestamp(), options or Options())
    return [finding for finding in report.findings if finding.rule == rule]


def with_providers(*providers: OidcProvider) -> Inventory:
    inventory = inventory_of(RIGHT)
    return replace(inventory, account=replace(inventory.account, providers=providers))


def with_problem(inventory: Inventory, part: str) -> Inventory:
    account = inventory.account
    return replace(inventory, account=replace(account, problems=(*account.problems, Problem(part, "denied"))))


def test_missing_provider_is_found_once_with_its_users() -> None:
    found = findings(with_providers(), "broken.provider-missing")
    assert [each.subject.name for each in found] == [PROVIDER_ARN]
    assert "right-sidecar/app" in found[0].problem
    assert found[0].next_step.endswith(f"--issuer {ISSUER}")


def test_unread_providers_are_not_missing_providers() -> None:
    assert not findings(with_problem(with_providers(), PROVIDERS), "broken.provider-missing")


def test_audience_that_the_provider_lacks_is_found() -> None:
    found = findings(
        with_providers(OidcProvider(PROVIDER_ARN, ("other",), is_detailed=True)), "broken.provider-audience"
    )
    assert {each.problem.split(" of ")[0] for each in found} == {
        "the provider does not accept the audience sts.amazonaws.com",
        "the provider does not accept the audience aws.example",
    }


def test_thumbprint_that_the_provider_lacks_is_found() -> None:
    inventory = inventory_of(RIGHT)
    private = replace(inventory, cluster=replace(inventory.cluster, issuer_thumbprint="ab" * 20))
    assert len(findings(private, "broken.provider-thumbprint")) == 1
    provider = replace(inventory.account.providers[0], thumbprints=("cd" * 20, "ab" * 20))
    complete = replace(private, account=replace(private.account, providers=(provider,)))
    assert not findings(complete, "broken.provider-thumbprint")


def test_boundary_is_required_only_with_the_flag(world: Inventory) -> None:
    assert not findings(world, "wide.no-boundary")
    with_boundary = replace(world.account.roles[0], boundary="arn:aws:iam::123456789012:policy/b")
    changed = replace(world, account=replace(world.account, roles=(with_boundary, *world.account.roles[1:])))
    names = {each.subject.name for each in findings(changed, "wide.no-boundary", Options(requires_boundary=True))}
    assert with_boundary.arn not in names
    assert role_arn("no-audience") in names


def test_idle_days_decide_when_a_role_is_unused(world: Inventory) -> None:
    used_yesterday = role_arn("right-sidecar")
    assert used_yesterday not in {
        each.subject.name for each in findings(world, "unused.idle-role", Options(idle_days=2))
    }
    later = judge(world, NOW.timestamp() + 10 * 86_400, Options(idle_days=5)).findings
    assert used_yesterday in {each.subject.name for each in later if each.rule == "unused.idle-role"}


def test_pattern_names_the_other_service_accounts(world: Inventory) -> None:
    found = {each.subject.name: each.problem for each in findings(world, "wide.pattern")}
    assert "accepts pattern-namespace/app" in found[role_arn("pattern-name")]
    assert "accepts future ServiceAccounts" in found[role_arn("pattern-namespace")]


@pytest.mark.parametrize(
    ("part", "rules"),
    [
        (ROLES, {"broken.role-missing", "broken.association-role"}),
        (SERVICE_ACCOUNTS, {"unused.role"}),
        (PODS, {"unused.role", "unused.service-account"}),
        (ASSOCIATIONS, {"broken.association-role", "unused.role"}),
    ],
)
def test_unread_part_is_reported_and_causes_no_false_finding(world: Inventory, part: str, rules: set[str]) -> None:
    report = judge(with_problem(world, part), NOW.timestamp(), Options())
    found = {finding.rule for finding in report.findings}
    assert found.isdisjoint(rules)
    assert [each.subject.name for each in report.findings if each.rule == "incomplete.unread"] == [part]


def test_role_is_not_unused_if_an_association_has_no_details(world: Inventory) -> None:
    assert findings(world, "unused.role")
    listed = Association("apps", "app", "a-1", role_arn="")
    unknown = replace(world, account=replace(world.account, associations=(*world.account.associations, listed)))
    assert not findings(unknown, "unused.role")


def test_inventory_without_an_account_reports_only_the_cluster(world: Inventory) -> None:
    alone = replace(world, account=Account(problems=(Problem(CALLER, "no credentials", "Sign in"),)))
    found = {finding.rule for finding in judge(alone, NOW.timestamp(), Options()).findings}
    assert not {
        rule for rule in found if rule.startswith(("wide.", "unused.role", "broken.trust", "broken.provider"))
    } - {"wide.shared-role"}
    assert {"broken.misspelt-annotation", "broken.not-injected", "exposed.static-keys", "incomplete.source"} <= found


def test_unknown_instances_cause_no_finding_about_metadata(world: Inventory) -> None:
    unknown = replace(world, account=replace(world.account, instances=()))
    report = judge(with_problem(unknown, INSTANCES), NOW.timestamp(), Options())
    assert not [each for each in report.findings if each.rule in {"exposed.metadata", "exposed.host-network"}]


def test_trust_policy_with_unknown_condition_is_not_a_finding() -> None:
    inventory = inventory_of(RIGHT)
    roles = tuple(
        replace(role, trust_policy=_with_condition(role.trust_policy, {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}))
        for role in inventory.account.roles
    )
    changed = replace(inventory, account=replace(inventory.account, roles=roles))
    assert not findings(changed, "broken.trust")


@pytest.mark.parametrize(
    "condition",
    [
        {"StringLike": {"sts:RoleSessionName": "shop.*"}},
        {"StringLike": {"aws:SourceVpce": ["vpce-1", "vpce-2"]}},
        {"IpAddress": {"aws:VpcSourceIp": "10.0.0.0/8"}},
    ],
)
def test_condition_on_the_request_changes_no_finding(world: Inventory, condition: dict[str, dict[str, object]]) -> None:
    """The caller's network and session name do not change which ServiceAccounts a role accepts."""
    roles = tuple(
        replace(role, trust_policy=_with_condition(role.trust_policy, condition, effects=("Allow",)))
        for role in world.account.roles
    )
    changed = replace(world, account=replace(world.account, roles=roles))
    for rule in ("broken.trust", "wide.any-subject", "wide.pattern", "wide.no-audience"):
        subjects = [each.subject for each in findings(world, rule)]
        assert subjects
        assert [each.subject for each in findings(changed, rule)] == subjects


def _with_condition(
    policy: dict[str, object], condition: dict[str, dict[str, object]], effects: Sequence[str] = ("Allow", "Deny")
) -> dict[str, object]:
    """Return the policy with the condition in all statements with these effects."""
    statements = policy["Statement"]
    assert isinstance(statements, list)
    changed = [
        each | {"Condition": _merged(each.get("Condition", {}), condition)} if each["Effect"] in effects else each
        for each in statements
    ]
    return policy | {"Statement": changed}


def _merged(one: dict[str, dict[str, object]], other: dict[str, dict[str, object]]) -> dict[str, object]:
    return {operator: one.get(operator, {}) | other.get(operator, {}) for operator in {**one, **other}}


def test_fix_of_a_denied_account_adds_no_statement(world: Inventory) -> None:
    found = {each.subject.namespace: each.next_step for each in findings(world, "broken.trust")}
    assert found.pop("trust-deny") == "If the ServiceAccount may use the role, change the statement that denies it"
    assert all("add it to the trust policy: irsa-sidecar setup role" in step for step in found.values())
    assert len(found) == 4


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        ("Deployment cart", "Restart the Pods: kubectl -n stale-irsa rollout restart deployment/cart"),
        ("StatefulSet db", "Restart the Pods: kubectl -n stale-irsa rollout restart statefulset/db"),
        ("Deployment x;rm -r ~", "Restart the Pods: kubectl -n stale-irsa rollout restart 'deployment/x;rm -r ~'"),
        ("Rollout cart", "Delete the Pods, so that their controller creates new ones"),
        ("", "Delete the Pod, and create it again"),
    ],
)
def test_restart_names_the_workload_and_quotes_it(world: Inventory, owner: str, step: str) -> None:
    pods = [replace(pod, owner=owner) for pod in world.cluster.pods if pod.namespace == "stale-irsa"]
    changed = replace(world, cluster=replace(world.cluster, pods=tuple(pods)))
    assert [each.next_step for each in findings(changed, "broken.stale-pod")] == [step]


@pytest.mark.parametrize("duration", ["\u00b2", "9" * 2048, "-1", "0", "1e9", ""])
def test_invalid_duration_does_not_stop_the_audit(duration: str) -> None:
    """Use durations that the creator of a Pod can choose. Python's isdigit() accepts a superscript."""
    name = "right-sidecar"
    parts = Parts((service_account(name, role=role_arn(name)), sidecar_pod(name, role_arn(name), duration)))
    report = judge(inventory_of([Case(name, frozenset(), parts)]), NOW.timestamp(), Options())
    assert [each.calls_per_day for each in report.calls] == [48]


def test_account_that_cannot_be_read_is_an_error(world: Inventory) -> None:
    """Check the severity, because a job with expired credentials must not pass."""
    alone = replace(world, account=Account(problems=(Problem(CALLER, "the token has expired", "Sign in"),)))
    assert [each.severity for each in findings(alone, "incomplete.source")] == [Severity.ERROR]
    assert not findings(alone, "incomplete.unread")


def test_cluster_that_cannot_be_read_is_an_error(world: Inventory) -> None:
    problems = [Problem(part, "401") for part in (NODES, PODS, SERVICE_ACCOUNTS)]
    for number, expected in ((2, 0), (3, 1)):
        cluster = replace(world.cluster, problems=tuple(problems[:number]))
        assert len(findings(replace(world, cluster=cluster), "incomplete.source")) == expected


def test_rule_that_raises_does_not_hide_other_rules(monkeypatch: pytest.MonkeyPatch, world: Inventory) -> None:
    def fail(_relations: Relations) -> list[object]:
        raise ValueError("secret in the message")

    broken = Rule("broken.bug", Severity.ERROR, "a bug", "A bug.", fail)  # type: ignore[arg-type]
    monkeypatch.setattr("sidecar.audit.judge.RULES", (broken, *all_rules.RULES))
    found = judge(world, NOW.timestamp(), Options()).findings
    (bug,) = [each for each in found if each.rule == "broken.bug"]
    assert "ValueError" in bug.problem
    assert "secret" not in bug.problem
    assert len({each.rule for each in found}) > 10


def test_ids_titles_and_reasons_of_rules_are_complete() -> None:
    rules = all_rules.RULES
    assert len({rule.id for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.reason.endswith("."), rule.id
        assert not rule.title.endswith("."), rule.id


def test_objects_of_another_release_are_read() -> None:
    """A saved inventory may have fields that this release does not know."""
    cluster = inventory_of(CASES).cluster
    later = msgspec.json.encode(cluster).replace(b'"read_at"', b'"new":1,"read_at"', 1)
    assert msgspec.json.decode(later, type=Cluster) == cluster
