"""
Turn facts into findings, with one pure module per group of checks.

A module with checks has a `CHECKS` table, and the module with the same name in `probes` collects its facts. There are
two exceptions: `probes.network_path` collects the facts for `sts`, and `pod_container` uses the facts of `pod`.
`breadth`, `calls`, `certificate` and `injector` have functions that the checks use.
"""
