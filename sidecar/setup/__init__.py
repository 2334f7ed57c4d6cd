"""
Set up an AWS account and a cluster for IRSA, with commands that can be run again.

Input: the flags of one step. Output: changes in AWS, in the cluster, in files or on stdout. A step reads the current
state, plans the changes (pure), shows them and applies them. Each step is one module, which `sidecar.commands.setup`
imports only if the step runs. Needs the extra `setup`.

- steps/: one module per step
- aws_steps, aws, aws_error: the parts that all AWS steps share; botocore and its errors
- resources, plan, plan_role, plan_oidc_provider: AWS resources as values, and the calls that change them
- output_formats, outcome: a resource as JSON, YAML, Terraform or CloudFormation; the result of a step
- trust_policy, trust_remarks, subjects: our statement in a trust policy; statements of others that are too wide; names
- issuer_choice, issuer_fetch, issuer_checks: which issuer is meant, what it publishes, and what STS needs of it
- discovery_documents, token_check: the two documents that an issuer publishes; the check of a token's signature
- manifests, pod_kinds, document_changes: the Pods of a stream of manifests; where an object has its Pods; their changes
- text_edits, yaml/: edits of a text and their diff; YAML with positions
"""
