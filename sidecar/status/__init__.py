"""
Show the state of daemons: of this Pod, or of Pods in a cluster.

    read     reads the document of a daemon, which may be hostile (pure)
    targets  finds the Pods with a sidecar, and their admin ports (pure)
    here     reads the document of the daemon on this machine
    collect  reads the documents through the API server or kubectl exec
    report   formats the states for a terminal and as JSON (pure)
    watch    repeats the report
    screen   writes the repeated report to a terminal or a pipe
"""
