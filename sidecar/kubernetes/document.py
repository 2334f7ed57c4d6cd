"""Define the type of a Kubernetes object. Pure."""

from typing import Any

Document = dict[str, Any]
"""A Kubernetes object, or a part of one, as parsed JSON."""
