"""
Write the expression for the reason why a Pod cannot get a sidecar. The reason is empty if the Pod can get one. Pure.

Each case has a condition and a message. The messages are those of sidecar/injection. For each, this module calls a
function there with an invalid example. Only a few cases have their own messages: Pods that the webhook may accept, and
a wrong session name.
"""

from collections.abc import Iterable, Iterator, Mapping

from sidecar.injection.known_names import check_names
from sidecar.injection.names import (
    ANNOTATIONS,
    AUDIENCE,
    CONTAINERS,
    DURATION,
    EKS_AUDIENCE,
    EKS_ROLE_ARN,
    EKS_TOKEN_EXPIRATION,
    INJECT_LABEL,
    INJECT_TRUE,
    PREFIX,
    ROLE_ARN,
    ROLES,
    SESSION_NAME,
    SKIP_CONTAINERS,
    TOKEN_EXPIRATION,
)
from sidecar.injection.options import (
    AUDIENCE_PATTERN,
    MAX_EXPIRATION_SECONDS,
    MIN_EXPIRATION_SECONDS,
    read_options,
)
from sidecar.injection.settings import ServiceAccount, Settings
from sidecar.injection.validation import check_label
from sidecar.kubernetes.document import Document
from sidecar.policy.cel import MARKER, filled, message, shown, text, texts, whole
from sidecar.policy.pod_rejection import OTHER_WAYS, Case, assignment, containers, pod, unsupported
from sidecar.policy.variables import of
from sidecar.role import LONGEST, MAX_DURATION_SECONDS, MIN_DURATION_SECONDS, WHOLE_NUMBER
from sidecar.role import ROLE_ARN as ROLE_ARN_PATTERN
from sidecar.sts.session_name import ALLOWED, FIELDS, MAX_LENGTH, MIN_LENGTH

SETTINGS = Settings(image="irsa-sidecar", region="us-east-1")
ACCOUNT = ServiceAccount("①", "②", {})
WITH_ROLE = ACCOUNT._replace(annotations={EKS_ROLE_ARN: "arn:aws:iam::111122223333:role/app"})

MISSPELT_PREFIX = r"(?i)^(?:irsa[-_.]?sidecars?[-_.]?(?:io)?|irsa-sidecar\.com)/"
"""
Pattern for prefixes that are probably a misspelt form of ours.

The webhook compares names letter by letter (similar_names.py), so it recognises more mistakes than this pattern.
"""


def rejections() -> dict[str, str]:
    """Return the variable `rejection`, and the variables of its parts. The first true condition selects the message."""
    groups = {
        "wrongName": _names(),
        "wrongOption": _options(),
        "wrongPod": pod(),
        "unsupported": unsupported(),
        "wrongAssignment": assignment(),
        "wrongContainer": containers(),
    }
    parts = {name: _first(cases, '""') for name, cases in groups.items()}
    *others, last = (f"variables.{name}" for name in parts)
    return {**parts, "rejection": _first(((f'{each} != ""', each) for each in others), last)}


def _first(cases: Iterable[Case], otherwise: str) -> str:
    """Return the expression that selects the message of the first true condition."""
    return " :\n".join([*(f"{condition}\n  ? {reason}" for condition, reason in cases), otherwise])


def _has(annotation: str) -> str:
    return f"{text(annotation)} in variables.annotations"


def _names() -> Iterator[Case]:
    label = of("labels", INJECT_LABEL)
    labelled = {"metadata": {"labels": {INJECT_LABEL: MARKER}}}
    yield f"{label} != {text(INJECT_TRUE)}", message(check_label, labelled, quoted=shown(label))
    yield from _names_of("annotations", [*ANNOTATIONS], [INJECT_LABEL])
    yield from _names_of("labels", [INJECT_LABEL], [*ANNOTATIONS])


def _names_of(kind: str, known: list[str], misplaced: list[str]) -> Iterator[Case]:
    """Yield the cases of labels or annotations without effect that are probably meant for irsa-sidecar."""
    for name in misplaced:
        yield f"{text(name)} in variables.{kind}", message(check_names, {kind: {name: ""}})
    pattern = text(
        MISSPELT_PREFIX + f"(?:{'|'.join(each.removeprefix(PREFIX).replace('-', '[-_.]?') for each in known)})$"
    )
    is_wrong = f"!(n in {texts(known)}) && (n.startsWith({text(PREFIX)}) || n.matches({pattern}))"
    wrong = f"variables.{kind}.filter(n, {is_wrong})"
    sentence = message(check_names, {kind: {PREFIX + MARKER: ""}}, **{PREFIX + MARKER: f"{wrong}[0]"})
    yield f"{wrong}.size() > 0", sentence


def _read(annotations: Document, account: ServiceAccount = WITH_ROLE) -> object:
    return read_options(annotations, account, SETTINGS)


def _about(annotation: str, value: str) -> str:
    """Return the message about an annotation whose value is wrong. `value` is the expression of the value."""
    wrong = "," if annotation in (CONTAINERS, SKIP_CONTAINERS) else MARKER
    return message(_read, {annotation: wrong}, **{repr(wrong): shown(value)})


def _about_account(annotation: str, value: str) -> str:
    """Return the message about an annotation of the ServiceAccount whose value is wrong."""
    account = WITH_ROLE._replace(annotations={**WITH_ROLE.annotations, annotation: "é"})
    return message(_read, {}, account, **_ACCOUNT_NAMES, **{repr("é"): shown(value)})


_ACCOUNT_NAMES: Mapping[str, str] = {
    ACCOUNT.namespace: "object.metadata.namespace",
    ACCOUNT.name: "object.spec.serviceAccountName",
}


def _options() -> Iterator[Case]:
    """Yield the cases of annotations in the order of `read_options`."""
    yield f"{_has(CONTAINERS)} && {_has(SKIP_CONTAINERS)}", message(_read, {CONTAINERS: "a", SKIP_CONTAINERS: "a"})
    yield _has(ROLES), text(f"annotation {ROLES} is a YAML list. {OTHER_WAYS}.")
    yield from (_session_name(), _duration(), *_role(), *_audience(), *_expiration())
    for name in (CONTAINERS, SKIP_CONTAINERS):
        value = of("annotations", name)
        yield f'{_has(name)} && {value}.split(",").exists(n, n.trim() == "")', _about(name, value)


def _session_name() -> Case:
    """Return the case of a wrong name or template. The message suggests no name, because CEL computes no digest."""
    value = "variables.sessionName"
    template = whole(rf"(?:[{ALLOWED}]|\{{(?:{'|'.join(FIELDS)})\}})*")
    has_wrong_length = f"{value}.size() < {MIN_LENGTH} || {value}.size() > {MAX_LENGTH}"
    wrong = f'!{value}.matches({template}) || !{value}.contains("{{") && ({has_wrong_length})'
    problem = f"annotation {SESSION_NAME} is {MARKER}, which is neither a session name nor a template. "
    fields = ", ".join(f"{{{name}}}" for name in FIELDS)
    fix = f"Use {MIN_LENGTH} to {MAX_LENGTH} ASCII letters, digits and _+=,.@-, or the fields {fields}."
    return f"{_has(SESSION_NAME)} &&\n  ({wrong})", filled(problem + fix, {MARKER: shown(value)})


def _duration() -> Case:
    value = "variables.duration"
    wrong = _is_no_number(value, MIN_DURATION_SECONDS, MAX_DURATION_SECONDS)
    return f"{_has(DURATION)} && {value} != {text(LONGEST)} &&\n  ({wrong})", _about(DURATION, value)


def _is_no_number(value: str, low: int, high: int) -> str:
    return f"!{value}.matches({whole(WHOLE_NUMBER)}) || int({value}) < {low} || int({value}) > {high}"


def _role() -> Iterator[Case]:
    value = "variables.roleArn"
    wrong = f"!{value}.matches({whole(ROLE_ARN_PATTERN)})"
    yield f"{_has(ROLE_ARN)} && {wrong}", _about(ROLE_ARN, value)
    is_missing = f"!({_has(ROLE_ARN)}) && !({text(EKS_ROLE_ARN)} in variables.account)"
    yield is_missing, message(_read, {}, ACCOUNT, **_ACCOUNT_NAMES)
    yield wrong, _about_account(EKS_ROLE_ARN, value)


def _audience() -> Iterator[Case]:
    value = "variables.audience"
    wrong = f"!{value}.matches({whole(AUDIENCE_PATTERN)})"
    example = message(_read, {AUDIENCE: "é"}, **{repr("é"): shown(value)})
    yield f"{_has(AUDIENCE)} && {wrong}", example
    yield wrong, _about_account(EKS_AUDIENCE, value)


def _expiration() -> Iterator[Case]:
    value = "variables.expiration"
    wrong = _is_no_number(value, MIN_EXPIRATION_SECONDS, MAX_EXPIRATION_SECONDS)
    yield f"{_has(TOKEN_EXPIRATION)} &&\n  ({wrong})", _about(TOKEN_EXPIRATION, value)
    yield f"!{value}.matches({whole(WHOLE_NUMBER)})", _about(EKS_TOKEN_EXPIRATION, value)
