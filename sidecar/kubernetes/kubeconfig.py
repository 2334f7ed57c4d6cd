"""
Find the cluster in the kubeconfig files, as kubectl reads them. In a Pod without these files, use the Pod's cluster.

Rule: the first file that sets a value has priority (Kubernetes documentation, Organizing Cluster Access Using
kubeconfig Files). A relative path is relative to the kubeconfig file that contains it. An unsupported field ends the
command with a message that names the field.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, SingleConfig
from lightkube.config.models import Context
from msgspec import Struct, ValidationError, convert

from sidecar.console import warn
from sidecar.errors import ConfigurationError
from sidecar.kubernetes.kubeconfig_entries import (
    PLUGIN_VERSIONS,
    ClusterEntry,
    UserEntry,
    cluster_problem,
    unknown_fields,
    user_problem,
)

DEFAULT_FILE = "~/.kube/config"

_VERSIONS, _KINDS = ("v1", "", None), ("Config", "", None)
"""The values of `apiVersion` and `kind` that kubectl accepts."""

_TIMESTAMP = "tag:yaml.org,2002:timestamp"


def _loader() -> Any:
    """
    Return a loader of PyYAML that reads scalars as kubectl does.

    In kubectl, dates and numbers in base 60, such as `12:30`, are text. libyaml is used if it is
    available, because it accepts a tab after a value, as kubectl does.
    """
    loader: Any = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
    loader.yaml_implicit_resolvers = {
        first: [
            (tag, re.compile(rf"(?!.*:){pattern.pattern}", re.VERBOSE)) for tag, pattern in pairs if tag != _TIMESTAMP
        ]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return loader


_LOADER = _loader()

_PATH_KEYS = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_LISTS = {"clusters": "cluster", "users": "user", "contexts": "context"}


def find_cluster(environ: Mapping[str, str], context: str | None = None) -> SingleConfig:
    """
    Return the cluster of `context`, or of the current context. In a Pod without a kubeconfig, return the Pod's cluster.

    Raises ConfigurationError if there is no cluster, or if a file is invalid.
    """
    named = [*_files(environ)]
    files = [path for path in named if path.exists()]
    if not files and "KUBERNETES_SERVICE_HOST" in environ and Path(SERVICE_ACCOUNT).is_dir():
        return _in_cluster(environ)
    if not files:
        raise ConfigurationError(
            f"There is no kubeconfig at {', '.join(map(str, named)) or DEFAULT_FILE}",
            fix="Set KUBECONFIG to a file, or create one, on EKS with `aws eks update-kubeconfig --name CLUSTER`",
        )
    where = ", ".join(map(str, files))
    try:
        return _selected(merged([(path, _read(path)) for path in files]), where, context)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, ValidationError) as exc:
        raise ConfigurationError(
            f"The kubeconfig {where} is not in the form that kubectl reads ({exc})",
            fix="Correct the file: `kubectl config view` shows its content",
            setting="KUBECONFIG",
        ) from exc


def merged(files: list[tuple[Path, Mapping[str, Any]]]) -> dict[str, Any]:
    """
    Merge several kubeconfigs, and return the result with absolute paths.

    Raises ConfigurationError if one file has two clusters, users or contexts with the same name.
    """
    found: dict[str, Any] = {"current-context": None}
    for key, inner in _LISTS.items():
        entries: dict[str, Any] = {}
        for path, content in files:
            _check_names(path, key, content)
            for entry in content.get(key) or ():
                found_here = {"name": entry["name"], inner: _resolved(path, entry.get(inner) or {})}
                entries.setdefault(entry["name"], found_here)
        found[key] = list(entries.values())
    found["current-context"] = next((c["current-context"] for _, c in files if c.get("current-context")), None)
    return found


def _check_names(path: Path, key: str, content: Mapping[str, Any]) -> None:
    """Raise ConfigurationError if a name appears twice in a list of one file, because kubectl rejects such a file."""
    names = [entry["name"] for entry in content.get(key) or ()]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(
                f"The kubeconfig {path} has the name {name} twice in {key}",
                fix="Remove one of the two entries, as kubectl requires",
                setting="KUBECONFIG",
            )


def _files(environ: Mapping[str, str]) -> Iterator[Path]:
    for name in (environ.get("KUBECONFIG") or DEFAULT_FILE).split(os.pathsep):
        with suppress(RuntimeError):  # the user has no home directory, for example in a container
            if name:
                yield Path(name).expanduser()


def _in_cluster(environ: Mapping[str, str]) -> SingleConfig:
    """Return the Pod's cluster, with the Pod's own service account as the user."""
    folder = Path(SERVICE_ACCOUNT)
    try:
        (folder / "token").read_text()
        namespace = (folder / "namespace").read_text()
        host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    except (KeyError, OSError) as exc:
        raise ConfigurationError(
            f"The Pod's service account cannot be used ({exc})",
            fix=f"Mount the token at {SERVICE_ACCOUNT}: automountServiceAccountToken must not be false",
            setting="automountServiceAccountToken",
        ) from exc
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    cluster = ClusterEntry(server=server, certificate_auth=str(folder / "ca.crt"))
    user = UserEntry(token_file=str(folder / "token"))
    return SingleConfig("default", Context(cluster="default", user="default", namespace=namespace), cluster, user)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = next(yaml.load_all(path.read_text(), _LOADER), None)
    except Exception as exc:  # PyYAML raises ValueError, OverflowError and RecursionError in addition to its own errors
        # The message omits the parser's error, because the error quotes the file, which may contain a token.
        why = exc.strerror if isinstance(exc, OSError) else "it is not YAML"
        raise ConfigurationError(
            f"The kubeconfig {path} cannot be read ({why})",
            fix="Correct the file, or set KUBECONFIG",
        ) from exc
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"The kubeconfig {path} is not a mapping",
            fix="Correct the file, or set KUBECONFIG",
        )
    for field, accepted in (("apiVersion", _VERSIONS), ("kind", _KINDS)):
        if content.get(field) not in accepted:
            raise ConfigurationError(
                f"The kubeconfig {path} has {field} {content[field]}, which kubectl does not read",
                fix=f"Use {field} {accepted[0]}",
                setting="KUBECONFIG",
            )
    return content


def _resolved(path: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cluster, user or context with absolute paths, and without empty fields, which kubectl ignores."""
    folder = path.absolute().parent
    absolute: dict[str, Any] = {key: str(folder / entry[key]) for key in _PATH_KEYS if entry.get(key)}
    if plugin := entry.get("exec"):
        plugin = {"apiVersion": PLUGIN_VERSIONS[0], **_given(plugin)}
        # client-go searches PATH for a plain name. Any other command is relative to the file.
        command = str(plugin.get("command") or "")
        absolute["exec"] = plugin | ({"command": os.path.normpath(folder / command)} if os.sep in command else {})
    return _given({**entry, **absolute})


def _given(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if value is not None}


def _selected(found: Mapping[str, Any], where: str, context: str | None) -> SingleConfig:
    """
    Return the context's cluster and user.

    Raises ConfigurationError if the context is unusable, and ValidationError or a builtin error for a malformed file.
    """
    name, entry = _context(found, where, context)
    title = f"Context {name} of the kubeconfig {where}"
    if not entry.get("cluster"):
        raise ConfigurationError(
            f"{title} names no cluster",
            fix=f"Add one with `kubectl config set-context {name} --cluster`",
        )
    cluster = _entry(found, "clusters", str(entry["cluster"]), title, ClusterEntry)
    user = UserEntry()
    if entry.get("user"):
        user = _entry(found, "users", str(entry["user"]), title, UserEntry)
    if problem := cluster_problem(cluster):
        raise ConfigurationError(f"{title}: its cluster {entry['cluster']} {problem.problem}", fix=problem.fix)
    if problem := user_problem(user):
        raise ConfigurationError(f"{title}: its user {entry.get('user')} {problem.problem}", fix=problem.fix)
    cluster.server = _with_scheme(cluster)
    return SingleConfig(
        name, convert({key: entry.get(key) for key in ("cluster", "user", "namespace")}, Context), cluster, user
    )


_CHOOSE_CONTEXT = "Choose a context with --context or `kubectl config use-context`"


def _context(found: Mapping[str, Any], where: str, context: str | None) -> tuple[str, Mapping[str, Any]]:
    contexts = {entry["name"]: entry["context"] for entry in found["contexts"]}
    known = ", ".join(sorted(contexts)) or "none"
    name = context or found["current-context"]
    if not name:
        raise ConfigurationError(
            f"The kubeconfig {where} names no usable current context. Existing contexts: {known}",
            fix=_CHOOSE_CONTEXT,
            setting="--context",
        )
    if name not in contexts:
        setting = "--context" if context else "current-context"
        raise ConfigurationError(
            f"{setting} is {name}, which is not a context of the kubeconfig {where}. Existing contexts: {known}",
            fix=_CHOOSE_CONTEXT,
            setting=setting,
        )
    return str(name), contexts[name]


_Entry = TypeVar("_Entry", bound=Struct)


def _entry(found: Mapping[str, Any], key: str, name: str, title: str, kind: type[_Entry]) -> _Entry:
    """
    Return the cluster or user with that name.

    Raises ConfigurationError if there is none.
    """
    inner = _LISTS[key]
    entries = {entry["name"]: entry[inner] for entry in found[key]}
    if name not in entries:
        known = ", ".join(sorted(map(str, entries))) or "none"
        raise ConfigurationError(
            f"{title} names the {inner} {name}, which does not exist. Existing names: {known}",
            fix="Use one of these names, or add the missing entry",
        )
    for field in unknown_fields(entries[name], kind):
        warn(f"{title}: its {inner} {name} has {field}, which is ignored because kubectl does not know it.")
    return convert(entries[name], kind)


def _with_scheme(cluster: ClusterEntry) -> str:
    """Return the server's URL. The default scheme is https if TLS is set, else http (client-go, DefaultServerURL)."""
    if "://" in cluster.server:
        return cluster.server
    is_tls = cluster.insecure or cluster.certificate_auth or cluster.certificate_auth_data or cluster.tls_server_name
    return f"{'https' if is_tls else 'http'}://{cluster.server}"
