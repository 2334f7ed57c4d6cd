"""
The checks, one pure module per group: facts enter, findings leave.

Each module has a `CHECKS` table. The module of the same name in `probes` collects its facts. `breadth`, `calls` and
`certificate` hold calculations for them.
"""
