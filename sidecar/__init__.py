"""
Exchange a Pod's projected service account token for temporary AWS credentials, and serve them on loopback.

The flow of `irsa-sidecar run`:

    token.py -> sts/ -> refresh/ -> store.py -> serving/

`daemon/` joins them in one nursery. docs/architecture.md has the map and the reasons.
"""

__version__ = "0.1.0"
