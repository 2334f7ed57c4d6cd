"""
Format a report. Pure.

    text.py        text for a terminal
    as_json.py     the report for programs, and for --baseline
    sarif.py       SARIF 2.1.0, for GitHub and other code scanners
    junit.py       JUnit XML, for CI systems
    prometheus.py  metrics for the textfile collector of Prometheus' node exporter
    html.py        one page for a browser, with page.css and page.js
    graph.py       the graph in that page
    texts.py       the links to the rules' documentation

Rule: names of objects are text that other people chose, so each format escapes them.
"""
