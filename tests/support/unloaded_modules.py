"""Let a test import modules again, for example without a package that they need."""

import sys

import pytest


def unload(monkeypatch: pytest.MonkeyPatch, *prefixes: str) -> None:
    """
    Remove the modules whose names begin with one of the prefixes.

    After the test, `sys.modules` and the attributes of the packages have the former modules again. A package would
    otherwise keep the module of the second import, and later tests would patch that one.
    """
    for name in [name for name in sys.modules if name.startswith(prefixes)]:
        parent, _, child = name.rpartition(".")
        if getattr(sys.modules.get(parent), child, None) is sys.modules[name]:
            monkeypatch.setattr(sys.modules[parent], child, sys.modules[name])
        monkeypatch.delitem(sys.modules, name)
