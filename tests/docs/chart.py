"""
Write the generated files of the chart.

    python -m tests.docs.chart

A chart can read only its own folder, and Flux drops symbolic links, so `files/` holds copies of k8s/monitoring.
"""

from tests.support.manifests import K8S

CHART = K8S / "chart"

COPIES = {
    f"files/{folder}{name}": K8S / "monitoring" / folder / name
    for folder in ("", "webhook/")
    for name in ("pod-monitor.yaml", "prometheus-rule.yaml", "dashboard.json")
}


def generated() -> dict[str, str]:
    """Return the text of each generated file, by its path in the chart."""
    return {path: source.read_text(encoding="utf-8") for path, source in COPIES.items()}


def main() -> None:
    for path, text in generated().items():
        target = CHART / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
