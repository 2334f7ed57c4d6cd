"""
Define the variables of the policy: the values that injection reads from a Pod and from its ServiceAccount. Pure.

Lists about containers have one item for each container: first the init containers, then the others. An expression in
CEL can define neither functions nor variables, so the policy's variables hold the values that several expressions need.
"""

from collections.abc import Iterable, Mapping

from sidecar.injection.app_container import EXEMPTIONS, OWN_CREDENTIALS, PROXIES, READ_WHEN_EMPTY, REGIONS
from sidecar.injection.eks_webhook import POD_IDENTITY, WEB_IDENTITY
from sidecar.injection.names import (
    AUDIENCE,
    CONTAINER,
    CONTAINERS,
    DURATION,
    EKS_AUDIENCE,
    EKS_ROLE_ARN,
    EKS_STS_REGIONAL,
    EKS_TOKEN_EXPIRATION,
    ROLE_ARN,
    SESSION_NAME,
    SKIP_CONTAINERS,
    TOKEN_DIRECTORY,
    TOKEN_EXPIRATION,
    TOKEN_VOLUME,
)
from sidecar.injection.options import (
    DEFAULT_AUDIENCE,
    DEFAULT_EXPIRATION_SECONDS,
    MAX_EXPIRATION_SECONDS,
    MIN_EXPIRATION_SECONDS,
)
from sidecar.injection.resources import GUARANTEED_CPU, GUARANTEED_MEMORY
from sidecar.injection.settings import Settings
from sidecar.policy.cel import constructed, enclosed, text, texts

ALL_CONTAINERS = "(object.spec.?initContainers.orValue([]) + object.spec.?containers.orValue([]))"
"""The expression for the list of all containers."""

_LISTS_WITH_SIDECAR = " ||\n  ".join(
    f"object.spec.?{containers}.orValue([]).exists(c, c.name == {text(CONTAINER)} && c.?volumeMounts.orValue([])\n"
    f"    .exists(m, m.name == {text(TOKEN_VOLUME)} && m.mountPath == {text(TOKEN_DIRECTORY)}))"
    for containers in ("initContainers", "containers")
)

HAS_SIDECAR = (
    f"object.spec.?volumes.orValue([]).exists(v, v.name == {text(TOKEN_VOLUME)} && has(v.projected)) &&\n"
    f"  ({_LISTS_WITH_SIDECAR})"
)
"""An expression that is true if the Pod has a whole sidecar, and not only the stub of a user."""


def of(mapping: str, name: str) -> str:
    """Return the expression for a value of a mapping. The value is an empty text if the mapping lacks the name."""
    return f'variables.{mapping}[?{text(name)}].orValue("")'


def without_last_slashes(path: str) -> str:
    return f'{path}.find("(?s)^.*[^/]")'


def is_set(variable: str) -> str:
    """Return an expression that is true if a variable may have a value."""
    return f'({variable}.?value.orValue("") != "" || has({variable}.valueFrom))'


def has_set(variables: str, names: Iterable[str]) -> str:
    """Return an expression that is true if one of the named variables is set."""
    return f"{variables}.exists(e, e.name in {texts(names)} && {is_set('e')})"


def mounts(container: str, volume: str) -> str:
    return f"{container}.?volumeMounts.orValue([]).exists(m, m.name == {text(volume)})"


def still_mounted(volume: str) -> str:
    """Return an expression that is true if a container that gets no credentials mounts the volume."""
    return f"variables.containers.exists(i, c, !variables.gets[i] && {mounts('c', volume)})"


def _uses(volume: str, file_variable: str) -> str:
    """Return the expression for a list with true for each container that has a variable with a path in the volume."""
    return (
        "variables.containers.map(c, c.?volumeMounts.orValue([]).exists(m,\n"
        f"  m.name == {text(volume)} && c.?env.orValue([]).exists(e, e.name == {text(file_variable)} &&\n"
        f'  e.?value.orValue("").startsWith({without_last_slashes("m.mountPath")} + "/"))))'
    )


def _names_in(annotation: str) -> str:
    return f'{of("annotations", annotation)}.split(",").map(n, n.trim())'


def _guaranteed(resource: str, least: str) -> str:
    """Return the expression for the sidecar's limit. If there is none, use the larger of its request and `least`."""
    requested = f'variables.requests[?"{resource}"].orValue("0")'
    larger = f'quantity({requested}).isGreaterThan(quantity("{least}")) ? {requested} : "{least}"'
    return f'variables.limits[?"{resource}"].orValue(\n  {larger})'


def _guaranteed_amounts(kind: str) -> str:
    """Return the expression for the requests or the limits of a sidecar in a Guaranteed Pod."""
    return (
        '{"cpu": variables.guaranteedCpu, "memory": variables.guaranteedMemory,\n'
        f'  ?"ephemeral-storage": variables.{kind}[?"ephemeral-storage"]}}'
    )


def settings_variables(settings: Settings) -> dict[str, str]:
    """Return the variables that hold the settings for all Pods. An operator may change their values."""
    environment = [
        f'{{"name": {text(name)}, "value": {text(value)}}}' for name, value in dict(settings.environment).items()
    ]
    amounts = {kind: settings.resources.get(kind, {}) for kind in ("requests", "limits")}
    return {
        "image": text(settings.image),
        "region": text(settings.region),
        "environment": enclosed("[", environment, "]"),
        **{kind: constructed(values, f".{kind}") for kind, values in amounts.items()},
    }


RESOURCES: Mapping[str, str] = {
    "guaranteedCpu": _guaranteed("cpu", GUARANTEED_CPU),
    "guaranteedMemory": _guaranteed("memory", GUARANTEED_MEMORY),
    "guaranteedRequests": _guaranteed_amounts("requests"),
    "guaranteedLimits": _guaranteed_amounts("limits"),
}
"""Variables of the sidecar's resources in a Guaranteed Pod."""

OPTIONS: Mapping[str, str] = {
    "annotations": "object.metadata.?annotations.orValue({})",
    "account": "params.metadata.?annotations.orValue({})",
    "labels": "object.metadata.?labels.orValue({})",
    "roleArn": f'variables.annotations[?{text(ROLE_ARN)}]\n  .or(variables.account[?{text(EKS_ROLE_ARN)}]).orValue("")',
    "audience": f"variables.annotations[?{text(AUDIENCE)}]\n"
    f"  .or(variables.account[?{text(EKS_AUDIENCE)}]).orValue({text(DEFAULT_AUDIENCE)})",
    "expiration": f"variables.annotations[?{text(TOKEN_EXPIRATION)}]\n"
    f"  .or(variables.annotations[?{text(EKS_TOKEN_EXPIRATION)}])\n"
    f"  .or(variables.account[?{text(EKS_TOKEN_EXPIRATION)}]).orValue({text(str(DEFAULT_EXPIRATION_SECONDS))})",
    "expirationSeconds": f"int(variables.expiration) < {MIN_EXPIRATION_SECONDS} ? {MIN_EXPIRATION_SECONDS}\n"
    f"  : int(variables.expiration) > {MAX_EXPIRATION_SECONDS} ? {MAX_EXPIRATION_SECONDS}\n"
    "  : int(variables.expiration)",
    "duration": of("annotations", DURATION),
    "sessionName": of("annotations", SESSION_NAME),
    "chosen": _names_in(CONTAINERS),
    "skipped": _names_in(SKIP_CONTAINERS),
    "isStsRegional": f'{of("account", EKS_STS_REGIONAL)}.lowerAscii() == "true"',
}
"""Variables of the annotations. Those with a number are evaluated only if rejection.py accepts the annotation."""

POD: Mapping[str, str] = {
    "initContainers": "object.spec.?initContainers.orValue([])",
    "containers": ALL_CONTAINERS,
    "names": "variables.containers.map(c, c.name)",
    "paths": "variables.containers.transformList(i, c, i < variables.initContainers.size()\n"
    '  ? "/spec/initContainers/" + string(i)\n'
    '  : "/spec/containers/" + string(i - variables.initContainers.size()))',
    "volumes": "object.spec.?volumes.orValue([])",
    "usesWebIdentity": _uses(*WEB_IDENTITY[:2]),
    "usesPodIdentity": _uses(*POD_IDENTITY[:2]),
    "env": "variables.containers.transformList(i, c, c.?env.orValue([]).filter(e,\n"
    f"  !(variables.usesWebIdentity[i] && e.name in {texts(WEB_IDENTITY[1:])}) &&\n"
    f"  !(variables.usesPodIdentity[i] && e.name in {texts(POD_IDENTITY[1:])})))",
    "sources": "variables.env.map(env, env.filter(e,\n"
    f"  e.name in {texts(OWN_CREDENTIALS)} &&\n"
    f"  {is_set('e')}).map(e, e.name))",
    "gets": "variables.containers.transformList(i, c,\n"
    "  variables.sources[i].size() == 0 && !(c.name in variables.skipped) &&\n"
    f"  (!({text(CONTAINERS)} in variables.annotations) || c.name in variables.chosen))",
    "isGuaranteed": 'variables.containers.all(c, ["cpu", "memory"].all(r,\n'
    '  isQuantity(c.?resources.?limits[?r].orValue("")) &&\n'
    '  quantity(c.resources.limits[r]).isGreaterThan(quantity("0")) &&\n'
    "  quantity(c.resources.?requests[?r].orValue(c.resources.limits[r]))\n"
    "    .compareTo(quantity(c.resources.limits[r])) == 0))",
}
"""Variables of the containers and the volumes. `env` is without the variables of Amazon's webhook."""

READ_VARIABLES = tuple(dict.fromkeys((*OWN_CREDENTIALS, *READ_WHEN_EMPTY, *REGIONS, *EXEMPTIONS, *PROXIES)))
"""The variables of containers whose values injection reads."""
