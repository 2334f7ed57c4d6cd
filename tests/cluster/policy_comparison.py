"""
Compare the Pods that the API server creates with the policy with the Pods that `sidecar.injection` returns.

Three dry runs create each Pod. With the label "false", the result is the Pod that a webhook would receive. With the
label "true", the policy changes the Pod. The third Pod is the result of injection into the first Pod, and the policy
does not change it.

The comparison runs as a program in the cluster's network, with one connection for each thread. It reads Pods and prints
results, both as one JSON document per line.
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from enum import Enum
from typing import NamedTuple

from sidecar.errors import ConfigurationError, KubernetesError
from sidecar.injection.inject import inject
from sidecar.injection.names import INJECT_LABEL
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.kubernetes.client import Kubernetes, open_cluster
from sidecar.kubernetes.document import Document
from sidecar.kubernetes.kubeconfig import find_cluster
from sidecar.policy.pod_rejection import OTHER_WAYS
from tests.cluster.cluster import REPOSITORY, Cluster
from tests.cluster.policy_pods import ACCOUNTS

AT_A_TIME = 4
"""The number of connections to the API server."""

OF_A_CREATION = ("uid", "creationTimestamp", "generation", "managedFields")
"""The fields of a Pod's metadata that differ between two creations."""


class Verdict(Enum):
    """A result of a comparison. The first four results are correct."""

    SAME_POD = "same Pod"
    BOTH_REJECT = "both reject"
    ONLY_WEBHOOK = "the policy rejects it and names the webhook"
    INVALID = "the API server rejects it in every way"
    OTHER_POD = "another Pod"
    ONLY_POLICY_REJECTS = "the policy rejects a Pod of the webhook without naming the webhook"
    ONLY_POLICY_ACCEPTS = "the policy accepts a Pod that the webhook rejects"


RIGHT = (Verdict.SAME_POD, Verdict.BOTH_REJECT, Verdict.ONLY_WEBHOOK, Verdict.INVALID)


class Compared(NamedTuple):
    """A Pod, and the result with the policy and with injection: the created Pod, or the message of the rejection."""

    pod: Document
    of_policy: Document | str
    of_injection: Document | str
    is_valid: bool = True
    """True if the API server accepts the Pod without a sidecar."""

    @property
    def verdict(self) -> Verdict:
        if isinstance(self.of_policy, str):
            return self._of_rejection(self.of_policy)
        if isinstance(self.of_injection, str):
            return Verdict.ONLY_POLICY_ACCEPTS
        return Verdict.SAME_POD if self.of_policy == self.of_injection else Verdict.OTHER_POD

    def _of_rejection(self, reason: str) -> Verdict:
        if not self.is_valid:
            return Verdict.INVALID
        if isinstance(self.of_injection, str):
            return Verdict.BOTH_REJECT
        return Verdict.ONLY_WEBHOOK if OTHER_WAYS in reason else Verdict.ONLY_POLICY_REJECTS


def compared(cluster: Cluster, namespace: str, pods: Sequence[Document], settings: Settings) -> Iterator[Compared]:
    """Yield the comparison of each Pod. The namespace has ACCOUNTS, and the cluster has a policy with the settings."""
    command = [*cluster.inside(), sys.executable, "-m", "tests.cluster.policy_comparison"]
    arguments = [str(cluster.kubeconfig), namespace, json.dumps(settings)]
    lines = "\n".join(map(json.dumps, pods))
    done = subprocess.run(
        [*command, *arguments], cwd=REPOSITORY, input=lines, stdout=subprocess.PIPE, text=True, check=True
    )
    for pod, line in zip(pods, done.stdout.splitlines(), strict=True):
        yield Compared(pod, *json.loads(line))


class Comparison:
    """A comparison of Pods in a namespace with ACCOUNTS. It has one connection for each thread."""

    def __init__(self, kubeconfig: str, namespace: str, settings: Settings) -> None:
        self._kubeconfig, self.namespace, self._settings = kubeconfig, namespace, settings
        self._own, self._opened = threading.local(), ExitStack()

    def close(self) -> None:
        self._opened.close()

    def one(self, pod: Document) -> Compared:
        received, of_policy = self._created(labelled(pod, "false")), self._created(pod)
        if isinstance(received, str):
            return Compared(pod, of_policy, received, is_valid=False)
        service_account = received["spec"]["serviceAccountName"]
        account = ServiceAccount(self.namespace, service_account, ACCOUNTS.get(service_account, {}))
        try:
            result = inject(labelled(received, pod["metadata"]["labels"][INJECT_LABEL]), account, self._settings).pod
        except ConfigurationError as error:
            return Compared(pod, of_policy, str(error))
        return Compared(pod, of_policy, self._created(result))

    def _created(self, pod: Document) -> Document | str:
        """Return the Pod that a dry run creates, or the API server's rejection."""
        try:
            found = self._client().create(f"/api/v1/namespaces/{self.namespace}/pods", pod, dry_run=True)
        except KubernetesError as error:
            return error.problem
        return comparable(found)

    def _client(self) -> Kubernetes:
        if not hasattr(self._own, "client"):
            opened = open_cluster(find_cluster({"KUBECONFIG": self._kubeconfig}))
            self._own.client = self._opened.enter_context(opened)
        client: Kubernetes = self._own.client
        return client


def labelled(pod: Document, value: str) -> Document:
    metadata = pod["metadata"]
    return {**pod, "metadata": {**metadata, "labels": {**metadata["labels"], INJECT_LABEL: value}}}


def comparable(pod: Document) -> Document:
    """Return the Pod without the fields that differ between two creations, such as the name of the token's volume."""
    metadata = {key: value for key, value in pod["metadata"].items() if key not in OF_A_CREATION}
    kept = {key: value for key, value in pod.items() if key != "status"} | {"metadata": metadata}
    found: Document = json.loads(re.sub(r"kube-api-access-[a-z0-9]{5}", "kube-api-access-xxxxx", json.dumps(kept)))
    return found


def main(kubeconfig: str, namespace: str, settings: str) -> None:
    comparison = Comparison(kubeconfig, namespace, Settings(*json.loads(settings)))
    with ThreadPoolExecutor(AT_A_TIME) as executor:
        for found in executor.map(comparison.one, map(json.loads, sys.stdin)):
            sys.stdout.write(json.dumps(found[1:]) + "\n")
    comparison.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
