"""Format the parts that several formats share. Pure."""

PAGE = "https://irsa-sidecar.github.io/irsa-sidecar/latest/reference/audit-rules.html"
"""Address of the page that explains the rules."""


def link(rule_id: str) -> str:
    """Return the address of the rule's heading. Its anchor is the id without the full stop, as the site writes it."""
    return f"{PAGE}#{rule_id.replace('.', '')}"
