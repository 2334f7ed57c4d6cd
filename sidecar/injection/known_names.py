"""
Reject labels and annotations that look like irsa-sidecar's but have no effect. Pure.

Rule: if a Pod has a wrong name with our prefix, or with almost our prefix, the Pod is rejected. An ignored annotation
would be noticed too late, after the Pod has started without the intended setting. The names on a ServiceAccount are
Amazon's. A misspelt name there causes only a suggestion, and only if the right name is missing.
"""

from collections.abc import Iterable

from sidecar.errors import ConfigurationError
from sidecar.injection.names import ANNOTATIONS, EKS_ROLE_ARN, INJECT_LABEL, PREFIX, REJECTION, ROLE_ARN
from sidecar.injection.settings import ServiceAccount
from sidecar.injection.similar_names import MAX_NAME_CHARACTERS, Misnamed, misnamed, nearest
from sidecar.kubernetes.document import Document


def check_names(metadata: Document) -> None:
    """Raise ConfigurationError for a label or annotation without effect that is probably meant for irsa-sidecar."""
    labels = metadata.get("labels")
    _check("annotation", metadata.get("annotations") or {}, tuple(ANNOTATIONS), INJECT_LABEL)
    if isinstance(labels, dict):
        _check("label", labels, (INJECT_LABEL,), *ANNOTATIONS)


def _check(kind: str, names: Iterable[object], known: tuple[str, ...], *misplaced: str) -> None:
    others = [name for name in names if isinstance(name, str) and name not in (*known, REJECTION)]
    for name in others:
        if name in misplaced:
            raise _misplaced(kind, name)
        if name.startswith(PREFIX):
            shown = name[:MAX_NAME_CHARACTERS]
            raise _unknown(f"{kind} {shown}", fix=_hint(shown, known))
    for name, meant in misnamed(others, known):
        raise _unknown(f"{kind} {name}", fix=f"Did you mean {meant}?")


def _unknown(setting: str, *, fix: str) -> ConfigurationError:
    return ConfigurationError(f"{setting} is not a name that irsa-sidecar uses", fix=fix, setting=setting)


def _misplaced(kind: str, name: str) -> ConfigurationError:
    right = "label" if kind == "annotation" else "annotation"
    return ConfigurationError(
        f"{name} is {_with_article(kind)}, but irsa-sidecar reads it only as {_with_article(right)}",
        fix=f"Move it to metadata.{right}s",
        setting=f"{kind} {name}",
    )


def _with_article(kind: str) -> str:
    return f"an {kind}" if kind == "annotation" else f"a {kind}"


def _hint(name: str, known: tuple[str, ...]) -> str:
    found = next(misnamed([name], known), None)
    if found:
        return f"Did you mean {found.meant}?"
    return f"After {PREFIX}, use one of {', '.join(each.removeprefix(PREFIX) for each in known)}"


def misnamed_label(labels: Iterable[object]) -> Misnamed | None:
    """Return a misspelt label that is probably meant to request a sidecar, or None."""
    others = [name for name in labels if isinstance(name, str) and name != INJECT_LABEL]
    return next(misnamed(others, (INJECT_LABEL,)), None)


def role_hint(annotations: Iterable[str], service_account: ServiceAccount | None) -> str:
    """Return a sentence about the annotation that was probably meant to name the role, or an empty text."""
    if service_account is not None and (
        found := nearest((*service_account.annotations, *service_account.unread), EKS_ROLE_ARN)
    ):
        return f"ServiceAccount {service_account.namespace}/{service_account.name} has {_question(found)}"
    found = nearest(annotations, ROLE_ARN)
    return f"The Pod has {_question(found)}" if found else ""


def _question(found: Misnamed) -> str:
    return f"{found.name}, which is not read. Did you mean {found.meant}?"
