"""
Explain the events of `local` on a terminal, one line per event.

Inputs: events of the feed, and the state of the terminal. Output: text on stderr.

- wrapping: break text by words for a width in columns
- lines: lay out the header and each event
- display: write to the terminal without blocking, in its current width
"""
