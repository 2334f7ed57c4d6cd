"""Read a file of `sidecar/generated`. `make reference` writes these files from the parsers, and commands print them."""

from importlib.resources import files


def read_generated(name: str) -> str:
    return files("sidecar").joinpath("generated", name).read_text(encoding="utf-8")
