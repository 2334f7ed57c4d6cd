"""
Read YAML as kubectl does, and edit it in place.

Input: a manifest's text and the wanted values. Output: edits to the text.

- stream: documents in a stream
- reader, scalars: nodes with their positions and values
- layout, emit: the indentation in a text, and new text in that style
- edit: edits that change the values of nodes
- errors: the errors for documents that cannot be read
"""
