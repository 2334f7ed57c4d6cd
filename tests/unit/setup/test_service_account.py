"""Test `setup service-account` with a fake API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sidecar.commands.parsing import run_command
from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.setup.steps import service_account
from tests.support.fakes.api_server import FakeApiServer, api_server, kubeconfig
from tests.unit.injection.pods import ARN, OTHER_ARN
from tests.unit.setup.conftest import without_next

PATH = "/api/v1/namespaces/shop/serviceaccounts/cart"
ROLE = "eks.amazonaws.com/role-arn"


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_proxies: None) -> Iterator[FakeApiServer]:
    with api_server() as fake:
        (tmp_path / "config").write_text(yaml.safe_dump(kubeconfig(fake.url)))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield fake


def run(*arguments: str, role: str = ARN) -> int:
    flags = ("--name", "cart", "--role-arn", role, *arguments)
    return run_command(service_account, "irsa-sidecar setup service-account", flags)


def test_missing_service_account_is_created_in_its_namespace(api: FakeApiServer) -> None:
    assert run("--audience", "sts.example", "--token-expiration", "3600") == 0
    assert api.documents[PATH]["metadata"]["annotations"] == {
        ROLE: ARN,
        "eks.amazonaws.com/audience": "sts.example",
        "eks.amazonaws.com/token-expiration": "3600",
    }


def test_second_run_changes_nothing(api: FakeApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    run()
    before = len(api.bodies)
    assert run() == 0
    assert len(api.bodies) == before
    assert without_next(capsys.readouterr().out).endswith("ServiceAccount shop/cart (context lab): nothing to change\n")


def test_other_annotations_stay_and_the_difference_is_shown(
    api: FakeApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, annotations = {"app.kubernetes.io/managed-by": "Helm"}, {"owner": "me", ROLE: ARN}
    api.put(
        PATH, {"kind": "ServiceAccount", "metadata": {"name": "cart", "labels": labels, "annotations": annotations}}
    )
    assert run("--namespace", "shop", role=OTHER_ARN) == 0
    metadata = api.documents[PATH]["metadata"]
    assert metadata["annotations"] == {"owner": "me", ROLE: OTHER_ARN}
    assert metadata["labels"] == labels
    shown = capsys.readouterr()
    assert f"-    {ROLE}: {ARN}\n+    {ROLE}: {OTHER_ARN}\n" in shown.out
    assert "Helm manages" in shown.err


def test_dry_run_is_checked_by_the_api_server(api: FakeApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dry-run") == 0
    assert api.documents == {}
    assert "dryRun=All" in api.requests[-1][1]
    assert "would create it; the API server would allow it" in capsys.readouterr().out
    api.faults += [(404, {}), (403, {"message": "forbidden"})]
    with pytest.raises(KubernetesError, match="forbidden"):
        run("--dry-run")


def test_output_yaml_needs_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--output", "yaml") == 0
    assert yaml.safe_load(capsys.readouterr().out) == {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "cart", "namespace": "default", "annotations": {ROLE: ARN}},
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--namespace", "a/b"], "--namespace is 'a/b'"),
        (["--name", "A"], "--name is 'A'"),
        (["--role-arn", "x"], "--role-arn is 'x'"),
        (["--token-expiration", "60"], "--token-expiration is '60', .* Use whole seconds from 600 to 86400"),
    ],
)
def test_error_of_wrong_usage_names_the_flag(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        run(*arguments)
