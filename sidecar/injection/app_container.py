"""
What a container of the user's gets: where the credentials are, the secret to ask with, and a region. Pure.

Rule: a variable that is there already stays as it is. A container whose variables say where its credentials come from
is left alone altogether, as a second source would only be a riddle: which one wins differs from SDK to SDK.
A variable without a value is not a source. Some SDKs read an empty one all the same, so those are removed.

The secret goes by file alone. Its value is made in the Pod, once it runs, so no variable could hold it at admission;
SDKs that know only the variable (botocore before 1.32, version 2 for JavaScript) cannot be served this way.
"""

from collections.abc import Iterable, Mapping

from sidecar.client.environment import with_loopback
from sidecar.injection.names import AUTHORIZATION_DIRECTORY, AUTHORIZATION_VOLUME, ORIGIN
from sidecar.injection.options import RoleAssignment
from sidecar.kubernetes.document import Document
from sidecar.role import CREDENTIALS_PATH

URI, SECRET_FILE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"

OWN_CREDENTIALS = (
    URI,
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    SECRET_FILE,
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ACCESS_KEY_ID",
)
"""Any of these, with a value that is not ours, says where a container's credentials come from. AWS_PROFILE does not:
with `credential_source = EcsContainer` a profile builds on ours."""

READ_WHEN_EMPTY = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""
Variables that SDKs read although they are empty, instead of what injection sets.

To botocore an empty relative URI is the ECS agent's address, Java's SDKs prefer the token's variable to its file, and
to Rust's SDK an empty web identity token file is a file without a name. No SDK reads an empty AWS_ACCESS_KEY_ID, which
stays because it hides one of the image or of envFrom.
"""

_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXEMPTIONS = ("NO_PROXY", "no_proxy")


def secret_directory(assignment: RoleAssignment, *, is_only: bool) -> tuple[str, str | None]:
    """Where the role's secret is mounted, and which part of the volume that is; None: all of it."""
    return (
        (AUTHORIZATION_DIRECTORY, None)
        if is_only
        else (f"{AUTHORIZATION_DIRECTORY}/{assignment.role}", assignment.role)
    )


def secret_mount(assignment: RoleAssignment, *, is_only: bool) -> Document:
    """The mount of the role's secret, as the sidecar has it, which writes there."""
    path, part = secret_directory(assignment, is_only=is_only)
    mount: Document = {"name": AUTHORIZATION_VOLUME, "mountPath": path}
    return mount if part is None else mount | {"subPath": part}


def own_credentials(container: Document) -> str | None:
    """Return the variable by which the container says itself where its credentials come from; None if none does."""
    for name, variable in variables_by_name(container).items():
        if name in OWN_CREDENTIALS and is_set(variable) and not _is_ours(variable):
            return name
    return None


def variables_by_name(container: Document) -> dict[str, Document]:
    """Return the container's variables. The kubelet uses the last one of a name."""
    return {str(variable["name"]): variable for variable in container.get("env") or ()}


def is_set(variable: Document) -> bool:
    """Return whether the variable may have a value that is not empty: a text, or one from elsewhere."""
    return bool(variable.get("value")) or variable.get("valueFrom") is not None


def _without_misread(variables: Iterable[Document]) -> list[Document]:
    """Return the variables without the empty ones that some SDKs read."""
    return [each for each in variables if is_set(each) or each["name"] not in READ_WHEN_EMPTY]


def without_ours(container: Document) -> Document:
    """The container without what an earlier injection gave it to ask with; itself where there is nothing."""
    kept = {
        "env": [variable for variable in container.get("env") or () if not _is_ours(variable)],
        "volumeMounts": [m for m in container.get("volumeMounts") or () if m["name"] != AUTHORIZATION_VOLUME],
    }
    changed = {key: value for key, value in kept.items() if len(value) < len(container.get(key) or ())}
    return {key: changed.get(key, value) for key, value in container.items() if changed.get(key, True)}


def with_credentials(
    container: Document, assignment: RoleAssignment, *, is_only: bool, region: str, is_sts_regional: bool
) -> Document:
    """The container with what its SDK needs to come to the sidecar for this role."""
    mount = secret_mount(assignment, is_only=is_only) | {"readOnly": True}
    mounts = [m for m in container.get("volumeMounts") or () if m["name"] != AUTHORIZATION_VOLUME]
    there = [m for m in container.get("volumeMounts") or () if m["name"] == AUTHORIZATION_VOLUME]
    wanted = _wanted(container, assignment, is_only=is_only, region=region, is_sts_regional=is_sts_regional)
    variables = _with(_without_misread(container.get("env") or ()), wanted)
    return {**container, "env": variables, "volumeMounts": _placed(container, mounts, there, mount)}


def _placed(container: Document, others: list[Document], ours: list[Document], mount: Document) -> list[Document]:
    """Ours where one of ours was, else at the end."""
    if not ours:
        return [*others, mount]
    first = container["volumeMounts"].index(ours[0])
    return [*others[:first], {**ours[0], **mount}, *others[first:]]


def _wanted(
    container: Document, assignment: RoleAssignment, *, is_only: bool, region: str, is_sts_regional: bool
) -> Mapping[str, str]:
    directory, _ = secret_directory(assignment, is_only=is_only)
    wanted = {URI: f"{ORIGIN}{assignment.path}", SECRET_FILE: f"{directory}/token"}
    there = variables_by_name(container)
    if not any(name in there and is_set(there[name]) for name in _REGIONS):
        wanted |= dict.fromkeys(_REGIONS, region)
    if is_sts_regional:
        wanted["AWS_STS_REGIONAL_ENDPOINTS"] = there.get("AWS_STS_REGIONAL_ENDPOINTS", {}).get("value") or "regional"
    # Java's SDK would turn to the node's role when the sidecar fails.
    wanted["AWS_EC2_METADATA_DISABLED"] = "true"
    return wanted | _exempt(there, may_be_elsewhere="envFrom" in container)


def _exempt(there: Mapping[str, Document], *, may_be_elsewhere: bool) -> dict[str, str]:
    """
    Return the variables that keep the request and its secret from a proxy.

    Rust's object_store sends even loopback requests there. New ones are added only where the container
    names a proxy: a NO_PROXY of ours would hide that of its image or its envFrom.
    """
    lists = {name: there[name] for name in _EXEMPTIONS if name in there}
    if lists:
        known = {name: each.get("value") or "" for name, each in lists.items() if each.get("valueFrom") is None}
        return {name: with_loopback(value) for name, value in known.items()}
    is_proxied = any(name in there and is_set(there[name]) for name in _PROXIES)
    return dict.fromkeys(_EXEMPTIONS, with_loopback("")) if is_proxied and not may_be_elsewhere else {}


def unknown_exemptions(container: Document) -> tuple[str, ...]:
    """Return the NO_PROXY variables of the container whose value comes from elsewhere and cannot be extended."""
    there = variables_by_name(container)
    return tuple(name for name in _EXEMPTIONS if name in there and there[name].get("valueFrom") is not None)


_EXTENDED = {URI, SECRET_FILE, *_EXEMPTIONS}
"""Which of those that are there already are written anew: ours, and lists that grow."""


def _with(variables: Iterable[Document], wanted: Mapping[str, str]) -> list[Document]:
    """The variables, changed in place or added at the end."""
    there = list(variables)
    names = {variable["name"] for variable in there}
    changed = [
        {"name": v["name"], "value": wanted[v["name"]]} if v["name"] in wanted and v["name"] in _EXTENDED else v
        for v in there
    ]
    return changed + [{"name": name, "value": value} for name, value in wanted.items() if name not in names]


def _is_ours(variable: Document) -> bool:
    """Whether an earlier injection put it there."""
    value = str(variable.get("value", ""))
    if variable["name"] == URI:
        return value.startswith(ORIGIN + CREDENTIALS_PATH)
    return variable["name"] == SECRET_FILE and value.startswith(f"{AUTHORIZATION_DIRECTORY}/")
