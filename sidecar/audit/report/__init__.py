"""
Format a report. Pure.

    text.py        a table for people
    as_json.py     the report for programs, and for --baseline
    sarif.py       SARIF 2.1.0, for GitHub and other code scanners
    junit.py       JUnit XML, for CI systems
    prometheus.py  metrics for the textfile collector of Prometheus' node exporter
    html.py        one page for a browser

Rule: names of objects are text that other people chose, so each format escapes them.
"""
