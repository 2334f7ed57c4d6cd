"""
Run the steps of `irsa-sidecar setup`, one module per step.

Input: the flags of the step. Output: the step's exit status. Each module has the flags (`add_arguments`), the step
itself (`main`), its help text (the module docstring) and its examples (`EXAMPLE`).

- oidc_provider: the IAM OIDC provider of a cluster
- role: an IAM role and its trust policy
- service_account: the annotations of a ServiceAccount
- pod: the sidecar in the Pods of a manifest
- issuer_documents: the discovery document and the keys of a cluster outside EKS
"""
