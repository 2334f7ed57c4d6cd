"""Test that misspelt labels and annotations are reported, and that those of other products are not."""

import difflib
from typing import Any

import pytest

from sidecar.errors import ConfigurationError
from sidecar.injection import similar_names
from sidecar.injection.inject import inject
from sidecar.injection.known_names import misnamed_label
from sidecar.injection.options import NoRoleError
from sidecar.injection.settings import ServiceAccount
from sidecar.injection.similar_names import MAX_COMPARED, MAX_NAMES
from sidecar.injection.warning import MAX_CHARACTERS, NOT_READ, reason_of
from sidecar.kubernetes.document import Document
from tests.unit.injection.pods import ACCOUNT, ARN, SETTINGS, pod

ROLE_ARN, AMAZONS = "irsa-sidecar.io/role-arn", "eks.amazonaws.com/role-arn"


def rejection(original: Document, service_account: ServiceAccount | None = ACCOUNT) -> str:
    with pytest.raises(ConfigurationError) as caught:
        inject(original, service_account, SETTINGS)
    return str(caught.value)


def labelled(*names: Any) -> Document:
    original = pod()
    original["metadata"]["labels"] = {"irsa-sidecar.io/inject": "true", **dict.fromkeys(names, "true")}
    return original


def without_role(*names: str, service_account: ServiceAccount | None = None) -> str:
    with pytest.raises(NoRoleError) as caught:
        inject(pod(annotations=dict.fromkeys(names, ARN)), service_account, SETTINGS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("irsa-sidecar.io/role-arm", "role-arn"),
        ("irsa-sidecar.io/roleArn", "role-arn"),
        ("irsa-sidecar.io/ROLE_ARN", "role-arn"),
        ("irsa-sidecar.io/role", "roles"),
        ("irsa-sidecar.com/role-arn", "role-arn"),
        ("irsa-sidecar.dev/role-arn", "role-arn"),
        ("irsa-sidecar/role-arn", "role-arn"),
        ("irsa.sidecar.io/roles", "roles"),
        ("irsa_sidecar.io/container", "containers"),
        ("irsasidecar.io/audience", "audience"),
        ("isra-sidecar.io/duration", "duration"),
        ("irsa-sidcar.io/skip-container", "skip-containers"),
        ("IRSA-Sidecar.IO/session-name", "session-name"),
        ("irsa-sidecars.io/token_expiration", "token-expiration"),
    ],
)
def test_misspelt_annotation_is_rejected_with_a_suggestion(name: str, meant: str) -> None:
    """Check the rejection. Without it, the Pod would silently get the ServiceAccount's role."""
    message = rejection(pod(annotations={name: "x"}))
    assert message == f"annotation {name} is not a name that irsa-sidecar uses. Did you mean irsa-sidecar.io/{meant}?"


@pytest.mark.parametrize("name", ["injected", "injection", "Inject", "inyect"])
@pytest.mark.parametrize("prefix", ["irsa-sidecar.io", "irsa-sidecar.com", "irsa_sidecar.io"])
def test_misspelt_label_is_rejected_with_a_suggestion(prefix: str, name: str) -> None:
    wrong = f"{prefix}/{name}"
    assert (
        rejection(labelled(wrong))
        == f"label {wrong} is not a name that irsa-sidecar uses. Did you mean irsa-sidecar.io/inject?"
    )
    assert misnamed_label({wrong: "true"}) == (wrong, "irsa-sidecar.io/inject")


def test_unknown_label_with_our_prefix_is_rejected() -> None:
    message = rejection(labelled("irsa-sidecar.io/xyzzy"))
    assert message.startswith("label irsa-sidecar.io/xyzzy is not")
    assert message.endswith("inject.")


@pytest.mark.parametrize("name", ["role-arn", "containers", "skip-containers", "duration", "session-name"])
def test_annotation_written_as_a_label_is_rejected(name: str) -> None:
    message = rejection(labelled(f"irsa-sidecar.io/{name}"))
    assert message.startswith(f"irsa-sidecar.io/{name} is a label, but")
    assert message.endswith("to metadata.annotations.")


@pytest.mark.parametrize(
    "name",
    [
        "sidecar.istio.io/inject",
        "sidecar.opentelemetry.io/inject",
        "linkerd.io/inject",
        "sidecar.jaegertracing.io/inject",
        "dapr.io/sidecar-image",
        "irsa-sidecar.example.com/role-arn",
        "irsa-sidecar.example.com/inject",
        "iam.amazonaws.com/role",
        "eks.amazonaws.com/skip-containers",
        "irsa",
        "irsa-sidecar",
        "role-arn",
        "inject",
    ],
)
def test_names_of_other_products_are_accepted(name: str) -> None:
    original = labelled(name)
    original["metadata"]["annotations"] = {name: "x"}
    assert inject(original, ACCOUNT, SETTINGS).pod["metadata"]["labels"][name] == "true"
    assert misnamed_label({name: "true"}) is None


def test_names_that_are_not_strings_are_ignored() -> None:
    """Use keys that YAML allows and Kubernetes rejects."""
    assert inject(labelled(1, 2.5, None), ACCOUNT, SETTINGS)


@pytest.mark.parametrize(
    "name",
    [
        "eks.amazon.com/role-arn",
        "eks.aws.com/role-arn",
        "aws.amazon.com/role-arn",
        "eks.amzonaws.com/role-arn",
        "eks.amazonaws.com.cn/role-arn",
        "eks.amazonaws.com/role_arn",
        "eks.amazonaws.com/roleArn",
        "eks.amazonaws.com/rolearn",
        "eks.amazonaws.com/role",
        "eks.amazonaws.com/iam-role-arn",
        "eks.amazonaws.com/roel-arn",
        "EKS.AmazonAWS.com/Role-ARN",
        "iam.amazonaws.com/role",
        "irsa-sidecar.io/role-arn",
        "role-arn",
    ],
)
def test_rejection_names_the_misspelt_service_account_annotation(name: str) -> None:
    hint = f"ServiceAccount shop/cart has {name}, which is not read. Did you mean {AMAZONS}?"
    for service_account in (
        ACCOUNT._replace(annotations={name: ARN}),
        ACCOUNT._replace(annotations={}, unread=("meta.helm.sh/release-name", name)),
    ):
        message = without_role(service_account=service_account)
        assert message.startswith("There is no role. Set the annotation eks.amazonaws.com/role-arn on ServiceAccount")
        assert message.endswith(hint)


@pytest.mark.parametrize(
    "name",
    [
        "eks.amazonaws.com/audience",
        "eks.amazonaws.com/audiance",
        "eks.amazonaws.com/token-expiration",
        "eks.amazonaws.com/sts-regional-endpoints",
        "iam.gke.io/gcp-service-account",
        "azure.workload.identity/client-id",
        "meta.helm.sh/release-name",
        "kubernetes.io/enforce-mountable-secrets",
    ],
)
def test_rejection_names_no_unrelated_annotation(name: str) -> None:
    service_account = ACCOUNT._replace(annotations={name: "sts.amazonaws.com"})
    assert without_role(service_account=service_account).endswith(
        "or the annotation irsa-sidecar.io/role-arn on the Pod."
    )
    assert without_role(name).endswith("or eks.amazonaws.com/role-arn on its ServiceAccount.")


@pytest.mark.parametrize("name", ["eks.amazonaws.com/role-arn", "iam.amazonaws.com/role-arn", "role-arn", "role_arn"])
def test_rejection_names_the_misspelt_pod_annotation(name: str) -> None:
    """Use names such as Amazon's annotation, which has an effect only on a ServiceAccount."""
    hint = f"The Pod has {name}, which is not read. Did you mean {ROLE_ARN}?"
    assert without_role(name).endswith(hint)
    assert without_role(name, service_account=ACCOUNT._replace(annotations={})).endswith(hint)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("eks.amazonaws.com/audiance", "audience"),
        ("eks.amazonaws.com/Audience", "audience"),
        ("eks.amazon.com/audience", "audience"),
        ("eks.amazonaws.com/token_expiration", "token-expiration"),
        ("eks.amazonaws.com/token-expiration-seconds", "token-expiration"),
        ("eks.amazonaws.com/sts-regional-endpoint", "sts-regional-endpoints"),
    ],
)
def test_other_misspelt_annotations_cause_warnings(name: str, meant: str) -> None:
    """Check the warning. Without it, the Pod gets the default, and its author may never notice."""
    sentence = (
        f"The ServiceAccount has the annotation {name}, which has no effect. Did you mean eks.amazonaws.com/{meant}?"
    )
    for service_account in (
        ACCOUNT._replace(annotations={AMAZONS: ARN, name: "x"}),
        ACCOUNT._replace(annotations={AMAZONS: ARN}, unread=(name,)),
    ):
        (warning,) = inject(pod(), service_account, SETTINGS).warnings
        assert (warning, reason_of(warning)) == (sentence, NOT_READ)
        assert len(warning) < MAX_CHARACTERS


@pytest.mark.parametrize(
    "name", ["iam.amazonaws.com/role", "eks.amazon.com/role-arn", "eks.amazonaws.com/skip-containers", "a/audience"]
)
def test_unrelated_annotations_cause_no_warnings(name: str) -> None:
    """
    Use annotations that need no change, because the ServiceAccount has a role.

    The annotation of kube2iam stays during a migration.
    """
    service_account = ACCOUNT._replace(annotations={AMAZONS: ARN, name: "x"})
    assert inject(pod(), service_account, SETTINGS).warnings == ()


@pytest.mark.parametrize("unit", ["irsa-sidecar.com/", "irsa-", "role-arn/", "eks.amazonaws.com/rol", "a"])
def test_number_of_compared_names_is_limited(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use very many names, because the API server checks the size of annotations only after the webhooks."""
    count = 0

    class Counted(difflib.SequenceMatcher[str]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            nonlocal count
            count += 1
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(similar_names, "SequenceMatcher", Counted)
    monkeypatch.setattr(difflib, "SequenceMatcher", Counted)
    names = [f"{unit}{number:05}" for number in range(10 * MAX_NAMES)]
    with pytest.raises(ConfigurationError):
        inject(
            pod(annotations=dict.fromkeys(names, "x")), ACCOUNT._replace(annotations={}, unread=tuple(names)), SETTINGS
        )
    assert count < 8 * MAX_COMPARED
