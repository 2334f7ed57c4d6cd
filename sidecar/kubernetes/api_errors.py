"""Name the next step after the API server rejects a request. Pure."""

import re
from collections.abc import Sequence

from lightkube.config.kubeconfig import SingleConfig

from sidecar.errors import KubernetesError
from sidecar.kubernetes.kubeconfig_entries import UserEntry

UNAUTHORIZED, FORBIDDEN = 401, 403

_VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_RESOURCE = re.compile(
    r"/(?:api|apis/[^/]+)/[^/]+/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<resource>[a-z]+)"
    r"(?:/(?P<name>[^/?]+)(?:/(?P<subresource>proxy|exec))?)?"
)


def with_next_step(error: KubernetesError, method: str, path: str, config: SingleConfig) -> KubernetesError:
    """Return the error, with the next step if the status means that the login or a permission is missing."""
    if error.status == UNAUTHORIZED:
        fix = log_in_again(config)
    elif error.status == FORBIDDEN:
        fix = _missing_permission(method, path, config)
    else:
        return error
    return KubernetesError(error.problem, fix=fix, status=error.status, reason=error.reason)


def log_in_again(config: SingleConfig) -> str:
    """Return instructions for a new login, with real names if the kubeconfig contains them."""
    user = config.user
    plugin = user.exec if isinstance(user, UserEntry) else None
    words = [plugin.command, *(plugin.args or ())] if plugin else []
    if "get-token" in words or any(word.endswith("aws-iam-authenticator") for word in words):
        name = _after(words, "--cluster-name", "--cluster-id", "-i") or "CLUSTER"
        region = _after(words, "--region")
        more = f" --region {region}" if region else ""
        return (
            "Sign in to AWS again (aws sso login, AWS_PROFILE), then run "
            f"`aws eks update-kubeconfig --name {name}{more}`. If that does not help, create an access entry in "
            "the cluster for your IAM identity"
        )
    return (
        "Log in to the cluster again, as for kubectl; `kubectl auth whoami` tests the login. On EKS run "
        "`aws eks update-kubeconfig --name CLUSTER`"
    )


def _missing_permission(method: str, path: str, config: SingleConfig) -> str:
    match = _RESOURCE.match(path)
    context = f" --context {config.context_name}"
    acting = config.user.impersonate if isinstance(config.user, UserEntry) else None
    who = f", which acts as {acting}" if acting else ""
    if match is None:
        return f"Ask the cluster's administrator for the permission to {method} {path} for this user{who}"
    more = f" --subresource={match['subresource']}" if match["subresource"] else ""
    verb = "list" if method == "GET" and not match["name"] else _VERBS.get(method, "get")
    resource, namespace = match["resource"], match["namespace"]
    where = f" -n {namespace}" if namespace else ""
    whole = f"{resource}/{match['subresource']}" if match["subresource"] else resource
    return (
        f"Ask the cluster's administrator for the permission to {verb} {whole} for this user{who}; "
        f"`kubectl auth can-i {verb} {resource}{more}{where}{context}` tests it"
    )


def _after(words: Sequence[str], *flags: str) -> str | None:
    """Return the value after the first of the flags, in the form `--flag value` or `--flag=value`, or None."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in flags and equals:
            return value
        if word in flags and index + 1 < len(words):
            return words[index + 1]
    return None
