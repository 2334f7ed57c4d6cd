"""
Write docs/reference from the code: `make reference`. It also writes the files of `tests/docs/shells`.

Each page has a module with a function `page`. A module with `_notes` has descriptions that no command shows. These
modules are not in `sidecar/`, because the wheel and the image would contain them. They are not in `docs/`, because mypy
does not check that folder, and the site publishes all files in it. The tests in `tests/docs` compare the descriptions
with the code in both directions.

- `pages`: all pages and other files, with their paths
- `markdown`: tables, code and sentences
- `log_calls`: the log events in the code, found in its syntax trees
"""
