"""
Find the Pod that used an access key, a role session or a role. The inputs are log lines and CloudTrail records.

    target.py      the access key, session or role that a person searches for
    log_lines.py   read the daemon's log lines, also in the forms of log collectors
    cloudtrail.py  read CloudTrail records
    sessions.py    join log lines and records to sessions, and find the Pod of each session
    report.py      format the sessions

Everything here is pure. The command reads the files.
"""
