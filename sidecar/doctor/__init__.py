"""
Diagnose IRSA along the data flow: settings, token, issuer, STS, exchange, trust policy, endpoint, application.

Input: the environment or, with --pod, a Pod's document. Output: a report of findings, each with its next step.

- `run`: entry point, and the table of all checks
- `location`: decide whether this is the sidecar's or the application's environment
- `from_sidecar`, `from_application`, `from_pod`: collect the facts about one side, and run its checks
- `role_probes`: collect the facts about one role for `from_sidecar`
- `probes`: collect the facts for one group (I/O)
- `checks`: turn the facts for one group into findings (pure)
- `finding`: the types for checks and findings
- `report`: print the findings as text or JSON
"""
