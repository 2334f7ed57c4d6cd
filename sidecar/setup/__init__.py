"""
Setting an account and a cluster up for IRSA, as commands that can be run again and again.

A step reads what is there, plans (pure) what has to change so that what is wanted is there, shows it, and does it.
Each step is one module, imported only when it is asked for (`sidecar.commands.setup`). Needs the extra `setup`.
"""
