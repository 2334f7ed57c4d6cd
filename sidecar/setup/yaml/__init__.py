"""
Read YAML as kubectl does, and edit it in place.

Input: the text of a manifest and the wanted values. Output: edits of the text.

- stream: documents in a stream
- reader, scalars: nodes with their positions and values
- layout, emit: the indentation of a text, and new text in that style
- edit: edits that change the values of nodes
- errors: the errors of documents that cannot be read
"""
