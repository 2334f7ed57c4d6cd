"""Adapt the Pods of k8s/ for tests. Their containers run small programs, and STS runs in the node's network."""

from copy import deepcopy
from typing import Any

from tests.cluster.cluster import CHECKOUT
from tests.cluster.sts import ClusterSts
from tests.support.manifests import SIDECAR, pods, read

IMAGE = f"irsa-sidecar:cluster-test-{CHECKOUT}"
TOOLS_IMAGE = f"{IMAGE}-tools"
APPLICATION_IMAGE = f"application:cluster-test-{CHECKOUT}"

PRELUDE = """
import boto3, json, signal, sys, time, urllib.error, urllib.request, os
def who_am_i():
    # A new session each time, because a session caches its credentials.
    return boto3.session.Session().client("sts").get_caller_identity()["Arn"]
def report(*words):
    print(time.time(), *words, flush=True)
def until_stopped(then=lambda: None):
    def stop(*_):
        then()
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    while True:
        time.sleep(0.2)
"""
"""The code at the beginning of each application's program."""


def pod(file: str, name: str, sts: ClusterSts, **programs: str) -> dict[str, Any]:
    """Return the Pod of that manifest. Each container runs the program that is passed under the container's name."""
    (template,) = pods(read(file))
    document = deepcopy(template)
    document["metadata"]["name"] = name
    prepare(document["spec"], sts, programs)
    return document


def prepare(spec: dict[str, Any], sts: ClusterSts, programs: dict[str, str]) -> None:
    """Change a Pod's spec so that the Pod can run in the cluster of the tests."""
    endpoint = {"name": "AWS_ENDPOINT_URL_STS", "value": sts.url}
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        container.setdefault("env", []).append(endpoint)
        if container["name"] == SIDECAR:
            container["image"] = IMAGE
        else:
            container |= {"image": APPLICATION_IMAGE, "args": [PRELUDE + programs[container["name"]]]}


def authored_spec(sts: ClusterSts, program: str = "until_stopped()") -> dict[str, Any]:
    """Return the spec that a Pod's author writes. Injection adds the sidecar."""
    return {
        "serviceAccountName": "app",
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "app",
                "image": APPLICATION_IMAGE,
                "args": [PRELUDE + program],
                "env": [{"name": "AWS_ENDPOINT_URL_STS", "value": sts.url}],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }


def set_variable(document: dict[str, Any], name: str, value: str, *, of: str = SIDECAR) -> None:
    """Set an environment variable of the container with the name `of`."""
    remove_variable(document, name, of=of)
    _variables(document, of).append({"name": name, "value": value})


def remove_variable(document: dict[str, Any], name: str, *, of: str = SIDECAR) -> None:
    """Remove an environment variable of the container with the name `of`."""
    variables = _variables(document, of)
    variables[:] = [variable for variable in variables if variable["name"] != name]


def _variables(document: dict[str, Any], container_name: str) -> list[dict[str, Any]]:
    containers = [*document["spec"].get("initContainers", ()), *document["spec"]["containers"]]
    (variables,) = [container["env"] for container in containers if container["name"] == container_name]
    found: list[dict[str, Any]] = variables
    return found


def set_token_lifetime(document: dict[str, Any], seconds: int) -> None:
    """Set the lifetime of the service account token. The API server issues tokens of at least 600 seconds."""
    (volume,) = [volume for volume in document["spec"]["volumes"] if volume["name"] == "irsa-sidecar-token"]
    volume["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"] = seconds
