"""
Build the documentation site from `docs/`, without the network.

`pages` and `versions` are pure. `build` copies the pages and runs Zensical, the site generator by the authors of
Material for MkDocs. `tests/website` shows the pages in headless Chromium.
"""
