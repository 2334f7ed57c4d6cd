"""
Define the fields of a kubeconfig's clusters and users, as in kubectl (client-go, clientcmd API v1). Pure.

Rule: a field that kubectl uses is either used here too, or ends the command with a message that names the field. A
field that kubectl does not know is ignored, as in kubectl, and causes a warning.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from lightkube.config.models import Cluster, User, UserExec

from sidecar.errors import Explanation

EXEC_GROUP = "client.authentication.k8s.io"
PLUGIN_VERSIONS = (f"{EXEC_GROUP}/v1", f"{EXEC_GROUP}/v1beta1")


class ClusterEntry(Cluster, omit_defaults=True):
    """An item of `clusters`. `plugin_config` is the extension that is passed to a login plugin."""

    server: str = ""
    tls_server_name: str | None = msgspec.field(name="tls-server-name", default=None)
    proxy_url: str | None = msgspec.field(name="proxy-url", default=None)
    disable_compression: bool = msgspec.field(name="disable-compression", default=False)
    extensions: list[dict[str, Any]] | None = None

    @property
    def plugin_config(self) -> Any:
        named = (entry for entry in self.extensions or () if entry.get("name") == f"{EXEC_GROUP}/exec")
        return next((entry.get("extension") for entry in named), None)


class Plugin(UserExec, omit_defaults=True):
    """The field `exec` of a user."""

    provide_cluster_info: bool = msgspec.field(name="provideClusterInfo", default=False)
    interactive_mode: str = msgspec.field(name="interactiveMode", default="IfAvailable")


class UserEntry(User, omit_defaults=True):
    """An item of `users`."""

    exec: Plugin | None = None
    impersonate: str | None = msgspec.field(name="as", default=None)
    impersonate_uid: str | None = msgspec.field(name="as-uid", default=None)
    impersonate_groups: list[str] | None = msgspec.field(name="as-groups", default=None)
    impersonate_extra: dict[str, list[str]] | None = msgspec.field(name="as-user-extra", default=None)
    extensions: list[dict[str, Any]] | None = None


def unknown_fields(entry: Mapping[str, Any], kind: type[msgspec.Struct]) -> Iterator[str]:
    """Yield the names of the fields in the entry that kubectl does not know."""
    known = {field.encode_name for field in msgspec.structs.fields(kind)}
    yield from (str(name) for name in entry if name not in known)


def cluster_problem(cluster: ClusterEntry) -> Explanation | None:
    """Return the problem as a clause, with the fix, or None if the cluster is usable."""
    if not cluster.server:
        return Explanation("has no server", fix="Set clusters[].cluster.server to the API server's URL")
    if cluster.insecure and (cluster.certificate_auth or cluster.certificate_auth_data):
        fix = "Delete one of the two, as kubectl requires"
        return Explanation("has both insecure-skip-tls-verify and a certificate-authority", fix)
    return None


def user_problem(user: UserEntry) -> Explanation | None:
    """Return the problem as a clause, with the fix, or None if the user is usable."""
    more = {
        "as-uid": user.impersonate_uid,
        "as-groups": user.impersonate_groups,
        "as-user-extra": user.impersonate_extra,
    }
    names = [name for name, value in more.items() if value]
    if names and not user.impersonate:
        return Explanation(f"has {names[0]} without as", fix="Set `as` to the user to impersonate, as kubectl requires")
    if user.auth_provider:
        return Explanation("has auth-provider, which is not supported", "Use a plugin (exec) or a token for the login")
    if (user.token or user.token_file) and (user.username or user.password):
        return Explanation("has both a token and a password", "Delete one of the two, as kubectl requires")
    return _plugin_problem(user)


def _plugin_problem(user: UserEntry) -> Explanation | None:
    plugin = user.exec
    if plugin is None:
        return None
    if plugin.apiVersion not in PLUGIN_VERSIONS:
        fix = f"Use {PLUGIN_VERSIONS[0]}, or update the plugin's entry"
        return Explanation(f"has exec.apiVersion {plugin.apiVersion}", fix)
    if plugin.interactive_mode not in ("Never", "IfAvailable", "Always"):
        fix = "Use Never, IfAvailable or Always"
        return Explanation(f"has exec.interactiveMode {plugin.interactive_mode}", fix)
    if not plugin.command:
        return Explanation("has no exec.command", fix="Set it to the login plugin")
    return None
