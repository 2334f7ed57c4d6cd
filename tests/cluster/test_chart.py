"""
Test the chart k8s/chart with Helm itself.

It creates the same objects as k8s/webhook, an API server accepts its options, and it rejects invalid values with a
message.
"""

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import __version__
from sidecar.injection.names import OUR_VARIABLES
from sidecar.injection.resources import check_resources, read_quantity
from tests.cluster import binaries
from tests.cluster.applications import IMAGE, authored_spec
from tests.cluster.certificates import Certificates
from tests.cluster.cluster import Cluster, Done
from tests.cluster.definitions import CERT_MANAGER, OPERATOR, install
from tests.cluster.namespace import Namespace
from tests.cluster.sts import REGION, ClusterSts
from tests.cluster.waiting import wait_until
from tests.cluster.webhook import COMPONENT, ROLE, asking_pod, node_ports, replicas
from tests.support.manifests import K8S, ROOT, documents, patches_for_other_ports, sidecar_of

CHART, NAMESPACE = str(K8S / "chart"), "irsa-sidecar"
VERSION = "--kube-version=1.34.0"
"""Version of Kubernetes that a Helm without a cluster assumes."""

DIGESTS = ["sha256:" + "0a" * 32, "sha256:" + "1b" * 32]

Objects = dict[tuple[str, str], dict[str, Any]]
Helm = Callable[..., Done]


@pytest.fixture(scope="module")
def helm(cluster: Cluster) -> Helm:
    """Run Helm in the cluster's network, as the administrator."""
    command = [*cluster.inside(), str(binaries.helm())]
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}

    def run(*arguments: str, stdin: str | None = None, check: bool = True) -> Done:
        done = subprocess.run(
            [*command, *arguments], input=stdin, env=environment, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done

    return run


def rendered(helm: Helm, *flags: str, namespace: str = NAMESPACE, **values: Any) -> list[dict[str, Any]]:
    """Return the objects that `helm template` renders from these values. The flags may contain --set."""
    command = ["template", "irsa-sidecar", CHART, VERSION, f"--namespace={namespace}", "--values=-", *flags]
    return documents(helm(*command, stdin=yaml.safe_dump(values)).stdout)


# Same objects as kustomize


def test_chart_equals_the_kustomization(cluster: Cluster, helm: Helm) -> None:
    assert _by_name(rendered(helm)) == _wanted(cluster, K8S / "webhook")


def test_chart_with_cert_manager_equals_the_component(cluster: Cluster, helm: Helm, tmp_path: Path) -> None:
    _write_overlay(tmp_path, "cert-manager")
    assert _by_name(rendered(helm, certificate={"from": "cert-manager"})) == _wanted(cluster, tmp_path)


def test_chart_on_the_host_network_equals_the_component(cluster: Cluster, helm: Helm, tmp_path: Path) -> None:
    """Use other ports, with the patches that the component's comment names."""
    _write_overlay(tmp_path, "host-network", patches=patches_for_other_ports())
    allowed = _kustomized(cluster, tmp_path)["Namespace", NAMESPACE]["metadata"]["labels"]
    assert {name: level for name, level in allowed.items() if "pod-security" in name and level != "privileged"} == {}
    wanted = _wanted(cluster, tmp_path)
    assert ("NetworkPolicy", "webhook") not in wanted
    assert _by_name(rendered(helm, **OPTIONS["host network"])) == wanted


def test_chart_with_monitoring_equals_both_folders(cluster: Cluster, helm: Helm) -> None:
    plain = _by_name(rendered(helm))
    found = _by_name(rendered(helm, monitoring={"enabled": True}))
    wanted = _kustomized(cluster, K8S / "monitoring") | _kustomized(cluster, K8S / "monitoring/webhook")
    for each in wanted.values():
        each["metadata"]["namespace"] = NAMESPACE
    assert {name: found[name] for name in found.keys() - plain.keys()} == wanted


def test_documented_command_sets_the_users_images(helm: Helm) -> None:
    text = (ROOT / "docs/kubernetes.md").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"^helm install (irsa-sidecar .*)$", text, re.MULTILINE)
    arguments = [CHART if word == "k8s/chart" else word for word in command.split() if word != "--create-namespace"]
    found = _by_name(documents(helm("template", *arguments, VERSION).stdout))
    (container,) = found["Deployment", "webhook"]["spec"]["template"]["spec"]["containers"]
    image = f"registry.example.com/irsa-sidecar:{__version__}"
    assert (container["image"], container["args"][1:3]) == (
        f"{image}-tools",
        [f"--image={image}", "--region=eu-west-1"],
    )


# Values


def test_values_are_in_the_right_places(helm: Helm) -> None:
    found = _by_name(rendered(helm, **OPTIONS["placement"], **OPTIONS["process"], networkPolicy=False, replicas=3))
    deployment = found["Deployment", "webhook"]
    template = deployment["spec"]["template"]
    pod, (container,) = template["spec"], template["spec"]["containers"]
    assert deployment["spec"]["replicas"] == 3
    assert deployment["metadata"]["labels"]["team"] == template["metadata"]["labels"]["team"] == "platform"
    assert template["metadata"]["labels"].items() > deployment["spec"]["selector"]["matchLabels"].items()
    assert template["metadata"]["labels"]["cost"] == "12"
    assert template["metadata"]["annotations"] == {"linkerd.io/inject": "disabled"}
    for name in ("nodeSelector", "tolerations", "affinity", "priorityClassName", "imagePullSecrets"):
        assert pod[name] == OPTIONS["placement"][name]
    assert container["args"][2:] == [
        "--region=eu-west-1",
        "--env=HTTPS_PROXY=http://proxy:3128",
        "--native-sidecars=never",
        '--sidecar-resources={"limits":{"cpu":"200m","memory":"96Mi"},"requests":{"cpu":0.05}}',
        "--drain-seconds=5",
        "--log-level=debug",
    ]
    flag, _, text = container["args"][5].partition("=")
    assert check_resources(flag, text)["requests"] == {"cpu": "0.05"}
    assert container["env"] == OPTIONS["process"]["extraEnv"]
    assert container["resources"]["limits"] == {"memory": "512Mi"}
    assert not {("NetworkPolicy", "webhook"), ("PriorityClass", "irsa-sidecar-webhook")} & found.keys()


@pytest.mark.parametrize(
    ("values", "injected", "own"),
    [
        ({"image": {"tag": "1.2.3"}}, "irsa-sidecar:1.2.3", "irsa-sidecar:1.2.3-tools"),
        (
            {"image": {"repository": "r.example/a", "digest": DIGESTS[0]}, "webhookImage": {"digest": DIGESTS[1]}},
            f"r.example/a@{DIGESTS[0]}",
            f"r.example/a@{DIGESTS[1]}",
        ),
        (
            {"image": {"tag": "1", "digest": DIGESTS[0]}, "webhookImage": {"repository": "r.example/b", "tag": "2"}},
            f"irsa-sidecar:1@{DIGESTS[0]}",
            "r.example/b:2",
        ),
    ],
)
def test_images_are_named_by_tag_or_digest(helm: Helm, values: dict[str, Any], injected: str, own: str) -> None:
    (container,) = _by_name(rendered(helm, **values))["Deployment", "webhook"]["spec"]["template"]["spec"]["containers"]
    assert container["args"][1] == f"--image={injected}"
    assert container["image"] == own


def test_selectors_only_exclude_more_objects(helm: Helm) -> None:
    found = _by_name(rendered(helm, **OPTIONS["admission"]))["MutatingWebhookConfiguration", "irsa-sidecar"]
    (webhook,) = found["webhooks"]
    asks = [
        {"key": "irsa-sidecar.io/inject", "operator": "Exists"},
        {"key": "irsa-sidecar.io/inject", "operator": "NotIn", "values": ["false"]},
    ]
    old = {"key": "era", "operator": "DoesNotExist"}
    assert webhook["objectSelector"] == {"matchLabels": {"tier": "web"}, "matchExpressions": [*asks, old]}
    own = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [NAMESPACE]}
    given = {"key": "team", "operator": "In", "values": ["shop"]}
    assert webhook["namespaceSelector"] == {"matchLabels": {"env": "production"}, "matchExpressions": [own, given]}
    assert webhook["failurePolicy"] == "Ignore"
    assert webhook["timeoutSeconds"] == 15


def test_release_namespace_is_used_everywhere(helm: Helm) -> None:
    objects = rendered(helm, namespace="aws", certificate={"from": "cert-manager"}, monitoring={"enabled": True})
    assert {found["metadata"].get("namespace", "aws") for found in objects} == {"aws"}
    configuration = _by_name(objects)["MutatingWebhookConfiguration", "irsa-sidecar"]
    assert configuration["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": "aws/webhook"}
    (webhook,) = configuration["webhooks"]
    assert webhook["clientConfig"]["service"]["namespace"] == "aws"
    assert webhook["namespaceSelector"]["matchExpressions"][0]["values"] == ["aws"]
    assert _by_name(objects)["Certificate", "webhook"]["spec"]["dnsNames"][0] == "webhook.aws.svc"


AUTHORITY = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "placement": {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}]}
                    ]
                }
            }
        },
        "priorityClassName": "system-cluster-critical",
        "podAnnotations": {"linkerd.io/inject": "disabled"},
        "podLabels": {"cost": "12", "app.kubernetes.io/name": "other"},
        "commonLabels": {"team": "platform"},
    },
    "process": {
        "region": "eu-west-1",
        "image": {"repository": "registry.example.com/irsa-sidecar", "digest": DIGESTS[0]},
        "webhookImage": {"pullPolicy": "Always"},
        "env": {"HTTPS_PROXY": "http://proxy:3128"},
        "sidecar": {
            "native": "never",
            "resources": {"requests": {"cpu": 0.05}, "limits": {"cpu": "200m", "memory": "96Mi"}},
        },
        "extraArgs": ["--drain-seconds=5", "--log-level=debug"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    },
    "admission": {
        "objectSelector": {
            "matchLabels": {"tier": "web"},
            "matchExpressions": [{"key": "era", "operator": "DoesNotExist"}],
        },
        "namespaceSelector": {
            "matchLabels": {"env": "production"},
            "matchExpressions": [{"key": "team", "operator": "In", "values": ["shop"]}],
        },
        "failurePolicy": "Ignore",
        "timeoutSeconds": 15,
    },
    "cert-manager": {"certificate": {"from": "cert-manager"}},
    "cert-manager, the user's issuer": {
        "certificate": {
            "from": "cert-manager",
            "issuerRef": {"name": "vault", "kind": "ClusterIssuer", "group": "cert-manager.io"},
            "duration": "48h",
        }
    },
    "existingSecret": {"certificate": {"from": "existingSecret", "existingSecret": "tls", "caBundle": AUTHORITY}},
    "monitoring": {"monitoring": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}}},
    "host network": {"hostNetwork": True, "ports": {"https": 9443, "admin": 9080}},
    "bare": {"networkPolicy": False, "replicas": 1},
}


@pytest.fixture(scope="module")
def knowing(cluster: Cluster) -> Cluster:
    """Return the cluster with the definitions of cert-manager and the Prometheus operator."""
    install(cluster, CERT_MANAGER)
    install(cluster, OPERATOR)
    return cluster


@pytest.mark.parametrize("name", OPTIONS)
def test_api_server_accepts_every_option(knowing: Cluster, namespace: Namespace, helm: Helm, name: str) -> None:
    """Use a namespace with the strictest Pod Security level that fits, and reject unknown fields."""
    del knowing
    if OPTIONS[name].get("hostNetwork"):
        _allow_everything(namespace)
    objects = rendered(helm, namespace=namespace.name, **OPTIONS[name])
    priority = [found for found in objects if found["kind"] == "PriorityClass"]
    assert bool(priority) != ("priorityClassName" in OPTIONS[name])
    assert "Warning" not in namespace.apply(*objects, dry_run=True).stderr


def test_host_network_install_fails_in_a_restricted_namespace(namespace: Namespace, helm: Helm) -> None:
    """Check that the chart gives the reason. Helm itself would only wait for the Pods."""
    command = ("install", "irsa-sidecar", CHART, "--dry-run=server", f"--namespace={namespace.name}")
    done = helm(*command, "--set=hostNetwork=true", check=False)
    assert f"namespace {namespace.name} enforces the Pod Security Standard restricted" in done.stderr
    _allow_everything(namespace)
    assert "enforces" not in helm(*command, "--set=hostNetwork=true", check=False).stderr


def _allow_everything(namespace: Namespace) -> None:
    """Label the namespace with the command from the chart's message."""
    labels = [f"pod-security.kubernetes.io/{mode}=privileged" for mode in ("enforce", "warn")]
    namespace.kubectl("label", "--overwrite", "namespace", namespace.name, *labels)


def test_webhook_with_an_external_certificate_may_write_nothing(helm: Helm) -> None:
    for name in ("cert-manager", "existingSecret"):
        found = _by_name(rendered(helm, **OPTIONS[name]))
        rules = found["ClusterRole", "irsa-sidecar-webhook"]["rules"]
        assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch", "create"}
        assert [rule["resources"] for rule in rules if "create" in rule["verbs"]] == [["events"]]
        assert not {("Role", "irsa-sidecar-webhook"), ("RoleBinding", "irsa-sidecar-webhook")} & found.keys()


# Wrong values

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
    ({"replicas": "two"}, "at '/replicas': got string, want integer"),
    ({"replica": 3}, "additional properties 'replica' not allowed"),
    ({"region": "Ireland!"}, "at '/region': 'Ireland!' does not match pattern"),
    ({"image": {"repository": ""}}, "at '/image/repository': '' does not match pattern"),
    ({"image": {"digest": "sha256:12"}}, "at '/image/digest': 'sha256:12' does not match pattern"),
    ({"image": {"name": "x"}}, "at '/image': additional properties 'name' not allowed"),
    ({"webhookImage": {"pullPolicy": "Sometimes"}}, "at '/webhookImage/pullPolicy': value must be one of"),
    ({"imagePullSecrets": ["registry"]}, "at '/imagePullSecrets/0': got string, want object"),
    ({"env": {"AWS_ROLE_ARN": "x"}}, "AWS_ROLE_ARN"),
    ({"env": {"AWS_USE_FIPS_ENDPOINT": True}}, "at '/env/AWS_USE_FIPS_ENDPOINT': got boolean, want string"),
    ({"sidecar": {"native": "no"}}, "at '/sidecar/native': value must be one of 'auto', 'always', 'never'"),
    (
        {"sidecar": {"resources": {"limits": {"mem": "64Mi"}}}},
        "at '/sidecar/resources/limits': additional properties 'mem' not allowed",
    ),
    (
        {"sidecar": {"resources": {"limits": {"memory": "64"}}}},
        "at '/sidecar/resources/limits/memory': '64' does not match pattern",
    ),
    (
        {"sidecar": {"resources": {"limits": {"memory": 64}}}},
        "at '/sidecar/resources/limits/memory': minimum: got 64",
    ),
    ({"resources": {"limits": {"memory": "64 MB"}}}, "at '/resources/limits/memory': '64 MB' does not match pattern"),
    ({"failurePolicy": "fail"}, "at '/failurePolicy': value must be one of 'Fail', 'Ignore'"),
    ({"timeoutSeconds": 31}, "at '/timeoutSeconds': maximum: got 31, want 30"),
    ({"objectSelector": {"team": "shop"}}, "at '/objectSelector': additional properties 'team' not allowed"),
    (
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "in"}]}},
        "at '/namespaceSelector/matchExpressions/0/operator': value must be one of 'In', 'NotIn'",
    ),
    ({"tolerations": [{"operators": "Exists"}]}, "at '/tolerations/0': additional properties 'operators' not allowed"),
    ({"podLabels": {"cost": 12}}, "at '/podLabels/cost': got number, want string"),
    ({"monitoring": True}, "at '/monitoring': got boolean, want object"),
    ({"extraArgs": "--log-level=debug"}, "at '/extraArgs': got string, want array"),
    ({"resources": {"limit": {}}}, "at '/resources': additional properties 'limit' not allowed"),
    ({"ports": {"https": 443}}, "at '/ports/https': minimum: got 443, want 1,024"),
    ({"ports": {"metrics": 9090}}, "at '/ports': additional properties 'metrics' not allowed"),
    ({"ports": {"https": 8080}}, "ports.https and ports.admin are both 8080: give each a port of its own."),
    ({"extraArgs": ["--admin-listen=:9080"]}, "extraArgs has --admin-listen=:9080: set ports.https or ports.admin,"),
    ({"hostNetwork": True, "ports": {"https": 10250}}, "ports.https is 10250, where kubelet or kube-proxy listen on"),
    ({"hostNetwork": "true"}, "at '/hostNetwork': got string, want boolean"),
    ({"certificate": {"from": "letsencrypt"}}, "at '/certificate/from': value must be one of 'self', 'cert-manager'"),
    ({"certificate": {"from": "existingSecret"}}, "give certificate.existingSecret, the Secret's name, and"),
    ({"certificate": {"existingSecret": "tls"}}, "are not for certificate.from self: leave them out, or set"),
    ({"certificate": {"caBundle": "/tmp/ca.pem"}}, "at '/certificate/caBundle': '/tmp/ca.pem' does not match pattern"),
    ({"certificate": {"issuerRef": {"name": "vault"}}}, "set certificate.from to cert-manager"),
    ({"certificate": {"from": "cert-manager", "issuerRef": {"kind": "ClusterIssuer"}}}, "issuerRef has no name"),
]


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_invalid_value_is_rejected_by_name(helm: Helm, values: dict[str, Any], words: str) -> None:
    done = helm("template", "irsa-sidecar", CHART, VERSION, "--values=-", stdin=yaml.safe_dump(values), check=False)
    assert done.returncode != 0
    assert words in done.stderr


def test_schema_has_every_value_and_rejects_wrong_names() -> None:
    schema = json.loads((K8S / "chart" / "values.schema.json").read_text())
    values = yaml.safe_load((K8S / "chart" / "values.yaml").read_text())
    assert schema["properties"].keys() - {"global"} == values.keys()
    assert schema["additionalProperties"] is False
    assert tuple(schema["properties"]["env"]["propertyNames"]["not"]["enum"]) == OUR_VARIABLES


QUANTITIES = ["0", "1", "2.", ".5", "0.05", "+1", "100m", "64Mi", "64M", "1e3", "1E+3", "1E", "5n", "1Ki"]
NO_QUANTITIES = ["", "64 Mi", "64MB", "64mi", "1 core", "-1", "1e", "Mi", "1.2.3", "1_000"]


@pytest.mark.parametrize("text", [*QUANTITIES, *NO_QUANTITIES])
def test_quantity_is_parsed_as_in_the_webhook(text: str) -> None:
    pattern = json.loads((K8S / "chart" / "values.schema.json").read_text())["definitions"]["quantity"]["pattern"]
    with nullcontext() if text in QUANTITIES else pytest.raises(ValueError, match="quantity"):
        read_quantity(text)
    assert (re.search(pattern, text) is not None) == (text in QUANTITIES)


@pytest.mark.parametrize("name", OPTIONS)
def test_helm_lint_finds_no_error(helm: Helm, name: str) -> None:
    helm("lint", "--strict", CHART, VERSION, "--values=-", stdin=yaml.safe_dump(OPTIONS[name]))


def test_packaged_chart_contains_every_file(helm: Helm, tmp_path: Path) -> None:
    """Check the targets of links too."""
    helm("package", CHART, f"--destination={tmp_path}")
    (package,) = tmp_path.glob("irsa-sidecar-*.tgz")
    values = ["--set=monitoring.enabled=true", f"--namespace={NAMESPACE}", VERSION]
    made = helm("template", "irsa-sidecar", str(package), *values).stdout
    assert _by_name(documents(made)) == _by_name(rendered(helm, monitoring={"enabled": True}))


def test_notes_show_the_next_step(helm: Helm) -> None:
    def notes(*flags: str) -> str:
        done = helm("install", "irsa-sidecar", CHART, "--dry-run=client", f"--namespace={NAMESPACE}", *flags)
        return done.stdout.partition("NOTES:")[2]

    output = notes()
    assert "kubectl --namespace irsa-sidecar rollout status deployment/webhook" in output
    assert 'irsa-sidecar.io/inject: "true"' in output
    assert "image.repository is `irsa-sidecar`, which no registry serves" in output
    output = notes("--set=image.repository=r.example/a,failurePolicy=Ignore,certificate.from=cert-manager")
    assert "no registry" not in output
    assert "may get the node's role" in output
    assert "certificate/webhook" in output
    assert "nodes' network" not in output
    output = notes("--set=hostNetwork=true,ports.https=9443")
    assert "must reach port 9443 there" in output
    assert "namespace irsa-sidecar pod-security.kubernetes.io/enforce=privileged" in output


# On a node


@pytest.fixture(scope="module")
def installed(node: Cluster, helm: Helm) -> Iterator[Namespace]:
    """Install the chart with `helm install`, in a namespace that Helm creates."""
    values = [f"--set=region={REGION},replicas=1,{_images()}"]
    helm("install", "irsa-sidecar", CHART, "--namespace=aws", "--create-namespace", "--wait", "--timeout=120s", *values)
    try:
        yield Namespace(node, "aws")
    finally:
        helm("uninstall", "irsa-sidecar", "--namespace=aws", "--wait")
        node.kubectl("delete", "namespace", "aws", "--wait=false")


def test_installed_chart_injects(installed: Namespace, namespace: Namespace, sts: ClusterSts) -> None:
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")


def test_mounted_certificate_is_reloaded_without_a_restart(
    installed: Namespace, namespace: Namespace, helm: Helm, sts: ClusterSts, tmp_path: Path
) -> None:
    """Trust two CAs first, and then only the second one: reviews then show which of them signed."""
    first, second = (_authority(tmp_path / name) for name in ("first", "second"))
    _put_secret(installed, first)
    (tmp_path / "ca.pem").write_bytes(b"".join((each / "ca.crt").read_bytes() for each in (first, second)))
    values = ["--set=certificate.from=existingSecret,certificate.existingSecret=mounted", "--reuse-values"]
    trust = [f"--set-file=certificate.caBundle={tmp_path}/ca.pem"]
    helm("upgrade", "irsa-sidecar", CHART, "--namespace=aws", "--wait", "--timeout=120s", *values, *trust)
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")
    before = _webhook_pod(installed)
    _put_secret(installed, second)
    trust = [f"--set-file=certificate.caBundle={second}/ca.crt"]
    wait_until(lambda: _certificates_taken(installed, before) == 2, "the second certificate")
    helm("upgrade", "irsa-sidecar", CHART, "--namespace=aws", "--wait", "--timeout=120s", "--reuse-values", *trust)
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")
    assert _webhook_pod(installed) == before


def test_host_network_webhook_injects_one_replica_per_node(
    installed: Namespace, namespace: Namespace, helm: Helm, sts: ClusterSts
) -> None:
    """Use other ports than a Pod with its own network. The API server and the kubelet reach them."""
    upgrade = ("upgrade", "irsa-sidecar", CHART, "--namespace=aws", "--reuse-values")
    values = "--set=hostNetwork=true,ports.https=9443,ports.admin=9080"
    helm(*upgrade, "--wait", "--timeout=120s", values)
    assert node_ports(installed) == [9443, 9080]
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")
    helm(*upgrade, "--set=replicas=2")
    wait_until(lambda: "didn't have free ports" in _unscheduled(installed), "a replica without a node")
    assert _admitted(namespace, sts) == IMAGE
    # The next version uses the same ports.
    helm(*upgrade, "--wait", "--timeout=120s", "--set=replicas=1,podLabels.round=second")
    assert installed.pod(_webhook_pod(installed))["metadata"]["labels"]["round"] == "second"
    wait_until(lambda: _admitted(namespace, sts) == IMAGE, "a Pod with a sidecar")


def _unscheduled(installed: Namespace) -> str:
    """Return the reasons why its Pods have no node."""
    found = installed.get("pods", COMPONENT)["items"]
    conditions = [each for pod in found for each in pod["status"].get("conditions", ())]
    return " ".join(each.get("message", "") for each in conditions if each["type"] == "PodScheduled")


def _authority(folder: Path) -> Path:
    """Return a new CA, with a certificate for the webhook."""
    Certificates(folder).make_server("webhook", ["webhook.aws.svc"], [])
    return folder


def _put_secret(installed: Namespace, folder: Path) -> None:
    files = {"tls.crt": folder / "webhook.crt", "tls.key": folder / "webhook.key"}
    data = {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mounted"}, "type": "kubernetes.io/tls"}
    installed.apply(secret | {"data": data})


def _webhook_pod(installed: Namespace) -> str:
    """Return the Pod that does not terminate."""
    (found,) = replicas(installed)
    return str(found["metadata"]["name"])


def _certificates_taken(installed: Namespace, pod: str) -> int:
    return installed.logs(pod, "webhook").count('"certificate_activated"')


def _admitted(namespace: Namespace, sts: ClusterSts) -> str:
    """Return the sidecar's image in an admitted Pod, or an empty text if the Pod is rejected."""
    pod = asking_pod(authored_spec(sts), annotations=ROLE)
    create = ["create", "--dry-run=server", "--output=json", "--filename=-"]
    done = namespace.kubectl(*create, stdin=yaml.safe_dump(pod), check=False)
    return str(sidecar_of(json.loads(done.stdout))["image"]) if done.returncode == 0 else ""


def _images() -> str:
    repository, _, tag = IMAGE.partition(":")
    return f"image.repository={repository},image.tag={tag}"


def _write_overlay(folder: Path, component: str, **more: Any) -> None:
    """Write a kustomization over the webhook's, with the component and some more fields."""
    base = Path("../" * (len(folder.parts) - 1), *(K8S / "webhook").parts[1:])  # kustomize requires a relative path
    overlay = {"resources": [str(base)], "components": [str(base / component)]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay | more))


def _wanted(cluster: Cluster, folder: Path) -> Objects:
    """Return the kustomization's objects as in the chart: arguments instead of variables, and no Namespace."""
    wanted = _kustomized(cluster, folder)
    del wanted["Namespace", NAMESPACE]  # Helm creates it with --create-namespace
    (settings,) = [key for key in wanted if key[0] == "ConfigMap"]
    values = wanted.pop(settings)["data"]
    (container,) = wanted["Deployment", "webhook"]["spec"]["template"]["spec"]["containers"]
    del container["envFrom"]
    for name, value in values.items():
        container["args"] = [argument.replace(f"$({name})", value) for argument in container["args"]]
    return wanted


def _kustomized(cluster: Cluster, folder: Path) -> Objects:
    return _by_name(documents(cluster.kubectl("kustomize", str(folder)).stdout))


def _by_name(objects: list[dict[str, Any]]) -> Objects:
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}
