"""
Compare the Pods that the API server creates under the policy with the Pods that `sidecar.injection` returns.

Three dry runs create each Pod. With the label "false", the result is the Pod that a webhook would receive. With the
label "true", the policy changes the Pod. The third Pod is the result of injection into the first Pod, and the policy
does not change it.

The comparison runs as a program in the cluster's network. It reads Pods and prints results, both as one JSON document
per line.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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
"""The number of processes. Threads are not used, because Python 3.11 crashed once with four threads and TLS."""

CHUNK = 20
"""The number of Pods that a process gets at a time."""

OF_A_CREATION = ("uid", "creationTimestamp", "generation", "managedFields")
"""The fields of a Pod's metadata that differ between two creations."""


class Verdict(Enum):
    """A result of a comparison. The first four results are correct."""

    SAME_POD = "same Pod"
    BOTH_REJECT = "both reject"
    ONLY_WEBHOOK = "the policy rejects the Pod and names the webhook"
    INVALID = "the API server rejects the Pod even without a sidecar"
    OTHER_POD = "different Pods"
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
    """A comparison of Pods in a namespace with ACCOUNTS, over one connection to the API server."""

    def __init__(self, kubernetes: Kubernetes, namespace: str, settings: Settings) -> None:
        self._kubernetes, self.namespace, self._settings = kubernetes, namespace, settings

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
            found = self._kubernetes.create(f"/api/v1/namespaces/{self.namespace}/pods", pod, dry_run=True)
        except KubernetesError as error:
            return error.problem
        return comparable(found)


def labelled(pod: Document, value: str) -> Document:
    metadata = pod["metadata"]
    return {**pod, "metadata": {**metadata, "labels": {**metadata["labels"], INJECT_LABEL: value}}}


def comparable(pod: Document) -> Document:
    """Return the Pod without the fields that differ between two creations, such as the name of the token's volume."""
    metadata = {key: value for key, value in pod["metadata"].items() if key not in OF_A_CREATION}
    kept = {key: value for key, value in pod.items() if key != "status"} | {"metadata": metadata}
    found: Document = json.loads(re.sub(r"kube-api-access-[a-z0-9]{5}", "kube-api-access-xxxxx", json.dumps(kept)))
    return found


_UNTIL_EXIT = ExitStack()

_OPENED: list[Comparison] = []
"""The comparison of this process. Each process has its own connection."""


def _open(kubeconfig: str, namespace: str, settings: str) -> None:
    kubernetes = _UNTIL_EXIT.enter_context(open_cluster(find_cluster({"KUBECONFIG": kubeconfig})))
    _OPENED.append(Comparison(kubernetes, namespace, Settings(*json.loads(settings))))


def _compare(line: str) -> str:
    return json.dumps(_OPENED[0].one(json.loads(line))[1:])


def main(kubeconfig: str, namespace: str, settings: str) -> None:
    arguments = (kubeconfig, namespace, settings)
    with ProcessPoolExecutor(AT_A_TIME, initializer=_open, initargs=arguments) as executor:
        for found in executor.map(_compare, sys.stdin, chunksize=CHUNK):
            sys.stdout.write(found + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
