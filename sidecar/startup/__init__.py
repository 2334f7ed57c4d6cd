"""
Prepare the process of `run` before its heavy imports.

    early_signals    ends the process on SIGTERM while the daemon is not running
    hardening        protects the secrets in memory from other processes
    lean_imports     imports the packages without the parts that `run` never uses
"""
