"""
Run the steps of `irsa-sidecar setup`, one module per step.

Input: the flags of the step. Output: the step's exit status. Each module contains the flags (`add_arguments`), the step
(`main`), the help text (the module docstring) and examples (`EXAMPLE`).

- oidc_provider: create a cluster's IAM OIDC provider
- role: create or change an IAM role and its trust policy
- service_account: annotate a ServiceAccount
- pod: add the sidecar to the Pods in a manifest
- issuer_documents: write the discovery document and the keys of a cluster outside EKS
"""
