"""
Make the changes of a migration, and keep a record of them in a file.

Rule: the record is written before the first change and after each change, so an interrupted migration can continue and
can be undone. A change is made only if its target still has the value that the plan read.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from sidecar.errors import ConfigurationError, KubernetesError, SidecarError
from sidecar.files import read_regular_file, replace_secret_file
from sidecar.kubernetes.names import path_segment
from sidecar.setup.migration import RESTARTED_AT, Change, Kind, Phase, merge_patch, values_at
from sidecar.setup.migration_facts import read_association
from sidecar.setup.plan import Call
from sidecar.setup.read_role import read_role
from sidecar.setup.trust_policy import compact

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes
    from sidecar.setup.aws import Aws

VERSION = 1

MAX_RECORD_BYTES = 1 << 24

CONFLICT = 409
"""Status for a change of an object that has changed since it was read (API conventions, Concurrency control)."""

CONFLICTS = 10
"""Maximum number of conflicts of one change. The controller of a workload writes its status during a rollout."""


@dataclass(frozen=True, slots=True)
class Record:
    """
    The changes of one migration or of its undo, of which the first `done` are made.

    `goal` names the migration for people, and `moved` are the names of its ServiceAccounts.
    """

    goal: str
    changes: tuple[Change, ...]
    moved: tuple[str, ...] = ()
    done: int = 0
    is_undo: bool = False

    @property
    def left(self) -> tuple[Change, ...]:
        return self.changes[self.done :]


def read_record(path: Path) -> Record | None:
    """
    Return the record in the file, or None if there is no file.

    Raises ConfigurationError if the file is not a record of this version.
    """
    try:
        content = read_regular_file(str(path), MAX_RECORD_BYTES) or b""
        document = json.loads(content)
        return {VERSION: _read}[document["version"]](document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ConfigurationError(
            f"--record is {str(path)!r}, which is not a record of a migration that this version can read",
            fix="Use another file, or the file of an earlier run",
            setting="--record",
        ) from exc


def _read(document: Mapping[str, Any]) -> Record:
    changes, moved, done = tuple(map(_read_change, document["changes"])), document["moved"], document["done"]
    if type(done) is not int or not 0 <= done <= len(changes):
        raise ValueError("the number of changes is wrong")
    if not isinstance(moved, list) or not all(isinstance(each, str) for each in moved):
        raise TypeError("the names of the ServiceAccounts are not text")
    return Record(str(document["goal"]), changes, tuple(moved), done, document["is_undo"] is True)


def _read_change(document: Mapping[str, Any]) -> Change:
    """
    Return the change in a record.

    Raises ValueError or TypeError if a value does not fit the kind of change.
    """
    change = Change(**{**document, "kind": Kind(document["kind"]), "phase": Phase(document["phase"])})
    values = (change.before, change.after)
    if not all(isinstance(document[name], str) for name in ("target", "title")):
        raise TypeError("a target or a title is not text")
    if not all(isinstance(value, dict) for value in values if change.kind is not Kind.ASSOCIATION or value is not None):
        raise TypeError("a value is not an object")
    if change.kind in {Kind.TEMPLATE, Kind.SERVICE_ACCOUNT} and change.before.keys() != change.after.keys():
        raise ValueError("the pointers differ")
    return change


def write_record(path: Path, record: Record) -> None:
    """
    Replace the file atomically.

    Raises ConfigurationError if the file cannot be written.
    """
    document = {"version": VERSION, **asdict(record)}
    try:
        replace_secret_file(str(path), json.dumps(document, indent=2) + "\n")
    except OSError as exc:
        raise ConfigurationError(
            f"--record is {str(path)!r}, but the file cannot be written ({exc.strerror})",
            fix="Use a file in another directory",
            setting="--record",
        ) from exc


class MissingTargetError(SidecarError):
    """The target of a change does not exist any more."""


class _Found(NamedTuple):
    """The current value of a change's target. `version` names the object that was read, if its system has versions."""

    value: Any
    version: str = ""


class Worker:
    """The two systems in which changes are made. `cluster` is the name of the EKS cluster, or None."""

    def __init__(self, aws: "Aws", kubernetes: "Kubernetes", cluster: str | None) -> None:
        self._aws = aws
        self._kubernetes = kubernetes
        self._cluster = cluster

    def make(self, change: Change) -> None:
        """
        Make a change, unless it was already made.

        If a controller changes the object at the same time, the change is tried again with the new version.

        Raises MissingTargetError if the target does not exist, and SidecarError if the target has another value than
        before and after the change, or if a call fails.
        """
        conflicts = 0
        while _is_needed(change, (found := self._read(change)).value):
            try:
                return self._apply(change, found)
            except KubernetesError as exc:
                conflicts += 1
                if exc.status != CONFLICT or conflicts > CONFLICTS:
                    raise
        return None

    def _apply(self, change: Change, found: _Found) -> None:
        match change.kind:
            case Kind.TRUST_POLICY:
                parameters = {"RoleName": change.target, "PolicyDocument": compact(change.after)}
                self._aws.apply(Call("UpdateAssumeRolePolicy", parameters, change.title))
            case Kind.ASSOCIATION:
                self._change_association(change, found.version)
            case _:
                self._change_metadata(change, found.version)

    def is_made(self, change: Change) -> bool:
        """Return whether the target has the value after the change."""
        try:
            return bool(self._read(change).value == change.after)
        except MissingTargetError:
            return False

    def _read(self, change: Change) -> _Found:
        match change.kind:
            case Kind.TRUST_POLICY:
                role = read_role(self._aws, change.target)
                return _missing(f"role {change.target}") if role is None else _Found(role.trust_policy)
            case Kind.ASSOCIATION:
                assert self._cluster is not None
                return _Found(*read_association(self._aws, self._cluster, change.target))
        document = self._kubernetes.get(_path(change))
        if document is None:
            return _missing(change.target)
        return _Found(values_at(document, change.before), document["metadata"]["resourceVersion"])

    def _change_association(self, change: Change, association_id: str) -> None:
        namespace, _, name = change.target.partition("/")
        place = {"clusterName": self._cluster, "namespace": namespace, "serviceAccount": name}
        if change.after is not None:
            self._aws.call("eks", "CreatePodIdentityAssociation", **place, **change.after)
            return
        self._aws.call("eks", "DeletePodIdentityAssociation", clusterName=self._cluster, associationId=association_id)

    def _change_metadata(self, change: Change, version: str) -> None:
        """Change labels and annotations. The API server rejects the change of an object that changed meanwhile."""
        patch = merge_patch(change.after)
        metadata = {**patch.get("metadata", {}), "resourceVersion": version}
        self._kubernetes.patch(_path(change), {**patch, "metadata": metadata})


def _path(change: Change) -> str:
    if change.kind is Kind.TEMPLATE:
        return change.target
    namespace, _, name = change.target.partition("/")
    return f"/api/v1/namespaces/{path_segment(namespace)}/serviceaccounts/{path_segment(name)}"


def _missing(target: str) -> NoReturn:
    raise MissingTargetError(f"{target} does not exist any more", fix="Create it again")


def _is_needed(change: Change, current: Any) -> bool:
    """
    Return whether the change still has to be made.

    Raises SidecarError if the target has neither the value before the change nor the value after it. The time of a
    restart does not count, because other people may restart the Pods too.
    """
    if current == change.after:
        return False
    if _without_restart(current) != _without_restart(change.before):
        raise SidecarError(
            f"Somebody else changed {change.target} since the plan was made, so this cannot be done: {change.title}",
            fix="Change it back and run this again, or run this with --undo",
        )
    return True


def _without_restart(value: Any) -> Any:
    """Return the value of a template without the time of its last restart, and any other value unchanged."""
    if not isinstance(value, Mapping):
        return value
    return {name: item for name, item in value.items() if not name.endswith(RESTARTED_AT.replace("/", "~1"))}
