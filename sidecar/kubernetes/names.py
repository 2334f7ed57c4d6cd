"""Define the patterns for Kubernetes names (Object Names and IDs)."""

NAMESPACE = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
"""Pattern for a namespace's name: an RFC 1123 label."""

NAME = r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?"
"""Pattern for most other names, such as a ServiceAccount's: an RFC 1123 subdomain."""
