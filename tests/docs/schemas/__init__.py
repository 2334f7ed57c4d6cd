"""
Generate the JSON Schemas of the roles file and the file of `local` from the tables of their parsers: `make reference`.

Rule: a schema accepts every file that the parser accepts, so an editor shows no false error. The parser also rejects
files for the reasons in `rules`, which JSON Schema cannot express.

- `roles`, `local`: the schemas
- `local_notes`: the descriptions of the settings of `local`
- `rules`: the rules of the parsers that a schema cannot express, with an example for each
"""
