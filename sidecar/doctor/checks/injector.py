"""Explain why a Pod with the label has no sidecar, from the objects in its cluster that add sidecars. Pure."""

from collections.abc import Sequence

from sidecar.doctor.finding import Finding, failed
from sidecar.injection.names import INJECT_LABEL

INJECTORS = {"mutatingwebhookconfigurations": "the webhook", "mutatingadmissionpolicies": "the policies"}
"""The kinds of objects that add sidecars, each with its name in findings. The objects are called `irsa-sidecar`."""


def not_injected(injectors: Sequence[str] | None) -> Finding:
    """Return the finding for a Pod with the label but without a sidecar."""
    problem = f"the Pod has the label {INJECT_LABEL} but no sidecar"
    if injectors == ():
        return failed(
            f"{problem}: the cluster has neither the webhook nor the policies of irsa-sidecar",
            "Install one of them (docs/install.md, docs/policy.md), then recreate the Pod",
        )
    who = " and ".join(injectors or ("the webhook or the policies",))
    return failed(
        f"{problem}: {who} did not process it",
        f"Check {who} (kubectl get {','.join(INJECTORS)}), then recreate the Pod: only new Pods get a sidecar",
    )
