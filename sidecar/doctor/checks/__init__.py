"""
Turn facts into findings, with one pure module per group of checks.

Each module has a `CHECKS` table. The module with the same name in `probes` collects its facts. `breadth`, `calls` and
`certificate` hold calculations that the checks use.
"""
