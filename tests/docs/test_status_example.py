"""Check that the report in docs/status.md is what the command prints, and that its table has every state."""

import re

from sidecar.serving.status import FAILING, STATES, Failure, LastCall
from sidecar.status.report import NO_STATE, View, as_text
from sidecar.status.targets import PodState, Target
from tests.support.documents import read
from tests.unit.serving.test_status import BROKEN, DAEMON, HEALTHY

PAGE = read("docs/status.md")

FAILED = HEALTHY._replace(
    state=FAILING,
    expires_in_seconds=1140.0,
    next_refresh_in_seconds=90.0,
    last_call=LastCall("Timeout", None, 130.0, 10.0),
    error=Failure(
        "Timeout",
        "Timeout: sts.eu-west-1.amazonaws.com sent no complete response within 10 s. Check HTTPS_PROXY, network "
        "policies and firewalls.",
        needs_person=False,
    ),
)
DENIED = BROKEN._replace(
    name="default",
    role_arn="arn:aws:iam::111122223333:role/pay",
    error=Failure(
        "AccessDenied",
        "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity. The role's trust policy does not match "
        "this token.",
        needs_person=False,
    ),
)
CRASH = "the sidecar does not run: CrashLoopBackOff. Its last exit status was 137 (OOMKilled)"
PODS = {"cart-6b8d-2xkqp": HEALTHY, "cart-6b8d-9wz7m": FAILED, "pay-5f7c-7h2vd": DENIED, "pay-5f7c-q8n6s": DENIED}


def target(name: str) -> Target:
    return Target("shop", name, "irsa-sidecar", None)


def test_report_on_the_page_is_that_of_the_command() -> None:
    states = [PodState(target(name), DAEMON._replace(roles=(role,))) for name, role in PODS.items()]
    states.insert(2, PodState(target("cart-6b8d-lk4tr"), None, CRASH))
    assert f"```\n{as_text(states, View(80, 'namespace shop, context lab'))}\n```" in PAGE


def test_page_has_every_state() -> None:
    table = re.findall(r"^\| `(\w+)` \| .* \|$", PAGE.partition("| state |")[2].partition("\n\n")[0], re.MULTILINE)
    assert set(table) == {*STATES, NO_STATE}
