"""
Collect facts, with one module per group of checks, and draw no conclusions.

Each module's entry point is `collect`. `guard` limits the duration of every probe. `http_request` and `aws` are shared
clients.
"""
