"""
Generate the policies with which the API server itself injects sidecars, so that no webhook runs. Pure.

Rule: names, limits, values and messages come from the functions and constants of sidecar/injection. A Pod gets the same
parts from a policy as from the webhook, or the policy rejects it. tests/cluster/test_policy.py compares both ways.

A MutatingAdmissionPolicy (Kubernetes 1.36) evaluates expressions in CEL, the Common Expression Language. One expression
(rejection.py) describes why a Pod cannot get a sidecar. If its result is empty, another expression (patch.py) adds the
sidecar. Otherwise the policy writes the reason into an annotation, and a ValidatingAdmissionPolicy rejects the Pod with
this reason. So only the mutating policy contains the expressions, and runs them only for the Pod's own ServiceAccount.
"""
