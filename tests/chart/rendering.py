"""Render the chart with Helm, and define the values that several tests use."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.support.manifests import K8S, documents

CHART, NAMESPACE = str(K8S / "chart"), "irsa-sidecar"

VERSION = "1.34.0"
"""The version of Kubernetes for which Helm renders the chart by default, because Helm has no cluster."""

REGION = "eu-west-1"

DIGESTS = ["sha256:" + "0a" * 32, "sha256:" + "1b" * 32]

AUTHORITY = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

Objects = dict[tuple[str, str], dict[str, Any]]

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "names": {
        "fullnameOverride": "injector",
        "nameOverride": "credentials",
        "serviceAccount": {"name": "injector-account", "annotations": {"owner": "platform"}},
    },
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
        "topologySpreadConstraints": [
            {"maxSkew": 2, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%"}},
        "podDisruptionBudget": {"maxUnavailable": None, "minAvailable": 1},
        "priorityClassName": "system-cluster-critical",
    },
    "labels": {
        "podAnnotations": {"linkerd.io/inject": "disabled"},
        "podLabels": {"cost": "12", "app.kubernetes.io/name": "other"},
        "commonLabels": {"team": "platform"},
        "commonAnnotations": {"owner": "platform"},
        "service": {"annotations": {"mesh": "off"}, "labels": {"kind": "internal"}},
        "webhookConfiguration": {"annotations": {"argocd.argoproj.io/sync-wave": "1"}, "labels": {"kind": "admission"}},
    },
    "process": {
        "image": {"repository": "registry.example.com/irsa-sidecar", "digest": DIGESTS[1], "pullPolicy": "Always"},
        "sidecar": {
            "image": {"digest": DIGESTS[0]},
            "env": {"HTTPS_PROXY": "http://proxy:3128"},
            "native": "never",
            "resources": {"requests": {"cpu": 0.05}, "limits": {"cpu": "200m", "memory": "96Mi"}},
        },
        "logLevel": "debug",
        "extraArgs": ["--drain-seconds=5"],
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "extraVolumes": [{"name": "ca", "configMap": {"name": "corporate-ca"}}],
        "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/corporate", "readOnly": True}],
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
    "monitoring": {
        "monitoring": {
            "podMonitor": {
                "enabled": True,
                "interval": "15s",
                "labels": {"release": "kube-prometheus-stack"},
                "relabelings": [{"action": "labeldrop", "regex": "node"}],
            },
            "prometheusRule": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}},
            "dashboards": {"enabled": True, "annotations": {"grafana_folder": "AWS"}},
        }
    },
    "host network": {"hostNetwork": True, "ports": {"https": 9443, "admin": 9080}},
    "OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None}},
    "given": {
        "rbac": {"create": False},
        "serviceAccount": {"create": False, "name": "given"},
        "priorityClassName": "none",
        "podDisruptionBudget": {"enabled": False},
        "networkPolicy": {"enabled": False},
        "replicaCount": 1,
    },
}
"""The chart's values in the tests, by their topic."""


class Helm:
    """A Helm that has no cluster."""

    def __init__(self, program: Path) -> None:
        self._program = str(program)

    def run(
        self, *arguments: str, stdin: str | None = None, check: bool = True, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """
        Run Helm.

        Raises AssertionError with Helm's output if Helm fails and `check` is true.
        """
        command = [self._program, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, cwd=cwd)
        assert not check or done.returncode == 0, f"helm {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done

    def template(self, values: dict[str, Any], *flags: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Render the chart with these values. The default region is REGION."""
        command = ["template", "irsa-sidecar", CHART, "--values=-", *flags]
        if not any(flag.startswith("--kube-version") for flag in flags):
            command.append(f"--kube-version={VERSION}")
        return self.run(*command, stdin=yaml.safe_dump({"region": REGION} | values), check=check)

    def render(self, namespace: str = NAMESPACE, **values: Any) -> list[dict[str, Any]]:
        """Return the objects that an installation creates, without the test hook."""
        return documents(self.template(values, f"--namespace={namespace}", "--no-hooks").stdout)


def by_name(objects: list[dict[str, Any]]) -> Objects:
    return {(found["kind"], found["metadata"]["name"]): found for found in objects}


def container_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the webhook's container."""
    (deployment,) = [found for found in objects if found["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found
