"""Describe the supported environments and their tests. A test checks that each path in `where` exists."""

from typing import NamedTuple


class Environment(NamedTuple):
    """One environment: its name, its tests or the reason why it has none, and the path of the tests."""

    what: str
    how: str
    where: str = ""


KUBERNETES: tuple[Environment, ...] = (
    Environment(
        "Kubernetes {kubernetes}",
        "API server, controllers, scheduler, kubelet and containerd run on one machine, with our images",
        "tests/cluster",
    ),
    Environment(
        "Kubernetes {oldest_kubernetes}",
        "The most important tests: start order, token renewal, Jobs, termination, the webhook and doctor",
        "tests/cluster",
    ),
    Environment(
        "Kubernetes {first} to {newest}",
        "The manifests, the YAML of the documentation and injected Pods are validated with the schemas of each version",
        "tests/unit/injection/test_every_kubernetes.py",
    ),
    Environment(
        "Kubernetes {first} to {newest}, chart",
        "Objects of the chart are validated with the schemas of each version",
        "tests/chart/test_versions.py",
    ),
    Environment(
        "restarts of all containers, in-place resize, resources of a Pod",
        "Pods with these features run on {kubernetes} with a sidecar. A Pod with `hostUsers: false` is admitted but "
        "does not run, because containerd 1.6 of the test's node has no user namespaces",
        "tests/cluster/test_newer_pods.py",
    ),
    Environment(
        "limits for the lifetime of tokens",
        "The API server of {kubernetes} limits tokens to 24 hours. No test runs an external signer",
        "tests/cluster/test_newer_pods.py",
    ),
    Environment(
        "Kubernetes {chart} and newer, before 1.29",
        "The tests inject an ordinary container on {kubernetes}. No test runs an older kubelet",
        "tests/cluster/test_pods.py",
    ),
    Environment(
        "Helm {helm_3} and {helm_4}", "The chart is rendered, linted and validated with both versions", "tests/chart"
    ),
    Environment(
        "cert-manager {cert_manager}",
        "cert-manager issues and renews the webhook's certificate",
        "tests/cluster/test_cert_manager.py",
    ),
    Environment(
        "Amazon's EKS Pod identity webhook",
        "A fake with the rules of Amazon's webhook runs before or after our webhook, with both reinvocation policies",
        "tests/cluster/test_amazons_webhook.py",
    ),
    Environment("AWS, EKS and EKS Fargate", "Not tested, because the tests have no AWS account"),
    Environment(
        "OpenShift, k3s, k0s, Talos, kOps and EKS Anywhere",
        "Not tested. Our pages about these distributions follow the documentation of each distribution",
    ),
)

AWS: tuple[Environment, ...] = (
    Environment(
        "requests to STS and its responses",
        "Generated requests and responses are compared with botocore's serializer and parser",
        "tests/against/botocore",
    ),
    Environment(
        "URLs of STS",
        "The URLs are compared with botocore's rules for endpoints, in every partition",
        "tests/unit/sts/test_endpoint.py",
    ),
    Environment("IAM in `setup`", "The commands run against moto, a public simulation of AWS", "tests/unit/setup"),
    Environment("AWS itself", "Not tested, because the tests have no AWS account"),
)

SYSTEMS: tuple[Environment, ...] = (
    Environment("Linux on x86-64", "All suites run on this platform", "tests"),
    Environment(
        "Linux on arm64",
        "Every locked package has a wheel. No suite runs on this platform",
        "tests/image/test_architectures.py",
    ),
    Environment("macOS", "Supported for every command except `run` and `webhook`. No suite runs on this platform"),
    Environment("Windows", "Not supported"),
)
"""The operating systems and architectures."""
