"""
The probes, one module per group of checks: each collects facts and draws no conclusion.

`collect` is the entry point of each. `guard` bounds every probe, `http_request` and `aws` are shared clients.
"""
