"""
Set up an AWS account and a cluster for IRSA, with commands that can be repeated.

Input: the flags of one step. Output: changes in AWS, in the cluster, in files or on stdout. A step reads the current
state, plans the changes (pure), shows them and applies them. Each step is one module. `sidecar.commands.setup` imports
only the module of the requested step. The extra `setup` is required.

- steps/: one module per step
- aws_steps, aws, aws_error: the parts that all AWS steps use; calls through botocore; AWS errors
- resources, plan, plan_role, plan_oidc_provider: AWS resources as values, and the calls that change them
- output_formats, outcome: a resource as JSON, YAML, Terraform or CloudFormation; the result of a step
- trust_policy, trust_remarks, subjects: our statement in a trust policy; remarks on other statements; names of subjects
- issuer_choice, issuer_fetch, issuer_checks: the issuer that the flags select; its documents; the requirements of STS
- discovery_documents, token_check: an issuer's two documents; the check of a token's signature
- read_role, role_chain, chain_sides, chain_apply, plan_chain: the current role; a role that assumes another role
- cluster_trust, plan_cluster: the access of a whole cluster in all roles
- condition_flags, request_conditions: conditions on the requests in which a token is accepted
- issuer_bucket, publication: an issuer's documents in an S3 bucket; the documents to publish there
- signers, rotation: the keys with which API servers sign tokens; the next step of a rotation
- migration, migration_facts, migration_record: the move of a namespace's Pods; its facts; its changes and their record
- cloudtrail: CloudTrail's event history
- manifests, pod_kinds, document_changes: the Pods in manifests; the Pods in each kind of object; document changes
- text_edits, yaml/: edits to a text, and their diff; YAML with positions
"""
