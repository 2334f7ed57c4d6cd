"""
What a container of the user's gets: where the credentials are, the secret to ask with, and a region. Pure.

Rule: a variable that is there already stays as it is. A container whose variables say where its credentials come from
is left alone altogether, as a second source would only be a riddle: which one wins differs from SDK to SDK.

The secret goes by file alone. Its value is made in the Pod, once it runs, so no variable could hold it at admission;
SDKs that know only the variable (botocore before 1.32, version 2 for JavaScript) cannot be served this way.
"""

from collections.abc import Iterable, Mapping

from sidecar.client_environment import with_loopback
from sidecar.injection.annotations import Grant
from sidecar.injection.names import AUTHORIZATION_DIRECTORY, AUTHORIZATION_VOLUME, ORIGIN, Document
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

_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_EXEMPTIONS = ("NO_PROXY", "no_proxy")


def secret_directory(grant: Grant, *, is_only: bool) -> tuple[str, str | None]:
    """Where the role's secret is mounted, and which part of the volume that is; None: all of it."""
    return (AUTHORIZATION_DIRECTORY, None) if is_only else (f"{AUTHORIZATION_DIRECTORY}/{grant.role}", grant.role)


def secret_mount(grant: Grant, *, is_only: bool) -> Document:
    """The mount of the role's secret, as the sidecar has it, which writes there."""
    path, part = secret_directory(grant, is_only=is_only)
    mount: Document = {"name": AUTHORIZATION_VOLUME, "mountPath": path}
    return mount if part is None else mount | {"subPath": part}


def own_credentials(container: Document) -> str | None:
    """The variable by which the container says itself where its credentials come from; None if none does."""
    for variable in container.get("env") or ():
        if variable["name"] in OWN_CREDENTIALS and not _is_ours(variable):
            return str(variable["name"])
    return None


def without_ours(container: Document) -> Document:
    """The container without what an earlier injection gave it to ask with; itself where there is nothing."""
    kept = {
        "env": [variable for variable in container.get("env") or () if not _is_ours(variable)],
        "volumeMounts": [m for m in container.get("volumeMounts") or () if m["name"] != AUTHORIZATION_VOLUME],
    }
    changed = {key: value for key, value in kept.items() if len(value) < len(container.get(key) or ())}
    return {key: changed.get(key, value) for key, value in container.items() if changed.get(key, True)}


def with_credentials(
    container: Document, grant: Grant, *, is_only: bool, region: str, is_sts_regional: bool
) -> Document:
    """The container with what its SDK needs to come to the sidecar for this role."""
    mount = secret_mount(grant, is_only=is_only) | {"readOnly": True}
    mounts = [m for m in container.get("volumeMounts") or () if m["name"] != AUTHORIZATION_VOLUME]
    there = [m for m in container.get("volumeMounts") or () if m["name"] == AUTHORIZATION_VOLUME]
    variables = _with(container.get("env") or (), _wanted(container, grant, is_only=is_only, region=region,
                                                        is_sts_regional=is_sts_regional))  # fmt: skip
    return {**container, "env": variables, "volumeMounts": _placed(container, mounts, there, mount)}


def _placed(container: Document, others: list[Document], ours: list[Document], mount: Document) -> list[Document]:
    """Ours where one of ours was, else at the end."""
    if not ours:
        return [*others, mount]
    first = container["volumeMounts"].index(ours[0])
    return [*others[:first], {**ours[0], **mount}, *others[first:]]


def _wanted(
    container: Document, grant: Grant, *, is_only: bool, region: str, is_sts_regional: bool
) -> Mapping[str, str]:
    directory, _ = secret_directory(grant, is_only=is_only)
    wanted = {URI: f"{ORIGIN}{grant.path}", SECRET_FILE: f"{directory}/token"}
    values = {variable["name"]: variable.get("value") for variable in container.get("env") or ()}
    if not any(name in values for name in _REGIONS):
        wanted |= dict.fromkeys(_REGIONS, region)
    if is_sts_regional:
        wanted["AWS_STS_REGIONAL_ENDPOINTS"] = values.get("AWS_STS_REGIONAL_ENDPOINTS") or "regional"
    # Java's SDK would turn to the node's role when the sidecar fails.
    wanted["AWS_EC2_METADATA_DISABLED"] = "true"
    return wanted | _exempt(values, may_be_elsewhere="envFrom" in container)


def _exempt(values: Mapping[str, str | None], *, may_be_elsewhere: bool) -> dict[str, str]:
    """
    What keeps the request, secret and all, from going through a proxy (Rust's object_store takes even loopback there).

    Only where the container says that it has one: a NO_PROXY of ours would hide that of its image or its envFrom.
    """
    named = [name for name in _EXEMPTIONS if name in values]
    if named:
        lists = {name: value for name in named if (value := values[name]) is not None}
        return {name: with_loopback(value) for name, value in lists.items()}
    is_proxied = any(values.get(name) for name in _PROXIES)
    return dict.fromkeys(_EXEMPTIONS, with_loopback("")) if is_proxied and not may_be_elsewhere else {}


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
