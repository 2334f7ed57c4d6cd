"""
Add the address of the credentials, the secret for the requests, and a region to a container of the application. Pure.

Rule: an existing variable stays unchanged, except that NO_PROXY is extended. A container whose variables name another
source of credentials is not changed at all, because SDKs differ in the source that they prefer. An empty variable is
not a source. Some SDKs read an empty variable anyway, so those variables are removed.

The secret is in a file only. The sidecar creates the secret when the Pod runs, so no variable can hold it at admission.
SDKs that read the secret only from a variable (botocore before 1.32, version 2 for JavaScript) cannot use this sidecar.
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
"""
Variables that name the source of a container's credentials. A value that injection set does not count.

AWS_PROFILE is not one of them, because a profile with `credential_source = EcsContainer` uses our endpoint.
"""

READ_WHEN_EMPTY = (
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
"""
Variables that some SDKs read even if they are empty, and prefer to the variables that injection sets.

botocore uses an empty relative URI as the ECS agent's address. Java's SDKs prefer the variable of the token to the file
of the token. Rust's SDK uses an empty web identity token file as a file without a name. No SDK reads an empty
AWS_ACCESS_KEY_ID. That variable stays, because it hides a value from the image or from envFrom.
"""

REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
EXEMPTIONS = ("NO_PROXY", "no_proxy")


def secret_directory(role: RoleAssignment, *, is_only: bool) -> tuple[str, str | None]:
    """Return the directory of the role's secret in the container, and its subpath in the volume, if it has one."""
    return (AUTHORIZATION_DIRECTORY, None) if is_only else (f"{AUTHORIZATION_DIRECTORY}/{role.name}", role.name)


def secret_mount(role: RoleAssignment, *, is_only: bool) -> Document:
    """Return the mount of the role's secret in the sidecar, which writes the secret."""
    path, part = secret_directory(role, is_only=is_only)
    mount: Document = {"name": AUTHORIZATION_VOLUME, "mountPath": path}
    return mount if part is None else mount | {"subPath": part}


def own_credentials(container: Document) -> str | None:
    """Return the variable that names the container's own source of credentials, or None."""
    for name, variable in variables_by_name(container).items():
        if name in OWN_CREDENTIALS and is_set(variable) and not _is_ours(variable):
            return name
    return None


def variables_by_name(container: Document) -> dict[str, Document]:
    """Return the container's variables by name. If several have the same name, the kubelet uses the last one."""
    return {str(variable["name"]): variable for variable in container.get("env") or ()}


def is_set(variable: Document) -> bool:
    """Return whether the variable may have a value: a text that is not empty, or a value from `valueFrom`."""
    return bool(variable.get("value")) or variable.get("valueFrom") is not None


def _without_misread(container: Document) -> list[Document]:
    """
    Return the variables, except empty variables that some SDKs would read.

    If a name appears several times, the kubelet uses the last one. All are removed, so that no earlier value applies.
    """
    names = {name for name, each in variables_by_name(container).items() if not is_set(each)} & {*READ_WHEN_EMPTY}
    return [each for each in container.get("env") or () if each["name"] not in names]


def without_ours(container: Document) -> Document:
    """
    Return the container without the mount and the variables of the endpoint that an earlier injection added.

    The other variables stay, because a user can have written the same values.
    """
    kept = {
        "env": [variable for variable in container.get("env") or () if not _is_ours(variable)],
        "volumeMounts": [m for m in container.get("volumeMounts") or () if m["name"] != AUTHORIZATION_VOLUME],
    }
    changed = {key: value for key, value in kept.items() if len(value) < len(container.get(key) or ())}
    return {key: changed.get(key, value) for key, value in container.items() if changed.get(key, True)}


def with_credentials(
    container: Document, role: RoleAssignment, *, is_only: bool, region: str, is_sts_regional: bool
) -> Document:
    """Return the container with the mount and the variables that its SDK needs for this role."""
    mount = secret_mount(role, is_only=is_only) | {"readOnly": True}
    mounts = [m for m in container.get("volumeMounts") or () if m["name"] != AUTHORIZATION_VOLUME]
    ours = [m for m in container.get("volumeMounts") or () if m["name"] == AUTHORIZATION_VOLUME]
    wanted = _wanted(container, role, is_only=is_only, region=region, is_sts_regional=is_sts_regional)
    variables = _with(_without_misread(container), wanted)
    return {**container, "env": variables, "volumeMounts": _placed(container, mounts, ours, mount)}


def _placed(container: Document, others: list[Document], ours: list[Document], mount: Document) -> list[Document]:
    """Return all mounts, with ours at the position of our earlier mount, or at the end."""
    if not ours:
        return [*others, mount]
    first = container["volumeMounts"].index(ours[0])
    return [*others[:first], {**ours[0], **mount}, *others[first:]]


def _wanted(
    container: Document, role: RoleAssignment, *, is_only: bool, region: str, is_sts_regional: bool
) -> Mapping[str, str]:
    directory, _ = secret_directory(role, is_only=is_only)
    wanted = {URI: f"{ORIGIN}{role.path}", SECRET_FILE: f"{directory}/token"}
    existing = variables_by_name(container)
    if not any(name in existing and is_set(existing[name]) for name in REGIONS):
        wanted |= dict.fromkeys(REGIONS, region)
    if is_sts_regional:
        wanted["AWS_STS_REGIONAL_ENDPOINTS"] = existing.get("AWS_STS_REGIONAL_ENDPOINTS", {}).get("value") or "regional"
    # If the sidecar fails, Java's SDK would use the node's role.
    wanted["AWS_EC2_METADATA_DISABLED"] = "true"
    return wanted | _exempt(existing, has_env_from="envFrom" in container)


def _exempt(existing: Mapping[str, Document], *, has_env_from: bool) -> dict[str, str]:
    """
    Return the variables that prevent the SDK from sending the request and its secret to a proxy.

    Rust's object_store sends even loopback requests to a proxy. A missing NO_PROXY is added only if the container names
    a proxy and has no envFrom. Otherwise the new variable could hide a NO_PROXY from the image or from envFrom.
    """
    lists = {name: existing[name] for name in EXEMPTIONS if name in existing}
    if lists:
        known = {name: each.get("value") or "" for name, each in lists.items() if each.get("valueFrom") is None}
        return {name: with_loopback(value) for name, value in known.items()}
    is_proxied = any(name in existing and is_set(existing[name]) for name in PROXIES)
    return dict.fromkeys(EXEMPTIONS, with_loopback("")) if is_proxied and not has_env_from else {}


def unknown_exemptions(container: Document) -> tuple[str, ...]:
    """Return the NO_PROXY variables of the container that use `valueFrom`, and so cannot be extended."""
    existing = variables_by_name(container)
    return tuple(name for name in EXEMPTIONS if name in existing and existing[name].get("valueFrom") is not None)


_EXTENDED = {URI, SECRET_FILE, *EXEMPTIONS}
"""Existing variables that injection replaces: our own variables, and the lists that injection extends."""


def _with(variables: Iterable[Document], wanted: Mapping[str, str]) -> list[Document]:
    """Return the variables, with each wanted variable changed in place or added at the end."""
    existing = list(variables)
    names = {variable["name"] for variable in existing}
    changed = [
        {"name": v["name"], "value": wanted[v["name"]]} if v["name"] in wanted and v["name"] in _EXTENDED else v
        for v in existing
    ]
    return changed + [{"name": name, "value": value} for name, value in wanted.items() if name not in names]


def _is_ours(variable: Document) -> bool:
    """Return whether the variable is the endpoint or the secret's file of an earlier injection."""
    value = str(variable.get("value", ""))
    if variable["name"] == URI:
        return value.startswith(ORIGIN + CREDENTIALS_PATH)
    return variable["name"] == SECRET_FILE and value.startswith(f"{AUTHORIZATION_DIRECTORY}/")
