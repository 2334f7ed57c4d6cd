"""Define the patterns of Kubernetes' names (Object Names and IDs)."""

NAMESPACE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""The pattern of a namespace's name: an RFC 1123 label."""

NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
"""The pattern of most names, such as that of a ServiceAccount: an RFC 1123 subdomain."""
