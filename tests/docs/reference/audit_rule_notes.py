"""Describe the audit's categories, and what to do about the findings of each rule."""

from collections.abc import Mapping

CATEGORIES: Mapping[str, str] = {
    "incomplete": "The audit could not read a part of the cluster or the account.",
    "broken": "An application has no credentials, or will have none after its next restart.",
    "wide": "A trust policy accepts more tokens than the users of the role need.",
    "exposed": "An application holds credentials that it does not need, or can get the credentials of the node.",
    "unused": "Nothing uses the object. It can probably be removed.",
    "cost": "Another setting would save calls to STS.",
}
"""The meaning of each category, which is the first part of a rule's id."""

_NEW_PODS = "Pods get the change when they are created, so restart them with `kubectl rollout restart`."

WHAT_TO_DO: Mapping[str, str] = {
    "incomplete.source": "Sign in again, or correct the kubeconfig, `--profile` or `AWS_PROFILE`. The finding "
    "contains the error message of AWS or of the API server.",
    "incomplete.unread": "Grant the permission in the finding to the identity that runs the audit.",
    "broken.provider-missing": "Run `irsa-sidecar setup oidc-provider --issuer URL` with the issuer of the finding. "
    "docs/setup.md describes the step.",
    "broken.provider-audience": "Add the audience to the client IDs of the provider, with `irsa-sidecar setup "
    "oidc-provider --audience AUDIENCE`. If the audience is a mistake, remove the annotation "
    "`eks.amazonaws.com/audience` from the ServiceAccount.",
    "broken.provider-thumbprint": "Run `irsa-sidecar setup oidc-provider --ca-file FILE` with the same file as for the "
    "audit.",
    "broken.role-arn": "Write the whole ARN of the role into the annotation, not its name. " + _NEW_PODS,
    "broken.role-missing": "Create the role with `irsa-sidecar setup role`, or write the ARN of an existing role into "
    "the annotation. The audit does not report a role of another account, because it cannot read that account.",
    "broken.trust": "The finding names the statement and the condition that do not match. If the ServiceAccount may "
    "use the role, run the command of the finding, which adds the ServiceAccount to the trust policy. If a statement "
    "denies the token, change that statement: no other statement can allow the token. The audit reports nothing if "
    "it cannot evaluate a condition.",
    "broken.association-role": "Create the role again, or change the association with `aws eks "
    "update-pod-identity-association`.",
    "broken.misspelt-annotation": "Rename the annotation. " + _NEW_PODS,
    "broken.misspelt-on-pod": "Rename the label or the annotation in the Pod template of the workload. "
    "[Labels and annotations](annotations.md) lists the names.",
    "broken.stale-pod": "Restart the workload with `kubectl rollout restart`. Delete a Pod that no workload creates, "
    "and create it again.",
    "broken.not-injected": "Check that the webhook runs and that the namespace is not excluded "
    "(docs/troubleshooting.md). Then restart the workload.",
    "broken.no-identity": "Restart the workload. If the finding remains, no webhook changes the Pods. Check that "
    "Amazon's webhook or irsa-sidecar's webhook is installed. For irsa-sidecar's webhook, the Pod template also needs "
    "the label `irsa-sidecar.io/inject`.",
    "wide.any-subject": "Find out which ServiceAccounts use the role. Then add a condition on `sub` with these "
    "ServiceAccounts. The finding lists the other ServiceAccounts: they can assume the role, but do not name it.",
    "wide.pattern": "Replace the pattern with `StringEquals` and a list of names. If the pattern is intended, accept "
    "the finding with a reason.",
    "wide.no-audience": "Add a condition on `aud`. Its value is `sts.amazonaws.com`, unless the ServiceAccounts have "
    "the annotation `eks.amazonaws.com/audience`.",
    "wide.many-clusters": "Remove the clusters that do not need the role. For a role that moves between two "
    "clusters, accept the finding until the end of the move.",
    "wide.shared-role": "Create one role for each application. docs/roles.md shows how.",
    "wide.no-boundary": "Set the boundary of your organisation: `aws iam put-role-permissions-boundary`.",
    "exposed.token": "Move the application to the sidecar (docs/migrate.md).",
    "exposed.metadata": "Set `HttpPutResponseHopLimit` to 1 and `HttpTokens` to `required` on the nodes' instances, "
    "or apply k8s/network-policy.yaml. You can also do both. docs/security.md explains why you need both metadata "
    "options. "
    "The audit reads only NetworkPolicies of Kubernetes, not those of Cilium or Calico.",
    "exposed.host-network": "Remove `hostNetwork` if the application does not need it. Accept the finding for "
    "node agents that need `hostNetwork`.",
    "exposed.node-role": "Create a role for the ServiceAccount with `irsa-sidecar setup role`. Afterwards, remove the "
    "permissions from the role of the node.",
    "exposed.static-keys": "Create a role for the ServiceAccount, remove the variables or the Secret, then deactivate "
    "and delete the keys in IAM. The audit reads no Secrets. It recognizes such a Secret by the names of the variables "
    "that it sets, or by the name of the Secret.",
    "exposed.two-identities": "To use EKS Pod Identity, remove the annotation. To use IRSA, delete the association.",
    "exposed.two-sources": "Remove all sources but one from the Pod template.",
    "unused.role": "Check in CloudTrail that nobody else uses the role. Then delete the role, or remove the cluster "
    "from its trust policy.",
    "unused.service-account": "Remove the annotation or the ServiceAccount. For a CronJob that seldom runs, accept "
    "the finding.",
    "unused.idle-role": "Ask the owner of the application whether the application still needs AWS.",
    "cost.longer-sessions": "Set the annotation `irsa-sidecar.io/duration` to `max`, or raise the maximum session "
    "duration of the role. docs/capacity.md has the figures.",
}
"""The action that fixes a finding, by the rule's id."""
