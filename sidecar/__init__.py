"""
irsa-sidecar: temporary AWS credentials for a Pod, from its projected service account token.

The flow, one module a station:

    token.py -> sts.py / client.py -> refresher.py / schedule.py -> store.py -> endpoint.py / server.py

`daemon.py` joins them in one nursery. docs/architecture.md has the drawing and the reasons.
"""

__version__ = "0.1.0"
