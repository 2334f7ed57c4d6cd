"""
Write the expression of the JSON Patch that adds the sidecar to a Pod, or marks a Pod that cannot get one. Pure.

The sidecar, the volumes and the variables are those that sidecar/injection returns for an example, with an expression
instead of each value that depends on the Pod.

Rules:

- An operation never contains a part of the Pod except texts. Kubernetes 1.37 holds a Pod as Go values, and cannot write
  these as JSON (apiserver 0.37.2, pkg/cel/common/valuesschemalesstyped.go, ConvertToNative). So lists change item by
  item.
- The last operation adds the sidecar as the first init container, because paths have the positions of the original Pod.
"""

from collections.abc import Iterable, Iterator
from typing import cast

from sidecar.injection.app_container import (
    EXEMPTIONS,
    PROXIES,
    READ_WHEN_EMPTY,
    REGIONS,
    SECRET_FILE,
    URI,
    secret_mount,
    with_credentials,
)
from sidecar.injection.eks_webhook import ENABLED, POD_IDENTITY, POD_IDENTITY_LABEL, WEB_IDENTITY
from sidecar.injection.eks_webhook import SKIP_CONTAINERS as EKS_SKIP_CONTAINERS
from sidecar.injection.names import CONTAINER, REJECTION
from sidecar.injection.options import InjectionOptions, RoleAssignment
from sidecar.injection.settings import Settings
from sidecar.injection.sidecar_container import GRACE_SECONDS, sidecar_container, volumes
from sidecar.kubernetes.document import Document
from sidecar.policy.cel import Cel, constructed, enclosed, text, texts
from sidecar.policy.variables import has_set, is_set, mounts, of, still_mounted
from sidecar.role import DEFAULT_ROLE

ROLE = RoleAssignment(DEFAULT_ROLE)

OPTIONS = InjectionOptions(
    role_arn=Cel("variables.roleArn"),
    roles=(ROLE,),
    audience=Cel("variables.audience"),
    expiration_seconds=cast("int", Cel("variables.expirationSeconds")),
    duration=Cel("variables.duration"),
    session_name=Cel("variables.sessionName"),
    containers=None,
    skipped=(),
    is_sts_regional=False,
)
"""Options whose values are expressions."""

OPTIONAL = (OPTIONS.duration, OPTIONS.session_name)
"""Values of the sidecar's variables that exist only if they are not empty."""

STS_REGIONAL = "AWS_STS_REGIONAL_ENDPOINTS"

ANNOTATIONS_PATH, LABELS_PATH = "/metadata/annotations", "/metadata/labels"

SETTINGS = Settings(image=Cel("variables.image"), region=Cel("variables.region"))
"""Settings whose values are expressions. `_sidecar` adds the sidecar's other variables and its resources."""


def patch() -> str:
    """
    Return the expression of the operations.

    It does not use variables for the operations, because only a mutation's expression can construct a JSONPatch.
    """
    marked = _add_to_mapping("annotations", ANNOTATIONS_PATH, REJECTION, "variables.rejection")
    operations = _joined((_containers(), *_volumes(), *_metadata(), *_sidecar())).replace("\n", "\n  ")
    return f'variables.rejection != ""\n? {marked}\n: {operations}'


def _operation(op: str, path: str, value: str = "") -> str:
    fields = [f'op: "{op}"', f"path: {path}", *([f"value: {value}"] if value else [])]
    return "JSONPatch" + enclosed("{", fields, "}")


def _add_to_mapping(variable: str, path: str, name: str, value: str) -> str:
    """Return the operation that adds a value to a mapping, which may not exist."""
    inside = _operation("add", text(f"{path}/{name.replace('~', '~0').replace('/', '~1')}"), value)
    whole = _operation("add", text(path), f"{{{text(name)}: {value}}}")
    return f"(variables.{variable}.size() > 0 ? [{inside}] :\n  [{whole}])"


def _env() -> str:
    """Return the operations that set the variables of a container."""
    added = _added_variables()
    is_amazons = " ||\n".join(
        f"variables.{uses}[i] && e.name in {texts(names[1:])}"
        for uses, names in (("usesWebIdentity", WEB_IDENTITY), ("usesPodIdentity", POD_IDENTITY))
    )
    is_misread = f"e.name in {texts(READ_WHEN_EMPTY)} && !{is_set('e')}"
    loopback = {name: f"!has(e.valueFrom) && e.name == {text(name)}" for name in EXEMPTIONS}
    ours = {name: f"e.name == {text(name)}" for name in (URI, SECRET_FILE)}
    changed = [
        _changed("env", f"{condition} && !({is_amazons})", _variable(name, added.get(name, "")))
        for name, condition in ours.items()
    ]
    changed += [_changed("env", condition, _variable(name, _with_loopback())) for name, condition in loopback.items()]
    missing = (_missing(name, value) for name, value in added.items())
    return _joined((*changed, *_without("env", f"{is_amazons} ||\n{is_misread}"), *missing))


def _joined(lists: Iterable[str]) -> str:
    return " +\n".join(lists)


def _changed(part: str, condition: str, value: str) -> str:
    """Return the operations that replace the items `e` of a container's list that meet the condition."""
    operation = _operation("replace", f'variables.paths[i] + "/{part}/" + string(j)', value)
    return f"c.?{part}.orValue([]).transformList(j, e, {condition},\n  {operation})"


def _without(part: str, condition: str) -> tuple[str, str]:
    """
    Return the operations that remove the items `e` that meet the condition, and those that create a missing list.

    The last item is removed first, so that the positions of the others do not change.
    """
    operation = _operation("remove", f'variables.paths[i] + "/{part}/" + string(j)')
    removed = f"c.?{part}.orValue([]).transformList(j, e,\n  {condition},\n  {operation}).reverse()".replace(
        "||\n", "||\n  "
    )
    created = _operation("add", f'variables.paths[i] + "/{part}"', "[]")
    return removed, f"(has(c.{part}) ? [] : [{created}])"


def _added_variables() -> dict[str, str]:
    """Return the expressions of the variables that injection adds to a container that uses a proxy."""
    container: Document = {"name": "app", "env": [{"name": PROXIES[0], "value": "proxy"}]}
    new = with_credentials(container, ROLE, is_only=True, region=SETTINGS.region, is_sts_regional=True)
    return {variable["name"]: constructed(variable["value"], "") for variable in new["env"][1:]}


def _missing(name: str, value: str) -> str:
    """Return the expression of a list with the operation that adds the variable, if the container must get it."""
    env = "variables.env[i]"
    conditions = [f"!{env}.exists(e, e.name == {text(name)})"]
    if name in REGIONS:
        conditions.append(f"!{has_set(env, REGIONS)}")
    elif name in EXEMPTIONS:
        conditions += [f"!{env}.exists(e, e.name in {texts(EXEMPTIONS)})", has_set(env, PROXIES), "!has(c.envFrom)"]
    elif name == STS_REGIONAL:
        conditions.append("variables.isStsRegional")
    operation = _operation("add", 'variables.paths[i] + "/env/-"', _variable(name, value))
    return f"({' && '.join(conditions)} ?\n  [{operation}] : [])"


def _variable(name: str, value: str) -> str:
    return f'{{"name": {text(name)}, "value": {value}}}'


def _with_loopback() -> str:
    """Return the expression of `with_loopback` for the variable `e`."""
    value = 'e.?value.orValue("")'
    is_exempt = f'{value}.trim() == "*" || "127.0.0.1" in {value}.split(",").map(n, n.trim())'
    return f'string({is_exempt} ? {value} : ({value} == "" ? "" : {value} + ",") + "127.0.0.1")'


def _mounts() -> str:
    """Return the operations that mount the secret in a container, and remove the mounts of Amazon's webhook."""
    removed = _without("volumeMounts", f"e.name in {texts((WEB_IDENTITY[0], POD_IDENTITY[0]))}")
    mount = constructed(secret_mount(ROLE, is_only=True) | {"readOnly": True}, "Object.spec.containers.volumeMounts")
    added = _operation("add", 'variables.paths[i] + "/volumeMounts/-"', mount)
    return _joined((*removed, f"[{added}]"))


def _containers() -> str:
    """Return the operations for the containers that get credentials."""
    operations = _joined((_env(), _mounts())).replace("\n", "\n  ")
    return f"variables.containers.transformList(i, c, variables.gets[i],\n  {operations}).flatten()"


def _volumes() -> Iterator[str]:
    """Yield the operations that remove unused volumes of Amazon's webhook, last first, and add the sidecar's."""
    unused = " ||\n  ".join(
        f"v.name == {text(each)} && !{still_mounted(each)}" for each in (WEB_IDENTITY[0], POD_IDENTITY[0])
    )
    removed = _operation("remove", '"/spec/volumes/" + string(j)')
    yield f"variables.volumes.transformList(j, v,\n  {unused},\n  {removed}).reverse()"
    yield f"(variables.volumes.size() > 0 ? [] : [{_operation('add', text('/spec/volumes'), '[]')}])"
    for volume in volumes(OPTIONS):
        yield f"[{_operation('add', text('/spec/volumes/-'), constructed(volume, 'Object.spec.volumes'))}]"


def _metadata() -> Iterator[str]:
    """Yield the operations for Amazon's annotation and label."""
    existing = of("annotations", EKS_SKIP_CONTAINERS)
    listed = f'({existing} == "" ? [] : {existing}.split(","))'
    granted = f"[{text(CONTAINER)}] + variables.containers.transformList(i, c, variables.gets[i], c.name)"
    value = f'({listed} + ({granted}).filter(n, !(n in {listed}))).join(",")'
    yield _add_to_mapping("annotations", ANNOTATIONS_PATH, EKS_SKIP_CONTAINERS, value)
    volume = POD_IDENTITY[0]
    is_unused = (
        f"{of('labels', POD_IDENTITY_LABEL)} == {text(ENABLED)} && !{still_mounted(volume)} &&\n"
        f"  (variables.volumes.exists(v, v.name == {text(volume)}) ||\n"
        f"  variables.containers.exists(c, {mounts('c', volume)}))"
    )
    removed = _operation("remove", text(f"{LABELS_PATH}/{POD_IDENTITY_LABEL.replace('/', '~1')}"))
    yield f"({is_unused} ? [{removed}] : [])"


def _sidecar() -> Iterator[str]:
    kind = "Object.spec.initContainers"
    document = sidecar_container(OPTIONS, SETTINGS, {}, GRACE_SECONDS)
    document |= {
        "env": Cel(_sidecars_env(document["env"], f"{kind}.env")),
        "resources": Cel(_resources(f"{kind}.resources")),
    }
    sidecar = constructed(document, kind)
    whole, first = (text(f"/spec/initContainers{at}") for at in ("", "/0"))
    yield f"(variables.initContainers.size() == 0 ? [{_operation('add', whole, '[]')}] : [])"
    yield f"[{_operation('add', first, sidecar)}]"


def _sidecars_env(variables: list[Document], kind: str) -> str:
    """Return the expression of the list of the sidecar's variables, without optional ones that are empty."""
    parts = [(each["value"], constructed(each, kind)) for each in variables]
    lists = [f'({value} == "" ? [] : [{each}])' if value in OPTIONAL else f"[{each}]" for value, each in parts]
    # The expression of a variable cannot construct an Object, so this expression does.
    others = f"variables.environment.map(v, {kind}{{name: v.name, value: v.value}})"
    return " +\n".join([*lists, others])


def _resources(kind: str) -> str:
    """Return the expression of the sidecar's resources, which depend on the Pod's resources and its QoS class."""
    return (
        f"object.spec.?resources.orValue({{}}).size() > 0 ? {kind}{{}} :\n"
        f"variables.isGuaranteed\n"
        f"  ? {kind}{{requests: variables.guaranteedRequests, limits: variables.guaranteedLimits}}\n"
        f"  : {kind}{{requests: variables.requests, limits: variables.limits}}"
    )
