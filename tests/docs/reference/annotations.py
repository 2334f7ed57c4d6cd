"""Write docs/reference/annotations.md, with injection's labels and annotations, and its changes to a Pod."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sidecar.injection.inject import inject
from sidecar.injection.names import CONTAINER, EKS_ROLE_ARN, INJECT_LABEL, INJECT_TRUE
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.injection.warning import REASONS
from tests.docs.reference import markdown
from tests.docs.reference.annotation_notes import (
    INJECT,
    OF_THE_POD,
    OF_THE_SERVICE_ACCOUNT,
    SET_OR_CHECKED,
    AnnotationNote,
)
from tests.docs.reference.markdown import bullets, code, fenced, marked, section, sentence, sentences, table

_INTRODUCTION = """
Injection reads these labels and annotations when the Pod is created, so a change needs a new Pod (`kubectl rollout
restart`).
The exception is `irsa-sidecar.io/roles`: a running sidecar applies a change, if the roles keep their names and
containers.
In a Deployment, the labels and annotations belong to `spec.template.metadata`.
Injection rejects a Pod with an unknown, misspelt or invalid annotation.
The message names the annotation and the fix.
[Injection](../injection.md) describes how injection works.
"""

SETTINGS = Settings(image="registry.example.com/irsa-sidecar:VERSION", region="eu-west-1")

POD: Mapping[str, Any] = {
    "metadata": {"labels": {INJECT_LABEL: INJECT_TRUE}},
    "spec": {"serviceAccountName": "cart", "containers": [{"name": "app", "image": "app"}]},
}

SERVICE_ACCOUNT = ServiceAccount("shop", "cart", {EKS_ROLE_ARN: "arn:aws:iam::111122223333:role/cart"})

_ADDED = """
The tables are for a Pod with one container, in a cluster of Kubernetes 1.29 or newer, in the region `eu-west-1`.
If a container already has one of these variables with a value, injection does not change the variable.
"""

_EVENTS = """
For each warning about a Pod, the webhook creates an Event on the Pod's owner, such as its ReplicaSet.
A warning does not stop the injection.
[Injection](../injection.md#warnings) describes the fix for each warning.
"""

_VOLUMES = {
    "irsa-sidecar-token": "The service account token. Only the sidecar mounts this volume.",
    "irsa-sidecar-authorization": "The secret that clients send. The sidecar writes it, and the containers read it.",
    "irsa-sidecar-state": "The last valid credentials, for a restart. Only the sidecar mounts this volume.",
}
"""The purpose of each volume that injection adds."""


def page() -> str:
    return markdown.page(
        "Labels and annotations",
        "This page lists the labels and annotations of irsa-sidecar, and the parts and Events that injection creates.",
        sentences(_INTRODUCTION),
        section(2, "All labels and annotations", table(("name", "on", "default"), _overview())),
        section(2, "Label of the Pod", _section(INJECT_LABEL, INJECT, "labels")),
        section(2, "Annotations of the Pod", *_sections(OF_THE_POD)),
        section(
            2,
            "Annotations of the ServiceAccount",
            "Amazon defines these annotations, and Amazon's webhook also reads them.",
            *_sections(OF_THE_SERVICE_ACCOUNT),
        ),
        section(
            2,
            "Other labels and annotations",
            table(("name", "meaning"), ((code(name), text) for name, text in SET_OR_CHECKED.items())),
        ),
        section(2, "Parts that injection adds", sentences(_ADDED), *_added()),
        section(2, "Events", sentences(_EVENTS), table(("reason", "meaning"), _events())),
    )


def _overview() -> Iterator[tuple[str, str, str]]:
    yield _link(INJECT_LABEL), "Pod, as a label", INJECT.default
    yield from ((_link(name), "Pod", marked(note.default)) for name, note in OF_THE_POD.items())
    yield from ((_link(name), "ServiceAccount", marked(note.default)) for name, note in OF_THE_SERVICE_ACCOUNT.items())


def _link(name: str) -> str:
    return f"[{code(name)}](#{name.replace('.', '').replace('/', '')})"


def _sections(notes: Mapping[str, AnnotationNote]) -> Iterator[str]:
    return (_section(name, note, "annotations") for name, note in notes.items())


def _section(name: str, note: AnnotationNote, kind: str) -> str:
    facts = (("Value", marked(note.form)), ("Default", marked(note.default)))
    return section(3, code(name), sentences(note.meaning), bullets(facts), fenced(_yaml(name, note, kind), "yaml"))


def _yaml(name: str, note: AnnotationNote, kind: str) -> str:
    """Return the example as a part of a manifest, in YAML."""
    if "\n" not in note.example:
        return f'{kind}:\n  {name}: "{note.example}"'
    return f"{kind}:\n  {name}: |\n" + "\n".join(f"    {line}" for line in note.example.splitlines())


def _added() -> Iterable[str]:
    """Return the changes of a real injection to a Pod."""
    pod = inject(dict(POD), SERVICE_ACCOUNT, SETTINGS).pod
    sidecar = next(each for each in pod["spec"]["initContainers"] if each["name"] == CONTAINER)
    application = pod["spec"]["containers"][0]
    volumes = ((code(each["name"]), _VOLUMES[each["name"]]) for each in pod["spec"]["volumes"])
    return (
        section(3, "Variables of each container that gets credentials", _variables(application)),
        section(3, f"Variables of the container `{CONTAINER}`", _variables(sidecar)),
        section(3, "Volumes", table(("volume", "purpose"), volumes)),
    )


def _events() -> Iterator[tuple[str, str]]:
    return ((code(reason), sentence(meaning)) for reason, meaning in REASONS.items())


def _variables(container: Mapping[str, Any]) -> str:
    return table(("variable", "value"), ((code(each["name"]), _value(each)) for each in container["env"]))


def _value(variable: Mapping[str, Any]) -> str:
    if "value" in variable:
        return code(variable["value"])
    return f"the field {code(variable['valueFrom']['fieldRef']['fieldPath'])} of the Pod"
