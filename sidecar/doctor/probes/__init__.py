"""
Collect facts, with one module per group of checks, and draw no conclusions.

The entry point of a module is `collect`, or `exchange` in the module `exchange`. `guard` limits the duration of every
probe. `http_request` and `aws` are shared clients.
"""
