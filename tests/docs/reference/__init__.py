"""
Write docs/reference from the code: `make reference`.

Each module without `_notes` writes one page. A module with `_notes` holds descriptions that no command shows. They are
not in `sidecar/`, because the wheel and the image would contain them. They are not in `docs/`, because mypy does not
check that folder and the site publishes all of it. Tests beside this package compare the descriptions with the code in
both directions.

- `pages`: all pages, and the files that they are written to
- `markdown`: tables, code and sentences
- `log_calls`: the log events in the code, found by its syntax tree
"""
