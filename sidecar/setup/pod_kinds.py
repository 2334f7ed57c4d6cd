"""
Find Pods and Pod templates in Kubernetes objects.

Rule: API group and kind together identify an object. For example, a `Job` in a group other than `batch` is unknown. In
an unknown object, a Pod template is used only if it is in `spec.template` and has our label or annotation, or if
--template-path names it. Pure.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from sidecar.errors import ConfigurationError
from sidecar.injection.known_names import misnamed_label
from sidecar.injection.names import INJECT_FALSE, INJECT_LABEL, PREFIX
from sidecar.kubernetes.document import Document
from sidecar.printable import printable

Path = tuple[str | int, ...]
"""Keys and indices that lead from an object to a part of the object."""

_TEMPLATE: Path = ("spec", "template")

_NATIVE: Mapping[tuple[str, str], Path] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): _TEMPLATE,
    **{
        (group, kind): _TEMPLATE
        for group in ("apps", "extensions")
        for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
    },
    ("batch", "Job"): _TEMPLATE,
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""The path to the Pod or Pod template in Kubernetes' own objects, by API group and kind."""

_BY_KIND = {kind: path for (_, kind), path in _NATIVE.items()}

_NATIVE_GROUPS = frozenset(
    {
        *("", "apps", "autoscaling", "batch", "extensions", "policy"),
        *("admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "authentication.k8s.io"),
        *("authorization.k8s.io", "certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io"),
        *("flowcontrol.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "rbac.authorization.k8s.io"),
        *("resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io"),
    }
)
"""Kubernetes' own API groups (API reference 1.34). Other groups, such as Spark operator's, also end in `.k8s.io`."""

_SELECTS = re.compile(r"selector|matchlabels", re.IGNORECASE)
"""Pattern for keys whose value is a selector with labels. The labels in a selector are not set on Pods."""

_MAX_TITLE_CHARACTERS = 600
"""Maximum length of an object's title in a message. Kubernetes allows names of 253 and namespaces of 63 characters."""

_STEP = re.compile(r"([A-Za-z0-9_-]+)(\[\])?")


_METADATA_OUTSIDE_PODS: tuple[Path, ...] = ((), ("spec", "jobTemplate"))
"""Paths to the parts whose metadata people mistake for the Pod's: the object, and the Job template of a CronJob."""


class PodPlace(NamedTuple):
    """
    A Pod or Pod template, its object, and the path from the object to the Pod.

    `is_requested` is true if a custom resource has the Pod template in `spec.template` with our label or annotation,
    and --template-path does not name it.
    """

    owner: Document
    path: Path
    pod: Document
    is_requested: bool = False


def objects_in(document: Any) -> Iterator[tuple[Path, Document]]:
    """Yield each object in a document with its path. The document may be a List, which may contain Lists."""
    if not isinstance(document, dict):
        return
    items, kind = document.get("items"), str(document.get("kind", ""))
    if not (kind.endswith("List") and isinstance(items, list)):
        yield (), document
        return
    # The API server omits these fields in the items of a typed list.
    implied = {"apiVersion": document.get("apiVersion"), "kind": kind.removesuffix("List")} if kind != "List" else {}
    for index, item in enumerate(items):
        if isinstance(item, dict):
            for path, owner in objects_in({**implied, **item}):
                yield ("items", index, *path), owner


def template_path(setting: str, text: str) -> tuple[str, ...]:
    """
    Return the steps of a path such as `spec.driver.template` or `spec.tasks[].template`.

    Raises ConfigurationError if the text is not a path.
    """
    steps = text.removeprefix(".").split(".")
    if not all(_STEP.fullmatch(step) for step in steps):
        raise ConfigurationError(
            f"{setting} is {text[:100]!r}: it is not a path",
            fix=(
                "Write keys with dots between them, such as spec.driver.template, and [] after a list, such as "
                "spec.tasks[].template"
            ),
            setting=setting,
        )
    return tuple(steps)


def native_path(owner: Document) -> Path | None:
    """
    Return the path to the Pod in one of Kubernetes' own objects, or None.

    An object without apiVersion is identified by its kind alone.
    """
    version, kind = owner.get("apiVersion"), str(owner.get("kind"))
    return _NATIVE.get((group_of(owner), kind)) if version else _BY_KIND.get(kind)


def group_of(owner: Document) -> str:
    """Return an object's API group. The core group is empty."""
    return str(owner.get("apiVersion") or "").rpartition("/")[0]


def pods_in(owner: Document, paths: tuple[tuple[str, ...], ...]) -> list[PodPlace]:
    """
    Return the Pods of an object.

    `paths` are from --template-path and apply to custom resources.

    Raises ConfigurationError if the template of one of Kubernetes' own objects is missing or not a mapping.
    """
    native = native_path(owner)
    if native is not None:
        return [PodPlace(owner, native, _template_of(owner, native))]
    named = {path: pod for steps in paths for path, pod in _at(owner, steps, ()) if _is_template(pod)}
    found = [PodPlace(owner, path, pod) for path, pod in named.items()]
    template = part(owner, _TEMPLATE)
    if _TEMPLATE not in named and _is_template(template) and _is_marked(template):
        found.append(PodPlace(owner, _TEMPLATE, template, is_requested=True))
    return found


def has_unselected_template(owner: Document, pods: list[PodPlace]) -> bool:
    """Return whether a custom resource has a Pod template that is not selected."""
    return native_path(owner) is None and not pods and _is_template(part(owner, _TEMPLATE))


def is_of_kubernetes(owner: Document) -> bool:
    """Return whether the object is one of Kubernetes' own. A `Job` in the group `apps` is not one of them."""
    is_in_wrong_group = str(owner.get("kind")) in _BY_KIND and native_path(owner) is None
    return bool(owner.get("apiVersion")) and group_of(owner) in _NATIVE_GROUPS and not is_in_wrong_group


def requests_outside_pods(owner: Document, pods: list[PodPlace]) -> list[Path]:
    """
    Return the paths of our label and annotations outside the object's Pods.

    Kubernetes' own objects are skipped, because all their Pods are known. The object's own metadata counts only if the
    object has no Pods, because tools put the same labels on objects and on their templates.
    """
    if is_of_kubernetes(owner):
        return []
    known = [place.path for place in pods] + ([("metadata",)] if pods else [])
    return [path for path in _names_in(owner, ()) if not any(path[: len(each)] == each for each in known)]


def requests_in_own_metadata(owner: Document) -> bool:
    """
    Return whether metadata outside the Pod has our label or a misspelt form of it.

    Our label with the value "false" does not count. The metadata is that of the object and of a CronJob's Job template.
    """
    labels = [mapping(part(owner, (*path, "metadata", "labels"))) for path in _METADATA_OUTSIDE_PODS]
    return any(INJECT_LABEL in _requesting(each) or misnamed_label(each) for each in labels)


def template_around(owner: Document, path: Path) -> Path | None:
    """Return the path of the Pod template around a label or annotation at `path`, or None if there is none."""
    template = path[:-3]
    is_metadata = path[-3:-1] in (("metadata", "labels"), ("metadata", "annotations"))
    return template if is_metadata and template and _is_template(part(owner, template)) else None


def shown(path: Path) -> str:
    """Return the path for a message, such as `spec.template`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def title(owner: Document) -> str:
    """Return an object's kind, namespace and name for a message."""
    metadata = mapping(owner.get("metadata"))
    name = metadata.get("name") or metadata.get("generateName") or "without a name"
    namespace = metadata.get("namespace")
    found = f"{owner.get('kind')} {namespace}/{name}" if namespace else f"{owner.get('kind')} {name}"
    return printable(found, max_length=_MAX_TITLE_CHARACTERS)


def mapping(value: Any) -> Document:
    """Return the value if it is a mapping, or an empty mapping."""
    return value if isinstance(value, dict) else {}


def _template_of(owner: Document, path: Path) -> Document:
    pod = part(owner, path)
    if pod is None:
        raise ConfigurationError(f"{title(owner)} has no {shown(path)}", fix=f"Add {shown(path)} to the object")
    if not isinstance(pod, dict):
        raise ConfigurationError(
            f"{title(owner)} has a {shown(path)} that is not a mapping", fix=f"Write a Pod template at {shown(path)}"
        )
    return pod


def _is_template(pod: Any) -> bool:
    return isinstance(mapping(mapping(pod).get("spec")).get("containers"), list)


def _is_marked(pod: Document) -> bool:
    """Return whether a Pod's metadata requests a sidecar, or has a misspelt label, which becomes an error later."""
    metadata = mapping(pod.get("metadata"))
    labels, annotations = (mapping(metadata.get(key)) for key in ("labels", "annotations"))
    return bool(_requesting(labels) or _requesting(annotations) or misnamed_label(labels))


def _requesting(names: Document) -> list[str]:
    if names.get(INJECT_LABEL) == INJECT_FALSE:
        return []
    return [name for name in names if name.startswith(PREFIX)]


def part(owner: Any, path: Path) -> Any:
    """Return the value at the path, or None if the path does not exist."""
    for step in path:
        owner = owner.get(step) if isinstance(owner, dict) else _item(owner, step)
    return owner


def _item(items: Any, index: str | int) -> Any:
    return items[index] if isinstance(items, list) and isinstance(index, int) and index < len(items) else None


def _at(value: Any, steps: tuple[str, ...], path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield the path and the value of each place that the steps lead to. `[]` leads to each item of a list."""
    if not steps:
        yield path, value
        return
    key = steps[0].removesuffix("[]")
    found = mapping(value).get(key)
    if key == steps[0]:
        yield from _at(found, steps[1:], (*path, key))
    elif isinstance(found, list):
        for index, item in enumerate(found):
            yield from _at(item, steps[1:], (*path, key, index))


def _names_in(value: Any, path: Path) -> Iterator[Path]:
    """Yield the path of each of our labels and annotations that requests a sidecar."""
    if isinstance(value, dict):
        for name in _requesting(value):
            yield (*path, name)
        for key, each in value.items():
            if not _SELECTS.search(str(key)):
                yield from _names_in(each, (*path, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _names_in(each, (*path, index))
