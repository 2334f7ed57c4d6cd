"""
Make the changes of a migration, and keep a record of them in a file.

Rule: the record is written before the first change and after each change, so an interrupted migration can continue and
can be undone. A change is made only if its target still has the value that the plan read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sidecar.errors import ConfigurationError, SidecarError
from sidecar.files import read_regular_file, replace_secret_file
from sidecar.setup.migration import Change, Kind, Phase, merge_patch, values_at
from sidecar.setup.migration_facts import read_associations
from sidecar.setup.plan import Call
from sidecar.setup.read_role import read_role
from sidecar.setup.trust_policy import compact

if TYPE_CHECKING:
    from sidecar.kubernetes.client import Kubernetes
    from sidecar.setup.aws import Aws

VERSION = 1

MAX_RECORD_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Record:
    """The changes of one migration, of which the first `done` are made. `goal` names the migration for people."""

    goal: str
    changes: tuple[Change, ...]
    done: int = 0


def read_record(path: Path) -> Record | None:
    """
    Return the record in the file, or None if there is no file.

    Raises ConfigurationError if the file is not a record of this version.
    """
    try:
        content = read_regular_file(str(path), MAX_RECORD_BYTES) or b""
        document = json.loads(content)
        changes = tuple(
            Change(**{**each, "kind": Kind(each["kind"]), "phase": Phase(each["phase"])})
            for each in document["changes"]
        )
        return {VERSION: Record(document["goal"], changes, int(document["done"]))}[document["version"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as exc:
        raise ConfigurationError(
            f"--record is {str(path)!r}, which is not a record of a migration that this version can read",
            fix="Use another file, or the file of an earlier run",
            setting="--record",
        ) from exc


def write_record(path: Path, record: Record) -> None:
    """
    Replace the file atomically.

    Raises ConfigurationError if the file cannot be written.
    """
    document = {
        "version": VERSION,
        "goal": record.goal,
        "done": record.done,
        "changes": list(map(asdict, record.changes)),
    }
    try:
        replace_secret_file(str(path), json.dumps(document, indent=2) + "\n")
    except OSError as exc:
        raise ConfigurationError(
            f"--record is {str(path)!r}, but the file cannot be written ({exc.strerror})",
            fix="Use a file in another directory",
            setting="--record",
        ) from exc


class Worker:
    """The two systems in which changes are made. `cluster` is the name of the EKS cluster, or None."""

    def __init__(self, aws: "Aws", kubernetes: "Kubernetes", cluster: str | None) -> None:
        self._aws = aws
        self._kubernetes = kubernetes
        self._cluster = cluster
        self._makers: Mapping[Kind, Callable[[Change], None]] = {
            Kind.TRUST_POLICY: self._change_trust_policy,
            Kind.ASSOCIATION: self._change_association,
            Kind.SERVICE_ACCOUNT: self._change_service_account,
            Kind.TEMPLATE: self._change_metadata,
        }

    def make(self, change: Change) -> None:
        """
        Make a change, unless it was already made.

        Raises SidecarError if the target has another value than before and after the change, or if a call fails.
        """
        self._makers[change.kind](change)

    def _change_trust_policy(self, change: Change) -> None:
        role = read_role(self._aws, change.target)
        if _is_needed(change, None if role is None else role.trust_policy):
            parameters = {"RoleName": change.target, "PolicyDocument": compact(change.after)}
            self._aws.apply(Call("UpdateAssumeRolePolicy", parameters, change.title))

    def _change_association(self, change: Change) -> None:
        assert self._cluster is not None
        namespace, _, name = change.target.partition("/")
        current = read_associations(self._aws, self._cluster, namespace).get(name)
        if not _is_needed(change, current):
            return
        place = {"clusterName": self._cluster, "namespace": namespace, "serviceAccount": name}
        if change.after is not None:
            self._aws.call("eks", "CreatePodIdentityAssociation", **place, **change.after)
            return
        (found,) = self._aws.call("eks", "ListPodIdentityAssociations", **place)["associations"]
        association_id = found["associationId"]
        self._aws.call("eks", "DeletePodIdentityAssociation", clusterName=self._cluster, associationId=association_id)

    def _change_service_account(self, change: Change) -> None:
        namespace, _, name = change.target.partition("/")
        self._change_metadata(replace(change, target=f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"))

    def _change_metadata(self, change: Change) -> None:
        """Change labels and annotations. The API server rejects the change of an object that changed meanwhile."""
        document = self._kubernetes.get(change.target)
        if document is None:
            raise SidecarError(f"{change.target} does not exist any more", fix=_DELETED)
        if _is_needed(change, values_at(document, change.before)):
            patch = merge_patch(change.after)
            version = {"resourceVersion": document["metadata"]["resourceVersion"]}
            self._kubernetes.patch(change.target, {**patch, "metadata": {**patch.get("metadata", {}), **version}})


_DELETED = "Create it again, or remove the change from the record"


def _is_needed(change: Change, current: Any) -> bool:
    """
    Return whether the change still has to be made.

    Raises SidecarError if the target has neither the value before the change nor the value after it.
    """
    if current == change.after:
        return False
    if current != change.before:
        raise SidecarError(
            f"Somebody else changed {change.target} since the plan was made, so this cannot be done: {change.title}",
            fix="Change it back, or move the record away and run this again",
        )
    return True
