"""List the rules of all categories."""

from sidecar.audit.finding import Rule
from sidecar.audit.rules import broken, cost, exposed, incomplete, unused, wide

RULES: tuple[Rule, ...] = (
    *incomplete.RULES,
    *broken.RULES,
    *wide.RULES,
    *exposed.RULES,
    *unused.RULES,
    *cost.RULES,
)
"""All rules, in the order of the report."""
