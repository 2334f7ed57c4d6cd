"""
Write the page of the benchmarks and all pictures again from the stored data, without a measurement.

    python -m benchmarks.plots [docs]

The script needs matplotlib. Rule: the same data produces the same files.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import plot_fleet, plot_growth, report


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw the pictures of the benchmarks again.")
    parser.add_argument("docs", nargs="?", type=Path, default=Path("docs"), help="directory of the pages [docs]")
    docs = parser.parse_args().docs
    plots = docs / "plots"
    report.write(docs, report.from_json((plots / report.DATA).read_text(encoding="utf-8")))
    plot_fleet.draw(plots)
    plot_growth.draw(plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
