"""
Compile all code of the image in advance.

    python3 bytecode.py ROOTFS

A read-only root file system keeps no __pycache__, so the daemon would otherwise start four times as slowly. Compiled
files of other packages have no docstrings, which saves 1.2 MiB in every Pod. Unlike with `python -OO`, their assertions
remain.

Rule: bytecode is the same on every architecture, so this script runs on the machine that builds, without emulation. It
needs the minor version of Python that is in the image.
"""

import ast
import importlib.util
import marshal
import sys
from pathlib import Path

OURS = "sidecar"
"""The package that keeps its docstrings, because `--help` prints them."""

UNCHECKED = importlib.util.MAGIC_NUMBER + (0b01).to_bytes(4, "little")
"""Header of compiled code that Python never compares with its source (PEP 552)."""


def main(rootfs: Path) -> None:
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not any(rootfs.glob(f"usr/**/{name}/os.py")):
        raise SystemExit(f"The image has another Python than {name}. BUILD_BASE and BASE must have the same.")
    for source in sorted(rootfs.rglob("*.py")):  # sorted, because the bytes depend on what was compiled before
        source.chmod(0o644)  # some files of the standard library are executable
        _compile(source, rootfs)


def _compile(source: Path, rootfs: Path) -> None:
    """Compile the source, and write the result where Python expects it."""
    content = source.read_bytes()
    tree = ast.parse(content)
    if OURS not in source.parts:
        _drop_docstrings(tree)
    code = compile(tree, f"/{source.relative_to(rootfs)}", "exec", dont_inherit=True)
    compiled = Path(importlib.util.cache_from_source(str(source)))
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(UNCHECKED + importlib.util.source_hash(content) + marshal.dumps(code))


def _drop_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            docstring = node.body.pop(0)
            if not node.body and not isinstance(node, ast.Module):
                node.body.append(ast.copy_location(ast.Pass(), docstring))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
