"""Build the link to a rule's documentation, for all report formats. Pure."""

PAGE = "https://irsa-sidecar.github.io/irsa-sidecar/latest/reference/audit-rules.html"
"""URL of the page that explains the rules."""


def link(rule_id: str) -> str:
    """Return the URL of the rule's heading. The site's anchor for a heading is the rule's id without the full stop."""
    return f"{PAGE}#{rule_id.replace('.', '')}"
