"""
Audit a whole cluster and its AWS account. The input is an inventory, and the output is a list of findings.

    inventory.py         the objects of the cluster and the account that the rules use
    kubernetes_kept.py   reduce the API server's documents to the inventory
    aws_kept.py          reduce the responses of IAM, EKS and EC2 to the inventory
    collect_kubernetes.py, collect_aws.py
                         read the cluster and the account
    trusting.py          find the roles that name the cluster's issuer
    saved.py             save the inventory in files, and load it
    relations.py         decide which ServiceAccounts can assume which roles
    workloads.py         group Pods by the workload that created them
    finding.py           rules and their findings
    rules/               one module per category: broken, wide, exposed, unused, cost, incomplete
    accepted.py          findings that a person accepted, and the findings of an earlier run
    judge.py             apply the rules, and separate new findings from known ones
    report/              one module per output format
    report_file.py       write a report into a file
    run.py               the whole audit

The audit changes nothing in the cluster or the account. Only `collect_*.py`, `saved.py`, `report_file.py` and `run.py`
do I/O.
"""
