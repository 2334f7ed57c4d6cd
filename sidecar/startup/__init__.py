"""
Prepare the process of `run` before its heavy imports.

    early_signals    ends the process on SIGTERM while no daemon listens for it
    hardening        keeps other processes away from the secrets in memory
    lean_imports     imports the packages without the parts that `run` never uses
"""
