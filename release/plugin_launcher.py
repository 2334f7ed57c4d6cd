#!/usr/bin/env python3
"""
Run irsa-sidecar as a plugin of kubectl, with the packages in the folder `packages` beside this file.

Rule: the code before the check of the version also runs on old versions of Python.
"""

import os
import sys

OLDEST, NEWEST = (3, 11), (3, 14)
"""The versions of Python whose compiled modules are in the archive."""


def main() -> int:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        sys.stderr.write(
            "kubectl irsa-sidecar: python3 is Python %d.%d, which is not supported. "  # noqa: UP031  for old versions
            "Put Python 3.11 to 3.14 into PATH as python3.\n" % sys.version_info[:2]
        )
        return 2
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "packages"))
    from sidecar.__main__ import main as run  # noqa: PLC0415  only in this folder

    return run()


if __name__ == "__main__":
    sys.exit(main())
