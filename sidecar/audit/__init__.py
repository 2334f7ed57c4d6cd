"""
Audit a whole cluster and its AWS account. The input is an inventory, and the output is a list of findings.

    inventory.py         the objects of the cluster and the account that the rules use
    kubernetes_kept.py   reduce the API server's documents to the inventory
    aws_kept.py          reduce IAM's responses to the inventory
    collect.py           read the cluster and the account
    relations.py         decide which ServiceAccounts can assume which roles
    finding.py           rules and their findings
    rules/               one module per category: broken, wide, exposed, unused, cost
    accepted.py          findings that a person accepted, and the findings of an earlier run
    report/              one module per output format
    run.py               the whole audit

The audit is read-only. Only `collect.py` does I/O.
"""
