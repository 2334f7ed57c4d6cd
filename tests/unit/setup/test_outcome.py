"""Test how each step of `setup` reports its result: --json, --exit-code and the next commands."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar.setup.outcome import Outcome, as_json, command
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.setup.conftest import ISSUER, Account, CommandResult, run_setup

ROLE_ARN = "arn:aws:iam::123456789012:role/cart"
ROLE = ("role", "cart", "--issuer", ISSUER, "--service-account", "shop/cart")
PROVIDER = ("oidc-provider", "--issuer", ISSUER, "--skip-checks")
SERVICE_ACCOUNT = ("service-account", "--name", "cart", "--role-arn", ROLE_ARN)
POD = ("pod", "app.yaml", "--image", "i:1", "--region", "eu-west-1", "--role-arn", ROLE_ARN)
DOCUMENTS = ("issuer-documents", "--directory", "public")
KEYS = {"version", "step", "resource", "action", "dry_run", "changes", "effects", "before", "after", "next"}
STEPS = {step[0]: step for step in (PROVIDER, ROLE, SERVICE_ACCOUNT, POD, DOCUMENTS)}
BUCKET = "https://shop-oidc.s3.eu-west-1.amazonaws.com"


@pytest.fixture
def cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None, account: Account
) -> Iterator[FakeApiServer]:
    """Provide an account, a cluster whose issuer is a bucket, and a directory with a manifest."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - name: a\n    image: b\n"
    )
    with api_server() as fake:
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(fake.url)))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "k1", "n": "sXch", "e": "AQAB"}
        document = {
            "issuer": BUCKET,
            "jwks_uri": f"{BUCKET}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        fake.broken["/.well-known/openid-configuration"] = (200, document)
        fake.broken["/openid/v1/jwks"] = (200, {"keys": [key]})
        yield fake


def apply(done: CommandResult, step: str) -> None:
    """Save the output of `setup pod`, as a person would."""
    if step == "pod":
        Path("app.yaml").write_text(done.out)


@pytest.mark.parametrize("step", STEPS)
def test_exit_code_is_2_if_something_would_change(
    step: str, cluster: FakeApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_setup(capsys, *STEPS[step], "--dry-run", "--exit-code").status == 2
    assert run_setup(capsys, *STEPS[step], "--dry-run").status == 0
    done = run_setup(capsys, *STEPS[step])
    assert done.status == 0
    apply(done, step)
    assert run_setup(capsys, *STEPS[step], "--dry-run", "--exit-code").status == 0


@pytest.mark.parametrize("step", STEPS)
def test_exit_code_is_1_on_errors(step: str, cluster: FakeApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_setup(capsys, *STEPS[step], "--exit-code")
    assert (done.status, done.out) == (1, "")
    assert "Add --dry-run" in done.err
    with pytest.raises(SystemExit) as ended:
        run_setup(capsys, *STEPS[step], "--dry-run", "--exit-code", "--no-such-flag")
    assert ended.value.code == 1
    for path in ("/api/v1/namespaces/shop/serviceaccounts/cart", "/.well-known/openid-configuration"):
        cluster.broken[path] = (401, {"message": "Unauthorized"})
    if step in {"service-account", "issuer-documents"}:
        assert run_setup(capsys, *STEPS[step], "--dry-run", "--exit-code").status == 1


@pytest.mark.parametrize("step", STEPS)
def test_json_of_every_step_has_the_same_keys(
    step: str, cluster: FakeApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    dry = json.loads(run_setup(capsys, *STEPS[step], "--dry-run", "--json").out)
    assert set(dry) == KEYS
    assert (dry["version"], dry["step"], dry["dry_run"]) == (1, step, True)
    assert dry["action"] in {"create", "change"}
    assert dry["changes"]
    assert not any(change["done"] for change in dry["changes"])
    applied = json.loads(run_setup(capsys, *STEPS[step], "--json").out)
    assert applied == dry | {
        "dry_run": False,
        "changes": [change | {"done": True} for change in dry["changes"]],
    }
    if step == "pod":
        Path("app.yaml").write_text(applied["after"]["manifest"])
    again = json.loads(run_setup(capsys, *STEPS[step], "--json").out)
    assert (again["action"], again["changes"], again["after"]) == ("none", [], applied["after"])


def test_json_marks_the_changes_made_before_a_failure(account: Account) -> None:
    done = account.setup(*ROLE, "--policy-arn", "arn:aws:iam::123456789012:policy/none", "--json")
    assert done.status == 1
    document = json.loads(done.out)
    assert [change["done"] for change in document["changes"]] == [True, False]
    assert "NoSuchEntity" in done.err


def test_json_and_stderr_name_removed_service_accounts(account: Account) -> None:
    account.setup(*ROLE, "--service-account", "shop/till")
    done = account.setup(*ROLE, "--replace", "--json", "--dry-run")
    assert "removes shop/till" in done.err
    assert json.loads(done.out)["effects"][0] == "removes shop/till"


def test_json_and_output_flags_exclude_each_other(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (ROLE, PROVIDER, SERVICE_ACCOUNT):
        with pytest.raises(SystemExit):
            run_setup(capsys, *arguments, "--json", "--output", "yaml")


NEXT: dict[str, list[Any]] = {
    "oidc-provider": [f"irsa-sidecar setup role ROLE --issuer {ISSUER} --service-account NAMESPACE/NAME"],
    "role": [f"irsa-sidecar setup service-account --namespace shop --name cart --role-arn {ROLE_ARN}"],
    "service-account": ["irsa-sidecar setup pod app.yaml --image IMAGE --region eu-west-1 --namespace shop"],
    "issuer-documents": [
        "aws s3 cp --recursive --content-type application/json public s3://shop-oidc",
        f"irsa-sidecar setup oidc-provider --issuer {BUCKET}",
    ],
}


@pytest.mark.parametrize("step", NEXT)
def test_next_command_contains_the_real_names(
    step: str, cluster: FakeApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"next: {line}" for line in NEXT[step]]
    assert run_setup(capsys, *STEPS[step], "--dry-run").out.splitlines()[-1] == "next: run this again without --dry-run"
    for _ in range(2):
        assert run_setup(capsys, *STEPS[step]).out.splitlines()[-len(lines) :] == lines
    assert run_setup(capsys, *STEPS[step], "--dry-run").out.splitlines()[-len(lines) :] == lines


def test_next_command_keeps_the_relevant_flags(account: Account) -> None:
    done = account.setup(*PROVIDER, "--audience", "vault", "--region", "eu-west-1")
    assert done.out.endswith(
        f"next: irsa-sidecar setup role ROLE --issuer {ISSUER} --region eu-west-1 "
        "--service-account NAMESPACE/NAME --audience vault\n"
    )
    done = account.setup("role", "cart", "--issuer", ISSUER, "--service-account", "a/*", "--allow-wildcards")
    assert "next:" not in done.out


def test_next_command_is_quoted_for_a_shell() -> None:
    line = command("a", "b", name="it's $x", none=None, many=["c", "d e"])
    assert shlex.split(line) == ["a", "b", "--name", "it's $x", "--many", "c", "--many", "d e"]


def test_json_is_escaped_for_a_terminal() -> None:
    shown = as_json(Outcome("role", "\x1b[31m\x7f\u202e"), dry_run=False, done=0)
    assert shown.isascii()
    assert not {"\x1b", "\x7f"} & {*shown}
