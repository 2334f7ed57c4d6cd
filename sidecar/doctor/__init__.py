"""
Diagnose IRSA along the data flow: settings, token, issuer, STS, exchange, trust policy, endpoint, application.

The environment, and with --pod a Pod's document, enter. A report of findings with next steps leaves.

- `run`: entry point, and the table of all checks
- `location`: decide whether this is the sidecar's or the application's environment
- `from_sidecar`, `from_application`, `from_pod`: collect the facts of one side, and run its checks
- `role_probes`: collect the facts about one role for `from_sidecar`
- `probes`: collect the facts of one group (I/O)
- `checks`: turn the facts of one group into findings (pure)
- `finding`: types of checks and findings
- `report`: text and JSON
"""
