"""
Run the steps of `irsa-sidecar setup`, one module per step.

Input: the flags of the step. Output: the step's exit status. Each module contains the flags (`add_arguments`), the step
(`main`), the help text (the module docstring) and examples (`EXAMPLE`).

- oidc_provider: create a cluster's IAM OIDC provider
- role: create or change an IAM role and its trust policy
- cluster: give a new cluster the access of another cluster in all roles, or remove a cluster from them
- service_account: annotate a ServiceAccount
- pod: add the sidecar to the Pods in a manifest
- policy: write the policies with which the API server adds the sidecar
- issuer_documents: write the discovery document and the keys of a cluster outside EKS
- migrate: move the Pods of a namespace from another source of credentials
- rotate: rotate the signing keys of a cluster outside EKS
"""
