"""
Reject Pods that cannot get a sidecar, with a message that names the necessary change. Pure.

The API server checks a Pod only after it calls the webhooks, and a manifest on disk is not checked at all. So this
module also checks the structure that the rest of the package relies on.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sidecar.errors import ConfigurationError
from sidecar.injection.names import (
    ADMIN_PORT,
    AUTHORIZATION_VOLUME,
    CONTAINER,
    CREDENTIALS_PORT,
    INJECT_FALSE,
    INJECT_LABEL,
    INJECT_TRUE,
    STATE_VOLUME,
    TOKEN_VOLUME,
)
from sidecar.injection.settings import Settings
from sidecar.kubernetes.document import Document

CONTAINER_LISTS = ("initContainers", "containers")

MAX_CONTAINERS = 1000
"""Maximum number of containers of a Pod. With injection's additions, etcd could not store more (1.5 MiB per object)."""

MAX_NAME_CHARACTERS = 63
"""Longest name of a container (Kubernetes, Object Names and IDs, RFC 1123 label names). Warnings repeat the name."""

MAX_ANNOTATION_BYTES = 256 * 1024
"""Limit for all annotations together (Kubernetes, ValidateAnnotationsSize)."""

STATIC = "kubernetes.io/config.mirror"
"""The annotation of a mirror Pod, the API object of a static Pod (Kubernetes reference, Well-Known Annotations)."""

_OUR_VOLUMES = {TOKEN_VOLUME: "projected", AUTHORIZATION_VOLUME: "emptyDir", STATE_VOLUME: "emptyDir"}

_FOR_THE_SIDECAR_ALONE = {TOKEN_VOLUME: "token is", STATE_VOLUME: "credentials are"}
"""Volumes that only the sidecar may mount, and the subject of the message about each."""

_PARTS = {"env": ("name",), "volumeMounts": ("name", "mountPath"), "ports": ()}

_KINDS: Mapping[str, tuple[type, str]] = {
    "nodeSelector": (dict, "a mapping"),
    "os": (dict, "a mapping"),
    "restartPolicy": (str, "text"),
    "terminationGracePeriodSeconds": (int, "a number"),
}


def wants_injection(pod: Any) -> bool:
    """Return whether the Pod has the label with any value except `"false"`, like the webhook's objectSelector."""
    return INJECT_LABEL in _labels(pod) and not opts_out(pod)


def opts_out(pod: Any) -> bool:
    """Return whether the Pod's label excludes it from injection."""
    return bool(_labels(pod).get(INJECT_LABEL) == INJECT_FALSE)


def _labels(pod: Any) -> Document:
    metadata = pod.get("metadata") if isinstance(pod, dict) else None
    labels = metadata.get("labels") if isinstance(metadata, dict) else None
    return labels if isinstance(labels, dict) else {}


def check_label(pod: Document) -> None:
    """Raise ConfigurationError if the label has an invalid value, such as `yes`, or `true` without quotes."""
    if wants_injection(pod) and (value := _labels(pod)[INJECT_LABEL]) != INJECT_TRUE:
        raise ConfigurationError(
            f"The Pod's label {INJECT_LABEL} is {value!r}, which is neither {INJECT_TRUE!r} nor {INJECT_FALSE!r}",
            fix=f'Set it to "{INJECT_TRUE}" in quotes, or to "{INJECT_FALSE}" for no sidecar',
            setting=f"label {INJECT_LABEL}",
        )


_QUOTE_IT = "Put it in quotes"


def check_shape(pod: Document) -> None:
    """Raise ConfigurationError unless the Pod has the structure that this package relies on."""
    spec, metadata = pod.get("spec"), pod.get("metadata") or {}
    if not isinstance(spec, dict) or not spec.get("containers"):
        raise ConfigurationError("The Pod has no spec.containers", fix="Add containers", setting="spec.containers")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("annotations"), dict | None):
        setting = "metadata.annotations"
        raise ConfigurationError(
            f"The Pod's {setting} is not a mapping", fix="Use a mapping of text to text", setting=setting
        )
    for name, text in (metadata.get("annotations") or {}).items():
        if not isinstance(text, str):
            setting = f"annotation {name}"
            raise ConfigurationError(f"{setting} is {text!r}, which is not a string", fix=_QUOTE_IT, setting=setting)
    _check_size(spec, metadata.get("annotations") or {})
    for key, (kind, word) in _KINDS.items():
        if spec.get(key) is not None and not isinstance(spec[key], kind):
            setting = f"spec.{key}"
            raise ConfigurationError(
                f"{setting} is {spec[key]!r}, which is not {word}", fix=f"Use {word}", setting=setting
            )
    list(_checked_items("spec.volumes", spec.get("volumes"), ("name",)))
    for key in CONTAINER_LISTS:
        for index, container in enumerate(_checked_items(f"spec.{key}", spec.get(key), ("name",))):
            _check_length(f"spec.{key}[{index}]", container["name"])
            for part, names in _PARTS.items():
                _check_part(f"spec.{key}[{index}].{part}", container.get(part), names)


def _check_size(spec: Document, annotations: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a Pod so large that it takes much time here. The API server checks this later."""
    count = sum(len(spec.get(key) or ()) for key in CONTAINER_LISTS if isinstance(spec.get(key), list))
    if count > MAX_CONTAINERS:
        fix = f"Use at most {MAX_CONTAINERS}"
        raise ConfigurationError(f"The Pod has {count} containers", fix=fix, setting="spec.containers")
    length = sum(len(name) + len(text) for name, text in annotations.items())
    if length > MAX_ANNOTATION_BYTES:
        raise ConfigurationError(
            f"metadata.annotations has {length} characters, and Kubernetes accepts {MAX_ANNOTATION_BYTES}",
            fix="Shorten the annotations",
            setting="metadata.annotations",
        )


def _check_length(place: str, name: str) -> None:
    if len(name) > MAX_NAME_CHARACTERS:
        raise ConfigurationError(
            f"{place} has a name of {len(name)} characters, {name[:MAX_NAME_CHARACTERS]}…",
            fix=f"Use at most {MAX_NAME_CHARACTERS}",
            setting=place,
        )


def _check_part(place: str, items: Any, names: Iterable[str]) -> None:
    for item in _checked_items(place, items, names):
        if not isinstance(item.get("value"), str | None):
            kind = type(item["value"]).__name__  # the value itself may be a password
            problem = f"{place}: {item['name']} has a value that is not a string ({kind})"
            raise ConfigurationError(problem, fix=_QUOTE_IT, setting=place)


def _checked_items(place: str, items: Any, names: Iterable[str]) -> Iterator[Document]:
    if not isinstance(items, list | None):
        raise ConfigurationError(f"{place} is not a list", fix="Start each item with `- `", setting=place)
    for index, item in enumerate(items or ()):
        if not isinstance(item, dict):
            problem = f"{place}[{index}] is not a mapping"
            raise ConfigurationError(problem, fix="Write a mapping of keys and values", setting=f"{place}[{index}]")
        for name in names:
            if not isinstance(item.get(name), str):
                setting = f"{place}[{index}]"
                raise ConfigurationError(f"{setting} has no {name}", fix=f"Add a {name}", setting=setting)
        yield item


def check_pod(annotations: Mapping[str, str], spec: Document, settings: Settings) -> None:
    """Raise ConfigurationError if the Pod cannot have a sidecar."""
    selector = spec.get("nodeSelector") or {}
    systems = [(spec.get("os") or {}).get("name"), *(selector.get(f"{p}kubernetes.io/os") for p in ("", "beta."))]
    if "windows" in systems:
        fix = "Use IRSA without irsa-sidecar for this Pod"
        raise ConfigurationError("The Pod is for Windows, and irsa-sidecar runs on Linux", fix=fix)
    if STATIC in annotations:
        raise ConfigurationError(
            "The Pod is static: its node runs it from a local file, so changes to the Pod here have no effect",
            fix=f"Remove the label {INJECT_LABEL}, because static Pods have no service account token",
            setting=f"label {INJECT_LABEL}",
        )
    if spec.get("hostNetwork"):
        raise ConfigurationError(
            "The Pod has hostNetwork: its sidecar would serve the whole node, and two Pods would conflict on port "
            f"{CREDENTIALS_PORT}",
            fix="Remove hostNetwork, or add irsa-sidecar to the manifest yourself with ports of its own",
            setting="spec.hostNetwork",
        )
    _check_volumes(spec.get("volumes") or ())
    if not settings.is_native and spec.get("restartPolicy", "Always") != "Always":
        raise ConfigurationError(
            f"The Pod has restartPolicy {spec['restartPolicy']}, as Pods of Jobs have, and before Kubernetes 1.29 it "
            "would never complete with a sidecar",
            fix="Run its command under `irsa-sidecar exec`, or upgrade to 1.29",
            setting="spec.restartPolicy",
        )


def _check_volumes(volumes: Iterable[Document]) -> None:
    for volume in volumes:
        wanted = _OUR_VOLUMES.get(volume["name"])
        if wanted and (others := sorted(volume.keys() - {"name", wanted})):
            raise ConfigurationError(
                f"The Pod's volume {volume['name']} is {others[0]}, and irsa-sidecar adds a volume of that name",
                fix="Rename your volume",
                setting="spec.volumes",
            )


def check_sidecar(existing: Document) -> None:
    """Raise ConfigurationError if a container with the sidecar's name runs another program."""
    if existing.get("command"):
        raise ConfigurationError(
            f"Container {CONTAINER} has a command, but this is the sidecar's name, and the sidecar has no command",
            fix="Rename your container",
        )


def check_container(container: Document, secret_directory: str | None) -> None:
    """
    Raise ConfigurationError if the container conflicts with the sidecar.

    `secret_directory` is the path where the container's secret is mounted, or None if the container gets no secret.
    """
    name = container["name"]
    for port in container.get("ports") or ():
        if port.get("containerPort") in (CREDENTIALS_PORT, ADMIN_PORT) and port.get("protocol", "TCP") == "TCP":
            raise ConfigurationError(
                f"Container {name} has port {port['containerPort']}, which the sidecar uses in this Pod",
                fix="Use another port for the container",
            )
    for mount in container.get("volumeMounts") or ():
        if content := _FOR_THE_SIDECAR_ALONE.get(mount["name"]):
            raise ConfigurationError(
                f"Container {name} mounts {mount['name']}, whose {content} for the sidecar only", fix="Remove the mount"
            )
        is_ours = mount["name"] == AUTHORIZATION_VOLUME
        if secret_directory and not is_ours and f"{mount['mountPath'].rstrip('/')}/".startswith(f"{secret_directory}/"):
            raise ConfigurationError(
                f"Container {name} mounts {mount['name']} at {mount['mountPath']}, where its secret is mounted",
                fix="Use another mountPath",
            )
