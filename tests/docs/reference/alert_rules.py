"""Read the alerts in k8s/monitoring."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.manifests import read
from tests.support.monitoring import FOLDERS

_SERIES = re.compile(r"irsa_sidecar_\w+")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


class Alert(NamedTuple):
    """One alert as Prometheus reads it. `whose` is `sidecar` or `webhook`, and `pending` is the field `for`."""

    name: str
    whose: str
    severity: str
    expression: str
    pending: str
    summary: str
    description: str
    runbook_url: str

    @property
    def metrics(self) -> set[str]:
        """The names of the metrics in the expression, without the suffixes that a histogram adds."""
        return {_SUFFIX.sub("", name) for name in _SERIES.findall(self.expression)}


def alerts() -> Iterator[Alert]:
    """Yield every alert, in the order of the files."""
    for whose, folder in FOLDERS.items():
        for manifest in read(f"{folder}/prometheus-rule.yaml"):
            for group in manifest["spec"]["groups"]:
                for rule in group["rules"]:
                    yield _alert(whose, rule)


def _alert(whose: str, rule: dict[str, object]) -> Alert:
    labels, annotations = rule["labels"], rule["annotations"]
    assert isinstance(labels, dict)
    assert isinstance(annotations, dict)
    return Alert(
        name=str(rule["alert"]),
        whose=whose,
        severity=str(labels["severity"]),
        expression=str(rule["expr"]).strip(),
        pending=str(rule.get("for", "0s")),
        summary=str(annotations["summary"]),
        description=" ".join(str(annotations["description"]).split()),
        runbook_url=str(annotations.get("runbook_url", "")),
    )
