"""Check the packaged chart, the documented commands, and the test hook."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from sidecar import __version__
from tests.chart.rendering import CHART, NAMESPACE, OPTIONS, REGION, VERSION, Helm, by_name, container_of
from tests.support.manifests import ROOT, documents


def test_packaged_chart_renders_the_same_objects(helm: Helm, tmp_path: Path) -> None:
    helm.run("package", CHART, f"--destination={tmp_path}")
    (package,) = tmp_path.glob("irsa-sidecar-*.tgz")
    flags = [f"--set=region={REGION},monitoring.prometheusRule.enabled=true", f"--namespace={NAMESPACE}", "--no-hooks"]
    made = helm.run("template", "irsa-sidecar", str(package), *flags, f"--kube-version={VERSION}").stdout
    assert by_name(documents(made)) == by_name(helm.render(monitoring={"prometheusRule": {"enabled": True}}))


def documented_commands() -> list[str]:
    """Return the arguments of each documented `helm install` that installs the chart from a checkout."""
    pages = [page.read_text(encoding="utf-8").replace("\\\n", " ") for page in sorted((ROOT / "docs").glob("*.md"))]
    return [
        found
        for page in pages
        for found in re.findall(r"^helm install (irsa-sidecar k8s/chart .*)$", page, re.MULTILINE)
    ]


@pytest.mark.parametrize("command", documented_commands())
def test_documented_command_sets_the_users_images(helm: Helm, command: str) -> None:
    arguments = [word for word in shlex.split(command) if word not in {"--create-namespace", "--wait"}]
    is_policy = "injection=policy" in arguments
    version = "1.36.0" if is_policy else VERSION
    objects = documents(helm.run("template", *arguments, f"--kube-version={version}", cwd=ROOT).stdout)
    image = f"registry.example.com/irsa-sidecar:{__version__}"
    if is_policy:
        (policy,) = [found for found in objects if found["kind"] == "MutatingAdmissionPolicy"]
        assert policy["spec"]["variables"][0] == {"name": "image", "expression": f'"{image}"'}
    else:
        container = container_of(objects)
        assert (container["image"], container["args"][1]) == (f"{image}-tools", f"--image={image}")


def test_chart_contains_no_symbolic_link() -> None:
    """Flux and some registries drop symbolic links."""
    assert [path for path in Path(CHART).rglob("*") if path.is_symlink()] == []


def test_hook_runs_python_with_the_webhooks_image(helm: Helm) -> None:
    (pod,) = [found for found in documents(helm.template(OPTIONS["names"]).stdout) if found["kind"] == "Pod"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    assert container["image"] == f"irsa-sidecar:{__version__}-tools"
    ast.parse(container["args"][0])
    assert 'os.environ["INJECTOR_SERVICE_HOST"]' in container["args"][0]
