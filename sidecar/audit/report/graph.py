"""
Draw the graph of ServiceAccounts, roles and permissions policies as SVG, with the findings as colours. Pure.

Rule: the layout depends only on the report and the inventory, so two reports of the same state have the same picture.
"""

from collections.abc import Iterable, Mapping
from html import escape
from typing import NamedTuple

from sidecar.audit.finding import SEVERITIES, Finding, Severity
from sidecar.audit.inventory import Inventory
from sidecar.injection.names import EKS_ROLE_ARN
from sidecar.printable import printable

MAX_NODES = 400
"""Maximum number of nodes of one column. In a column with more nodes, only nodes with findings are drawn."""

COLUMN_WIDTH, COLUMN_GAP, ROW, BOX = 300, 90, 30, 22
"""Sizes in pixels: width of a column, gap between columns, height of a row, and height of a node."""

MAX_LABEL = 44
"""Longest label in characters. A longer label is cut in the middle and is complete in the node's tooltip."""


class Node(NamedTuple):
    """One box: its column from 0 to 2, its full name, and the severity of its worst finding, if it has one."""

    column: int
    name: str
    severity: Severity | None


class Graph(NamedTuple):
    """The nodes in the order of their columns, the edges, and the number of nodes that are not drawn."""

    nodes: tuple[Node, ...]
    edges: frozenset[tuple[Node, Node]]
    omitted: int


def graph_of(inventory: Inventory, findings: Iterable[Finding]) -> Graph:
    """Return the graph of all ServiceAccounts with a role."""
    worst = _worst(findings)
    roles = {role.arn: role for role in inventory.account.roles}
    edges: set[tuple[Node, Node]] = set()
    for account in inventory.cluster.service_accounts:
        role_arn = account.annotations.get(EKS_ROLE_ARN)
        if not role_arn:
            continue
        name = f"{account.namespace}/{account.name}"
        role_node = Node(1, role_arn, worst.get(("Role", "", role_arn)))
        edges.add((Node(0, name, worst.get(("ServiceAccount", account.namespace, account.name))), role_node))
        known = roles.get(role_arn)
        policies = known.policies if known else ()
        edges |= {(role_node, Node(2, each.arn or f"inline {each.name}", None)) for each in policies}
    return _limited(edges)


def _worst(findings: Iterable[Finding]) -> Mapping[tuple[str, str, str], Severity]:
    found: dict[tuple[str, str, str], Severity] = {}
    for finding in findings:
        key = (finding.subject.kind, finding.subject.namespace, finding.subject.name)
        if key not in found or SEVERITIES.index(finding.severity) < SEVERITIES.index(found[key]):
            found[key] = finding.severity
    return found


def _limited(edges: set[tuple[Node, Node]]) -> Graph:
    nodes = sorted({node for edge in edges for node in edge}, key=_order)
    columns = _untangled([[node for node in nodes if node.column == column] for column in range(3)], edges)
    drawn = [column if len(column) <= MAX_NODES else _with_findings(column) for column in columns]
    kept = {node for column in drawn for node in column}
    visible = frozenset(edge for edge in edges if kept.issuperset(edge))
    return Graph(tuple(node for column in drawn for node in column), visible, len(nodes) - len(kept))


def _untangled(columns: list[list[Node]], edges: set[tuple[Node, Node]]) -> list[list[Node]]:
    """
    Return the columns, each in an order in which few edges cross.

    The first column begins with the worst findings. The other columns follow the order of the column before them.
    """
    worst: dict[Node, int] = {node: _rank(node) for column in columns for node in column}
    for before, after in edges:
        if before.column == 0:
            worst[before] = min(worst[before], _rank(after))
    ordered = [sorted(columns[0], key=lambda node: (worst[node], node.name))]
    for column in columns[1:]:
        places = {node: place for place, node in enumerate(ordered[-1])}
        first: dict[Node, int] = {}
        for before, after in edges:
            if before in places:
                first[after] = min(first.get(after, len(places)), places[before])
        ordered.append(sorted(column, key=lambda node: (first[node], node.name)))
    return ordered


def _rank(node: Node) -> int:
    return len(SEVERITIES) if node.severity is None else SEVERITIES.index(node.severity)


def _with_findings(column: list[Node]) -> list[Node]:
    return [node for node in column if node.severity is not None][:MAX_NODES]


def _order(node: Node) -> tuple[int, str]:
    return node.column, node.name


def as_svg(graph: Graph) -> str:
    """Return the graph as an SVG element. Colours come from the page's style sheet."""
    columns = [[node for node in graph.nodes if node.column == column] for column in range(3)]
    rows = {node: row for column in columns for row, node in enumerate(column)}
    height = (max(rows.values(), default=0) + 1) * ROW + 40
    width = 3 * COLUMN_WIDTH + 2 * COLUMN_GAP + 20
    parts = [_heading(column, title) for column, title in enumerate(("ServiceAccount", "role", "permissions policy"))]
    edges = sorted(graph.edges, key=lambda edge: (_order(edge[0]), _order(edge[1])))
    parts += [_edge(before, after, rows) for before, after in edges]
    parts += [_box(node, rows[node]) for node in graph.nodes]
    label = "Graph of ServiceAccounts, their roles, and the policies of the roles"
    return f'<svg role="img" aria-label="{label}" width="{width}" height="{height}">{"".join(parts)}</svg>'


def _x(column: int) -> int:
    return 10 + column * (COLUMN_WIDTH + COLUMN_GAP)


def _y(row: int) -> int:
    return 34 + row * ROW


def _heading(column: int, title: str) -> str:
    return f'<text x="{_x(column)}" y="20" font-weight="600">{title}</text>'


def _edge(before: Node, after: Node, rows: Mapping[Node, int]) -> str:
    x1, y1 = _x(before.column) + COLUMN_WIDTH, _y(rows[before]) + BOX // 2
    x2, y2 = _x(after.column), _y(rows[after]) + BOX // 2
    middle = (x1 + x2) // 2
    return f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>'


def _box(node: Node, row: int) -> str:
    x, y = _x(node.column), _y(row)
    name = printable(node.name, max_length=2000)
    severity = node.severity.value if node.severity else "fine"
    return (
        f'<g class="{severity}"><title>{escape(name)} ({severity})</title>'
        f'<rect x="{x}" y="{y}" width="{COLUMN_WIDTH}" height="{BOX}" rx="4"/>'
        f'<text x="{x + 8}" y="{y + 15}">{escape(_short(name))}</text></g>'
    )


def _short(name: str) -> str:
    """Return the name without the first parts of an ARN, cut in the middle if it is still too long."""
    label = name.rpartition(":")[2] if name.startswith("arn:") else name
    if len(label) <= MAX_LABEL:
        return label
    half = (MAX_LABEL - 1) // 2
    return f"{label[:half]}…{label[-half:]}"
