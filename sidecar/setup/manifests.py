"""
Change the Pods in a stream of manifests and leave all other characters unchanged.

A document without a Pod stays unchanged, even if it cannot be read. In a document with a Pod, `document_changes` edits
the text part by part. Pure.

Rule: either all selected Pods of a stream are changed, or none. If a Pod requests a sidecar but cannot get one, nothing
is written.
"""

import re
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import NamedTuple

from sidecar.errors import ConfigurationError, sentences
from sidecar.injection.known_names import misnamed_label
from sidecar.injection.names import EKS_ROLE_ARN, INJECT_FALSE, INJECT_LABEL, PREFIX
from sidecar.injection.options import NoRoleError
from sidecar.injection.settings import ServiceAccount
from sidecar.injection.validation import opts_out, wants_injection
from sidecar.kubernetes.document import Document
from sidecar.setup.document_changes import PodChange, document_edits
from sidecar.setup.pod_kinds import (
    Path,
    PodPlace,
    has_unselected_template,
    mapping,
    objects_in,
    pods_in,
    requests_in_own_metadata,
    requests_outside_pods,
    shown,
    template_around,
    title,
)
from sidecar.setup.text_edits import Edit, with_edits
from sidecar.setup.yaml import stream as yaml_stream
from sidecar.setup.yaml.stream import read_document, split_stream

_REQUEST_LINE = re.compile(rf"^[^#\r\n]*{re.escape(PREFIX)}(?!inject[\"']?\s*:\s*[\"']?{INJECT_FALSE}\b)", re.MULTILINE)
"""Pattern for a line with our label or annotation that requests a sidecar, in a document that cannot be read."""

_TEMPLATE_MARK = "{{"
"""The beginning of an action in a Helm template."""


class Workload(NamedTuple):
    """A Pod or Pod template, its object's title, and its ServiceAccount, or None if the stream does not contain it."""

    title: str
    pod: Document
    service_account: ServiceAccount | None


ChangePod = Callable[[Workload], Document]
"""A function that returns the changed Pod. It raises ConfigurationError if the Pod cannot be changed."""

Progress = Callable[[int, int], None]
"""A function that is called with the number of finished Pods and the number of all Pods."""


def no_progress(_done: int, _total: int) -> None:
    """Do not show any progress."""


class Options(NamedTuple):
    """
    The flags that affect how a stream is read.

    `namespace` applies to objects without a namespace. `template_paths` lead to the Pod templates in custom resources.
    """

    namespace: str = ""
    template_paths: tuple[tuple[str, ...], ...] = ()


class ChangedStream(NamedTuple):
    """The changed stream, its edits, the titles of the changed objects, and notes for the person."""

    text: str
    edits: tuple[Edit, ...]
    workloads: tuple[str, ...]
    notes: tuple[str, ...]


def change_pods(
    text: str,
    source: str,
    change: ChangePod,
    options: Options = Options(),  # noqa: B008  it is frozen
    progress: Progress = no_progress,
) -> ChangedStream:
    """
    Change the selected Pods of the stream.

    If any Pod has our label, only the Pods with the label are selected. Otherwise, all Pods in Kubernetes' own kinds
    and at --template-path are selected, except those that opt out. In addition, `spec.template` of a custom resource is
    selected if it has one of our annotations. `source` is the stream's name in messages.

    Raises ConfigurationError with one line for each object that cannot be changed.
    """
    stream = _Stream(text, source, options)
    chosen = stream.choose()
    stream.check(chosen)
    return stream.write(chosen, change, progress)


class _Found(NamedTuple):
    """A Pod in the stream: its document, its root in the document, and the path from the root to the object."""

    document: int
    root: int
    owner_path: Path
    place: PodPlace


class _Stream:
    """A stream of manifests that is read only once."""

    def __init__(self, text: str, source: str, options: Options) -> None:
        self._source = source
        self._options = options
        self._texts: list[str] = []
        self._found: list[_Found] = []
        self._service_accounts: dict[tuple[str, str], ServiceAccount] = {}
        self._objections: list[str] = []
        self._unusable: list[str] = []
        self._notes: list[str] = []
        self._unselected: list[str] = []
        for chunk, line in split_stream(text):
            self._texts.append(chunk)
            self._read(read_document(chunk, line))

    def choose(self) -> list[_Found]:
        """Return the selected Pods."""
        is_by_label = any(wants_injection(found.place.pod) for found in self._found)
        chosen = []
        for found in self._found:
            pod, name = found.place.pod, title(found.place.owner)
            if opts_out(pod):
                self._notes.append(f'{name} is left unchanged: its label {INJECT_LABEL} is "{INJECT_FALSE}".')
            elif found.place.is_requested or wants_injection(pod) or not is_by_label:
                chosen.append(found)
                self._notes += _misplaced_annotations(found.place)
            elif wrong := misnamed_label(mapping(mapping(pod.get("metadata")).get("labels"))):
                self._objections.append(f"{self._source}: {name}: the label {wrong}")
            elif requests_in_own_metadata(found.place.owner) or _has_annotation(pod):
                self._notes.append(
                    f"{name} is left unchanged: its Pods lack the label {INJECT_LABEL}, which other Pods here have."
                )
        self._notes += [] if is_by_label or not chosen else self._unselected
        return chosen

    def check(self, chosen: list[_Found]) -> None:
        """
        Raise ConfigurationError if a requested sidecar cannot be added, or --template-path leads to no Pod template.

        If no Pod is selected and no note explains it, unreadable documents and unselected templates are errors too.
        """
        if not chosen and not self._notes:
            self._objections += [*self._unusable, *(f"{self._source}: {each}" for each in self._unselected)]
        for path in self._options.template_paths:
            if not any(_matches(path, found.place.path) for found in self._found):
                self._objections.append(f"--template-path is {'.'.join(path)}: no object has a Pod template there.")
        if self._objections:
            raise ConfigurationError("\n".join(self._objections))

    def write(self, chosen: list[_Found], change: ChangePod, progress: Progress) -> ChangedStream:
        """Return the stream with the chosen Pods changed."""
        pods = self._changed(chosen, change, progress)
        changes: dict[int, list[PodChange]] = {}
        for found, pod in zip(chosen, pods, strict=True):
            path = found.owner_path + found.place.path
            changes.setdefault(found.document, []).append(PodChange(found.root, path, title(found.place.owner), pod))
        starts = [0, *accumulate(map(len, self._texts))]
        edits: list[Edit] = []
        for index, each in changes.items():
            written = document_edits(self._texts[index], each)
            edits += [edit.moved(starts[index]) for edit in written.edits]
            self._notes += written.notes
        notes = (*self._notes, *(f"{each} It is passed on unchanged." for each in self._unusable))
        text = with_edits("".join(self._texts), edits)
        return ChangedStream(text, tuple(edits), tuple(title(found.place.owner) for found in chosen), notes)

    def _read(self, document: yaml_stream.Document) -> None:
        index = len(self._texts) - 1
        if document.error is not None:
            self._record_unreadable(document, document.error)
        for root, value in enumerate(document.values):
            for owner_path, owner in objects_in(value):
                self._read_object(index, root, owner_path, owner)

    def _read_object(self, document: int, root: int, owner_path: Path, owner: Document) -> None:
        if owner.get("kind") == "ServiceAccount":
            service_account = self._service_account(owner)
            self._service_accounts[service_account.namespace, service_account.name] = service_account
        try:
            places = pods_in(owner, self._options.template_paths)
        except ConfigurationError as error:
            problems = self._objections if requests_in_own_metadata(owner) else self._unusable
            problems.append(f"{self._source}: {error}")
            return
        if has_unselected_template(owner, places):
            self._unselected.append(
                f"{title(owner)} is left unchanged: only Kubernetes' own kinds are changed automatically. Set the "
                f"label {INJECT_LABEL} in its Pod template, or use --template-path spec.template."
            )
        self._found += [_Found(document, root, owner_path, place) for place in places]
        self._objections += [
            f"{self._source}: {title(owner)} requests a sidecar at {shown(path)}, {_advice(owner, path)}"
            for path in requests_outside_pods(owner, places)[:1]
        ]

    def _record_unreadable(self, document: yaml_stream.Document, error: Exception) -> None:
        """Record a document of which nothing can be read, as an error if the document requests a sidecar."""
        line = document.line + getattr(error, "line", 0)
        remark = "; a template is YAML only after `helm template`" if _TEMPLATE_MARK in document.text else ""
        message = f"{self._source}, line {line}: this cannot be read as YAML ({error}){remark}."
        if _REQUEST_LINE.search(document.text):
            if document.is_unreadable:
                self._objections.append(f"{message} It requests a sidecar, so correct it.")
        elif document.is_unreadable:
            self._unusable.append(message)

    def _service_account(self, owner: Document) -> ServiceAccount:
        metadata = mapping(owner.get("metadata"))
        annotations = mapping(metadata.get("annotations"))
        texts = {name: text for name, text in annotations.items() if isinstance(text, str)}
        return ServiceAccount(self._namespace(owner), str(metadata.get("name")), texts)

    def _namespace(self, owner: Document) -> str:
        """Return the object's namespace, or the value of --namespace, or an empty text."""
        return str(mapping(owner.get("metadata")).get("namespace") or self._options.namespace)

    # Changing

    def _changed(self, chosen: list[_Found], change: ChangePod, progress: Progress) -> list[Document]:
        pods, problems = [], []
        for done, found in enumerate(chosen):
            progress(done, len(chosen))
            try:
                pods.append(self._change(found, change))
            except ConfigurationError as error:
                problems.append(f"{self._source}: {title(found.place.owner)}: {error}")
        progress(len(chosen), len(chosen))
        if problems:
            raise ConfigurationError("\n".join(problems))
        return pods

    def _change(self, found: _Found, change: ChangePod) -> Document:
        owner, pod = found.place.owner, found.place.pod
        name, namespace = service_account_name(pod), self._namespace(owner)
        service_account = self._service_accounts.get((namespace, name))
        if service_account is not None:
            service_account = service_account._replace(namespace=namespace or "default")
        try:
            return change(Workload(title(owner), pod, service_account))
        except NoRoleError as error:
            hint = self._hint_at_other_namespace(name, namespace, owner) if service_account is None else ""
            flag = "" if error.fix.endswith("?") else "Or use --role-arn"
            raise ConfigurationError(error.problem, fix=sentences(error.fix, flag, hint)) from error

    def _hint_at_other_namespace(self, name: str, namespace: str, owner: Document) -> str:
        """Return a hint about a ServiceAccount with this name and a role in another namespace, or an empty text."""
        for service_account in self._service_accounts.values():
            if service_account.name == name and EKS_ROLE_ARN in service_account.annotations:
                return _mismatch(service_account, namespace, title(owner))
        return ""


def service_account_name(pod: Document) -> str:
    """Return the name of the Pod's ServiceAccount. Like the API server, read the field's old name last."""
    spec = mapping(pod.get("spec"))
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or "default")


def _mismatch(service_account: ServiceAccount, namespace: str, owner: str) -> str:
    other = f"ServiceAccount {service_account.name}"
    if not namespace:
        return (
            f"{other} has a role, but is in namespace {service_account.namespace}, and {owner} has no namespace. Use "
            f"--namespace {service_account.namespace}"
        )
    if not service_account.namespace:
        return f"{other} has a role, but no namespace, and {owner} is in {namespace}. Use --namespace {namespace}"
    return f"{other} has a role, but is in namespace {service_account.namespace}, and {owner} is in {namespace}"


def _misplaced_annotations(place: PodPlace) -> Iterator[str]:
    """Yield a note about each of our annotations that the object has, but its Pods do not have."""
    annotations, of_pod = (_annotations(each) for each in (place.owner, place.pod))
    for name in sorted(annotations.keys() - of_pod.keys()):
        if name.startswith(PREFIX):
            yield (
                f"{title(place.owner)} has the annotation {name}, which has no effect there. "
                f"Move it to metadata.annotations of {shown(place.path)}."
            )


def _has_annotation(pod: Document) -> bool:
    return any(name.startswith(PREFIX) for name in _annotations(pod))


def _annotations(found: Document) -> Document:
    return mapping(mapping(found.get("metadata")).get("annotations"))


def _advice(owner: Document, path: Path) -> str:
    template = template_around(owner, path)
    if template is None:
        return (
            "where it is not known to have a Pod template. Put it into metadata.labels of a Pod template and name "
            "the template with --template-path, or remove it."
        )
    steps = "".join("[]" if isinstance(step, int) else f".{step}" for step in template).removeprefix(".")
    return f"which is changed only if you name the Pod template: use --template-path {steps}."


def _matches(steps: tuple[str, ...], path: Path) -> bool:
    keys = tuple(step for step in path if isinstance(step, str))
    return keys == tuple(step.removesuffix("[]") for step in steps)
