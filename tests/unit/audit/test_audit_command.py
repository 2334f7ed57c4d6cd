"""Run `irsa-sidecar audit` against a fake API server and moto's account."""

import json
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from sidecar import cli
from tests.support.fakes.api_server import FakeApiServer
from tests.support.fakes.moto_server import MotoServer
from tests.support.fakes.threaded import serving
from tests.unit.audit.seeded import case_of, seed_account, seed_cluster
from tests.unit.audit.world import CASES, Case
from tests.unit.setup.kubeconfigs import written


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def rules(self) -> dict[str, set[str]]:
        """The rules that found something, by the name of the case."""
        found: dict[str, set[str]] = {}
        for finding in json.loads(self.out)["findings"]:
            found.setdefault(case_of(finding), set()).add(finding["rule"])
        return found


Audit = Callable[..., Result]


@pytest.fixture(scope="module")
def instances(moto: MotoServer) -> dict[str, str]:
    """Create the account of all cases once and return its instances, with about a hundred calls."""
    moto.reset()
    return seed_account(moto.url, CASES)


@pytest.fixture
def working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws_environment: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def seeded(
    moto: MotoServer,
    instances: dict[str, str],
    plain: FakeApiServer,
    monkeypatch: pytest.MonkeyPatch,
    working_directory: Path,
) -> FakeApiServer:
    """Provide an API server and an account with all cases."""
    moto.allow_requests(10**9)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    written(working_directory / "kubeconfig", plain.url)
    seed_cluster(plain, CASES, instances)
    return plain


@pytest.fixture
def audit(seeded: FakeApiServer, capsys: pytest.CaptureFixture[str]) -> Audit:
    def run(*arguments: str) -> Result:
        cluster = () if "--from" in arguments else ("--cluster", "lab")
        return Result(cli.main(["audit", *cluster, *arguments]), *capsys.readouterr())

    return run


def expected(case: Case) -> set[str]:
    """Return the case's rules, or none if the case needs a date in the past, which moto does not create."""
    return set() if case.is_old else set(case.rules)


def test_every_case_is_found_through_both_apis(audit: Audit) -> None:
    result = audit("--output", "json")
    assert result.status == 1
    assert result.rules == {case.name: expected(case) for case in CASES if expected(case)}
    assert json.loads(result.out)["totals"]["service_accounts"] >= 40


def test_saved_inventory_gives_the_same_report(audit: Audit, seeded: FakeApiServer) -> None:
    first = audit("--output", "json", "--save", "inventory")
    seeded.broken["/api/v1/pods"] = (500, {})
    assert audit("--output", "json", "--from", "inventory").out == first.out


def test_outputs_go_to_files_and_stdout(audit: Audit, tmp_path: Path) -> None:
    names = ("json", "sarif", "junit", "prometheus", "html")
    result = audit("--output", "table", *(f"--output={name}={name}.out" for name in names))
    assert result.out.startswith("Cluster lab, account 123456789012")
    assert all((tmp_path / f"{name}.out").stat().st_size > 500 for name in names)


@pytest.mark.parametrize(
    ("flags", "status"),
    [((), 1), (("--fail-on", "never"), 0), (("--fail-on", "note"), 1), (("--baseline", "last.json"), 0)],
)
def test_exit_status_depends_on_the_flags(audit: Audit, flags: tuple[str, ...], status: int) -> None:
    audit("--output", "json=last.json")
    assert audit(*flags).status == status


def test_accepted_findings_are_read_from_the_working_directory(audit: Audit, tmp_path: Path) -> None:
    entry = "  - {rule: broken.trust, subject: '*', reason: known, until: 2999-12-31}\n"
    (tmp_path / ".irsa-sidecar-audit.yaml").write_text(f"accepted:\n{entry}")
    document = json.loads(audit("--output", "json").out)
    assert {each["rule"] for each in document["accepted"]} == {"broken.trust"}
    assert "broken.trust" not in {each["rule"] for each in document["findings"]}


# Missing permissions and other faults


@pytest.mark.parametrize("resource", ["serviceaccounts", "pods", "nodes", "networkpolicies"])
def test_kind_that_may_not_be_listed_is_a_finding(audit: Audit, seeded: FakeApiServer, resource: str) -> None:
    seeded.forbidden.add(("list", resource))
    result = audit("--output", "json")
    unread = [each for each in json.loads(result.out)["findings"] if each["rule"] == "incomplete.unread"]
    assert len(unread) == 1
    assert resource in unread[0]["problem"]
    assert "permission to" in unread[0]["next_step"]
    assert len(result.rules) > 3


def test_account_without_permissions_is_a_finding(audit: Audit, moto: MotoServer) -> None:
    moto.allow_requests(1)
    result = audit("--output", "json")
    found = json.loads(result.out)["findings"]
    unread = {each["subject"]["name"] for each in found if each["rule"] == "incomplete.unread"}
    assert {"IAM roles", "IAM OIDC providers"} <= unread
    assert "broken.misspelt-annotation" in {each["rule"] for each in found}


def test_account_that_cannot_be_reached_is_a_finding(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    result = audit("--output", "json")
    found = {each["subject"]["name"] for each in json.loads(result.out)["findings"]}
    assert "AWS account" in found


class Throttling(BaseHTTPRequestHandler):
    """A proxy in front of moto that throttles the first `attempts` requests with the same content."""

    protocol_version = "HTTP/1.1"
    target = ""
    attempts = 1
    seen: Counter[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen[body] += 1
        if self.seen[body] <= self.attempts:
            status, content = (
                400,
                b"<ErrorResponse><Error><Code>Throttling</Code><Message>No</Message></Error></ErrorResponse>",
            )
        else:
            response = httpx.post(self.target, content=body, headers=dict(self.headers), trust_env=False)
            status, content = response.status_code, response.content
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Ignore log messages of http.server."""


@pytest.mark.parametrize("attempts", [1, 10**9])
def test_throttled_calls_are_tried_again(
    audit: Audit, moto: MotoServer, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    """IAM throttles the first attempt of each call, or every attempt. Botocore's pauses are left out."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    state: dict[str, Any] = {"target": moto.url, "attempts": attempts, "seen": Counter()}
    with serving(type("Proxy", (Throttling,), state)) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", url)
        found = json.loads(audit("--output", "json").out)["findings"]
    assert sum(state["seen"].values()) >= 2 * len(state["seen"]) > 2
    unread = {each["subject"]["name"]: each for each in found if each["rule"] == "incomplete.unread"}
    if attempts == 1:
        assert unread == {}
        assert {"broken.trust", "wide.no-subject"} & {each["rule"] for each in found}
        return
    assert {"IAM roles", "IAM OIDC providers"} <= unread.keys()
    assert all("(Throttling: No)" in each["problem"] for each in unread.values())
    assert all("Run this again later" in each["next_step"] for each in unread.values())
    assert "broken.misspelt-annotation" in {each["rule"] for each in found}


def test_objects_in_an_unknown_form_are_a_finding(audit: Audit, seeded: FakeApiServer) -> None:
    seeded.broken["/api/v1/pods"] = (200, {"items": [{"metadata": None}], "metadata": {}})
    result = audit("--output", "json")
    unread = [each for each in json.loads(result.out)["findings"] if each["rule"] == "incomplete.unread"]
    assert "an object in an unknown form" in unread[0]["problem"]


def test_object_of_five_mebibytes_is_read(audit: Audit, seeded: FakeApiServer) -> None:
    account = {"metadata": {"namespace": "large", "name": "app", "annotations": {"note": "x" * 5 * 1024 * 1024}}}
    seeded.put("/api/v1/namespaces/large/serviceaccounts/app", account | {"kind": "ServiceAccount"})
    assert audit("--output", "json", "--save", "inventory").status == 1
    assert Path("inventory/cluster.json").stat().st_size < 200_000


def test_pages_are_read_until_the_last(audit: Audit, seeded: FakeApiServer) -> None:
    for number in range(1100):
        account = {"kind": "ServiceAccount", "metadata": {"namespace": "many", "name": f"app-{number}"}}
        seeded.put(f"/api/v1/namespaces/many/serviceaccounts/app-{number}", account)
    assert json.loads(audit("--output", "json").out)["totals"]["service_accounts"] > 1100
    pages = [path for _, path in seeded.requests if path.startswith("/api/v1/serviceaccounts?")]
    assert len(pages) == 3


def test_saved_files_replace_files_and_links(audit: Audit, tmp_path: Path) -> None:
    """An old file may be readable by everybody, and a link may lead to a file of another person."""
    (tmp_path / "inventory").mkdir()
    (tmp_path / "inventory/cluster.json").touch(0o666)
    (tmp_path / "other").write_text("kept")
    (tmp_path / "inventory/account.json").symlink_to(tmp_path / "other")
    audit("--save", "inventory")
    modes = {path.name: oct(path.lstat().st_mode & 0o7777) for path in (tmp_path / "inventory").iterdir()}
    assert modes == {"cluster.json": "0o600", "account.json": "0o600"}
    assert (tmp_path / "other").read_text() == "kept"


def test_save_and_from_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        cli.main(["audit", "--from", "inventory", "--save", "other"])
    assert "--save: not allowed with argument --from" in capsys.readouterr().err


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--output", "xml"), "--output is xml: xml is not a format. Use one of table, json"),
        (("--output", "json="), "no file is named"),
        (("--output", "json", "--output", "html"), "--output sends json and html to stdout, where they would mix"),
        (("--output", "json=/nowhere/report"), "--output names /nowhere/report, which cannot be written"),
        (("--days", "0"), "--days is 0: it must be from 1 to 400"),
        (("--days", "9" * 400), "it must be from 1 to 400"),
        (("--from", "nowhere"), "--from is nowhere: cluster.json cannot be read"),
        (("--baseline", "nowhere"), "--baseline is nowhere, which cannot be read"),
        (("--accepted", "nowhere"), "--accepted is nowhere, which cannot be read"),
        (("--context", "other"), "--context is other, which is not a context"),
    ],
)
def test_wrong_usage_exits_with_status_two(audit: Audit, arguments: tuple[str, ...], message: str) -> None:
    result = audit(*arguments)
    assert result.status == 2
    assert message in result.err


def test_kubeconfig_without_a_cluster_is_reported(audit: Audit, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text("{}")
    result = audit()
    assert result.status == 2
    assert "names no usable current context" in result.err


def test_print_policy_needs_neither_cluster_nor_account(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["audit", "--print-policy"]) == 0
    (statement,) = json.loads(capsys.readouterr().out)["Statement"]
    verbs = {action.partition(":")[2][:3] for action in statement["Action"]}
    assert verbs == {"Des", "Get", "Lis"}
