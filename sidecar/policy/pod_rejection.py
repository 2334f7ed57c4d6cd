"""Write the cases of rejection.py that are about the Pod's fields and containers. Pure."""

from collections.abc import Iterator

from sidecar.injection.app_container import SECRET_FILE, URI
from sidecar.injection.assignment import assign_roles
from sidecar.injection.names import (
    ADMIN_PORT,
    AUTHORIZATION_DIRECTORY,
    AUTHORIZATION_VOLUME,
    CONTAINER,
    CONTAINERS,
    CREDENTIALS_PORT,
    EKS_ROLE_ARN,
    ORIGIN,
    SKIP_CONTAINERS,
    STATE_VOLUME,
    TOKEN_VOLUME,
)
from sidecar.injection.options import read_options
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.injection.validation import MAX_CONTAINERS, STATIC, check_container, check_pod, check_shape
from sidecar.kubernetes.document import Document
from sidecar.policy.cel import MARKER, message, shown, text, texts
from sidecar.policy.variables import READ_VARIABLES, mounts, without_last_slashes
from sidecar.role import CREDENTIALS_PATH

Case = tuple[str, str]
"""The condition for a rejection, and its message. Both are expressions."""

OTHER_WAYS = "Inject with irsa-sidecar webhook or irsa-sidecar setup pod instead, because a policy cannot do this"
"""The end of each message about a Pod that the webhook may accept."""

SETTINGS = Settings(image="irsa-sidecar", region="us-east-1")
WITH_ROLE = ServiceAccount("shop", "cart", {EKS_ROLE_ARN: "arn:aws:iam::111122223333:role/app"})

SECOND = "②"
"""A placeholder for the second value in a message with two values. MARKER is the first one."""


def pod() -> Iterator[Case]:
    """Yield the cases of `check_shape` and `check_pod` that apply to a Pod with a native sidecar."""
    many = {"spec": {"containers": [{"name": "app"}] * (MAX_CONTAINERS + 1)}}
    count = "variables.containers.size()"
    yield f"{count} > {MAX_CONTAINERS}", message(check_shape, many, **{str(MAX_CONTAINERS + 1): f"string({count})"})
    selected = (f'nodeSelector[?"{prefix}kubernetes.io/os"]' for prefix in ("", "beta."))
    is_windows = " || ".join(f'object.spec.?{each}.orValue("") == "windows"' for each in ("os.?name", *selected))
    yield is_windows, message(check_pod, {}, {"os": {"name": "windows"}}, SETTINGS)
    yield f"{text(STATIC)} in variables.annotations", message(check_pod, {STATIC: ""}, {}, SETTINGS)
    yield "object.spec.?hostNetwork.orValue(false)", message(check_pod, {}, {"hostNetwork": True}, SETTINGS)


def unsupported() -> Iterator[Case]:
    """Yield the cases of Pods that a policy cannot process, but that the webhook may accept."""
    stub = f"{text(CONTAINER)} in variables.names"
    yield stub, text(f"The Pod has a container {CONTAINER}, which is the sidecar's name. {OTHER_WAYS}.")
    volumes = texts((TOKEN_VOLUME, AUTHORIZATION_VOLUME, STATE_VOLUME))
    has_parts = (
        f"variables.volumes.exists(v, v.name in {volumes}) ||\n"
        f"variables.containers.exists(c, {mounts('c', AUTHORIZATION_VOLUME)}) ||\n"
        f"variables.containers.exists(c, c.?env.orValue([]).exists(e,{_is_ours()}))"
    )
    yield has_parts, text(f"The Pod has a volume, mount or variable of another injection. {OTHER_WAYS}.")
    read = f"env.filter(e, e.name in {texts(READ_VARIABLES)}).map(e, e.name)"
    is_repeated = (
        f"variables.env.map(env, {read}).exists(names,\n  names.exists(n, names.indexOf(n) != names.lastIndexOf(n)))"
    )
    yield is_repeated, text(f"A container sets a variable of AWS or of a proxy twice. {OTHER_WAYS}.")


def _is_ours() -> str:
    value = 'e.?value.orValue("")'
    return (
        f"\n  e.name == {text(URI)} && {value}.startsWith({text(ORIGIN + CREDENTIALS_PATH)}) ||\n"
        f"  e.name == {text(SECRET_FILE)} && {value}.startsWith({text(AUTHORIZATION_DIRECTORY + '/')})"
    )


def _assign(annotations: Document, *containers: Document) -> object:
    options = read_options(annotations, WITH_ROLE, SETTINGS)
    return assign_roles({each["name"]: each for each in containers}, options, ())


def assignment() -> Iterator[Case]:
    """Yield the cases of `assign_roles`."""
    for name, variable in ((CONTAINERS, "chosen"), (SKIP_CONTAINERS, "skipped")):
        others = f"variables.{variable}.filter(n, !(n in variables.names))"
        values = {"quoted": shown(f"{others}[0]"), SECOND: 'variables.names.join(", ")'}
        wrong = f"{text(name)} in variables.annotations && {others}.size() > 0"
        yield wrong, message(_assign, {name: MARKER}, {"name": SECOND}, **values)
    other_source = {"name": MARKER, "env": [{"name": URI, "value": "http://169.254.170.2"}]}
    chosen = "c.name in variables.chosen && variables.sources[i].size() > 0"
    yield (
        f"variables.containers.exists(i, c, {chosen})",
        message(_assign, {CONTAINERS: MARKER}, other_source, **_with_source(chosen)),
    )
    is_none = "!variables.gets.exists(g, g)"
    excluded = message(_assign, {SKIP_CONTAINERS: "x"}, {"name": "x"})
    yield f"{is_none} && variables.sources.all(s, s.size() == 0)", excluded
    values = _with_source("variables.sources[i].size() > 0")
    yield is_none, message(_assign, {}, other_source, **values)


def _with_source(condition: str) -> dict[str, str]:
    """Return the values for a message: the name and the source of the first container that meets the condition."""
    found = f"variables.containers.transformList(i, c, {condition}, {{}})[0]"
    return {MARKER: found.format("c.name"), URI: found.format("variables.sources[i][0]")}


def containers() -> Iterator[Case]:
    """Yield the cases of `check_container`."""
    ports = f'p.containerPort in [{CREDENTIALS_PORT}, {ADMIN_PORT}] && p.?protocol.orValue("TCP") == "TCP"'
    busy = f"variables.containers.filter(c, c.?ports.orValue([]).exists(p, {ports}))"
    container: Document = {"name": MARKER, "ports": [{"containerPort": CREDENTIALS_PORT}]}
    port = f"string({busy}[0].ports.filter(p, {ports})[0].containerPort)"
    values = {MARKER: f"{busy}[0].name", str(CREDENTIALS_PORT): port}
    yield f"{busy}.size() > 0", message(check_container, container, None, **values)
    for volume in (TOKEN_VOLUME, STATE_VOLUME):
        found = f"variables.containers.filter(c, {mounts('c', volume)})"
        container = {"name": MARKER, "volumeMounts": [{"name": volume, "mountPath": "/x"}]}
        yield f"{found}.size() > 0", message(check_container, container, None, plain=f"{found}[0].name")
    yield _secret_directory()


def _secret_directory() -> Case:
    """Return the case of a container that mounts something where its secret is mounted."""
    is_below = f'({without_last_slashes("m.mountPath")} + "/").startsWith({text(f"{AUTHORIZATION_DIRECTORY}/")})'
    is_hidden = f"variables.gets[i] && c.?volumeMounts.orValue([]).exists(m, {is_below})"
    found = f"variables.containers.transformList(i, c, {is_hidden}, c)[0]"
    mount = f"{found}.volumeMounts.filter(m, {is_below})[0]"
    container = {"name": MARKER, "volumeMounts": [{"name": SECOND, "mountPath": AUTHORIZATION_DIRECTORY}]}
    values = {MARKER: f"{found}.name", SECOND: f"{mount}.name", AUTHORIZATION_DIRECTORY: f"{mount}.mountPath"}
    condition = f"variables.containers.exists(i, c, {is_hidden})"
    return condition, message(check_container, container, AUTHORIZATION_DIRECTORY, **values)
