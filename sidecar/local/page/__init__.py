"""
Show the local services on a page in a browser.

Inputs: the events of the feed. Outputs: HTML, a stream of the state as JSON, and calls of controls. The page contains
no secret.

- state: compute the state of the page from the events
- access: decide whether a request may reach the page
- live: keep the state current, and wake the streams
- server: respond to requests
- serving: run the page beside the local services
- page.html, page.css, page.js, icon.svg: the page itself, which loads nothing from elsewhere
"""
